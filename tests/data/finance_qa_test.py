#!/usr/bin/env python3
"""Checks data/finance_qa.json: fields, shares, splits, duplicates, and every number, with an evaluator of its own.

Usage: tests/data/finance_qa_test.py data/finance_qa.json
"""

import collections
import decimal
import json
import re
import sys
import unicodedata
import unittest
from decimal import Decimal

decimal.getcontext().prec = 60
ROWS = []
CONSTANTS = {Decimal(n) for n in (0, 1, 2, 12, 72, 100, 365)}
NUMBER = re.compile(r"\d[\d,]*(?:\.\d+)?")
TOPICS = {"interest", "loans", "bonds", "foreign exchange", "banking", "accounting", "statements", "ratios", "tax",
          "markets", "portfolio", "valuation", "risk", "regulation"}


class Evaluator:
    """Recursive descent over + - * / ** ( ) sqrt and decimal numbers."""

    def __init__(self, text):
        self.tokens = re.findall(r"\d+(?:\.\d+)?|\*\*|sqrt|[-+*/()]|\S", text)
        self.at = 0

    def value(self):
        result = self.sum()
        if self.at != len(self.tokens):
            raise ValueError(f"unexpected {self.tokens[self.at]}")
        return result

    def take(self, *wanted):
        if self.at < len(self.tokens) and self.tokens[self.at] in wanted:
            self.at += 1
            return self.tokens[self.at - 1]
        return None

    def sum(self):
        left = self.product()
        while sign := self.take("+", "-"):
            right = self.product()
            left = left + right if sign == "+" else left - right
        return left

    def product(self):
        left = self.signed()
        while sign := self.take("*", "/"):
            right = self.signed()
            left = left * right if sign == "*" else left / right
        return left

    def signed(self):
        if self.take("-"):
            return -self.signed()
        base = self.atom()
        return base ** self.signed() if self.take("**") else base

    def atom(self):
        if self.take("sqrt"):
            return self.atom().sqrt()
        if self.take("("):
            inside = self.sum()
            if not self.take(")"):
                raise ValueError("missing )")
            return inside
        self.at += 1
        return Decimal(self.tokens[self.at - 1])


def recomputed(step):
    """The value of a step, rounded as stated, as a Decimal and as the answers write it."""
    exact = Evaluator(step["expression"]).value()
    value = exact.quantize(Decimal(1).scaleb(-step["round"]), rounding=decimal.ROUND_HALF_UP)
    return value, f"{value:,}"


def numbers(text):
    return [Decimal(match.replace(",", "")) for match in NUMBER.findall(text)]


def normalised(text):
    return re.sub(r"\W+", " ", unicodedata.normalize("NFKC", text).casefold()).strip()


def computed(rows):
    return [row for row in rows if "calculation" in row]


class FinanceQuestions(unittest.TestCase):
    def test_the_evaluator_itself(self):
        for text, expected in (("2 + 3 * 4", "14"), ("-2 ** 2", "-4"), ("(1 + 0.05) ** 2", "1.1025"), ("2 ** -1", "0.5"),
                               ("8 / 4 / 2", "1"), ("sqrt(16 + 9) * 2", "10"), ("10 - 2 - 3", "5"), ("1 - (-3)", "4")):
            self.assertEqual(Evaluator(text).value(), Decimal(expected), text)

    def test_counts(self):
        self.assertGreaterEqual(len(ROWS), 560)
        self.assertGreaterEqual(sum(row["language"] == "zh" for row in ROWS), len(ROWS) / 10)
        self.assertGreaterEqual(sum("calculation" not in row for row in ROWS), 250)
        self.assertEqual({row["topic"] for row in ROWS}, TOPICS)

    def test_fields(self):
        for row in ROWS:
            with self.subTest(row["question"]):
                self.assertLessEqual(row.keys(), {"question", "answer", "difficulty", "split", "topic", "language", "calculation"})
                self.assertIn(row["difficulty"], {1, 2, 3, 4, 5})
                self.assertIn(row["split"], {"train", "validation", "test"})
                self.assertIn(row["language"], {"en", "zh"})
                chinese = bool(re.search("[\u4e00-\u9fff]", row["question"])) and bool(re.search("[\u4e00-\u9fff]", row["answer"]))
                self.assertEqual(chinese, row["language"] == "zh")
                self.assertEqual(row["question"], row["question"].strip())
                self.assertRegex(row["question"], r"[?.？。]$")
                self.assertTrue(8 <= len(row["answer"]) <= 700)

    def test_no_duplicates(self):
        seen = collections.Counter(normalised(row["question"]) for row in ROWS)
        self.assertEqual([question for question, times in seen.items() if times > 1], [])
        seen = collections.Counter((row["language"], row["answer"].split("=")[0],
                                    tuple(step["expression"] for step in row["calculation"])) for row in computed(ROWS))
        self.assertEqual([key for key, times in seen.items() if times > 1], [], "same calculation in other words")

    def test_no_concept_answer_twice(self):
        seen = collections.Counter(normalised(row["answer"]) for row in ROWS if "calculation" not in row)
        self.assertEqual([answer for answer, times in seen.items() if times > 1], [])

    def test_splits_are_stratified(self):
        for field in ("difficulty", "language", "topic"):
            groups = collections.defaultdict(collections.Counter)
            for row in ROWS:
                groups[row[field]][row["split"]] += 1
            for value, splits in groups.items():
                total = sum(splits.values())
                slack = 0.02 + 1.5 / total
                for split, share in (("train", 0.8), ("validation", 0.1), ("test", 0.1)):
                    self.assertAlmostEqual(splits[split] / total, share, delta=slack, msg=f"{field} {value}: {split} of {total}")

    def test_every_number_is_right(self):
        for row in computed(ROWS):
            with self.subTest(row["question"]):
                shown = [recomputed(step) for step in row["calculation"]]
                for step, (value, text) in zip(row["calculation"], shown):
                    self.assertEqual(Decimal(str(step["value"])), value)
                    self.assertRegex(row["answer"], rf"= {re.escape(text)}(?![\d,]|\.\d)")
                stated = re.findall(r"= (-?\d[\d,]*(?:\.\d+)?)%?(?=[.。])", row["answer"])
                self.assertEqual(stated, [text for _, text in shown], "results in the answer")
                self.assertRegex(row["answer"], rf"(Answer: |答案：){re.escape(shown[-1][1])}%?$")

    def test_numbers_come_from_the_question(self):
        for row in computed(ROWS):
            known = set(numbers(row["question"])) | CONSTANTS | ({Decimal(4)} if "quarterly" in row["question"] else set())
            for step in row["calculation"]:
                for used in numbers(step["expression"]):
                    with self.subTest(row["question"], number=used):
                        self.assertTrue(used in known or used * 100 in known, "a number from nowhere")
                known.add(abs(Decimal(str(step["value"]))))
            if "%" in row["question"]:
                continue
            for given in numbers(row["question"]):
                self.assertTrue(any(given in numbers(step["expression"]) for step in row["calculation"])
                                or given in {Decimal(1), Decimal(2), Decimal(365)} or "buys" in row["question"]
                                or "Inventory holds" in row["question"], f"{row['question']}: {given} is not used")

    def test_expressions_are_what_the_answer_shows(self):
        for row in computed(ROWS):
            for step in row["calculation"]:
                text = NUMBER.sub(lambda m: f"{Decimal(m.group()):,}", step["expression"])
                text = text.replace(" ** ", "^").replace("*", "×").replace("sqrt", "√")
                self.assertIn(f": {text} = " if row["language"] == "en" else f"：{text} = ", row["answer"])

    def test_concepts_state_no_unchecked_results(self):
        for row in ROWS:
            if "calculation" not in row:
                self.assertNotRegex(row["answer"], r"= -?[\d,.]+")
                self.assertLessEqual(len(re.findall(r"[.。](?:\s|$)", row["answer"])) or 1, 3)


if __name__ == "__main__":
    with open(sys.argv.pop(1), encoding="utf-8") as file:
        ROWS.extend(json.load(file))
    unittest.main()
