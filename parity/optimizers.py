"""Runs torch's optimizer database (optim_db): five steps on a tiny model, then the parameters."""

import numpy as np
import torch
from torch.testing._internal.common_optimizers import optim_db

from bridge import Bridge, attr, widen
from harness import Database, main
from outcomes import compare, leaf, spread

EXCLUDED = {"SparseAdam": "sparse gradients only"}
ONLY_MATRICES = {"Muon"}


def train(b, name, kwargs, dtype):
    """Parameters and loss after five steps of loss = mean((tanh(x w + c) v - y)^2)."""
    rng = np.random.RandomState(0)
    w, v, x, y, c = (
        b.make(rng.standard_normal(shape).astype(dtype))
        for shape in ((4, 3), (3, 2), (8, 4), (8, 2), (3,))
    )
    parameters = [w, v] if name in ONLY_MATRICES else [w, v, c]
    for p in parameters:
        p.requires_grad_(True)
    optimizer = attr(b.lib, f"optim.{name}")(parameters, **b(kwargs))

    def closure():
        optimizer.zero_grad()
        error = (x @ w + c).tanh() @ v - y
        loss = (error * error).mean()
        loss.backward()
        return loss

    for _ in range(5):
        loss = optimizer.step(closure)
    return [leaf(p, f"parameter {i}") for i, p in enumerate(parameters)] + [leaf(loss, "loss")]


class OptimDB(Database):
    """torch's optim_db: parameters and loss after five steps."""

    title, spaces = "optim_db", ("optim",)

    def load(self, opts):
        for o in optim_db:
            if o.name in EXCLUDED:
                self.excluded.append((o.name, EXCLUDED[o.name]))
            else:
                self.entries[o.name] = {"name": o.name, "space": "optim", "info": o}

    def tasks(self, entry, opts):
        return [(d, "forward") for d in opts.dtype.split(",") if d in ("float32", "float64")]

    def run(self, entry, dtype, mode, lib, opts, tally, note):
        name = entry["name"]
        for s in spread(entry["info"].optim_inputs_func(device="cpu"), opts.max_samples):
            compare(
                tally,
                "step",
                note,
                f"{s.desc} {s.kwargs}",
                lambda s=s: train(Bridge(torch), name, s.kwargs, dtype),
                lambda s=s: train(Bridge(lib, opts.device), name, s.kwargs, dtype),
                wide=lambda s=s: train(Bridge(torch), name, widen(s.kwargs), "float64"),
            )


if __name__ == "__main__":
    main(OptimDB(), "float32,float64")
