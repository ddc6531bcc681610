"""The two examples of docs/explain_examples.md on real data: who died within ten years, and who earns more than 50K.

    python bench/explain_examples.py [--ours build/bin] [--output runs/examples] [--only clinical|credit]
Reads $DEEPSEEK_DATA (default ../shared/data), writes tables, models, reports and pages into --output and prints every command and what it says. Needs the standard library alone.
"""

import argparse
import csv
import json
import os
import pathlib
import shlex
import subprocess
import sys

ROOT = pathlib.Path(__file__).resolve().parent.parent
DATA = pathlib.Path(os.environ.get("DEEPSEEK_DATA", ROOT.parent / "shared" / "data"))
YEARS = 10

# The survey's column, the name that people read, and the codes that stand for "not measured".
CLINICAL = [
    ("Age", "age (years)", ()),
    ("Sex", "sex", ()),
    ("Race", "race", ()),
    ("Poverty index", "income (% of poverty line)", (999,)),
    ("Systolic BP", "systolic blood pressure (mmHg)", ()),
    ("Diastolic BP", "diastolic blood pressure (mmHg)", ()),
    ("Pulse pressure", "pulse pressure (mmHg)", ()),
    ("Red blood cells", "red blood cells (million/uL)", (77.7, 88.8)),
    ("White blood cells", "white blood cells (1000/uL)", ()),
    ("Sedimentation rate", "sedimentation rate (mm/h)", ()),
    ("Serum Iron", "serum iron (ug/dL)", ()),
    ("TIBC", "iron-binding capacity (ug/dL)", ()),
    ("TS", "transferrin saturation (%)", ()),
    ("Serum Albumin", "serum albumin (g/dL)", ()),
    ("Serum Protein", "serum protein (g/dL)", ()),
    ("Serum Cholesterol", "serum cholesterol (mg/dL)", ()),
    ("Serum Magnesium", "serum magnesium (mEq/L)", ()),
    ("BMI", "body mass index (kg/m2)", ()),
]
TEN_TIMES = {"Red blood cells"}  # the survey counts in 100,000
TEXTS = {"Sex": {1: "male", 2: "female"}, "Race": {1: "white", 2: "black", 3: "other"}}
CLINICAL_TARGET = f"died within {YEARS} years"
CLINICAL_GROUPS = """\
demographics: [age (years), sex, race, income (% of poverty line)]
circulation: [systolic blood pressure (mmHg), diastolic blood pressure (mmHg), pulse pressure (mmHg)]
blood:
  - cells: [red blood cells (million/uL), white blood cells (1000/uL), sedimentation rate (mm/h)]
  - iron: [serum iron (ug/dL), iron-binding capacity (ug/dL), transferrin saturation (%)]
  - chemistry: [serum albumin (g/dL), serum protein (g/dL), serum cholesterol (mg/dL), serum magnesium (mEq/L)]
body: [body mass index (kg/m2)]
"""

CREDIT_COLUMNS = "age,workclass,fnlwgt,education,education_num,marital_status,occupation,relationship,race,sex,capital_gain,capital_loss,hours_per_week,native_country,income"
CREDIT_GROUPS = """\
person: [age, sex, race, native_country]
family: [marital_status, relationship]
schooling: [education, education_num]
work: [occupation, workclass, hours_per_week]
capital: [capital_gain, capital_loss]
survey: [fnlwgt]
"""
CREDIT_EXPECTED = "occupation: 0.05\nsex: 0.01\n"


class Command:
    def __init__(self, programs, folder):
        self.program, self.folder = str(programs / "deepseek-cli"), folder

    def says(self, *arguments, quiet=False):
        words = ["explain", *map(str, arguments)]
        if not quiet:
            print("\n$ deepseek-cli " + shlex.join(words), flush=True)
        done = subprocess.run([self.program, *words, "--quiet"], capture_output=True, text=True, cwd=self.folder)
        if done.returncode != 0:
            sys.exit(done.stderr)
        if not quiet:
            print(done.stdout, end="", flush=True)
        return done.stdout

    def json(self, *arguments):
        return json.loads(self.says(*arguments, "--json", quiet=True))


def shown(number):
    return f"{number:.4g}" if number != int(number) else str(int(number))


def clinical_rows():
    """One row a person of whom it is known whether they lived ten years. Years are negative where the survey lost sight of them."""
    with open(DATA / "nhanes_x.csv") as people, open(DATA / "nhanes_y.csv") as survival:
        for person, outcome in zip(csv.DictReader(people), csv.DictReader(survival)):
            years = float(outcome["y"])
            if -YEARS < years < 0:
                continue
            row = []
            for source, _, unknown in CLINICAL:
                value = float(person[source]) if person[source] else None
                if value is None or any(abs(value - code) < 1e-6 for code in unknown):
                    row.append("")
                else:
                    row.append(TEXTS[source][int(value)] if source in TEXTS else shown(value / 10 if source in TEN_TIMES else value))
            yield [*row, "yes" if 0 < years <= YEARS else "no"]


def write_table(place, rows):
    with open(place, "w", newline="") as out:
        csv.writer(out).writerows([[*(name for _, name, _ in CLINICAL), CLINICAL_TARGET], *rows])


def by_score(document):
    """(score, row) of a report of many rows, lowest first."""
    return sorted((document["base"] + point["values"][0], point["sample"]) for point in document["global"]["points"])


def pages(command, name, *arguments):
    for language in ("en", "zh"):
        command.says(*arguments, "--html", f"{name}.{language}.html", "--language", language, quiet=language == "zh")


def clinical(command):
    folder = command.folder
    people = list(clinical_rows())
    patients = people[::5]  # whom the model never sees
    write_table(folder / "patients.csv", patients)
    write_table(folder / "survival.csv", [person for i, person in enumerate(people) if i % 5 != 0])
    print(f"{len(people):,} people, {len(patients):,} of them set apart")
    (folder / "clinical.yaml").write_text(CLINICAL_GROUPS)
    command.says("--train", "--data", "survival.csv", "--target", CLINICAL_TARGET, "--output", "survival-model")
    ask = ["--model", "survival-model", "--data", "patients.csv", "--background_data", "survival.csv", "--groups", "clinical.yaml"]
    scores = by_score(command.json(*ask))
    low, high = scores[len(scores) // 20][1], scores[-1 - len(scores) // 20][1]  # at 5% and 95%: not the oddest ones
    pages(command, "high_risk", *ask, "--sample", high)
    pages(command, "low_risk", *ask, "--sample", low)
    pages(command, "all_people", *ask)


def credit(command):
    folder = command.folder
    (folder / "credit.yaml").write_text(CREDIT_GROUPS)
    (folder / "expect.yaml").write_text(CREDIT_EXPECTED)
    data = ["--data", DATA / "adult.csv", "--columns", CREDIT_COLUMNS]
    command.says("--train", *data, "--target", "income", "--output", "income-model")
    ask = ["--model", "income-model", *data, "--groups", "credit.yaml"]
    declined = [row for score, row in by_score(command.json(*ask)) if score < 0][-1]  # by the least
    pages(command, "all_applicants", *ask)
    pages(command, "declined", *ask, "--sample", declined)
    command.says("--find_reliance", "--model", "income-model", *data, "--expect", "expect.yaml", "--plan", "plan.json")
    command.says("--train", *data, "--target", "income", "--output", "fairer-model", "--augment", "plan.json")
    command.says("--find_reliance", "--model", "fairer-model", *data, "--expect", "expect.yaml")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ours", type=pathlib.Path, default=ROOT / "build" / "bin")
    parser.add_argument("--output", type=pathlib.Path, default=ROOT / "runs" / "examples")
    parser.add_argument("--only", choices=["clinical", "credit"])
    a = parser.parse_args()
    a.output.mkdir(parents=True, exist_ok=True)
    command = Command(a.ours.resolve(), a.output.resolve())
    for name, file, example in (("clinical", "nhanes_x.csv", clinical), ("credit", "adult.csv", credit)):
        if a.only not in (None, name):
            continue
        if not (DATA / file).is_file():
            print(f"skipped: {DATA / file} is not there ($DEEPSEEK_DATA)")
            continue
        example(command)


if __name__ == "__main__":
    main()
