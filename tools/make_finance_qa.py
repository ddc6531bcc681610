#!/usr/bin/env python3
"""Writes data/finance_qa.json: questions and answers on finance, the same file for the same seed.

Usage: tools/make_finance_qa.py [--check] [OUTPUT]
--check compares with the file that is there instead of writing it (exit code 1 where they differ).
"""

import argparse
import json
import pathlib
import random
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

from finance_qa import concepts_accounts, concepts_chinese, concepts_markets, concepts_money  # noqa: E402
from finance_qa import families_accounts, families_chinese, families_markets, families_money  # noqa: E402,F401
from finance_qa.calculation import FAMILIES  # noqa: E402

SEED = 20240
ROWS_PER_FAMILY = {"en": 6, "zh": 4}
DEFAULT = pathlib.Path(__file__).resolve().parent.parent / "data" / "finance_qa.json"


def concept_rows():
    for language, module in (("en", concepts_money), ("en", concepts_accounts), ("en", concepts_markets),
                             ("zh", concepts_chinese)):
        for topic, entries in module.CONCEPTS.items():
            for difficulty, question, answer in entries:
                yield "", {"question": question, "answer": answer, "difficulty": difficulty, "topic": topic,
                           "language": language}


def calculation_rows():
    for name, topic, difficulty, language, make in FAMILIES:
        numbers = random.Random(f"{SEED} {name}")
        seen = set()
        while len(seen) < ROWS_PER_FAMILY[language]:
            questions, calculation = make(numbers)
            steps = calculation.rows()
            key = tuple(step["expression"] for step in steps)
            if key in seen:
                continue
            yield name, {"question": questions[len(seen) % len(questions)], "answer": calculation.answer(language),
                         "difficulty": difficulty, "topic": topic, "language": language, "calculation": steps}
            seen.add(key)


def assign_splits(rows, order):
    """Every tenth row to validation and every tenth to test, of rows sorted by language, topic, kind and difficulty."""
    order.shuffle(rows)
    rows.sort(key=lambda row: (row[1]["language"], row[1]["topic"], bool(row[0]), row[1]["difficulty"], row[0]))
    for index, (_, row) in enumerate(rows):
        row["split"] = {3: "validation", 8: "test"}.get(index % 10, "train")


def make():
    order = random.Random(SEED)
    rows = [*concept_rows(), *calculation_rows()]
    assign_splits(rows, order)
    order.shuffle(rows)
    fields = ("question", "answer", "difficulty", "split", "topic", "language", "calculation")
    lines = [json.dumps({f: row[f] for f in fields if f in row}, ensure_ascii=False) for _, row in rows]
    return "[\n" + ",\n".join(lines) + "\n]\n"


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", nargs="?", type=pathlib.Path, default=DEFAULT)
    parser.add_argument("--check", action="store_true", help="compare instead of writing")
    options = parser.parse_args()
    text = make()
    if options.check:
        same = options.output.read_text(encoding="utf-8") == text
        print(f"{options.output}: {'is' if same else 'is NOT'} what the generator makes")
        return 0 if same else 1
    options.output.write_text(text, encoding="utf-8")
    print(f"{options.output}: {text.count(chr(10)) - 2} rows")
    return 0


if __name__ == "__main__":
    sys.exit(main())
