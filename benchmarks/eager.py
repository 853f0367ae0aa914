"""What one eager call costs on tiny tensors, Lampion beside PyTorch in one run.

    python benchmarks/eager.py [--more] [--json OUT]

Both run on one thread, interleaved, several rounds of each; the figure is the fastest round. Before
it is timed, each call's results are compared. Prints microseconds, the ratio to PyTorch, and the
goal. With --more: some hundred other calls that programs make often, worst first.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import torch

os.environ.setdefault("LAMPION_NATIVE", "1")  # compiled calls from the start on

import lampion

ROUNDS = 15
GOAL = 0.7
# Other calls, each with and without gradients where x or y occurs: matrices x and b of 4 by 4, y of
# (2, 3, 4) and d of (2, 4, 3); m of 100 by 100.
MORE = """
x.max(); x.max(1); x.argmax(1); x.amax(1); x.sum(1); x.mean(); x.mean(-1, keepdim=True); x.var(-1)
x.std(); x.norm(); x.prod(); mask.any(); mask.sum(); x.clone(); x.detach(); x.double(); mask.float()
x.transpose(0, 1); x.permute(1, 0); x.t(); x.unsqueeze(0); x.squeeze(0); x.flatten(); x.reshape(-1)
x.expand(2, 4, 4); x.chunk(2, 1); x.split(2, 1); x.unbind(0); x[:, None]; x[..., 0]; x[::2]; x[mask]
lib.stack([x, b]); lib.bmm(y, d); y @ d; x @ w; F.embedding(ids, x); x.index_select(0, ids)
x.gather(1, ids[:, None]); lib.where(mask, x, b); x.masked_fill(mask, 0.0); x.clamp(0.2, 0.8)
x > 0.5; x == b; x ** 2; x.sqrt(); x.exp(); x.rsqrt(); x.sigmoid(); x.tanh(); F.gelu(x); F.silu(x)
F.elu(x); F.leaky_relu(x); F.softplus(x); F.dropout(x, 0.5); F.mse_loss(x, b); F.nll_loss(x, ids)
x.softmax(-1); x.mm(b); w.dot(w); lib.einsum('ij,jk->ik', x, b); lib.linalg.vector_norm(x)
x.cumsum(1); x.topk(2); x.sort(1); x.argsort(1); x.tril(); x.flip(0); x.roll(1, 0); F.pad(x, (1, 1))
x.scatter(1, places, b); x.scatter_add(1, places, b); x.index_add(0, ids, b)
target.scatter_(1, places, b); F.one_hot(ids, 5); F.smooth_l1_loss(x, b); F.huber_loss(x, b)
F.binary_cross_entropy_with_logits(x, b); F.binary_cross_entropy(a, b)
lib.linspace(0, 1, 5); lib.full_like(a, 2.0); a.new_zeros(4)
m.cumsum(1); m.topk(5); m.tril(); m.flip(1); m.gather(1, many); m.scatter_add(1, many, m)
m.index_add(0, many[0], m); lib.einsum('ij,ij->i', m, m); m.norm(dim=1); F.one_hot(many[0], 100)
lib.randperm(10000); lib.linspace(0, 1, 10000); lib.arange(10000)
lib.arange(4); lib.empty(4, 4); lib.full((4, 4), 2.0); lib.zeros_like(a); lib.tensor(1.0)
lib.tensor([1.0, 2.0]); lib.randn(4, 4); lib.randn_like(a); lib.randint(5, (4,)); lib.randperm(4)
one.item(); float(one); a.numpy(); lib.from_numpy(first); target.clamp_(0, 1); target.normal_()
linear(y); network(a); norm(a); drop(a); embed(ids); (g * 2).sum().backward()
F.mse_loss(network(a), b).backward()
"""


def calls(lib: Any) -> dict[str, Callable[[], Any]]:
    """The calls that are timed, on the same numbers in either library."""
    rng = np.random.default_rng(0)
    first, second = (rng.random((4, 4), dtype=np.float32) for _ in range(2))
    a, b = lib.from_numpy(first), lib.from_numpy(second)
    g = lib.from_numpy(first.copy()).requires_grad_()
    index = lib.tensor([0, 2])
    layer = lib.nn.Linear(4, 4)
    with lib.no_grad():
        layer.weight.copy_(b)
        layer.bias.copy_(a[0])
    labels = lib.tensor([0, 1, 2, 3])
    F = lib.nn.functional

    def scalar_graph() -> Any:
        x, y, z = (lib.tensor(v, requires_grad=True) for v in (1.0, 0.5, 2.0))
        lib.tanh(lib.log(1 + z * 2 * x / lib.sin(y))).backward()
        return x.grad

    timed: dict[str, Callable[[], Any]] = {}
    for suffix, x in (("", a), (", grad", g)):
        timed |= {
            f"add{suffix}": lambda x=x: x + b,
            f"mul{suffix}": lambda x=x: x * b,
            f"mul scalar{suffix}": lambda x=x: x * 2.0,
            f"matmul{suffix}": lambda x=x: x @ b,
            f"relu{suffix}": lambda x=x: lib.relu(x),
            f"sum{suffix}": lambda x=x: x.sum(),
            f"view{suffix}": lambda x=x: x.view(2, 8),
            f"slice{suffix}": lambda x=x: x[1:3],
            f"integer index{suffix}": lambda x=x: x[1],
            f"fancy index{suffix}": lambda x=x: x[index],
            f"cat{suffix}": lambda x=x: lib.cat([x, b]),
            f"softmax{suffix}": lambda x=x: F.softmax(x, -1),
            f"layer_norm{suffix}": lambda x=x: F.layer_norm(x, (4,)),
            f"cross_entropy{suffix}": lambda x=x: F.cross_entropy(x, labels),
        }
    timed["Linear, grad"] = lambda: layer(a)
    no_grad = lib.nn.Linear(4, 4).requires_grad_(False)
    no_grad.load_state_dict(layer.state_dict())
    timed["Linear"] = lambda: no_grad(a)
    timed["scalar graph, forward and backward"] = scalar_graph
    target, zero = b.clone(), lib.zeros(4, 4)
    timed |= {
        "add_": lambda: target.add_(zero),
        "mul_": lambda: target.mul_(1.0),
        "zero_": lambda: target.zero_(),
        "copy_": lambda: target.copy_(b),
        "zeros": lambda: lib.zeros(4, 4),
    }
    return timed


def more_calls(lib: Any) -> dict[str, Callable[[], Any]]:
    """The other calls, by their text."""
    rng = np.random.default_rng(0)
    first, b, y, d, w, m = (
        rng.random(shape, dtype=np.float32)
        for shape in ((4, 4), (4, 4), (2, 3, 4), (2, 4, 3), 4, (100, 100))
    )
    names: dict[str, Any] = {"lib": lib, "F": lib.nn.functional, "first": first}
    names |= {
        n: lib.from_numpy(v) for n, v in (("a", first), ("b", b), ("d", d), ("w", w), ("m", m))
    }
    nn, one = lib.nn, lib.tensor(1.5)
    names |= {
        "g": lib.tensor(first, requires_grad=True), "one": one, "mask": names["a"] > 0.5,
        "ids": lib.tensor([0, 2, 1, 3]), "places": lib.from_numpy(rng.integers(0, 4, (4, 4))),
        "many": lib.from_numpy(rng.integers(0, 100, (100, 100))),
        "target": names["b"].clone(), "linear": nn.Linear(4, 4),
        "network": nn.Sequential(nn.Linear(4, 4), nn.ReLU(), nn.Linear(4, 4)),
        "norm": nn.LayerNorm(4), "drop": nn.Dropout(), "embed": nn.Embedding(10, 4),
    }  # fmt: skip
    timed = {}
    for text in filter(None, map(str.strip, MORE.replace("\n", ";").split(";"))):
        for suffix, grad in (("", False), (", grad", True)):
            own = names | {
                n: lib.tensor(v, requires_grad=grad) for n, v in (("x", first), ("y", y))
            }
            code = eval(f"lambda: {text}", own)
            if not grad or {"x", "y"} & set(code.__code__.co_names):
                timed[text + suffix] = code
    return timed


def fastest(call: Callable[[], Any], number: int) -> float:
    """Microseconds of one call in a round of `number`."""
    start = time.perf_counter()
    for _ in range(number):
        call()
    return (time.perf_counter() - start) / number * 1e6


def measure(more: bool) -> list[dict[str, Any]]:
    """One row per call: both times and their ratio."""
    torch.set_num_threads(1)
    ours, theirs = [(more_calls if more else calls)(lib) for lib in (lampion, torch)]
    rows = []
    for name, call in ours.items():
        got, want = call(), theirs[name]()
        if not more:
            np.testing.assert_allclose(
                got.detach().numpy(), want.detach().numpy(), rtol=1e-5, err_msg=name
            )
        number = max(200, int(4000 / max(fastest(call, 50), 0.5)))
        best = [float("inf"), float("inf")]
        gc.collect()
        for _ in range(ROUNDS):
            best = [
                min(b, fastest(c, number)) for b, c in zip(best, (call, theirs[name]), strict=True)
            ]
        goal = 0.9 if more else 0.5 if "graph" in name else GOAL
        rows.append(
            {
                "call": name,
                "lampion": best[0],
                "torch": best[1],
                "ratio": best[0] / best[1],
                "goal": goal,
            }
        )
    return rows


def main() -> None:
    """Prints the table; with --json also writes it."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--more", action="store_true", help="the other calls")
    options.add_argument("--json", help="write the rows here as well")
    chosen = options.parse_args()
    rows = measure(chosen.more)
    if chosen.more:
        rows.sort(key=lambda r: -r["ratio"])
    print(f"{'call':42}{'Lampion us':>12}{'PyTorch us':>12}{'ratio':>8}{'goal':>7}")
    for r in rows:
        missed = " missed" if r["goal"] and r["ratio"] > r["goal"] else ""
        print(
            f"{r['call']:42}{r['lampion']:12.2f}{r['torch']:12.2f}{r['ratio']:8.2f}"
            f"{r['goal'] or '':>7}{missed}"
        )
    if chosen.json:
        with open(chosen.json, "w") as file:
            json.dump(rows, file, indent=1)


if __name__ == "__main__":
    main()
