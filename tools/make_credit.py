"""Writes data/credit.csv: invented loans whose repayment follows a known rule. Seeded: the same file each time.

    python tools/make_credit.py
"""

import csv
import math
import pathlib
import random

ROOT = pathlib.Path(__file__).resolve().parent.parent
ROWS = 1500
EDUCATION = {"school": 0, "vocational": 1, "college": 2, "university": 3}
OCCUPATION = {"none": 0.4, "driver": 0.9, "sales": 1.0, "clerk": 1.1, "craft": 1.2, "nurse": 1.3, "teacher": 1.4, "engineer": 1.8, "manager": 2.1}
LEARNED = {"teacher", "engineer", "manager"}


def loan(draw):
    age = draw.randint(19, 74)
    education = draw.choices(list(EDUCATION), [4, 3, 2, 2])[0]
    fitting = [o for o in OCCUPATION if (o in LEARNED) == (EDUCATION[education] >= 2) or draw.random() < 0.25]
    occupation = draw.choice(fitting or ["none"])
    employed = 0 if occupation == "none" else min(age - 18, int(draw.expovariate(1 / 7)))
    income = round(1500 * OCCUPATION[occupation] * (1 + 0.1 * EDUCATION[education]) * (1 + 0.01 * employed) * math.exp(draw.gauss(0, 0.25)), -1)
    amount = round(math.exp(draw.gauss(8.6, 0.8)), -2) + 500
    months = draw.choice([6, 12, 24, 36, 48, 60])
    others = min(5, int(draw.expovariate(1.1)))
    missed = sum(draw.random() < 0.07 + 0.06 * others for _ in range(5))
    savings = "" if draw.random() < 0.08 else int(round(income * draw.expovariate(0.4), -1))
    burden = amount * (1 + 0.004 * months) / months / income  # of the income, each month
    score = 2.6 - 5 * min(burden, 1.2) - 0.7 * missed - 0.25 * missed * others + 0.35 * math.log1p((savings or 0) / 2000) + 0.02 * (age - 40) * (age < 40) + 0.05 * min(employed, 10)
    repaid = draw.random() < 1 / (1 + math.exp(-1.5 * score))
    region, purpose = draw.choice(["north", "east", "south", "west"]), draw.choice(["car", "home", "furniture", "education", "other"])
    return [age, education, occupation, employed, region, int(income), savings, others, missed, int(amount), months, purpose, "yes" if repaid else "no"]


def main():
    draw = random.Random(1)
    with open(ROOT / "data" / "credit.csv", "w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow("age education occupation years_employed region income savings other_loans missed_payments amount months purpose repaid".split())
        writer.writerows(loan(draw) for _ in range(ROWS))


if __name__ == "__main__":
    main()
