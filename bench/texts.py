"""Texts of this repository that the benchmarks read."""

import json
import pathlib

ROOT = pathlib.Path(__file__).resolve().parent.parent


def questions(count=None, language=None):
    """The first `count` questions of data/finance_qa.json with their answers, or all; of one language, or of all."""
    records = json.loads((ROOT / "data" / "finance_qa.json").read_text(encoding="utf-8"))
    return "".join(f"{r['question']}\n{r['answer']}\n" for r in records[:count] if language in (None, r.get("language", "en")))


def documentation():
    return "".join(p.read_text(encoding="utf-8") for p in sorted(ROOT.glob("docs/*.md")))
