"""pull against a hub on this machine: the cache's layout, resume, checksums, tokens, faults."""

import json
import os
import pathlib
import subprocess
import unittest

from fake_hub import SHA, Hub
from program import MODEL, ROOT, Case, run


@unittest.skipIf(os.environ.get("DEEPSEEK_HAS_HUB") == "OFF", "built without downloads")
class Pull(Case):
    def setUp(self):
        super().setUp()
        source = pathlib.Path(MODEL)
        self.files = {p.name: p.read_bytes() for p in source.iterdir() if p.name in ("config.json", "tokenizer.json", "generation_config.json") or p.name.startswith("model")}
        self.files["README.md"] = b"not fetched"
        self.weights = next(name for name in self.files if name.endswith(".safetensors"))
        self.hub = Hub(self.files)
        self.addCleanup(self.hub.end)
        self.cache = self.folder / "hub"

    def pull(self, *more, hub=None, **environment):
        settings = {"HF_ENDPOINT": (hub or self.hub).address, "HF_HUB_CACHE": str(self.cache), "HF_HOME": str(self.folder / "home"), "DEEPSEEK_RETRY_MS": "1", "HF_TOKEN": "", **environment}
        return run("pull", "some/model", "--quiet", *more, environment=settings)

    def snapshot(self):
        return self.cache / "models--some--model" / "snapshots" / SHA

    def test_layout_and_use(self):
        path = self.done(self.pull()).strip()
        self.assertEqual(path, str(self.snapshot()))
        self.assertEqual((self.cache / "models--some--model" / "refs" / "main").read_text(), SHA)
        for name, content in self.files.items():
            self.assertEqual((self.snapshot() / name).exists(), name != "README.md")
            if name != "README.md":
                self.assertTrue((self.snapshot() / name).is_symlink())
                self.assertEqual((self.snapshot() / name).read_bytes(), content)
        out = run("generate", "--model", "some/model", "--prompt", "x", "--max_new_tokens", "2", environment={"HF_HUB_CACHE": str(self.cache)})
        self.done(out)
        before = len(self.hub.requests)
        self.done(self.pull())
        self.assertEqual(len(self.hub.requests), before + 1)  # the listing alone

    def test_transformers_finds_it(self):
        python = ROOT / ".venv" / "bin" / "python"
        if not python.exists():
            self.skipTest("no .venv")
        self.done(self.pull())
        script = "import sys; from huggingface_hub import snapshot_download; print(snapshot_download('some/model', local_files_only=True))"
        found = subprocess.run([python, "-c", script], capture_output=True, text=True, env={**os.environ, "HF_HUB_CACHE": str(self.cache), "HF_HUB_OFFLINE": "1"})
        self.assertEqual(found.stdout.strip(), str(self.snapshot()), found.stderr)

    def test_a_lost_connection_goes_on_where_it_was(self):
        self.hub.cut_after[self.weights] = 1000
        self.done(self.pull())
        self.assertIn("bytes=1000-", [asked for path, asked in self.hub.requests if path.endswith(self.weights)])

    def test_a_server_without_ranges(self):
        self.hub.cut_after[self.weights] = 1000
        self.hub.no_ranges = True
        self.done(self.pull())
        self.assertEqual((self.snapshot() / self.weights).read_bytes(), self.files[self.weights])

    def test_an_unavailable_hub_is_asked_again(self):
        self.hub.unavailable = 3
        self.done(self.pull())

    def test_a_damaged_file_is_refused_and_a_sound_one_taken_later(self):
        self.hub.damage.add(self.weights)
        self.refused(self.pull(), "the download is damaged", code=1)
        self.assertFalse((self.snapshot() / self.weights).exists())
        self.hub.damage.clear()
        self.done(self.pull())

    def test_gated_models_and_tokens(self):
        gated = Hub(self.files, gated=True)
        self.addCleanup(gated.end)
        self.refused(self.pull(hub=gated), "set HF_TOKEN", code=1)
        self.done(self.pull(hub=gated, HF_TOKEN="secret"))
        self.assertIn("Bearer secret", gated.tokens)

    def test_a_token_does_not_follow_to_another_host(self):
        storage = Hub(self.files)
        self.addCleanup(storage.end)
        self.hub.redirect = storage.address.replace("127.0.0.1", "localhost")
        self.done(self.pull(HF_TOKEN="secret"))
        self.assertIn("Bearer secret", self.hub.tokens)
        self.assertEqual(set(storage.tokens), {None})

    def test_names_that_would_leave_the_folder_are_not_fetched(self):
        self.hub.extra = ["../../evil.json", "sub/config.json", "/etc/passwd"]
        self.done(self.pull())
        self.assertFalse(any("evil" in path or "passwd" in path for path, _ in self.hub.requests))

    def test_what_is_no_model(self):
        del self.files[self.weights]
        for name in [n for n in self.files if n.endswith(".safetensors")]:
            del self.files[name]
        self.refused(self.pull(), "has no safetensors weights", code=1)
        missing = run("pull", "other/model", "--quiet", environment={"HF_ENDPOINT": self.hub.address, "HF_HUB_CACHE": str(self.cache), "HF_TOKEN": ""})
        self.refused(missing, "has no model other/model", code=1)
        self.refused(run("pull", "deepsek-7b"), "did you mean 'deepseek-7b'?")
        self.refused(run("pull"), "name the model to pull")

    def test_offline_and_unreachable(self):
        self.refused(self.pull(HF_HUB_OFFLINE="1"), "HF_HUB_OFFLINE forbids", code=1)
        self.refused(self.pull(HF_ENDPOINT="http://127.0.0.1:9"), "cannot reach", code=1)

    def test_a_cache_that_cannot_be_written(self):
        (self.folder / "file").write_text("")
        self.refused(self.pull(HF_HUB_CACHE=str(self.folder / "file")), "cannot create", code=1)

    def test_two_at_once(self):
        environment = {**os.environ, "HF_ENDPOINT": self.hub.address, "HF_HUB_CACHE": str(self.cache), "HF_TOKEN": ""}
        from program import CLI
        both = [subprocess.Popen([CLI, "pull", "some/model", "--quiet"], env=environment, stdout=subprocess.PIPE) for _ in range(2)]
        for process in both:
            process.communicate(timeout=120)
            self.assertEqual(process.returncode, 0)
        self.assertEqual((self.snapshot() / self.weights).read_bytes(), self.files[self.weights])

    def test_list(self):
        names = [row["name"] for row in json.loads(self.done(run("pull", "--list", "--json")))]
        self.assertIn("deepseek-7b", names)


if __name__ == "__main__":
    unittest.main()
