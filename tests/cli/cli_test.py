"""The program from outside: exit codes, suggestions, streams, bad input."""

import json
import os
import pathlib
import pty
import resource
import select
import shutil
import signal
import subprocess
import time
import unittest

from program import ADAPTER, CLI, ENCODER, MODEL, ROOT, Case, run

GOLDEN = ROOT / "tests" / "golden"


class Terminal:
    """A command on a terminal of its own."""

    def __init__(self, *arguments):
        self.main, other = pty.openpty()
        self.process = subprocess.Popen([CLI, *map(str, arguments)], stdin=other, stdout=other, stderr=other, start_new_session=True)
        os.close(other)
        self.text = ""

    def type(self, text):
        os.write(self.main, text.encode())

    def wait_for(self, text, seconds=60):
        """What came up to and with `text`."""
        deadline = time.monotonic() + seconds
        while text not in self.text and time.monotonic() < deadline:
            if select.select([self.main], [], [], 0.1)[0]:
                try:
                    self.text += os.read(self.main, 4096).decode(errors="replace")
                except OSError:  # the program has ended
                    break
        if text not in self.text:
            raise AssertionError(f"{text!r} did not come, but {self.text!r}")
        before, _, self.text = self.text.partition(text)
        return before + text

    def end(self):
        self.process.kill()
        self.process.wait()
        os.close(self.main)


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

    def test_starts_without_libtorch(self):
        libraries = subprocess.run(["ldd", CLI], capture_output=True, text=True).stdout
        self.assertIn("libstdc++", libraries)
        self.assertNotIn("torch", libraries)
        self.assertNotIn("libc10", libraries)  # addresses may hold c10

    def test_the_other_program_is_missing(self):
        alone = self.folder / "bin" / "deepseek-cli"
        alone.parent.mkdir()
        shutil.copy(CLI, alone)
        for arguments in (["fine-tune", "--help"], ["generate", "--model", MODEL, "--prompt", "x", "--device", "cuda"]):
            result = subprocess.run([alone, *arguments], capture_output=True, text=True)
            self.refused(result, "libexec/deepseek-cli-full, which does what needs libtorch: No such file", 1)

    def test_the_other_program_gets_all_of_standard_input(self):
        (self.folder / "bin").mkdir()
        (self.folder / "libexec").mkdir()
        shutil.copy(CLI, self.folder / "bin" / "deepseek-cli")
        full = self.folder / "libexec" / "deepseek-cli-full"
        full.write_text("#!/bin/sh\necho \"$@\"\ncat\n")
        full.chmod(0o755)
        arguments = ["generate", "--model", MODEL, "--device", "cuda"]
        result = subprocess.run([self.folder / "bin" / "deepseek-cli", *arguments], input="A bond is", capture_output=True, text=True)
        self.assertEqual(result.stdout, " ".join(arguments) + "\nA bond is")

    def test_a_device_that_is_not_there(self):
        self.refused(run("generate", "--model", MODEL, "--prompt", "x", "--device", "tpu"), "use cpu or cuda")
        cuda = run("generate", "--model", MODEL, "--prompt", "x", "--max_new_tokens", "2", "--device", "cuda")
        if cuda.returncode != 0:
            self.refused(cuda, "this machine or this libtorch has none; use cpu")

    def test_a_type_of_cache_that_is_not_there(self):
        self.refused(run("generate", "--model", MODEL, "--prompt", "x", "--kv_cache", "int4"), "use bf16 or int8")
        self.refused(run("eval", "--model", MODEL, "--text", "x", "--device", "cuda", "--kv_cache", "int8"), "is for --device cpu")
        for attention, reason in (("sparse", "use dense, dsa"), ("dsa:ratio=0", "above 0, up to 1"), ("dsa:ratio=1.5", "above 0, up to 1"), ("dsa:top_k=0", "a whole number from 1"), ("dsa:top_p=x", "use dense, dsa")):
            self.refused(run("generate", "--model", MODEL, "--prompt", "x", "--attention", attention), reason)
        self.refused(run("generate", "--model", MODEL, "--prompt", "x", "--device", "cuda", "--attention", "dsa"), "is for --device cpu")

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

    def test_an_encoder_has_no_text(self):
        data = self.folder / "data.json"
        data.write_text(json.dumps([{"question": "a?", "answer": "b"}]))
        for command in (["generate", "--prompt", "x"], ["chat"], ["eval", "--dataset", data], ["fine-tune", "--dataset", data, "--output", self.folder / "out"],
                        ["merge", "--adapter", ADAPTER, "--output", self.folder / "out"]):
            self.refused(run(*command, "--model", ENCODER), "is an encoder, it has no text to generate")

    def test_broken_gguf(self):
        for content in (b"", b"GGUF", b"GGUF" + b"\xff" * 100, b"nonsense" * 50):
            path = self.folder / "m.gguf"
            path.write_bytes(content)
            self.refused(run("generate", "--model", path, "--prompt", "x"), "m.gguf", code=1)


class BrokenModels(Case):
    def copy(self, model="llama_gqa"):
        target = self.folder / "copy"
        shutil.rmtree(target, ignore_errors=True)
        shutil.copytree(GOLDEN / "models" / model, target)
        return target

    def edited(self, name, change, model="llama_gqa"):
        target = self.copy(model)
        content = json.loads((target / name).read_text()) if (target / name).exists() else {}
        change(content)
        (target / name).write_text(json.dumps(content))
        return target

    def generate(self, model):
        return run("generate", "--model", model, "--prompt", "hello", "--max_new_tokens", "2")

    def test_configuration(self):
        for change, text in (({"num_hidden_layers": 0}, "num_hidden_layers is 0"), ({"model_type": "mamba"}, "supported are llama"), ({"hidden_act": "relu"}, "'relu'"),
                             ({"vocab_size": 10**18}, "more than any model has"), ({"num_attention_heads": 3, "num_key_value_heads": 2}, "no multiple")):
            self.refused(self.generate(self.edited("config.json", lambda c, change=change: c.update(change))), text, code=1)

    def test_generation_config(self):
        target = self.edited("generation_config.json", lambda c: c.update({"top_k": -4, "do_sample": True}))
        self.refused(self.generate(target), "generation_config.json asks for the impossible: top_k is -4", code=1)
        self.done(run("generate", "--model", target, "--prompt", "x", "--max_new_tokens", "2", "--top_k", "3"))
        self.done(self.generate(self.edited("generation_config.json", lambda c: c.update({"eos_token_id": [10**12, "x"], "temperature": "hot"}))))
        (target / "generation_config.json").write_text("{")
        result = self.generate(target)
        self.refused(result, "generation_config.json: not valid JSON", code=1)
        self.assertEqual(result.stderr.count(str(target)), 1)  # the place is said once

    def test_tokenizer(self):
        target = self.copy()
        (target / "tokenizer.json").unlink()
        self.refused(self.generate(target), "no tokenizer.json", code=1)

        def more(content, special):
            size = len(content["model"]["vocab"]) + 4
            for i in range(300):
                content["added_tokens"].append({"id": size + i, "content": f"<extra{i}>", "special": special, "single_word": False, "lstrip": False, "rstrip": False, "normalized": False})

        self.refused(self.generate(self.edited("tokenizer.json", lambda c: more(c, False))), "they do not belong together", code=1)
        target = self.edited("tokenizer.json", lambda c: more(c, True))  # as Gemma 3's text models have it
        self.done(self.generate(target))
        self.refused(run("generate", "--model", target, "--prompt", "<extra299>"), "outside the vocabulary")

    def test_weights(self):
        target = self.copy()
        shard = sorted(target.glob("model-*"))[1]
        shard.write_bytes(shard.read_bytes()[:9000])
        self.refused(self.generate(target), shard.name, code=1)
        shard.unlink()
        self.refused(self.generate(target), "is missing", code=1)


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
        empty = self.folder / "empty"
        empty.write_text("")
        for arguments in ([], ["--prompt", ""], ["--prompt_file", empty]):
            self.refused(run("generate", "--model", MODEL, *arguments), "there is no prompt")

    def test_the_same_prompt_from_everywhere(self):
        file = self.folder / "prompt"
        file.write_text("hello\n")
        options = ["generate", "--model", MODEL, "--max_new_tokens", "4", "--greedy"]
        outputs = {self.done(run(*options, *more, stdin=text)) for more, text in ((["--prompt", "hello"], ""), (["--prompt_file", file], ""), ([], "hello\n"))}
        self.assertEqual(len(outputs), 1)

    def test_a_prompt_that_is_no_text(self):
        command = [CLI, "generate", "--model", MODEL, "--max_new_tokens", "3", "--json"]
        result = subprocess.run(command, input=b"\xff\xfe \xe5\x88 \0", capture_output=True, timeout=60)
        self.assertEqual(result.returncode, 0, result.stderr)
        json.loads(result.stdout.decode("utf-8"))
        self.refused(run("generate", "--model", MODEL, stdin="word " * 5000), "shorten the prompt by at least")

    def test_a_stream_never_cuts_a_character(self):
        command = [CLI, "generate", "--model", MODEL, "--prompt", "利率", "--max_new_tokens", "60", "--temperature", "1", "--seed", "5"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE)
        pieces = iter(lambda: os.read(process.stdout.fileno(), 65536), b"")
        text = "".join(piece.decode("utf-8") for piece in pieces)  # each piece stands alone
        process.communicate()
        self.assertEqual(text, self.done(run(*command[1:], "--no_stream")))

    def test_guesses_do_not_change_the_text(self):
        arguments = ["generate", "--model", MODEL, "--prompt", "a b a b a", "--max_new_tokens", "24", "--json", "--temperature", "0.9", "--seed", "2"]
        plain = json.loads(self.done(run(*arguments, "--draft", "off")))
        for draft in ("auto", MODEL):
            guessed = json.loads(self.done(run(*arguments, "--draft", draft)))
            self.assertEqual(guessed["text"], plain["text"])
            self.assertLessEqual(guessed["passes"], plain["passes"])
        self.refused(run(*arguments, "--draft", self.folder / "none"), "--draft: ", code=2)

    def test_threads_and_kernels(self):
        arguments = ["generate", "--model", MODEL, "--prompt", "hello", "--max_new_tokens", "4", "--greedy"]
        expected = self.done(run(*arguments))
        many = run(*arguments, "--threads", "1000")
        self.assertEqual(self.done(many), expected)
        self.assertIn("threads instead of 1000", many.stderr)
        self.refused(run(*arguments, "--threads", "-1"), "--threads is -1")
        slow = run(*arguments, environment={"DEEPSEEK_FORCE_KERNEL": "reference"})
        self.done(slow)
        self.assertIn("kernels: reference", slow.stderr)
        self.refused(run(*arguments, environment={"DEEPSEEK_FORCE_KERNEL": "abacus"}), "abacus is unknown; there are ")

    def test_more_context_than_memory(self):
        target = self.model_with_context(2_000_000_000)
        arguments = ["generate", "--model", target, "--prompt", "hello", "--max_new_tokens", "2"]
        self.refused(run(*arguments, "--context", "2000000000"), "lower --context to ")
        self.assertIn("memory holds a context of ", run(*arguments).stderr)

    def test_attention_over_chosen_keys(self):
        target = self.model_with_context(4096)
        (self.folder / "text.txt").write_text("".join(f"Bond {i} pays {i * i % 97} a year. " for i in range(150)))
        arguments = ["eval", "--model", target, "--reference", target, "--text", self.folder / "text.txt", "--window", "4096", "--json"]
        out = json.loads(self.done(run(*arguments, "--attention", "dsa:ratio=0.3")))
        self.assertGreater(out["keys_read"], 0.3)
        self.assertLess(out["keys_read"], 0.9)  # the first 2,048 positions read all
        self.assertGreater(out["kl"], 0)
        self.assertGreater(out["agreement"], 0.5)  # weights are random
        whole = json.loads(self.done(run(*arguments, "--attention", "dsa:ratio=1")))
        self.assertEqual(whole["keys_read"], 1)
        self.assertLess(whole["kl"], 1e-4)
        self.assertLess(whole["kl"], out["kl"])
        self.assertNotIn("keys_read", json.loads(self.done(run(*arguments))))

    def test_the_profile_of_attention(self):
        target = self.model_with_context(4096)
        text = "".join(f"Bond {i} pays {i * i % 97} a year. " for i in range(130))
        (self.folder / "text.txt").write_text(text)
        measure = ["eval", "--model", target, "--text", self.folder / "text.txt", "--window", "4096", "--attention", "dsa:ratio=0.3", "--profile"]
        out = json.loads(self.done(run(*measure, "--json")))
        self.assertEqual([layer["layer"] for layer in out["attention"]], [0, 1, 2])
        for layer in out["attention"]:
            self.assertGreater(layer["keys_read"], 0.3)
            self.assertLess(layer["keys_read"], 1)
            self.assertLess(layer["mass_kept"], 1)
            self.assertGreater(layer["mass_kept"], layer["keys_read"])  # the keys that are read are the better ones
        self.assertAlmostEqual(sum(layer["keys_read"] for layer in out["attention"]) / 3, out["keys_read"], places=3)
        # For a person: on standard error, while it works and at the end.
        shown = run(*measure)
        self.done(shown)
        self.assertIn("keys read", shown.stderr)
        self.assertIn("attention kept", shown.stderr)
        generate = ["generate", "--model", target, "--prompt", text, "--max_new_tokens", "3", "--greedy", "--profile"]
        dense = json.loads(self.done(run(*generate, "--json")))
        self.assertEqual(dense["keys_read"], 1)
        self.assertEqual({layer["mass_kept"] for layer in dense["attention"]}, {1})
        sparse = run(*generate, "--attention", "dsa:ratio=0.3")
        self.done(sparse)
        self.assertIn("of the attention", sparse.stderr)
        other = run("generate", "--model", ROOT / "tests" / "golden" / "models" / "deepseek_v32", "--prompt", "abc", "--max_new_tokens", "2", "--profile")
        self.done(other)
        self.assertIn("known to the engine alone", other.stderr)

    def test_a_plan_is_made_beside_the_model_and_obeyed(self):
        target = self.model_with_context(4096)
        text = self.folder / "text.txt"
        text.write_text("".join(f"Bond {i} pays {i * i % 97} a year. " for i in range(300)))
        plan = ["plan", "--model", target, "--sparsity", "--text", text, "--window", "3000"]
        (target / "plan.json").write_text("my notes")
        self.refused(run(*plan, "--min_fidelity", "0.9"), "plan.json", 1)
        self.assertEqual((target / "plan.json").read_text(), "my notes")
        (target / "plan.json").unlink()
        out = json.loads(self.done(run(*plan, "--min_fidelity", "0.9", "--json")))["sparsity"]
        self.assertEqual(list(out["layers"]), ["0", "1", "2"])
        self.assertTrue(out["measured"]["held_out"])
        self.assertGreaterEqual(out["measured"]["agreement"], 0.9)
        self.assertEqual(json.loads((target / "plan.json").read_text())["sparsity"], out)
        # Reading all keys is always faithful.
        exact = json.loads(self.done(run(*plan, "--min_fidelity", "1", "--output", self.folder / "exact.json", "--json")))["sparsity"]
        self.assertEqual(exact["measured"]["agreement"], 1)
        # Each head for itself.
        heads = json.loads(self.done(run(*plan, "--min_fidelity", "0.95", "--heads", "--output", self.folder / "heads.json", "--json")))["sparsity"]
        self.assertGreaterEqual(heads["measured"]["agreement"], 0.95)
        number = json.loads((target / "config.json").read_text())["num_attention_heads"]
        self.assertTrue(any(isinstance(layer, list) for layer in heads["layers"].values()), heads)
        self.assertTrue(all(isinstance(layer, str) or len(layer) == number for layer in heads["layers"].values()), heads)
        measure = ["eval", "--model", target, "--text", text, "--window", "3000", "--json"]
        by_heads = json.loads(self.done(run(*measure, "--plan", self.folder / "heads.json")))
        self.assertLess(by_heads["keys_read"], 1)
        planned, dense = (json.loads(self.done(run(*measure, "--attention", attention))) for attention in ("auto", "dense"))
        self.assertNotIn("keys_read", dense)
        if any(attention != "dense" for attention in out["layers"].values()):
            self.assertLess(planned["keys_read"], 1)
        moved = self.folder / "moved.json"
        (target / "plan.json").rename(moved)
        self.assertEqual(json.loads(self.done(run(*measure))), dense)
        self.assertEqual(json.loads(self.done(run(*measure, "--plan", moved))), planned)
        self.refused(run(*measure, "--plan", moved, "--attention", "dsa"), "contradict")
        other = ROOT / "tests" / "golden" / "models" / "qwen3"
        self.refused(run("generate", "--model", other, "--prompt", "a", "--plan", moved), "was made for another model")
        self.refused(run(*measure, "--plan", self.folder / "absent.json"), "absent.json", 1)
        self.refused(run(*plan, "--output", self.folder / "nowhere" / "plan.json"), "nowhere", 1)

    def test_what_a_plan_needs_is_said(self):
        text = self.folder / "text.txt"
        text.write_text("A bond is a loan. " * 20)
        plan = ["plan", "--model", MODEL]
        for arguments, words in (([], "say what to plan: --sparsity"), (["--sparsity"], "--text is missing"), (["--sparsity", "--text", text], "there is nothing to plan"),
                                 (["--sparsity", "--text", text, "--min_fidelity", "1.5"], "above 0, up to 1")):
            self.refused(run(*plan, *arguments), words)
        self.refused(run(*plan, "--sparsity", "--text", self.folder / "absent"), "absent", 1)
        target = self.model_with_context(4096)
        self.refused(run("plan", "--model", target, "--sparsity", "--text", text), "2560 or more are needed")
        self.refused(run("plan", "--model", target, "--sparsity", "--text", text, "--window", "100"), "use 2560")

    def test_a_deepseek_model_reads_what_its_indexer_names(self):
        model = ROOT / "tests" / "golden" / "models" / "deepseek_v32"
        out = json.loads(self.done(run("generate", "--model", model, "--prompt", "abc", "--max_new_tokens", "40", "--dtype", "f32", "--json")))
        self.assertEqual(out["new_tokens"], 40)
        text = self.folder / "text.txt"
        text.write_text("A bond is a loan. " * 20)
        shares = [json.loads(self.done(run("eval", "--model", model, "--text", text, "--window", "200", "--attention", attention, "--json"))).get("keys_read", 1)
                  for attention in ("auto", "dsa:top_k=64", "dense")]
        self.assertLess(shares[0], shares[1])
        self.assertLess(shares[1], shares[2])
        self.assertEqual(shares[2], 1)
        for arguments, words in ((("generate", "--prompt", "a", "--attention", "dsa:ratio=0.4"), "takes dsa:top_k or dsa:top_p"),
                                 (("generate", "--prompt", "a", "--adapter", "x"), "takes no adapter yet"),
                                 (("merge", "--adapter", "x", "--output", self.folder / "m"), "generate, chat and eval run it"),
                                 (("compress", "--format", "int4", "--output", self.folder / "c"), "generate, chat and eval run it"),
                                 (("fine-tune", "--dataset", ROOT / "data" / "finance_qa.json"), "generate, chat and eval run it")):
            result = run(*arguments, "--model", model)
            self.assertEqual(result.returncode, 2)
            self.assertIn(words, result.stderr)
        self.assertFalse((self.folder / "m").exists())

    def test_a_cache_in_int8(self):
        text = self.done(run("generate", "--model", MODEL, "--prompt", "abc", "--max_new_tokens", "8", "--kv_cache", "int8"))
        self.assertEqual(text, self.done(run("generate", "--model", MODEL, "--prompt", "abc", "--max_new_tokens", "8", "--kv_cache", "int8")))
        (self.folder / "text.txt").write_text("A bond is a loan. " * 20)
        out = json.loads(self.done(run("eval", "--model", MODEL, "--reference", MODEL, "--kv_cache", "int8", "--text", self.folder / "text.txt", "--json")))
        self.assertGreater(out["kl"], 0)
        self.assertLess(out["kl"], 0.01)

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
        target = self.folder / "long"
        shutil.copytree(MODEL, target)
        config = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 1_000_000}))
        command = [CLI, "generate", "--model", target, "--prompt", "x", "--max_new_tokens", "900000", "--temperature", "1"]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.read(1)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
        self.assertEqual((process.returncode, errors), (0, b""))


class Chat(Case):
    def start(self, *more):
        target = self.folder / "long"
        shutil.copytree(MODEL, target, dirs_exist_ok=True)
        config = json.loads((target / "config.json").read_text())
        (target / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 1_000_000}))
        terminal = Terminal("chat", "--model", target, "--temperature", "1", *more)
        self.addCleanup(terminal.end)
        terminal.wait_for("> ")
        return terminal

    def test_help_history_and_the_end(self):
        terminal, saved = self.start("--max_new_tokens", "3"), self.folder / "talk.json"
        terminal.type("/help\n")
        terminal.wait_for("/reset forgets")
        for question in ("one", "two"):
            terminal.wait_for("> ")
            terminal.type(question + "\n")
            terminal.wait_for(question)
        terminal.wait_for("> ")
        terminal.type(f"/save {saved}\n")
        terminal.wait_for("> ")
        terminal.type("\x04")
        self.assertEqual(terminal.process.wait(timeout=60), 0)
        messages = json.loads(saved.read_text())["messages"]
        self.assertEqual([m["content"] for m in messages if m["role"] == "user"], ["one", "two"])

    def test_ctrl_c_stops_the_answer_and_not_the_program(self):
        terminal = self.start("--max_new_tokens", "900000")
        terminal.type("go\n")
        terminal.wait_for("go\r\n")
        time.sleep(0.05)  # the answer of so small a model soon fills its context
        terminal.process.send_signal(signal.SIGINT)
        terminal.wait_for("\n> ")
        terminal.process.send_signal(signal.SIGINT)  # at the prompt: a fresh line
        terminal.wait_for("\n> ")
        terminal.type("/quit\n")
        self.assertEqual(terminal.process.wait(timeout=60), 0)

    def test_sigterm_ends_it(self):
        terminal = self.start()
        terminal.process.send_signal(signal.SIGTERM)
        self.assertEqual(terminal.process.wait(timeout=60), 0)

    def test_a_turn_that_cannot_be_leaves_the_conversation(self):
        terminal = self.start("--max_new_tokens", "2", "--context", "60")
        terminal.type("long " * 40 + "\n")
        terminal.wait_for("/reset begins anew")
        terminal.wait_for("> ")
        terminal.type("hi\n")
        terminal.wait_for("> ")
        terminal.type("/quit\n")
        self.assertEqual(terminal.process.wait(timeout=60), 0)

    def test_json_is_refused(self):
        self.refused(run("chat", "--model", MODEL, "--json"), "chat has no --json")


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

    def test_eval_says_which_row_is_too_long(self):
        data = self.folder / "d.json"
        data.write_text(json.dumps([{"question": "q", "answer": "a"}, {"question": "q " * 300, "answer": "a"}]))
        self.refused(run("eval", "--model", MODEL, "--dataset", data), "row 2 has")
        self.refused(run("eval", "--model", MODEL, "--dataset", data, "--window", "8"), "belong to --text")


class Compress(Case):
    def compress(self, format, output, *more, **settings):
        return run("compress", "--model", MODEL, "--format", format, "--output", self.folder / output, *more, **settings)

    def test_writes_what_every_command_reads(self):
        out = json.loads(self.done(self.compress("int8", "small", "--json")))
        self.assertLess(out["bytes"], 0.4 * out["bytes_before"])
        self.assertLess(out["kl"], 0.01)
        self.assertEqual({m["type"] for m in out["matrices"]}, {"Q8_0", "BF16"})  # 56 columns fill no block
        self.assertIn("agreement", self.done(self.compress("int4", "small.gguf", "--no_calibrate")))
        text = self.folder / "text"
        text.write_text("the rate of return is a ratio " * 40)
        for output in ("small", "small.gguf"):
            self.done(run("generate", "--model", self.folder / output, "--prompt", "hello", "--max_new_tokens", "4"))
            figures = json.loads(self.done(run("eval", "--model", self.folder / output, "--reference", MODEL, "--text", text, "--json")))
            self.assertLess(figures["kl"], 1.0)
            self.assertGreater(figures["agreement"], 0.2)

    def test_a_text_to_calibrate_with(self):
        text = self.folder / "text"
        text.write_text("interest and principal are paid back in rates\n" * 60)
        self.assertIn("measured on", self.done(self.compress("auto", "out", "--text", text, "--max_kl", "0.5")))
        text.write_text("short")
        self.refused(self.compress("int4", "other", "--text", text), "calibration needs at least 768")

    def test_requests_that_cannot_be(self):
        self.refused(self.compress("int3", "x"), "format 'int3' is unknown; use int4, int8, bf16, q4_k, q8_0, auto")
        self.refused(self.compress("auto", "x", "--max_kl", "0"), "--max_kl must be positive")
        (self.folder / "full").mkdir()
        (self.folder / "full" / "mine").write_text("keep")
        self.refused(self.compress("int8", "full"), "is not empty")
        (self.folder / "there.gguf").write_text("keep")
        self.refused(self.compress("int8", "there.gguf"), "exists: name another --output")
        (self.folder / "folder.gguf").mkdir()
        self.refused(self.compress("int8", "folder.gguf"), "is a directory")
        self.refused(run("eval", "--model", MODEL, "--reference", MODEL, "--dataset", "x.json"), "--reference belongs to --text")
        self.assertEqual((self.folder / "there.gguf").read_text(), "keep")

    def test_a_full_disk_leaves_nothing(self):
        small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (20000, resource.RLIM_INFINITY))
        self.refused(self.compress("int8", "new.gguf", preexec_fn=small), "cannot write", code=1)
        self.assertEqual(list(self.folder.iterdir()), [])


class Merge(Case):
    def merge(self, *more, adapter=ADAPTER, model=MODEL, limits=None):
        return run("merge", "--model", model, "--adapter", adapter, "--output", self.folder / "merged", *more, preexec_fn=limits)

    def test_merged_equals_adapted(self):
        target = self.folder / "merged"
        out = json.loads(self.done(self.merge("--json")))
        self.assertEqual(out["dtype"], "f32")  # what the weights have
        prompt = ["--prompt", "hello", "--max_new_tokens", "8", "--greedy", "--dtype", "f32", "--chat_template", "off"]
        merged = self.done(run("generate", "--model", target, *prompt))
        self.assertEqual(merged, self.done(run("generate", "--model", MODEL, "--adapter", ADAPTER, *prompt)))
        self.refused(self.merge(), "is not empty")
        for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json"):
            self.assertEqual((target / name).read_bytes(), (pathlib.Path(MODEL) / name).read_bytes())

    def test_transformers_loads_it(self):
        python = ROOT / ".venv" / "bin" / "python"
        if not python.exists():
            self.skipTest("no .venv")
        pairs = []
        for adapter in ("llama_gqa-rslora", "qwen3-dora", "gemma3-patterns"):
            target = self.folder / adapter
            base = GOLDEN / "models" / adapter.split("-")[0]
            self.done(run("merge", "--model", base, "--adapter", GOLDEN / "adapters" / adapter, "--output", target))
            pairs.append((str(GOLDEN / "adapters" / adapter / "golden.safetensors"), str(target)))
        script = """
import json, sys, torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer
for golden, model in json.loads(sys.argv[1]):
    golden = load_file(golden)
    with torch.no_grad():
        logits = AutoModelForCausalLM.from_pretrained(model, dtype=torch.float32)(golden["ids"].long().reshape(1, -1)).logits[0]
    print(((logits - golden["merged_logits"]).abs().max() / golden["merged_logits"].abs().max()).item(), len(AutoTokenizer.from_pretrained(model)("hello")["input_ids"]))
"""
        result = subprocess.run([python, "-c", script, json.dumps(pairs)], capture_output=True, text=True, env={**os.environ, "HF_HUB_OFFLINE": "1"})
        self.assertEqual(result.returncode, 0, result.stderr)
        lines = result.stdout.splitlines()
        self.assertEqual(len(lines), len(pairs))
        for line in lines:
            self.assertLess(float(line.split()[0]), 1e-4)

    def test_a_full_disk_leaves_nothing(self):
        small = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (60000, resource.RLIM_INFINITY))
        self.refused(self.merge(limits=small), "cannot write", code=1)
        self.assertFalse((self.folder / "merged").exists())
        (self.folder / "merged").mkdir()
        self.refused(self.merge(limits=small), "cannot write", code=1)
        self.assertEqual(list((self.folder / "merged").iterdir()), [])
        self.done(self.merge())
        before = {p.name: p.read_bytes() for p in (self.folder / "merged").iterdir()}
        self.refused(self.merge("--overwrite", limits=small), "cannot write", code=1)
        self.assertEqual({p.name: p.read_bytes() for p in (self.folder / "merged").iterdir()}, before)

    def test_over_the_model_itself(self):
        model = self.folder / "merged"
        shutil.copytree(MODEL, model)
        before = {name: (model / name).read_bytes() for name in ("tokenizer.json", "tokenizer_config.json", "generation_config.json")}
        self.done(self.merge("--overwrite", model=model))
        self.assertEqual({name: (model / name).read_bytes() for name in before}, before)
        self.assertEqual([p.name for p in model.glob("model*")], ["model.safetensors"])

    def test_what_cannot_be_merged(self):
        self.refused(self.merge(adapter=GOLDEN / "adapters" / "gemma3-lora"), "was it made for another model?", code=1)
        self.assertFalse((self.folder / "merged").exists())
        (self.folder / "merged").write_text("")
        self.refused(self.merge(), "is no directory")


if __name__ == "__main__":
    unittest.main()
