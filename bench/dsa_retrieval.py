"""Retrieval over long contexts: a needle at every depth, and one of many keys with its value. Dense and sparse attention on the same prompts.

Prompts are random words and numbers in text of the benchmark's data, the same for every side; an answer counts when all its digits are right.
"""

import pathlib
import random
import tempfile

COLOURS = "red blue green yellow purple orange silver golden brown white black pink".split()
THINGS = "lamp chair window bridge garden engine bottle ladder mirror basket camera harbour".split()
DIGITS = 5


def number(random_):
    return "".join(random_.choice("0123456789") for _ in range(DIGITS))


def needle_prompt(tokenizer, filler, length, depth, random_):
    name, secret = f"{random_.choice(COLOURS)} {random_.choice(THINGS)}", number(random_)
    needle = tokenizer.encode(f"\nThe secret number of the {name} is {secret}.\n", add_special_tokens=False).ids
    question = tokenizer.encode(f"\nRemember the secret number. The secret number of the {name} is", add_special_tokens=False).ids
    space = length - len(needle) - len(question) - 1
    begin = random_.randrange(len(filler) - space)
    text = filler[begin : begin + space]
    at = int(depth * space)
    return [tokenizer.token_to_id("<bos>"), *text[:at], *needle, *text[at:], *question], secret


def pairs_prompt(tokenizer, filler, length, depth, random_):
    """A list of names and numbers that fills the context; `depth` says which is asked for."""
    names, lines, total = set(), [], 0
    question = "\nIn the list above, {}:"
    while True:
        name = f"{random_.choice(COLOURS)} {random_.choice(THINGS)} {len(names)}"
        line = f"{name}: {number(random_)}\n"
        total += len(tokenizer.encode(line, add_special_tokens=False).ids)
        if total > length - 40:
            break
        names.add(name)
        lines.append(line)
    asked = lines[min(int(depth * len(lines)), len(lines) - 1)]
    name, secret = asked.strip().split(": ")
    ids = tokenizer.encode("".join(lines) + question.format(name), add_special_tokens=False).ids
    return [tokenizer.token_to_id("<bos>"), *ids], secret


def prompts(kind, tokenizer, filler, length, samples, seed=0):
    random_ = random.Random(seed)
    make = {"needle": needle_prompt, "pairs": pairs_prompt}[kind]
    return [make(tokenizer, filler, length, (i + 0.5) / samples, random_) for i in range(samples)]


def accuracy(side, tokenizer, cases):
    """Share of right answers, and what was read of the keys."""
    right, read = 0, 1.0
    with tempfile.TemporaryDirectory() as folder:
        file = pathlib.Path(folder) / "ids"
        for ids, secret in cases:
            file.write_text(" ".join(map(str, ids)))
            answer = side.ask(f"continue {file} {DIGITS + 2}")
            text = tokenizer.decode(answer["ids"])
            right += "".join(c for c in text if c.isdigit())[:DIGITS] == secret
            read = answer["keys_read"]
    return right / len(cases), read
