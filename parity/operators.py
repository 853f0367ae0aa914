"""Runs torch's operator database (op_db) against an implementation that mirrors torch's names."""

import re

import torch
from torch.testing._internal.common_methods_invocations import op_db
from torch.testing._internal.opinfo.core import BinaryUfuncInfo, UnaryUfuncInfo

from bridge import Bridge, Missing, attr, same, widen
from harness import Database, main
from outcomes import Cotangents, compare, flatten, gradient, leaf, spread, tolerance_override

# Entries that mean nothing outside torch itself: (pattern of the entry's name, reason).
EXCLUDED = [
    (r"^_(?!_)|^torch\._", "private underscore names"),
    (
        r"^torch\.ops\.|^slice$|^native_dropout_backward$|^max_pool2d_with_indices_backward$",
        "raw aten overloads (torch.ops)",
    ),
    (r"^jiterator_|^bmm\.triton|\.without_cudnn$", "CUDA only"),
    (r"^sparse\.|^to_sparse$", "sparse layouts"),
    (r"^masked\.", "masked-tensor prototype"),
]
UNINITIALISED = re.compile(r"empty|^resize_")  # results hold arbitrary memory: shape and dtype only
GAUGE = {"svd", "linalg.svd", "linalg.eig", "linalg.eigh"}  # vectors: up to sign or phase only
# Whose tolerances count as the operator's.
TESTS = (
    "TestCommon",
    "TestUnaryUfuncs",
    "TestBinaryUfuncsDevice",
    "TestReductions",
    "TestFFT",
    "TestMathBits",
    "TestOperators",
)
# Left out for `to`, which has no sample without.
NEUTRAL = (torch.preserve_format, torch.contiguous_format)
REAL = {torch.float32, torch.float64, torch.int64, torch.bool}


def own_operator(f):
    """The operator, if the class defines it: == falls back on identity without."""
    dunder = f"__{f.__name__.strip('_')}__"

    def call(x, *args):
        if getattr(type(x), dunder, None) in (None, getattr(object, dunder, None)):
            raise Missing(f"Tensor.{dunder}")
        return f(x, *args)

    return call


def bound(b, op, variant):
    """The variant of an operator in the bridge's library."""
    f = getattr(op, {"function": "op"}.get(variant, f"{variant}_variant"))
    name = op.name + "_" * (variant == "inplace")
    if variant == "function" and same(torch, name, f):
        return attr(b.lib, name)
    if variant in ("method", "inplace") and same(torch.Tensor, name, f):
        return b.method(name)
    return own_operator(f) if variant == "operator" else b(f)


def forward(b, op, variant, sample):
    """Leaves: the results, then every tensor argument as the call left it."""
    f = bound(b, op, variant)
    args, kwargs = b((sample.input, *sample.args)), b(sample.kwargs)
    out = f(*args, **kwargs)
    gauge = op.name in GAUGE
    leaves = [leaf(x, f"result {i}", values=not gauge) for i, x in enumerate(flatten(out))]
    if gauge:
        leaves += [
            leaf(x, f"processed {i}")
            for i, x in enumerate(flatten(b(sample.output_process_fn_grad)(out)))
        ]
    return leaves + [leaf(x, f"argument {i} after the call") for i, x in enumerate(b.tensors)]


class Gradient:
    """Gradients of one sample with respect to its tensors; the first call is torch's."""

    def __init__(self, op, sample):
        self.op, self.sample, self.cotangents, self.inputs = op, sample, Cotangents(), None

    def __call__(self, b, wide=None):
        s = wide or self.sample
        args, kwargs = b((s.input, *s.args)), b(s.kwargs)
        if self.inputs is None:
            self.inputs = [i for i, x in enumerate(b.tensors) if x.requires_grad]
        out = b(self.op.gradcheck_wrapper)(bound(b, self.op, "function"), *args, **kwargs)
        out = b(s.output_process_fn_grad)(out)
        if self.inputs and self.cotangents.backward(b, out, wide is not None):
            return [gradient(b.tensors[i], f"gradient {i}") for i in self.inputs]


def widened(sample):
    """The sample in double precision."""
    s = type(sample)(widen(sample.input), args=widen(sample.args), kwargs=widen(sample.kwargs))
    s.output_process_fn_grad = sample.output_process_fn_grad
    return s


def namespace(name):
    """Under which heading of the report a name falls."""
    head = re.match(r"(nn\.functional|linalg|fft|special)\.", name)
    if head:
        return head[1]
    if "." in name:
        return "others"
    return "torch" if callable(getattr(torch, name, None)) else "Tensor-only"


class OpDB(Database):
    """torch's op_db: results of every variant, arguments after the call, gradients."""

    title = "op_db"
    spaces = ("torch", "Tensor-only", "nn.functional", "linalg", "fft", "special", "others")

    def load(self, opts):
        for op in op_db:
            reason = next(
                (why for pattern, why in EXCLUDED if re.search(pattern, op.full_name)), None
            )
            if reason and not opts.no_exclude:
                self.excluded.append((op.full_name, reason))
            else:
                self.entries[op.full_name] = {
                    "name": op.name,
                    "space": namespace(op.name),
                    "op": op,
                }

    def tasks(self, info, opts):
        """(dtype, mode) of those asked for; complex64 for an operator without any real dtype."""
        have, back = info["op"].supported_dtypes("cpu"), info["op"].supported_backward_dtypes("cpu")
        asked = [getattr(torch, d) for d in opts.dtype.split(",")]
        if not have & REAL and torch.complex64 in have:
            asked = [torch.complex64]
        return [
            (str(d)[6:], mode)
            for d in asked
            if d in have
            for mode in ("forward", *("backward",) * (opts.grad and d in back))
        ]

    def run(self, info, dtype, mode, lib, opts, tally, note):
        op, dtype, backward = info["op"], getattr(torch, dtype), mode == "backward"
        judging = {
            "override": tolerance_override(op, dtype, TESTS),
            "values": not UNINITIALISED.search(op.name),
            "pointwise": isinstance(op, (UnaryUfuncInfo, BinaryUfuncInfo)),
        }
        variants = [
            v
            for v in ("function", "method", "inplace", "operator")
            if v == "function" or not backward and getattr(op, f"{v}_variant")
        ]
        for s in spread(op.sample_inputs("cpu", dtype, requires_grad=backward), opts.max_samples):
            if op.name == "to" and s.kwargs.get("memory_format") in NEUTRAL:
                del s.kwargs["memory_format"]
            for v in variants:
                if v == "operator" and s.kwargs or v == "inplace" and s.broadcasts_input:
                    continue
                case = Gradient(op, s) if backward else lambda b, s=s, v=v: forward(b, op, v, s)
                compare(
                    tally,
                    v,
                    note,
                    s.summary()[:300],
                    lambda case=case: case(Bridge(torch)),
                    lambda case=case: case(Bridge(lib, opts.device)),
                    wide=lambda case=case, s=s: case(Bridge(torch), widened(s)),
                    **judging,
                )


if __name__ == "__main__":
    main(OpDB(), "float32,float64,int64,bool")
