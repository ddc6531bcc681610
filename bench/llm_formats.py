"""A format that the tool chooses beside llama.cpp's Q4_K_M: divergence from the same bf16 model, and tokens/s of one sequence.

    python bench/llm_formats.py --model FILE.gguf --like DIR [--rounds N] [--threads N]
alone, or as a part of llm_bench.py.
The reference is a bf16 model on no grid (off_grid.py): the quantised file itself would lose nothing when it is quantised again. Ours:
`compress --format auto`, calibrated with texts that the model writes itself. Peer: llama.cpp's own quantiser, from the bf16 GGUF that `compress`
writes. Both divergences are measured by `eval --reference` on a text that neither saw; speed by llm_bench.py's programs, in turn.
"""

import argparse
import ctypes
import json
import os
import pathlib
import statistics
import subprocess
import sys

import texts
from finetune_bench import print_machine, spread
from llm_bench import ROOT, Side, rates_of

WORK = ROOT / ".cache" / "formats"


def cli(programs, threads, *arguments):
    result = subprocess.run([programs / "deepseek-cli", *map(str, arguments), "--json", "--quiet", "--threads", str(threads)], stdout=subprocess.PIPE, text=True)
    if result.returncode != 0:
        sys.exit(f"{arguments[0]} failed")
    return json.loads(result.stdout)


def quantised_by_peer(source, target, threads):
    import llama_cpp

    quiet = llama_cpp.llama_log_callback(lambda *_: None)
    llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
    options = llama_cpp.llama_model_quantize_default_params()
    options.ftype = llama_cpp.LLAMA_FTYPE_MOSTLY_Q4_K_M
    options.nthread = threads
    if llama_cpp.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(options)) != 0:
        sys.exit("llama.cpp refused the GGUF that compress wrote")


def text_file():
    file = WORK / "text.txt"
    file.write_text(texts.questions(60), encoding="utf-8")
    return file


def decode_ratios(programs, rounds, threads, chosen, peer_file):
    command = [sys.executable, str(ROOT / "bench" / "llm_peer.py"), "--model", str(peer_file), "--threads", str(threads)]
    ours = Side("ours", [str(programs / "deepseek-bench-llm"), "--model", str(chosen), "--threads", str(threads)])
    peers = [Side("llama.cpp", command), Side("llama.cpp, flash attention", [*command, "--flash_attention"])]
    ratios = []
    for round_ in range(rounds + 1):
        rates = rates_of([ours, *peers], round_, "decode 16 64")
        best = max(peers, key=rates.get)
        print(f"  round {round_}: {rates[ours]:.0f} tokens/s, {best.name} {rates[best]:.0f}{'' if round_ else ', not counted'}", flush=True)
        if round_:
            ratios.append(rates[ours] / rates[best])
    for side in (ours, *peers):
        side.quit()
    return ratios


def measure(model, like, programs, rounds, threads):
    """The fields of RESULT."""
    WORK.mkdir(parents=True, exist_ok=True)
    reference, peer_file, chosen, int4 = WORK / "off_grid", WORK / "q4_k_m.gguf", WORK / "chosen", WORK / "int4"
    if not (reference / "model.safetensors").exists():
        subprocess.run([sys.executable, ROOT / "bench" / "off_grid.py", "--gguf", model, "--like", like, "--output", reference], check=True)
    text = text_file()
    if not peer_file.exists():
        cli(programs, threads, "compress", "--model", reference, "--format", "bf16", "--output", WORK / "bf16.gguf", "--overwrite")
        quantised_by_peer(WORK / "bf16.gguf", peer_file, threads)
    peer = cli(programs, threads, "eval", "--model", peer_file, "--reference", reference, "--text", text)
    print(f"llama.cpp's Q4_K_M: {peer_file.stat().st_size >> 20} MiB, KL {peer['kl']:.4f}, agreement {peer['agreement']:.3f}", flush=True)
    figures = {}
    for name, output, more in (("chosen", chosen, ["--format", "auto", "--max_kl", 0.4 * peer["kl"]]), ("int4", int4, ["--format", "int4"])):
        made = cli(programs, threads, "compress", "--model", reference, "--output", output, "--overwrite", *more)
        figures[name] = cli(programs, threads, "eval", "--model", output, "--reference", reference, "--text", text)
        print(f"{name}: {made['bytes'] >> 20} MiB, KL {figures[name]['kl']:.4f}, agreement {figures[name]['agreement']:.3f}", flush=True)
    ratios = decode_ratios(programs, rounds, threads, chosen, peer_file)
    print(f"decode of the chosen format: {spread(ratios)}", flush=True)
    return {"chosen_decode": f"{statistics.median(ratios):.2f}", "chosen_kl": f"{figures['chosen']['kl']:.4f}", "q4_k_m_kl": f"{peer['kl']:.4f}",
            "int4_kl": f"{figures['int4']['kl']:.4f}"}


def check(fields):
    if float(fields["chosen_kl"]) > float(fields["q4_k_m_kl"]):
        sys.exit("the chosen format diverges more than llama.cpp's Q4_K_M")


def main():
    parser = argparse.ArgumentParser(description="A chosen format beside llama.cpp's Q4_K_M")
    parser.add_argument("--model", required=True, help="a quantised .gguf")
    parser.add_argument("--like", required=True, type=pathlib.Path, help="the same model as a Hugging Face directory")
    parser.add_argument("--bin", default=ROOT / "build" / "bin", type=pathlib.Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=os.cpu_count())
    args = parser.parse_args()
    print_machine(args.threads)
    fields = measure(args.model, args.like, args.bin, args.rounds, args.threads)
    print("RESULT llm_formats", *(f"{name}={value}" for name, value in fields.items()))
    check(fields)


if __name__ == "__main__":
    main()
