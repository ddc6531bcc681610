"""What `cmake --install` puts somewhere is enough for another project, and the installed program runs."""

import pathlib
import subprocess
import sys
import tempfile

BUILD, TORCH = sys.argv[1], sys.argv[2]
HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def run(*command):
    result = subprocess.run([str(part) for part in command], capture_output=True, text=True)
    if result.returncode != 0:
        sys.exit(f"{command} failed:\n{result.stdout[-3000:]}\n{result.stderr[-3000:]}")
    return result.stdout


with tempfile.TemporaryDirectory() as folder:
    prefix, build = pathlib.Path(folder) / "prefix", pathlib.Path(folder) / "build"
    run("cmake", "--install", BUILD, "--prefix", prefix)
    assert "deepseek-cli" in run(prefix / "bin" / "deepseek-cli", "--version")
    assert "--lora_rank" in run(prefix / "bin" / "deepseek-cli", "fine-tune", "--help")
    library = next(prefix.glob("lib*/**/libdeepseek_ops.so"))
    python = pathlib.Path(TORCH).resolve().parents[6] / "bin" / "python"  # of the environment that has torch
    if python.exists():
        out = run(python, "-c", f"import torch; torch.ops.load_library('{library}'); q = torch.ones(1, 1, 4, 8); print(torch.ops.deepseek.dynamic_sparse_attention(q, q, q).sum())")
        assert "32" in out, out
    run("cmake", "-S", HERE / "consumer", "-B", build, "-G", "Ninja", f"-DCMAKE_PREFIX_PATH={prefix}", f"-DTorch_DIR={TORCH}", "-DCMAKE_BUILD_TYPE=Release")
    run("cmake", "--build", build)
    out = run(build / "consumer", ROOT / "tests" / "golden" / "models" / "llama_gqa")
    print(out, end="")
    assert "parameters" in out and "tokens" in out, out
