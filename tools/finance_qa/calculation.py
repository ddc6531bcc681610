"""Calculations: steps with exact values, their text, and the list of families that make questions from random numbers."""

import ast
import decimal
import math
import re
from fractions import Fraction

FAMILIES = []

WORDS = {
    "en": {"formula": "Formula: {}.", "one": "Calculation: {} = {}.", "many": "Step {}, {}: {} = {}.", "answer": "Answer: {}",
           "between": " "},
    "zh": {"formula": "公式：{}。", "one": "计算：{} = {}。", "many": "第{}步，{}：{} = {}。", "answer": "答案：{}", "between": ""},
}


def family(topic, difficulty, language="en"):
    """Registers a function of a random generator that returns (questions, Calculation); one wording is picked of each."""

    def register(make):
        FAMILIES.append((make.__name__, topic, difficulty, language, make))
        return make

    return register


def money(amount):
    """$1,234 or $1,234.50."""
    return f"${amount:,.2f}" if amount != int(amount) else f"${amount:,.0f}"


def yuan(amount):
    """1,234元."""
    return f"{amount:,.2f}元" if amount != int(amount) else f"{amount:,.0f}元"


def decimal_of(percent):
    """A percentage as the decimal number that formulas use: 5 -> 0.05, 4.25 -> 0.0425."""
    return format((decimal.Decimal(str(percent)) / 100).normalize(), "f")


def evaluate(expression):
    """The exact value of an arithmetic expression (fractional powers and roots: of double precision)."""
    return _value(ast.parse(expression, mode="eval").body)


def _value(node):
    if isinstance(node, ast.Constant):
        return Fraction(str(node.value))
    if isinstance(node, ast.UnaryOp):
        return -_value(node.operand)
    if isinstance(node, ast.Call):
        return Fraction(math.sqrt(_value(node.args[0])))
    left, right = _value(node.left), _value(node.right)
    if isinstance(node.op, ast.Pow):
        return left ** int(right) if right.denominator == 1 else Fraction(float(left) ** float(right))
    return {ast.Add: left.__add__, ast.Sub: left.__sub__, ast.Mult: left.__mul__,
            ast.Div: left.__truediv__}[type(node.op)](right)


def rounded(value, places):
    """Half away from zero, as people round."""
    scaled = abs(value) * 10**places
    whole = (2 * scaled.numerator + scaled.denominator) // (2 * scaled.denominator)
    digits = decimal.Decimal(whole).scaleb(-places)
    return -digits if value < 0 and whole else digits


def readable(expression):
    """1000 * 1.05 ** 3 -> 1,000 × 1.05^3."""
    text = re.sub(r"\d+(\.\d+)?", lambda m: with_commas(m.group()), expression)
    text = text.replace(" ** ", "^").replace("*", "×")
    return text.replace("sqrt(", "√(")


def with_commas(number):
    whole, dot, rest = number.partition(".")
    return f"{int(whole):,}{dot}{rest}"


class Calculation:
    """Steps in order; `step` returns the rounded value, ready to be used in the next expression."""

    def __init__(self, formula):
        self.formula = formula
        self.steps = []

    def step(self, name, expression, places=2, unit=""):
        value = rounded(evaluate(expression), places)
        self.steps.append((name, expression, value, places, unit))
        return f"{value}"

    def answer(self, language):
        words = WORDS[language]
        parts = [words["formula"].format(self.formula)]
        for index, (name, expression, value, _, unit) in enumerate(self.steps, 1):
            shown = f"{value:,}{unit}"
            if len(self.steps) == 1:
                parts.append(words["one"].format(readable(expression), shown))
            else:
                parts.append(words["many"].format(index, name, readable(expression), shown))
        parts.append(words["answer"].format(shown))
        return words["between"].join(parts)

    def rows(self):
        return [{"expression": expression, "value": float(value) if places else int(value), "round": places}
                for _, expression, value, places, _ in self.steps]
