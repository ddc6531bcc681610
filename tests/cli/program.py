"""Runs deepseek-cli for the tests, on the tiny models of tests/golden."""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile
import unittest

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
CLI = os.environ.get("DEEPSEEK_CLI", str(ROOT / "build" / "bin" / "deepseek-cli"))
MODEL = str(ROOT / "tests" / "golden" / "models" / "llama_gqa")
ENCODER = str(ROOT / "tests" / "golden" / "encoders" / "bert")
ADAPTER = str(ROOT / "tests" / "golden" / "adapters" / "llama_gqa-lora")


def run(*arguments, stdin="", environment=None, **more):
    settings = {**os.environ, "HF_HUB_CACHE": "/nonexistent", "DEEPSEEK_GEMMA": "/nonexistent.gguf", "DEEPSEEK_MINILM": "/nonexistent", **(environment or {})}
    return subprocess.run([CLI, *map(str, arguments)], input=stdin, capture_output=True, text=True, env=settings, timeout=300, **more)


class Case(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)

    def model_with_context(self, positions):
        """A copy of MODEL whose configuration has another context."""
        target = self.folder / "other-context"
        shutil.copytree(MODEL, target)
        config = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps({**config, "max_position_embeddings": positions}))
        return target

    def refused(self, result, text, code=2):
        self.assertEqual(result.returncode, code, result.stderr)
        self.assertIn(text, result.stderr)
        self.assertEqual(result.stdout, "")
        self.assertNotIn("Exception raised from", result.stderr)

    def done(self, result):
        self.assertEqual(result.returncode, 0, result.stderr)
        return result.stdout
