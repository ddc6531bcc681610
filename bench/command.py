"""The project's command as the benchmarks call it."""

import json
import subprocess


def answer(programs, *arguments):
    """What deepseek-cli prints with --json; ends with its error where it fails."""
    done = subprocess.run([str(programs / "deepseek-cli"), *map(str, arguments), "--json", "--quiet"], capture_output=True, text=True)
    if done.returncode != 0:
        raise SystemExit(done.stderr)
    return json.loads(done.stdout)
