"""explain from outside: a model from a table, what it says of samples and of all rows, models behind programs, and bad input."""

import csv
import json
import math
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import unittest

from program import CLI, MODEL, ROOT, Case, run

CREDIT = ROOT / "data" / "credit.csv"
GROUPS = ROOT / "data" / "credit_groups.yaml"

# A scorer over pipes. What it does at which batch comes as arguments: "dies:3", "hangs:2", "nan:2", "counts FILE".
SCORER = """
import json, os, sys, time
plan = dict(a.split(":") for a in sys.argv[1:])
batches = 0
for line in sys.stdin:
    batches += 1
    request = json.loads(line)
    at = {name: i for i, name in enumerate(request["columns"])}
    if "counts" in plan:
        with open(plan["counts"], "a") as file:
            file.write("%d\\n" % len(request["rows"]))
    if batches == int(plan.get("dies", 0)):
        sys.exit(3)
    if batches >= int(plan.get("hangs", 1 << 30)):
        time.sleep(60)
    scores = [0.001 * (row[at["income"]] or 0) - (1.5 if row[at["occupation"]] == "none" else 0) - 0.5 * row[at["missed_payments"]] * row[at["other_loans"]] for row in request["rows"]]
    if batches >= int(plan.get("nan", 1 << 30)):
        scores[0] = float("nan")
    print(json.dumps({"scores": scores}), flush=True)
"""


def explained(*arguments):
    return run("explain", "--data", CREDIT, "--quiet", *arguments)


class Explain(Case):
    @classmethod
    def setUpClass(cls):
        cls.shared = tempfile.TemporaryDirectory()
        cls.model = pathlib.Path(cls.shared.name) / "model"
        cls.net = pathlib.Path(cls.shared.name) / "net"
        for learner, place in (("trees", cls.model), ("net", cls.net)):
            result = explained("--train", "--target", "repaid", "--learner", learner, "--output", place, "--json")
            assert result.returncode == 0, result.stderr
            report = json.loads(result.stdout)["report"]
            assert report["accuracy"] > report["majority"], report

    @classmethod
    def tearDownClass(cls):
        cls.shared.cleanup()

    def setUp(self):
        super().setUp()
        self.scorer = self.folder / "scorer.py"
        self.scorer.write_text(SCORER)

    def command(self, *plan):
        return " ".join([f"command:{sys.executable}", str(self.scorer), *plan])

    def document(self, *arguments):
        return json.loads(self.done(explained("--json", *arguments)))

    def sums(self, document, values, near=1e-9):
        of = list(values)
        for node in reversed(range(len(of))):
            children = [of[i] for i, n in enumerate(document["tree"]) if n["parent"] == node]
            if children:
                self.assertAlmostEqual(sum(children), of[node], delta=near * max(1, abs(of[node])))

    def test_one_sample(self):
        document = self.document("--model", self.model, "--sample", 3, "--groups", GROUPS)
        local = document["local"]
        self.assertAlmostEqual(local["values"][0], local["score"] - document["base"], places=9)
        self.sums(document, local["values"])
        self.assertAlmostEqual(local["prediction"], 1 / (1 + math.exp(-local["score"])), places=9)
        self.assertEqual(local["inputs"]["occupation"], CREDIT.read_text().splitlines()[4].split(",")[2])
        self.assertIn(local["actual"], ("yes", "no"))
        self.assertTrue(document["method"]["exact"])
        self.assertEqual(document["method"]["values"], "Winter")
        self.assertEqual([n["name"] for n in document["tree"] if n["parent"] == 0], ["person", "work", "history", "loan"])

    def test_all_rows(self):
        document = self.document("--model", self.model, "--rows", 200, "--tree", "flat")
        names = [n["name"] for n in document["tree"]]
        importance = dict(zip(names, document["global"]["importance"]))
        for real in ("missed_payments", "amount", "income"):  # the table's own rule
            for idle in ("region", "purpose"):
                self.assertGreater(importance[real], 2 * importance[idle])
        self.assertEqual(len(document["global"]["points"]), 200)
        self.assertEqual(document["method"]["values"], "Shapley")

    def test_engines_agree(self):
        exact = self.document("--model", self.model, "--sample", 5, "--tree", "flat", "--background", 20)["local"]["values"]
        for engine, near in (("exact", 1e-9), ("estimate", 0.3)):
            found = self.document("--model", self.model, "--sample", 5, "--tree", "flat", "--background", 20, "--engine", engine, "--budget", 600)["local"]
            for a, b, width in zip(exact, found["values"], found["half_widths"]):
                self.assertAlmostEqual(a, b, delta=max(near if engine == "exact" else 3 * width, 1e-9))

    def test_a_net_and_its_gradients(self):
        document = self.document("--model", self.net, "--sample", 5, "--budget", 512)
        self.sums(document, document["local"]["values"], 1e-6)
        gradients = self.document("--model", self.net, "--sample", 5, "--engine", "gradients")
        self.assertEqual(gradients["method"]["engine"], "expected gradients")
        one = self.document("--model", self.net, "--sample", 5, "--engine", "gradients", "--background", 1)
        self.assertEqual(one["method"]["engine"], "integrated gradients")
        self.assertEqual(set(one["local"]["half_widths"]), {0})

    def test_the_same_seed_gives_the_same_report(self):
        ask = ["--model", self.net, "--sample", 9, "--budget", 128, "--seed", 4]
        self.assertEqual(self.document(*ask), self.document(*ask))
        self.assertNotEqual(self.document(*ask), self.document(*ask[:-1], 5))

    def test_text_page_and_file_hold_the_same(self):
        page, file = self.folder / "why.html", self.folder / "why.json"
        text = self.done(explained("--model", self.model, "--sample", 3, "--html", page, "--output", file))
        self.assertIn("missed_payments", text)
        self.assertIn("base value", text)
        self.assertIn("missed_payments", page.read_text())
        self.assertEqual(json.loads(file.read_text()), self.document("--model", self.model, "--sample", 3))
        self.assertIn("基准值", self.done(explained("--model", self.model, "--sample", 3, "--language", "zh")))

    def test_conditional_and_path_dependent(self):
        for worth, name in (("conditional", "conditional"), ("path", "path dependent")):
            document = self.document("--model", self.model, "--sample", 3, "--worth", worth, "--budget", 128)
            self.assertEqual(document["method"]["worth"], name)
            self.sums(document, document["local"]["values"], 1e-6)

    def test_a_program_as_a_model(self):
        document = self.document("--model", self.command(), "--target", "repaid", "--sample", 0, "--budget", 400, "--tree", "flat", "--background", 30)
        values = dict(zip([n["name"] for n in document["tree"]], document["local"]["values"]))
        for idle in ("age", "region", "purpose", "amount"):
            self.assertAlmostEqual(values[idle], 0, delta=1e-6)
        self.assertNotAlmostEqual(values["income"], 0, delta=1e-3)

    def test_a_program_that_dies_once_is_asked_again(self):
        self.document("--model", self.command("dies:2"), "--target", "repaid", "--sample", 0, "--budget", 64, "--batch", 500, "--background", 30)

    def test_what_a_broken_program_gave_is_kept(self):
        memory, counts = self.folder / "scores", self.folder / "counts"
        ask = ["--target", "repaid", "--rows", 6, "--budget", 64, "--background", 20, "--resume", memory, "--retries", 0]
        whole = self.document("--model", self.command(), *[a if a != memory else self.folder / "other" for a in ask])
        self.scorer.write_text(SCORER.replace("batches == int", "batches >= int"))
        broken = explained("--json", "--model", self.command("dies:6"), *ask)
        self.assertEqual(broken.returncode, 1, broken.stderr)
        self.assertIn("of 6 rows", broken.stderr)
        self.assertIn(str(memory), broken.stderr)
        if broken.stdout:
            self.assertLess(json.loads(broken.stdout)["global"]["rows"], 6)
        self.assertEqual(whole["global"]["rows"], 6)

    def test_a_run_goes_on_from_its_scores(self):
        memory, counts = self.folder / "scores", self.folder / "counts"
        ask = ["--model", self.command(f"counts:{counts}"), "--target", "repaid", "--rows", 3, "--budget", 64, "--background", 20, "--resume", memory]
        first = self.document(*ask)
        asked = sum(map(int, counts.read_text().split()))
        counts.write_text("")
        self.assertEqual(self.document(*ask), first)
        again = sum(map(int, counts.read_text().split()))
        self.assertLess(again, asked / 50)  # the probe

    def test_broken_programs(self):
        ask = ["--target", "repaid", "--sample", 0, "--budget", 64, "--retries", 0, "--background", 10]
        self.refused(explained("--model", self.command("hangs:1"), "--timeout", 1, *ask), "1 s", 1)
        self.refused(explained("--model", self.command("nan:1"), *ask), "a finite number", 1)
        self.refused(explained("--model", "command:false", *ask), "false", 1)
        self.refused(explained("--model", "command:/nonexistent/scorer", *ask), "scorer", 1)
        self.refused(explained("--model", "http://127.0.0.1:9/score", *ask), "127.0.0.1", 1)

    def test_wrong_requests(self):
        ask = ["--model", self.model]
        self.refused(run("explain", *ask), "--data is missing")
        self.refused(explained(), "--model is missing")
        self.refused(explained(*ask, "--sample", 5000), "rows 0 to 1499")
        self.refused(explained(*ask, "--target", "repayed"), "repaid")
        self.refused(explained(*ask, "--class", "maybe"), "maybe")
        self.refused(explained(*ask, "--engine", "magic"), "magic")
        self.refused(explained(*ask, "--tree", "oak"), "oak")
        self.refused(explained(*ask, "--language", "fr"), "fr")
        self.refused(explained(*ask, "--index", "XYZ"), "XYZ")
        self.refused(explained(*ask, "--engine", "linear"), "linear model")
        self.refused(explained(*ask, "--confidence", "2"), "confidence")
        self.refused(explained(*ask, "--background", "0"), "background")
        self.refused(explained(*ask, "--sample", 1, "--rows", 3), "--rows")
        self.refused(explained(*ask, "--groups", self.folder / "none.yaml"), "none.yaml", 1)
        self.refused(explained("--model", self.folder / "none", "--sample", 1), "no such file")
        self.refused(explained(*ask, "--sample", 1, "--html", "/nonexistent/why.html"), "/nonexistent", 1)
        self.refused(explained("--train", "--target", "repaid"), "--output")
        self.refused(explained("--train", "--target", "repaid", "--learner", "oak", "--output", self.folder / "m"), "oak")

    def wrong_file(self, name, content):
        file = self.folder / name
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
        return file

    def test_what_newcomers_get_wrong(self):
        ask = ["--model", self.model]
        self.refused(explained(*ask, "--sample", -1), "rows 0 to 1499")
        self.refused(explained(*ask, "--sample", "three"), "--sample = three: the option takes a number")
        self.refused(explained(*ask, "--expect", "expect.yaml"), "--expect belongs to --find_reliance")
        self.refused(explained(*ask, "--target", "income"), "'income' is a feature of the model, which foretells 'repaid'")
        self.refused(explained("--train", "--target", "was", "it", "repaid", "--output", self.folder / "m"), "put quotes around")
        self.refused(explained("--train", "--target", "repaid", "--output", self.folder / "m", "--html", "why.html"), "leave --html away")
        self.refused(explained("--train", "--target", "outcome", "--output", self.folder / "m"), "it has 'age', 'education'")
        self.refused(explained("--find_reliance", *ask, "--feature", "ocupation"), "is 'occupation' meant?")
        self.refused(explained("--model", self.wrong_file("score.py", "print(1)")), "command:python3 ")
        self.refused(explained("--model", self.wrong_file("model.pkl", b"\x80\x04}.")), "a pickle may run code")
        self.refused(explained("--model", self.wrong_file("other.json", '{"learner": "trees"}')), "no XGBoost model", 1)
        groups = [*ask, "--sample", 1, "--groups"]
        self.refused(explained(*groups, self.wrong_file("typo.yaml", "work: [occupatoin]\n")), "is 'occupation' meant?")
        self.refused(explained(*groups, self.wrong_file("open.yaml", "work: [occupation\n")), "'[' without ']'", 1)
        self.refused(explained(*groups, self.wrong_file("tab.yaml", "work:\n\t- occupation\n")), "spaces, not tabs", 1)
        for name, content, said in (("empty.csv", "", "empty"), ("head.csv", "age,income\n", "no rows"), ("book.xlsx", b"PK\x03\x04....", "spreadsheet"), ("t.parquet", b"PAR1..PAR1", "Parquet"),
                                    ("ragged.csv", "a,b\n1,2\n3\n", "line 3 has 1 values"), ("twice.csv", "a,a\n1,2\n", "both named 'a'"), ("other.csv", "a,b\n1,2\n", "'age', 'education'")):
            self.refused(run("explain", *ask, "--data", self.wrong_file(name, content)), said, 1)
        self.refused(run("explain", *ask, "--data", self.folder), "is a directory", 1)
        self.refused(run("explain", "--train", "--data", self.wrong_file("two.csv", "a,y\n1,no\n2,yes\n"), "--target", "y", "--output", self.folder / "m"), "10 are the least")

    def test_tables_of_spreadsheets(self):
        self.assertEqual(explained("--model", self.model / "model.json", "--sample", 3, "--json").stdout, explained("--model", self.model, "--sample", 3, "--json").stdout.replace(str(self.model), str(self.model / "model.json")))
        plain = self.document("--model", self.model, "--sample", 3)["local"]
        for name, text in (("excel.csv", "\ufeff" + CREDIT.read_text().replace("\n", "\r\n")), ("europe.csv", CREDIT.read_text().replace(",", ";"))):
            found = json.loads(self.done(run("explain", "--quiet", "--json", "--data", self.wrong_file(name, text), "--model", self.model, "--sample", 3)))["local"]
            self.assertEqual(found, plain)
        rows = "".join(f"{i},5;2024-01-{i % 28 + 1:02};{'yes' if i % 2 else 'no'}\n" for i in range(60))
        result = run("explain", "--train", "--data", self.wrong_file("comma.csv", "price;day;sold\n" + rows), "--target", "sold", "--output", self.folder / "m")
        self.assertIn("column 'price': its commas are read as decimal points", result.stderr)
        self.assertIn("column 'day' holds dates", result.stderr)
        self.assertIn("It foretells no better than that", self.done(result))

    def test_groups_that_overlap_or_miss(self):
        twice = self.folder / "twice.yaml"
        twice.write_text("work: [occupation, income]\nmoney: [income, savings]\n")
        result = explained("--model", self.model, "--sample", 1, "--groups", twice)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("income", result.stderr)
        some = self.folder / "some.yaml"
        some.write_text("work: [occupation, income]\n")
        document = self.document("--model", self.model, "--sample", 1, "--groups", some)
        self.assertEqual(sum("feature" in n for n in document["tree"]), 12)
        hybrid = self.document("--model", self.model, "--sample", 1, "--groups", some, "--tree", "hybrid")
        self.assertEqual(hybrid["tree"][1]["name"], "work")

    def changed(self, change, name="changed.csv"):
        rows = list(csv.DictReader(CREDIT.read_text().splitlines()))
        for i, row in enumerate(rows):
            change(i, row)
        file = self.folder / name
        with open(file, "w", newline="") as out:
            writer = csv.DictWriter(out, rows[0].keys())
            writer.writeheader()
            writer.writerows(rows)
        return file

    def test_odd_columns(self):
        odd = self.changed(lambda i, row: row.update(region="north", purpose="moon" if i == 1 else row["purpose"], savings=""))
        document = json.loads(self.done(run("explain", "--quiet", "--json", "--data", odd, "--model", self.model, "--sample", 1)))
        notes = " ".join(document["method"]["notes"])
        self.assertIn("moon", notes)
        self.assertIn("region", notes)
        missing = self.changed(lambda i, row: row.pop("income"), "missing.csv")
        result = run("explain", "--quiet", "--data", missing, "--model", self.model, "--sample", 1)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("income", result.stderr)

    def test_one_background_row(self):
        document = self.document("--model", self.model, "--sample", 3, "--background", 1)
        self.assertEqual(document["method"]["worth"], "baseline")
        self.sums(document, document["local"]["values"])

    def test_two_thousand_features(self):
        draw = random.Random(0)
        names = [f"x{j}" for j in range(2000)]
        weights = [draw.gauss(0, 1) if j % 100 == 0 else 0.0001 * draw.gauss(0, 1) for j in range(2000)]
        data = self.folder / "wide.csv"
        with open(data, "w") as file:
            file.write(",".join(names) + "\n")
            file.writelines(",".join(f"{draw.gauss(0, 1):.3f}" for _ in names) + "\n" for _ in range(60))
        model = self.folder / "linear.json"
        model.write_text(json.dumps({"weights": weights, "offset": 0, "features": names}))
        ask = ["explain", "--quiet", "--json", "--data", data, "--model", model, "--sample", 0, "--background", 10, "--pairs", 0]
        exact = json.loads(self.done(run(*ask, "--tree", "flat")))["local"]
        found = json.loads(self.done(run(*ask, "--engine", "estimate", "--budget", 1500, "--cluster_distance", 1)))
        self.assertAlmostEqual(found["local"]["values"][0], exact["values"][0], places=6)
        self.sums(found, found["local"]["values"], 1e-6)

    def test_a_linear_model_and_a_missing_value(self):
        (self.folder / "rows.csv").write_text("a,b\n1,2\n3,\n4,5\n")
        (self.folder / "linear.json").write_text(json.dumps({"weights": [2, -1], "offset": 0.5, "features": ["a", "b"]}))
        ask = ["explain", "--quiet", "--json", "--data", self.folder / "rows.csv", "--model", self.folder / "linear.json"]
        self.refused(run(*ask, "--sample", 1), "'b' is missing", 1)
        (self.folder / "rows.csv").write_text("a,b\n1,2\n3,0\n4,5\n")
        local = json.loads(self.done(run(*ask, "--sample", 1, "--tree", "flat")))["local"]
        self.assertAlmostEqual(local["score"], 6.5)
        self.assertAlmostEqual(local["values"][1], 2 * (3 - 8 / 3))

    def test_reliance_is_found_planned_and_cut(self):
        expect, plan, better = self.folder / "expect.json", self.folder / "plan.json", self.folder / "better"
        expect.write_text(json.dumps({"missed_payments": 0.05, "region": 0.5}))
        ask = ["--find_reliance", "--expect", expect, "--target", "repaid", "--rows", 300, "--json"]
        found = json.loads(self.done(explained("--model", self.model, *ask, "--plan", plan)))
        shares = {n["name"]: n for n in found["reliance"]}
        self.assertTrue(shares["missed_payments"]["flagged"])
        self.assertFalse(shares["region"]["flagged"])
        self.assertAlmostEqual(sum(n["share"] for n in found["reliance"]), 1, places=9)
        self.assertEqual([p["feature"] for p in found["proxies"]], ["missed_payments"])
        self.done(explained("--train", "--target", "repaid", "--output", better, "--augment", plan))
        after = json.loads(self.done(explained("--model", better, *ask)))
        share = next(n["share"] for n in after["reliance"] if n["name"] == "missed_payments")
        self.assertLess(share, 0.8 * shares["missed_payments"]["share"])
        plan.write_text(json.dumps({"steps": [{"step": "resample", "columns": ["moon"], "strength": 1}]}))
        result = explained("--train", "--target", "repaid", "--output", self.folder / "none", "--augment", plan)
        self.assertNotEqual(result.returncode, 0)
        self.assertIn("moon", result.stderr)
        self.assertFalse((self.folder / "none" / "model.json").exists())

    def test_a_prompt(self):
        ask = ["explain", "--quiet", "--json", "--model", MODEL, "--prompt", "one two. three", "--answer", " four"]
        document = json.loads(self.done(run(*ask)))
        self.assertEqual(document["model"]["units"], "log-probability")
        self.assertEqual([n["name"].strip() for n in document["tree"] if "feature" in n], ["one", "two.", "three"])
        self.sums(document, document["local"]["values"], 1e-6)
        self.assertAlmostEqual(document["base"] + document["local"]["values"][0], document["local"]["score"], places=6)
        self.assertEqual(json.loads(self.done(run(*ask))), document)
        self.refused(run(*ask[:-4], "--prompt", " "), "the prompt is empty")

    def test_images_that_are_none(self):
        self.refused(run("explain", "--image", "x.png"), "--model is missing")
        (self.folder / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        (self.folder / "x.pt").write_bytes(b"no model")
        self.refused(run("explain", "--image", self.folder / "x.png", "--model", self.folder / "x.pt"), "x.pt", 1)
        self.refused(run("explain", "--image", "x.png", "--prompt", "y", "--model", "z"), "give one of them")

    def test_a_closed_pipe(self):
        process = subprocess.Popen([CLI, "explain", "--quiet", "--data", CREDIT, "--model", self.model, "--json"], stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        process.stdout.close()
        errors = process.stderr.read().decode()
        process.stderr.close()
        self.assertIn(process.wait(), (0, 1), errors)
        self.assertNotIn("terminate", errors)

    def test_a_full_disk(self):
        if not os.path.exists("/dev/full"):
            self.skipTest("there is no /dev/full")
        with open("/dev/full", "w") as full:
            result = subprocess.run([CLI, "explain", "--quiet", "--data", CREDIT, "--model", self.model, "--sample", "1"], stdout=full, stderr=subprocess.PIPE, text=True)
        self.assertEqual(result.returncode, 1)
        self.assertIn("cannot write the output", result.stderr)


if __name__ == "__main__":
    unittest.main()
