"""The program from outside: exit codes, suggestions, streams, bad input."""

import json
import signal
import subprocess
import time
import unittest

from program import ADAPTER, CLI, MODEL, Case, run


class Requests(Case):
    def test_misspelt_names_get_a_suggestion(self):
        self.refused(run("fine-tun"), "did you mean 'fine-tune'?")
        self.refused(run("generate", "--modle", MODEL), "did you mean --model?")
        self.refused(run("generate", "--model", "gema-3-270m", "--prompt", "x"), "did you mean 'gemma-3-270m'?")
        self.assertEqual(run().returncode, 2)

    def test_help_and_version(self):
        self.assertIn("fine-tune", self.done(run("--help")))
        self.assertIn("--lora_rank", self.done(run("fine-tune", "--help")))
        self.assertIn("deepseek-cli", self.done(run("--version")))

    def test_options_take_underscores_and_dashes(self):
        for option in ("--max_new_tokens", "--max-new-tokens"):
            self.done(run("generate", "--model", MODEL, "--prompt", "a", option, "2"))

    def test_absurd_values(self):
        for arguments, text in ((["--temperature", "-1"], "temperature is -1"), (["--top_p", "0"], "top_p is 0"), (["--max_new_tokens", "0"], "max_new_tokens is 0"),
                                (["--threads", "-3"], "--threads is -3"), (["--threads", "100000"], "--threads is 100000"), (["--dtype", "f8"], "dtype 'f8'"),
                                (["--stop", ""], "stop string 1 is empty"), (["--chat_template", "maybe"], "use auto, on or off")):
            self.refused(run("generate", "--model", MODEL, "--prompt", "a", *arguments), text)

    def test_models_that_are_not_there(self):
        self.refused(run("generate", "--model", "deepseek-7b", "--prompt", "x"), 'get it with "deepseek-cli pull deepseek-7b"')
        self.refused(run("generate", "--model", self.folder, "--prompt", "x"), "without a config.json")
        (self.folder / "config.json").write_text("{")
        (self.folder / "model.safetensors").write_bytes(b"x")
        self.refused(run("generate", "--model", self.folder, "--prompt", "x"), "config.json", code=1)

    def test_broken_gguf(self):
        for content in (b"", b"GGUF", b"GGUF" + b"\xff" * 100, b"nonsense" * 50):
            path = self.folder / "m.gguf"
            path.write_bytes(content)
            self.refused(run("generate", "--model", path, "--prompt", "x"), "m.gguf", code=1)


class Generation(Case):
    def test_text_goes_to_standard_output(self):
        result = run("generate", "--model", MODEL, "--prompt", "hello", "--max_new_tokens", "4", "--greedy")
        self.assertTrue(self.done(result).endswith("\n"))
        again = run("generate", "--model", MODEL, "--greedy", "--max_new_tokens", "4", stdin="hello\n")
        self.assertEqual(again.stdout, result.stdout)

    def test_json(self):
        out = json.loads(self.done(run("generate", "--model", MODEL, "--prompt", "hello", "--max_new_tokens", "3", "--json", "--temperature", "0.8", "--seed", "4")))
        self.assertLessEqual(out["new_tokens"], 3)
        self.assertIn(out["finish_reason"], ("length", "eos"))

    def test_same_seed_same_text(self):
        arguments = ["generate", "--model", MODEL, "--prompt", "x", "--max_new_tokens", "12", "--temperature", "1.2", "--threads", "2"]
        self.assertEqual(run(*arguments, "--seed", "1").stdout, run(*arguments, "--seed", "1").stdout)

    def test_nothing_to_continue(self):
        self.refused(run("generate", "--model", MODEL), "there is no prompt")

    def test_adapter(self):
        self.done(run("generate", "--model", MODEL, "--adapter", ADAPTER, "--prompt", "x", "--max_new_tokens", "2"))
        self.refused(run("generate", "--model", MODEL, "--adapter", self.folder, "--prompt", "x"), "is no adapter", code=1)

    def test_chat_over_a_pipe(self):
        saved = self.folder / "talk.json"
        self.done(run("chat", "--model", MODEL, "--max_new_tokens", "3", stdin=f"hi\nagain\n/save {saved}\n/reset\n/quit\n"))
        self.assertEqual([m["role"] for m in json.loads(saved.read_text())["messages"]], ["user", "assistant", "user", "assistant"])

    def test_a_closed_pipe_ends_quietly(self):
        process = subprocess.Popen(f"{CLI} generate --model {MODEL} --prompt x --max_new_tokens 200 | head -c 1", shell=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        _, errors = process.communicate(timeout=120)
        self.assertEqual(errors, b"")

    def test_a_full_disk_under_standard_output(self):
        with open("/dev/full", "w") as full:
            result = subprocess.run([CLI, "hardware"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertIn("No space left", result.stderr)

    def test_interrupt(self):
        process = subprocess.Popen([CLI, "generate", "--model", MODEL, "--prompt", "x", "--max_new_tokens", "100000", "--context", "0"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        time.sleep(1.0)
        process.send_signal(signal.SIGINT)
        process.communicate(timeout=60)
        self.assertIn(process.returncode, (0, 1, 2))


class Others(Case):
    def test_hardware(self):
        self.assertIn("cpu", json.loads(self.done(run("hardware", "--json"))))

    def test_eval(self):
        rows = [{"question": f"q{i}", "answer": f"a {i}", "split": "test" if i % 2 else "train"} for i in range(6)]
        data = self.folder / "d.json"
        data.write_text(json.dumps(rows))
        out = json.loads(self.done(run("eval", "--model", MODEL, "--dataset", data, "--split", "test", "--json", "--max_new_tokens", "4")))
        self.assertEqual(out["rows"], 3)
        self.assertGreater(out["loss"], 0)
        self.assertIn("f1", out)
        text = self.folder / "t.txt"
        text.write_text("some words to read " * 20)
        self.assertGreater(json.loads(self.done(run("eval", "--model", MODEL, "--text", text, "--json")))["perplexity"], 1)
        self.refused(run("eval", "--model", MODEL), "either --dataset")
        self.refused(run("eval", "--model", MODEL, "--dataset", data, "--split", "none"), "no rows of split 'none'")

    def test_merge(self):
        target = self.folder / "merged"
        self.done(run("merge", "--model", MODEL, "--adapter", ADAPTER, "--output", target, "--dtype", "f32"))
        prompt = ["--prompt", "hello", "--max_new_tokens", "8", "--greedy", "--dtype", "f32", "--chat_template", "off"]
        merged = self.done(run("generate", "--model", target, *prompt))
        self.assertEqual(merged, self.done(run("generate", "--model", MODEL, "--adapter", ADAPTER, *prompt)))
        self.refused(run("merge", "--model", MODEL, "--adapter", ADAPTER, "--output", target), "is not empty")


if __name__ == "__main__":
    unittest.main()
