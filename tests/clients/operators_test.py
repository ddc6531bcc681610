"""torch.ops.deepseek as a PyTorch user meets it: values and gradients against plain PyTorch, opcheck, torch.compile's shapes, refusals."""

import math
import os
import pathlib
import re
import sys
import unittest

import torch

LIBRARY = sys.argv.pop()
torch.ops.load_library(LIBRARY)
ops = torch.ops.deepseek
torch.set_default_device(os.environ.get("DEEPSEEK_TEST_DEVICE", "cpu"))  # cuda: the same tests on a GPU


def tensors(*shapes, dtype=torch.float32, grad=False):
    generator = torch.Generator("cpu").manual_seed(len(shapes) + sum(shapes[0]))
    return [torch.randn(*shape, generator=generator, device="cpu").to(torch.get_default_device(), dtype).requires_grad_(grad) for shape in shapes]


def attention(q, k, v, keep, scale=None):
    """Over the keys that `keep` marks, as PyTorch users write it."""
    k, v = (x.repeat_interleave(q.shape[1] // x.shape[1], 1) for x in (k, v))
    scores = q @ k.transpose(-2, -1) * (scale or q.shape[-1] ** -0.5)
    return scores.masked_fill(~keep, -math.inf).softmax(-1) @ v


def largest(q, k, count, causal):
    k = k.repeat_interleave(q.shape[1] // k.shape[1], 1)
    scores = q @ k.transpose(-2, -1)
    length, keys = scores.shape[-2:]
    seen = torch.ones(length, keys, dtype=torch.bool).tril(keys - length) if causal else torch.ones(length, keys, dtype=torch.bool)
    rank = scores.masked_fill(~seen, -math.inf).argsort(dim=-1, descending=True, stable=True).argsort(dim=-1)
    return seen & (rank < count)


class Dynamic(unittest.TestCase):
    def test_values_and_gradients(self):
        for causal in (False, True):
            ours = tensors((2, 4, 33, 16), (2, 2, 50, 16), (2, 2, 50, 16), grad=True)
            theirs = [x.detach().double().requires_grad_() for x in ours]
            out = ops.dynamic_sparse_attention(*ours, 9, "top_k", causal)
            expected = attention(*theirs, largest(ours[0], ours[1], 9, causal))
            torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
            weight = torch.randn_like(out)
            (out * weight).sum().backward()
            (expected * weight).sum().backward()
            for a, b in zip(ours, theirs):
                torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-4, atol=1e-4)

    def test_defaults_keep_two_fifths(self):
        q, k, v = tensors((1, 2, 40, 8), (1, 2, 40, 8), (1, 2, 40, 8))
        torch.testing.assert_close(ops.dynamic_sparse_attention(q, k, v), attention(q, k, v, largest(q, k, 16, False)), rtol=1e-5, atol=1e-5)

    def test_top_p_of_one_is_dense(self):
        q, k, v = tensors((1, 2, 40, 8), (1, 2, 40, 8), (1, 2, 40, 8), dtype=torch.bfloat16)
        dense = torch.nn.functional.scaled_dot_product_attention(q.float(), k.float(), v.float(), is_causal=True)
        torch.testing.assert_close(ops.dynamic_sparse_attention(q, k, v, 1.0, "top_p", True).float(), dense, rtol=1e-2, atol=1e-2)

    def test_opcheck(self):
        q, k, v = tensors((1, 4, 12, 8), (1, 2, 20, 8), (1, 2, 20, 8), grad=True)
        turned = q.transpose(1, 2).contiguous().transpose(1, 2)
        for arguments in ((q, k, v), (q, k, v, 5, "top_k", True), (turned, k, v, 0.9, "top_p", False, 0.2, 3)):
            torch.library.opcheck(ops.dynamic_sparse_attention_forward.default, arguments)
        plain = [x.detach() for x in (q, k, v)]
        out, *rows = ops.dynamic_sparse_attention_forward(*plain)
        torch.library.opcheck(ops.dynamic_sparse_attention_backward.default, (out, *plain, *rows, 0.4, "ratio", False, None, 1))


class Sparse(unittest.TestCase):
    def indexed(self, grad=False):
        q, k, v = tensors((2, 4, 10, 24), (2, 1, 30, 24), (2, 1, 30, 16), grad=grad)
        index_q, index_k, weights = tensors((2, 10, 3, 8), (2, 30, 8), (2, 10, 3))
        return q, k, v, index_q, index_k, weights

    def test_the_indexer_takes_the_largest_scores(self):
        *_, q, k, weights = self.indexed()
        scores = torch.einsum("bth,bths->bts", weights, torch.relu(torch.einsum("bthd,bsd->bths", q, k)))
        seen = torch.ones(10, 30, dtype=torch.bool).tril(20)
        expected = scores.masked_fill(~seen, -math.inf).topk(7).indices.sort(-1).values
        torch.testing.assert_close(ops.select_keys(q, k, weights, 7), expected.int())
        chosen = ops.select_keys(q, k, weights, 40)
        self.assertEqual(chosen.shape, (2, 10, 30))
        self.assertEqual((chosen >= 0).sum(-1)[0].tolist(), list(range(21, 31)))

    def test_values_and_gradients(self):
        q, k, v, *index = self.indexed(grad=True)
        keys = ops.select_keys(*index, 7)
        keep = torch.zeros(2, 10, 30, dtype=torch.bool).scatter(2, keys.long(), True).unsqueeze(1)
        theirs = [x.detach().double().requires_grad_() for x in (q, k, v)]
        out, expected = ops.sparse_attention(q, k, v, keys), attention(*theirs, keep)
        torch.testing.assert_close(out.double(), expected, rtol=1e-5, atol=1e-5)
        out.square().sum().backward()
        expected.square().sum().backward()
        for a, b in zip((q, k, v), theirs):
            torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-4, atol=1e-4)

    def test_opcheck(self):
        q, k, v, *index = self.indexed(grad=True)
        torch.library.opcheck(ops.select_keys.default, (*index, 7))
        torch.library.opcheck(ops.select_keys.default, (*index, 0.5, "top_p", True, 2, 9))
        keys = ops.select_keys(*index, 7)
        torch.library.opcheck(ops.sparse_attention_forward.default, (q, k, v, keys))
        plain = [x.detach() for x in (q, k, v)]
        out, lse = ops.sparse_attention_forward(*plain, keys)
        torch.library.opcheck(ops.sparse_attention_backward.default, (out, *plain, keys, out, lse, None))

    def test_the_indexer_in_bf16(self):
        for heads, dim, queries, keys, count in ((64, 128, 37, 300, 50), (3, 64, 1, 1000, 200), (9, 128, 40, 40, 7), (4, 32, 20, 130, 30), (128, 64, 5, 129, 128)):
            q, k, weights = tensors((2, queries, heads, dim), (2, keys, dim), (2, queries, heads))
            q, k = q.bfloat16(), k.bfloat16()
            scores = torch.einsum("bth,bths->bts", weights.double(), torch.relu(torch.einsum("bthd,bsd->bths", q.double(), k.double())))
            for causal in (True, False):
                seen = torch.ones(queries, keys, dtype=torch.bool).tril(keys - queries) if causal else torch.ones(queries, keys, dtype=torch.bool)
                lists = ops.select_keys(q, k, weights, count, "top_k", causal)
                kept = torch.zeros(2, queries, keys + 1, dtype=torch.bool).scatter(2, torch.where(lists < 0, keys, lists).long(), True)[..., :keys]
                self.assertTrue((kept.sum(-1) == seen.sum(-1).clamp(max=count)).all() and not (kept & ~seen).any())
                gap = scores.masked_fill(kept | ~seen, -math.inf).amax(-1) - scores.masked_fill(~kept, math.inf).amin(-1)
                self.assertLess(gap.max().item(), 1e-3 * scores.abs().max().item())
                self.assertTrue(((lists[..., 1:] > lists[..., :-1]) | (lists[..., 1:] < 0)).all())
            q[1, 0, 0, 0] = math.nan  # counts as the largest
            self.assertEqual(ops.select_keys(q, k, weights, 3, "top_k", False)[1, 0].tolist(), [0, 1, 2])

    def test_bf16_in_every_shape_of_a_gpus_kernel(self):
        for heads, kv_heads, queries, keys, count, dim, value_dim in ((4, 1, 33, 300, 70, 256, 256), (8, 8, 5, 100, 100, 64, 64), (40, 2, 3, 90, 33, 128, 128), (6, 3, 1, 4000, 1500, 40, 24),
                                                                      (20, 1, 2, 200, 130, 576, 512), (128, 1, 3, 260, 200, 576, 512), (70, 1, 2, 100, 60, 200, 136), (2, 2, 1, 9, 3, 8, 8)):
            q, k, v = tensors((2, heads, queries, dim), (2, kv_heads, keys, dim), (2, kv_heads, keys, value_dim), dtype=torch.bfloat16)
            if dim == 576:
                v = k[..., :value_dim]  # MLA's latents
            generator = torch.Generator("cpu").manual_seed(keys)
            lists = torch.stack([torch.randperm(keys, generator=generator, device="cpu")[:count] for _ in range(2 * queries)]).view(2, queries, count).int()
            lists[torch.rand(lists.shape, generator=generator, device="cpu") < 0.3] = -1
            lists[1, 0] = -1
            lists = lists.to(q.device)
            keep = torch.zeros(2, queries, keys + 1, dtype=torch.bool).scatter(2, torch.where(lists < 0, keys, lists).long(), True)[..., :keys].unsqueeze(1)
            expected = attention(q.double(), k.double(), v.double(), keep).nan_to_num(0)
            out, lse = ops.sparse_attention_forward(q, k, v, lists)
            torch.testing.assert_close(out.double(), expected, rtol=1e-2, atol=1e-2, msg=lambda text: f"{heads, kv_heads, queries, keys, count, dim, value_dim}: {text}")
            scores = (q.double() @ k.double().repeat_interleave(heads // kv_heads, 1).transpose(-2, -1) * dim ** -0.5).masked_fill(~keep, -math.inf)
            torch.testing.assert_close(lse.double(), scores.logsumexp(-1), rtol=1e-3, atol=1e-3)
            turned = q.transpose(1, 2).contiguous().transpose(1, 2)
            torch.testing.assert_close(ops.sparse_attention(turned, k, v, lists), out, rtol=0, atol=0)

    def test_the_indexers_loss(self):
        q, k, _, index_q, index_k, weights = self.indexed()
        ours = [x.clone().requires_grad_() for x in (index_q, index_k, weights)]
        theirs = [x.double().requires_grad_() for x in (index_q, index_k, weights)]
        seen = torch.ones(10, 30, dtype=torch.bool).tril(20)
        for keys in (None, ops.select_keys(index_q, index_k, weights, 7)):
            keep = seen if keys is None else torch.zeros(2, 10, 30, dtype=torch.bool).scatter(2, keys.long(), True) & seen
            p = attention(q.double(), k.double(), torch.eye(30).double().expand(2, 1, 30, 30), keep.unsqueeze(-3), 0.3).mean(1)
            scores = torch.einsum("bth,bths->bts", theirs[2], torch.relu(torch.einsum("bthd,bsd->bths", *theirs[:2])))
            expected = (torch.xlogy(p, p) - p * scores.masked_fill(~keep, -math.inf).log_softmax(-1).masked_fill(~keep, 0)).sum(-1).mean()
            loss = ops.indexer_loss(*ours, q, k, keys, 0.3)
            torch.testing.assert_close(loss.double(), expected, rtol=1e-5, atol=1e-5)
            (3 * loss).backward()
            (3 * expected).backward()
            for a, b in zip(ours, theirs):
                torch.testing.assert_close(a.grad.double(), b.grad, rtol=1e-4, atol=1e-5)
                a.grad = b.grad = None
            torch.library.opcheck(ops.indexer_loss_forward.default, (*ours, q, k, keys, 0.3))

    def test_a_layer_learns_through_it(self):
        torch.manual_seed(0)
        x, target = torch.randn(1, 30, 32), torch.randn(1, 30, 32)
        qkv = torch.nn.Linear(32, 96)
        optimizer = torch.optim.Adam(qkv.parameters(), 1e-2)
        losses = []
        for _ in range(30):
            q, k, v = qkv(x).unflatten(-1, (3, 4, 8)).permute(2, 0, 3, 1, 4)
            out = ops.dynamic_sparse_attention(q, k, v, 0.4).transpose(1, 2).flatten(2)
            loss = (out - target).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        self.assertLess(losses[-1], 0.8 * losses[0])


class Page(unittest.TestCase):
    def test_its_snippets_run(self):
        page = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "sparse_attention.md").read_text(encoding="utf-8")
        snippets = re.findall(r"```python\n(.*?)```", page, re.S)
        self.assertGreater(len(snippets), 0)
        for snippet in snippets:
            exec(snippet.replace("build/lib/libdeepseek_ops.so", LIBRARY), {})


class Refusals(unittest.TestCase):
    def test_each_names_what_is_wrong(self):
        q, k, v = tensors((1, 2, 8, 16), (1, 2, 8, 16), (1, 2, 8, 16))
        keys = torch.zeros(1, 8, 3, dtype=torch.int32)
        for call, words in (
            (lambda: ops.dynamic_sparse_attention(q, k, v, 1.5), "ratio lies above 0, up to 1; not 1.5"),
            (lambda: ops.dynamic_sparse_attention(q, k, v, 9, "top_k"), "top_k 9 is more than the 8 keys"),
            (lambda: ops.dynamic_sparse_attention(q, k, v, 0.5, "best"), "mode 'best' is unknown; use ratio, top_k or top_p"),
            (lambda: ops.dynamic_sparse_attention(q[:, :, :0], k, v), "empty sequences"),
            (lambda: ops.dynamic_sparse_attention(q, k.bfloat16(), v), "different types"),
            (lambda: ops.dynamic_sparse_attention(q.double(), k.double(), v.double()), "expected f32 or bf16, got Double"),
            (lambda: ops.sparse_attention(q, k, v, keys.long()), "lists of keys are int32"),
            (lambda: ops.select_keys(q, k[0], q[..., 0], 3, "ratio"), "use top_k or top_p"),
        ):
            with self.assertRaisesRegex(RuntimeError, words):
                call()
        if q.is_cpu:  # a GPU's kernel gives NaN instead: an error would have to wait for it
            with self.assertRaisesRegex(RuntimeError, "a list names key 8 of 8"):
                ops.sparse_attention(q, k, v, keys + 8)
        else:
            self.assertTrue(ops.sparse_attention(*(x.bfloat16() for x in (q, k, v)), keys + 8).isnan().all())


if __name__ == "__main__":
    unittest.main()
