"""llama.cpp's side of the inference benchmark: the protocol of bench_llm.cc over llama-cpp-python's low-level calls."""

import argparse
import ctypes
import json
import math
import resource
import sys
import time

import llama_cpp
import numpy

MOST_TOKENS = 512


class Peer:
    def __init__(self, args):
        begin = time.perf_counter()
        llama_cpp.llama_backend_init()
        quiet = llama_cpp.llama_log_callback(lambda level, text, data: None)
        llama_cpp.llama_log_set(quiet, ctypes.c_void_p(0))
        self.quiet = quiet
        self.model = llama_cpp.llama_model_load_from_file(args.model.encode(), llama_cpp.llama_model_default_params())
        if not self.model:
            sys.exit(f"llama.cpp cannot load {args.model}")
        params = llama_cpp.llama_context_default_params()
        params.n_ctx = args.cache_tokens
        params.n_batch = params.n_ubatch = MOST_TOKENS
        params.n_seq_max = 16
        params.n_threads = params.n_threads_batch = args.threads
        params.kv_unified = True
        params.flash_attn_type = 1 if args.flash_attention else 0
        if args.kv_cache == "q8_0":
            params.type_k = params.type_v = llama_cpp.GGML_TYPE_Q8_0
        self.context = llama_cpp.llama_init_from_model(self.model, params)
        self.vocabulary = llama_cpp.llama_vocab_n_tokens(llama_cpp.llama_model_get_vocab(self.model))
        self.batch = llama_cpp.llama_batch_init(MOST_TOKENS, 0, 16)
        print(json.dumps({"load_seconds": time.perf_counter() - begin}), flush=True)

    def tokens(self, count, seed):
        """The same generator as ours."""
        out, mask = [], (1 << 64) - 1
        for _ in range(count):
            seed = (seed * 6364136223846793005 + 1442695040888963407) & mask
            out.append((seed >> 33) % (self.vocabulary - 1000) + 500)
        return out

    def clear(self):
        llama_cpp.llama_memory_clear(llama_cpp.llama_get_memory(self.context), True)

    def decode(self, entries):
        """entries: (token, position, sequence, wants logits)."""
        self.batch.n_tokens = len(entries)
        for i, (token, position, sequence, wanted) in enumerate(entries):
            self.batch.token[i] = token
            self.batch.pos[i] = position
            self.batch.n_seq_id[i] = 1
            self.batch.seq_id[i][0] = sequence
            self.batch.logits[i] = wanted
        status = llama_cpp.llama_decode(self.context, self.batch)
        if status != 0:
            sys.exit(f"llama_decode gave {status}")

    def logits(self, index):
        pointer = llama_cpp.llama_get_logits_ith(self.context, index)
        return numpy.ctypeslib.as_array(pointer, shape=(self.vocabulary,))

    def feed(self, ids, sequence=0):
        for at in range(0, len(ids), MOST_TOKENS):
            piece = ids[at : at + MOST_TOKENS]
            last = at + len(piece) == len(ids)
            self.decode([(t, at + i, sequence, last and i + 1 == len(piece)) for i, t in enumerate(piece)])
        return int(self.logits(len(piece) - 1).argmax())

    def prefill(self, count):
        self.clear()
        ids = self.tokens(count, 1)
        begin = time.perf_counter()
        self.feed(ids)
        return {"seconds": time.perf_counter() - begin, "tokens": count}

    def steps(self, sequences, context, steps):
        self.clear()
        last = [self.feed(self.tokens(context, 7 + s), s) for s in range(sequences)]
        begin = time.perf_counter()
        for i in range(steps):
            self.decode([(last[s], context + i, s, True) for s in range(sequences)])
            last = [int(self.logits(s).argmax()) for s in range(sequences)]
        return {"seconds": time.perf_counter() - begin, "tokens": sequences * steps}

    def losses(self, file, window):
        ids = [int(word) for word in open(file, encoding="utf-8").read().split()]
        total, counted = 0.0, 0
        for begin in range(0, len(ids) - 1, window):
            part = ids[begin : begin + window]
            self.clear()
            for at in range(0, len(part), MOST_TOKENS):
                piece = part[at : at + MOST_TOKENS]
                self.decode([(t, at + i, 0, True) for i, t in enumerate(piece)])
                for i in range(len(piece)):
                    if at + i + 1 < len(part):
                        row = self.logits(i).astype(numpy.float64)
                        best = row.max()
                        total += best + math.log(numpy.exp(row - best).sum()) - row[part[at + i + 1]]
                        counted += 1
        return {"loss": total / counted, "tokens": counted}


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--model", required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--cache_tokens", type=int, default=16384)
    parser.add_argument("--kv_cache", default="f16", choices=("f16", "q8_0"))
    parser.add_argument("--flash_attention", action="store_true")
    peer = Peer(parser.parse_args())
    for line in sys.stdin:
        name, *rest = line.split()
        if name == "quit":
            break
        if name == "losses":
            answer = peer.losses(rest[0], int(rest[1]))
        elif name == "prefill":
            answer = peer.prefill(int(rest[0]))
        elif name == "decode":
            answer = peer.steps(1, int(rest[0]), int(rest[1]))
        else:
            answer = peer.steps(*map(int, rest))
        print(json.dumps(answer), flush=True)
    print(json.dumps({"peak_rss_bytes": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024}), flush=True)


if __name__ == "__main__":
    main()
