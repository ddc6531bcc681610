"""Attribution beside its peers: all parts in turn, and one line of their results.    python bench/hfa_bench.py [--ours build/bin]"""

import argparse
import os
import pathlib
import subprocess
import sys

HERE = pathlib.Path(__file__).resolve().parent


def results(script, ours):
    """Runs a part, shows what it prints, and gives the figures of its RESULT line."""
    environment = {**os.environ, "GOMP_SPINCOUNT": os.environ.get("GOMP_SPINCOUNT", "1000")}  # for both sides: idle threads that spin take the time of the others
    process = subprocess.Popen([sys.executable, str(HERE / script), "--ours", str(ours)], stdout=subprocess.PIPE, text=True, env=environment)
    found = {}
    for line in process.stdout:
        print(line, end="", flush=True)
        if line.startswith("RESULT "):
            found = dict(pair.split("=") for pair in line.split()[2:])
    if process.wait() != 0 or not found:
        raise SystemExit(f"{script} failed")
    return found


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--ours", type=pathlib.Path, default=HERE.parent / "build" / "bin")
    args = parser.parse_args()
    found = {}
    for script in ("hfa_trees.py", "hfa_estimate.py", "hfa_time.py", "hfa_faithful.py"):
        found.update(results(script, args.ours))
    first = ["error_vs_kernelshap", "error_vs_shapiq", "time_vs_shap", "tree_vs_shap", "coverage"]
    print("RESULT hfa " + " ".join(f"{name}={found[name]}" for name in [*first, *(n for n in found if n not in first)]))


if __name__ == "__main__":
    main()
