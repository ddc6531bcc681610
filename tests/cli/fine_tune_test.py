"""fine-tune from outside, on a tiny model: files, resume, signals, several processes, bad input."""

import json
import os
import shlex
import shutil
import signal
import subprocess
import time
import unittest

from program import CLI, MODEL, ROOT, Case, run

ROWS = [{"question": f"what is {i} and {i}?", "answer": f"it is {2 * i}", "difficulty": i % 4 + 1} for i in range(40)]


class FineTune(Case):
    def setUp(self):
        super().setUp()
        self.data = self.folder / "qa.json"
        self.data.write_text(json.dumps(ROWS))
        self.out = self.folder / "out"

    def arguments(self, *more, out=None, steps=12, rank="4"):
        defaults = {"--model": MODEL, "--dataset": self.data, "--output": out or self.out, "--lora_rank": rank, "--steps": steps, "--batch_size": "4",
                    "--learning_rate": "0.005", "--dtype": "f32", "--samples": "1", "--threads": "1"}
        return ["fine-tune", *(part for name, value in defaults.items() if name not in more and value is not None for part in (name, value)), *more]

    def lines(self, out=None):
        return [json.loads(line) for line in ((out or self.out) / "metrics.jsonl").read_text().splitlines()]

    def test_the_seed_command_and_its_files(self):
        result = run(*self.arguments("--curriculum_steps", "5"))
        self.assertIn("held-out loss", self.done(result))
        for text in ("question/answer pairs (question, answer), JSON array, 40 rows", "memory plan", "curriculum 5/5", "stay frozen"):
            self.assertIn(text, result.stderr)
        for name in ("adapter_config.json", "adapter_model.safetensors", "metrics.jsonl", "report.html", "last/training_state.safetensors"):
            self.assertTrue((self.out / name).exists(), name)
        end = next(line for line in self.lines() if line["type"] == "end")
        self.assertLess(end["best_loss"], end["base_loss"])
        self.assertTrue(any(line["type"] == "sample" for line in self.lines()))
        self.done(run("generate", "--model", MODEL, "--adapter", self.out, "--prompt", "what is 3 and 3?", "--max_new_tokens", "4"))
        self.refused(run(*self.arguments()), "holds an earlier run")

    def test_json(self):
        out = json.loads(self.done(run(*self.arguments("--json", "--quiet"))))
        self.assertEqual(out["steps"], 12)

    def test_interrupted_and_resumed_equals_uninterrupted(self):
        whole = self.folder / "whole"
        self.done(run(*self.arguments(out=whole, steps=60)))
        for sent in (signal.SIGINT, signal.SIGKILL):
            out = self.folder / f"stopped-{sent}"
            process = subprocess.Popen([CLI, *map(str, self.arguments("--save_every", "2", out=out, steps=60))], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
            state = out / "last" / "training_state.safetensors"
            while not state.exists() and process.poll() is None:
                time.sleep(0.01)
            process.send_signal(sent)
            text, _ = process.communicate(timeout=120)
            if sent == signal.SIGINT and process.returncode == 0 and "held-out" not in text:
                self.assertIn("--resume", text)
            self.done(run(*self.arguments("--save_every", "2", "--resume", out=out, steps=60)))
            self.assertEqual((out / "adapter_model.safetensors").read_bytes(), (whole / "adapter_model.safetensors").read_bytes())

    def test_two_processes_equal_one(self):
        if os.environ.get("DEEPSEEK_HAS_MPI") != "ON" or not shutil.which("mpirun"):
            self.skipTest("built without MPI")
        self.done(run(*self.arguments("--quiet")))
        two = self.folder / "two"
        command = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "2", CLI, *map(str, self.arguments("--quiet", out=two))]
        result = subprocess.run(command, capture_output=True, text=True, timeout=300)
        self.assertEqual(result.returncode, 0, result.stderr)
        losses = [[line["loss"] for line in self.lines(out) if line["type"] in ("step", "evaluation")] for out in (self.out, two)]
        self.assertEqual(len(losses[0]), len(losses[1]))
        for one, both in zip(*losses):
            self.assertAlmostEqual(one, both, delta=2e-4)

    def test_bad_input(self):
        empty = self.folder / "empty.json"
        empty.write_text("[]")
        self.refused(run(*self.arguments("--dataset", empty)), "the dataset is empty", code=1)
        self.refused(run("fine-tune", "--model", MODEL, "--dataset", self.folder / "none.json"), "does not exist", code=1)
        unanswered = self.folder / "unanswered.json"
        unanswered.write_text(json.dumps(ROWS[:3] + [{"question": "q"}]))
        self.refused(run("fine-tune", "--model", MODEL, "--dataset", unanswered), "row 4: there is no 'answer'", code=1)
        for more, text in ((["--lora_rank", "0"], "rank of 0"), (["--lora_rank", "100000"], "is above the size of"), (["--target_modules", "q_prj"], "did you mean 'q_proj'?"),
                           (["--curriculum_steps", "0"], "--curriculum_steps is 0"), (["--curriculum_order", "up"], "forward, reverse or random"), (["--difficulty", "x"], "auto, field, length or loss"),
                           (["--learning_rate", "-1"], "--learning_rate is -1"), (["--batch_size", "0"], "--batch_size is 0"), (["--schedule", "x"], "cosine, linear or constant"),
                           (["--loss_on", "x"], "use answer or all"), (["--validation", "2"], "--validation is '2'"), (["--memory_limit", "much"], "--memory_limit is 'much'"),
                           (["--memory_limit", "1MB"], "are available"), (["--gradient_checkpointing", "x"], "auto, on or off"), (["--resume"], "nothing to resume"),
                           (["--seed", "-1"], "--seed"), (["--early_stopping", "2", "--validation", "0"], "--early_stopping needs held-out rows"),
                           (["--context", "4"], "more than the context of 4"), (["--rank_pattern", "q_proj"], "not NAME=NUMBER")):
            out = self.folder / "refused"
            self.refused(run(*self.arguments(*more, out=out)), text)
            self.assertFalse((out / "adapter_model.safetensors").exists())

    def test_a_dataset_that_is_not_here(self):
        (self.folder / "data").mkdir()
        shutil.copy(self.data, self.folder / "data" / "finance_qa.json")
        result = run("fine-tune", "--model", "deepseek-7b", "--dataset", "finance_qa.json", "--lora_rank", "16", "--curriculum_steps", "5", cwd=self.folder)
        self.refused(result, "the dataset finance_qa.json does not exist; did you mean data/finance_qa.json?", code=1)
        self.assertIn("deepseek-cli pull deepseek-7b", result.stderr)
        self.refused(run(*self.arguments("--dataset", self.folder / "qa.jsn")), "did you mean", code=1)

    def test_resume_refuses_what_changes_the_run_and_says_what_may_differ(self):
        self.done(run(*self.arguments()))
        for more, text in ((["--loss_on", "all"], "--loss_on"), (["--lora_rank", "5"], "lora_rank was 4 when this run began and is 5 now"),
                           (["--schedule", "linear"], 'schedule was "cosine"'), (["--seed", "7"], "seed was 42")):
            self.refused(run(*self.arguments("--resume", *more)), text)
        result = run(*self.arguments("--resume", "--threads", "2"))
        self.done(result)
        self.assertIn("resumed after step 12 of 12: the run had ended; 2 threads instead of 1", result.stderr)
        self.assertEqual(sum(line["type"] == "sample" for line in self.lines()), 1)

    def test_init_adapter(self):
        adapters = ROOT / "tests" / "golden" / "adapters"
        self.done(run(*self.arguments("--init_adapter", adapters / "llama_gqa-lora", "--lora_dropout", "0.1", rank=None)))
        self.assertEqual(json.loads((self.out / "adapter_config.json").read_text())["lora_dropout"], 0.1)
        out = self.folder / "refused"
        self.refused(run(*self.arguments("--init_adapter", adapters / "llama_gqa-lora", out=out)), "--lora_rank cannot be changed with --init_adapter")
        self.refused(run(*self.arguments("--init_adapter", adapters / "gemma3-lora", out=out, rank=None)), "--init_adapter does not fit this model")

    def test_indexers_learn_and_are_read_by(self):
        warm, sparse = self.folder / "warm", self.folder / "sparse"
        shape = ("--context", "120", "--dsa_top_k", "16", "--dsa_heads", "2", "--dsa_dim", "16", "--validation", "0.3")
        result = run(*self.arguments("--dsa", "warmup", *shape, out=warm))
        self.assertIn("of the attention on the best 16 keys the indexers find", self.done(result))
        self.assertIn("recall", result.stderr)
        self.assertIn("--dsa sparse --init_adapter", result.stdout)
        out = json.loads(self.done(run(*self.arguments("--dsa", "sparse", "--init_adapter", warm, "--context", "120", "--json", out=sparse))))
        self.assertEqual(out["steps"], 12)
        text = self.folder / "text.txt"
        text.write_text("A bond is a loan that a company takes. " * 20)
        for adapter in (warm, sparse):
            measure = ("eval", "--model", MODEL, "--adapter", adapter, "--text", text, "--window", "200", "--json")
            shares = [json.loads(self.done(run(*measure, "--attention", attention))).get("keys_read", 1) for attention in ("auto", "dsa:top_k=64", "dsa:top_p=0.5", "dense")]
            self.assertLess(shares[0], shares[1])
            self.assertLess(shares[2], shares[1])
            self.assertLess(shares[1], shares[3])
            self.assertEqual(shares[3], 1)
            self.done(run("generate", "--model", MODEL, "--adapter", adapter, "--prompt", "what is 3 and 3? " * 4, "--max_new_tokens", "4"))
        self.refused(run("generate", "--model", MODEL, "--adapter", warm, "--prompt", "a", "--attention", "dsa:ratio=0.4"), "takes dsa:top_k or dsa:top_p")
        self.refused(run("generate", "--model", MODEL, "--adapter", warm, "--prompt", "a", "--kv_cache", "int8"), "--kv_cache int8: with indexers")
        self.refused(run("generate", "--model", ROOT / "tests" / "golden" / "models" / "gemma3", "--adapter", warm, "--prompt", "a"), "belongs to another model", code=1)
        self.refused(run(*self.arguments("--dsa", "warmup", *shape, "--model", ROOT / "tests" / "golden" / "models" / "gemma2", out=self.folder / "capped")), "caps the scores")
        self.refused(run("merge", "--model", MODEL, "--adapter", warm, "--output", self.folder / "merged"), "nothing that could be merged")
        self.done(run("merge", "--model", MODEL, "--adapter", sparse, "--output", self.folder / "merged"))

    def test_bad_input_of_indexers(self):
        for words, text in ((("--dsa", "dense"), "--dsa is 'dense'; use warmup"), (("--dsa_top_k", "8"), "no meaning without --dsa"), (("--dsa", "warmup", "--dsa_heads", "0"), "1 to 128 heads"),
                            (("--dsa", "warmup", "--dsa_dim", "6"), "multiple of 4"), (("--dsa", "warmup", "--dsa_top_k", "0"), "1 to 1,048,576"),
                            (("--dsa", "sparse"), "--dsa warmup makes one"), (("--dsa", "warmup", "--context", "60", "--dsa_top_k", "60"), "nothing would be left out")):
            self.refused(run(*self.arguments(*words)), text)

    def test_paths_are_quoted_for_the_shell(self):
        out = self.folder / "it's öut 空"
        text = self.done(run(*self.arguments("--samples", "0", out=out, steps=2)))
        commands = [line for line in text.splitlines() if "deepseek-cli" in line]
        self.assertEqual(len(commands), 2)
        for line in commands:
            self.assertIn(str(out), shlex.split(line))

    def test_the_bar_of_a_terminal(self):
        main, side = os.openpty()
        with subprocess.Popen([CLI, *map(str, self.arguments(steps=40))], stdout=subprocess.DEVNULL, stderr=side) as process:
            os.close(side)
            shown = b""
            while True:
                try:
                    part = os.read(main, 65536)
                except OSError:  # the other side is closed
                    break
                if not part:
                    break
                shown += part
        os.close(main)
        self.assertEqual(process.returncode, 0, shown)
        self.assertRegex(shown.decode(), r"fine-tune  \d+/40 \[=* *\] +\d+%  loss \d\.\d+  \d+ tok/s")
        self.assertIn(b"answers before training", shown)

    def test_one_process_that_fails_ends_all(self):
        if os.environ.get("DEEPSEEK_HAS_MPI") != "ON" or not shutil.which("mpirun"):
            self.skipTest("built without MPI")
        start = ["mpirun", "--allow-run-as-root", "--oversubscribe", "--bind-to", "none", "-n", "1"]
        good = [CLI, *map(str, self.arguments(steps=3000))]
        bad = [CLI, *map(str, self.arguments("--model", self.folder / "none", steps=3000))]
        result = subprocess.run([*start, *good, ":", "-n", "1", *bad], capture_output=True, text=True, timeout=120)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("another process of this run failed", result.stderr)
        both = subprocess.run([*start[:-1], "2", *bad], capture_output=True, text=True, timeout=120)
        self.assertEqual(both.stderr.count("error: "), 1, both.stderr)

    def test_an_output_that_cannot_be_written(self):
        (self.folder / "file").write_text("")
        self.refused(run(*self.arguments(out=self.folder / "file")), "cannot create", code=1)


if __name__ == "__main__":
    unittest.main()
