"""Runs torch's module database (module_db) against an implementation that mirrors torch's names."""

import random

import numpy as np
import torch
from torch.testing._internal.common_modules import module_db

from bridge import Bridge, attr, widen
from harness import Database, main
from outcomes import Cotangents, compare, flatten, gradient, leaf, spread, tolerance_override


class Case:
    """One module built, loaded with torch's initial state and run; the first call is torch's."""

    def __init__(self, info, sample, dtype, training):
        self.info, self.sample, self.dtype, self.training = info, sample, dtype, training
        self.state, self.cotangents = None, Cotangents()

    def build(self, b, inputs, wide):
        made = self.sample.constructor_input
        args, kwargs = (widen(made.args), widen(made.kwargs)) if wide else (made.args, made.kwargs)
        m = attr(b.lib, self.info.name)(*b(args), **b(kwargs))
        m.to(attr(b.lib, "float64" if wide else str(self.dtype)[6:]))
        m.train(self.training)
        if self.info.is_lazy:  # the first call makes the parameters
            m(*inputs[0], **inputs[1])
        if self.state is None:
            self.state = {k: v.clone() for k, v in m.state_dict().items()}
        else:
            b.load(m, widen(self.state) if wide else self.state)
        return m

    def __call__(self, b, mode, wide=False):
        given = self.sample.forward_input
        inputs = b(widen([given.args, given.kwargs]) if wide else [given.args, given.kwargs])
        tensors = list(b.tensors)
        with torch.random.fork_rng(devices=[]):  # initialisation does not make a module random
            torch.manual_seed(0)
            m = self.build(b, inputs, wide)
        out = m(*inputs[0], **inputs[1])
        if mode == "forward":
            state = m.state_dict()
            return (
                [leaf(x, f"result {i}") for i, x in enumerate(flatten(out))]
                + [leaf(x, f"argument {i} after the call") for i, x in enumerate(tensors)]
                + [leaf(state[k], f"state {k} after the call") for k in self.state]
            )
        parameters = dict(m.named_parameters())
        inputs = [x for x in tensors if x.requires_grad]
        if self.cotangents.backward(b, out, wide):
            return [gradient(x, f"gradient of argument {i}") for i, x in enumerate(inputs)] + [
                gradient(parameters[k], f"gradient of {k}") for k in self.state if k in parameters
            ]


class ModuleDB(Database):
    """torch's module_db: results, state and gradients, in train and eval mode."""

    title, spaces = "module_db", ("nn",)

    def load(self, opts):
        self.entries = {m.name: {"name": m.name, "space": "nn", "info": m} for m in module_db}

    def tasks(self, entry, opts):
        have = [
            d
            for d in opts.dtype.split(",")
            if getattr(torch, d) in entry["info"].supported_dtypes("cpu")
        ]
        return [(d, mode) for d in have for mode in ("forward", "backward")]

    def run(self, entry, dtype, mode, lib, opts, tally, note):
        info, dtype = entry["info"], getattr(torch, dtype)
        for training in (True, False)[: 1 + info.train_and_eval_differ]:
            torch.manual_seed(0), random.seed(0), np.random.seed(0)
            samples = info.module_inputs_func(
                info, device="cpu", dtype=dtype, training=training, requires_grad=mode == "backward"
            )
            for s in spread([s for s in samples if s.forward_input], opts.max_samples):
                case, made = Case(info, s, dtype, training), s.constructor_input
                given = s.forward_input
                text = f"{s.desc} {made.args} {made.kwargs} {given.args} {given.kwargs}"
                compare(
                    tally,
                    "train" if training else "eval",
                    note,
                    " ".join(text.split())[:300],
                    lambda case=case: case(Bridge(torch), mode),
                    lambda case=case: case(Bridge(lib, opts.device), mode),
                    override=tolerance_override(info, dtype, ("TestModule",)),
                    wide=lambda case=case: case(Bridge(torch), mode, wide=True),
                )


if __name__ == "__main__":
    main(ModuleDB())
