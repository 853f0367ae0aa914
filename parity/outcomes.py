"""What a call gave, as comparable leaves; whether two outcomes agree; how often they do.

May import bridge. Tolerances are torch's own.
"""

import dataclasses
import inspect
import os
import re
from collections import Counter

import numpy as np
import torch
from torch.testing._comparison import _DTYPE_PRECISIONS
from torch.testing._internal.common_device_type import precisionOverride, toleranceOverride
from torch.testing._internal.opinfo.core import DecorateInfo

from bridge import Missing, Unsupported, carrier, dtype_name

HERE = os.path.dirname(os.path.abspath(__file__))


@dataclasses.dataclass
class Leaf:
    """One comparable piece of an outcome: a tensor (dtype, shape, array) or a plain value."""

    dtype: str | None
    shape: tuple
    value: object
    label: str


def array(x):
    """The values of a tensor of any library."""
    for name in ("cpu", "resolve_conj", "resolve_neg"):
        x = getattr(x, name)() if hasattr(x, name) else x
    name = dtype_name(x.dtype)
    if isinstance(x, torch.Tensor) and x._is_zerotensor():
        x = torch.zeros(x.shape, dtype=x.dtype)
    try:
        return np.array((x.float() if name == "bfloat16" else x).numpy())
    except Exception:
        return np.array(x.tolist(), dtype=carrier(name)[0]).reshape(tuple(x.shape))


def leaf(x, label, values=True):
    """The leaf of a tensor or of anything else; `values=False` keeps dtype and shape only."""
    if not (hasattr(x, "detach") and hasattr(x, "dtype")):
        return Leaf(None, (), x if values else None, label)
    if isinstance(x, torch.Tensor) and x.layout is not torch.strided:
        raise Unsupported(f"result of layout {x.layout}")
    shape = tuple(int(n) for n in x.shape)
    return Leaf(dtype_name(x.dtype), shape, array(x.detach()) if values else None, label)


def gradient(x, label):
    """The leaf of x.grad; no gradient is a zero gradient."""
    if x.grad is not None:
        return leaf(x.grad, label)
    shape = tuple(int(n) for n in x.shape)
    return Leaf(dtype_name(x.dtype), shape, np.zeros(shape), label)


def flatten(x):
    """The leaves of nested lists, tuples and dicts."""
    if isinstance(x, dict):
        x = list(x.values())
    return [y for part in x for y in flatten(part)] if isinstance(x, (list, tuple)) else [x]


class Cotangents:
    """Random cotangents of the differentiable outputs, fixed by the first call: torch's."""

    arrays = None

    def backward(self, b, out, wide=False):
        """False if nothing is differentiable."""
        out = flatten(out)
        if self.arrays is None:
            self.arrays, rng = {}, np.random.RandomState(0)
            for i, x in enumerate(out):
                if isinstance(x, torch.Tensor) and x.requires_grad:
                    c = rng.standard_normal(x.shape) + 1j * rng.standard_normal(x.shape)
                    known, dtype = carrier(dtype_name(x.dtype))
                    self.arrays[i] = np.asarray(c if x.is_complex() else c.real, known), dtype
        if self.arrays:
            b.backward(
                [out[i] for i in self.arrays],
                [
                    b.make(
                        a.astype("complex128" if a.dtype.kind == "c" else "float64") if wide else a,
                        dtype,
                    )
                    for a, dtype in self.arrays.values()
                ],
            )
        return bool(self.arrays)


def tolerance_override(info, dtype, tests):
    """(rtol, atol): the loosest that torch's own eager CPU tests use for this entry."""
    rtol = atol = 0
    for d in info.decorators:
        if (
            isinstance(d, DecorateInfo)
            and d.device_type in (None, "cpu")
            and d.cls_name in (None, *tests)
            and not re.search("mps|complex_half", d.test_name or "")
        ):
            for x in d.decorators:
                if isinstance(x, toleranceOverride) and dtype in x.d:
                    rtol, atol = max(rtol, x.d[dtype].rtol), max(atol, x.d[dtype].atol)
                elif isinstance(x, precisionOverride) and dtype in x.d:
                    atol = max(atol, x.d[dtype])
    return rtol, atol


def tolerance(name, override=(0, 0)):
    """(rtol, atol) of a dtype; (0, 0) asks for equality."""
    rtol, atol = _DTYPE_PRECISIONS.get(getattr(torch, name), (0, 0))
    return (max(rtol, override[0]), max(atol, override[1])) if rtol else (0, 0)


def mismatch(ref, got, override, values=True):
    """'' or a message: why `got` is not `ref`."""
    if ref.dtype is None or got.dtype is None:
        nan = ref.value != ref.value and got.value != got.value
        if not values or ref.dtype == got.dtype and (nan or ref.value == got.value):
            return ""
        if isinstance(ref.value, (float, complex)) and isinstance(got.value, (int, float, complex)):
            close = np.isclose(got.value, ref.value, 1e-5, 1e-6)
            return "" if close else f"{got.value}, expected {ref.value}"
        return f"{got.dtype or got.value!r}, expected {ref.dtype or ref.value!r}"
    if (ref.dtype, ref.shape) != (got.dtype, got.shape):
        return f"{got.dtype}{list(got.shape)}, expected {ref.dtype}{list(ref.shape)}"
    if not values or ref.value is None or got.value is None:
        return ""
    a, b = np.asarray(got.value), np.asarray(ref.value)
    rtol, atol = tolerance(ref.dtype, override)
    with np.errstate(all="ignore"):
        close = np.isclose(a, b, rtol, atol, equal_nan=True) if rtol else a == b
        if close.all():
            return ""
        i = tuple(int(k) for k in np.argwhere(~close)[0])
        differ = f"{int((~close).sum())} of {close.size} differ"
        return f"values: {differ}, first {a[i]} for {b[i]} at {list(i)}"


def no_worse(ref, got, wide, override, pointwise):
    """Second opinion in float64: is a float32 `got` as near to the truth as torch's own result?"""
    if ref.dtype not in ("float32", "complex64") or ref.shape != wide.shape:
        return False
    a, b, t = (np.asarray(x.value, complex) for x in (got, ref, wide))
    rtol, atol = tolerance(ref.dtype, override)
    with np.errstate(all="ignore"):
        if np.isclose(a, t, rtol, atol, equal_nan=True).all():
            return True
        finite = np.isfinite(t)
        if (
            pointwise
            or not np.array_equal(np.isfinite(a), finite)
            or not np.array_equal(np.isfinite(b), finite)
        ):
            return False
        error, own, size = (abs(x)[finite].max(initial=0) for x in (a - t, b - t, t))
        return bool(error <= 4 * own and own <= 1e-3 * size)  # else float64 computed something else


def in_double(f):
    """f() where integers promote to float64."""
    torch.set_default_dtype(torch.float64)
    try:
        return f()
    finally:
        torch.set_default_dtype(torch.float32)


def judge(ref, got, override=(0, 0), values=True, wide=None, pointwise=False):
    """(kind, message) of an outcome; wide() gives the float64 outcome of the reference."""
    if len(ref) != len(got):
        return "wrong", f"{len(got)} results, expected {len(ref)}"
    results = [r for r in ref if not r.label.startswith("argument")]
    empty = all(r.dtype is not None and 0 in r.shape for r in results)
    kind, truth = "ok_empty" if empty else "ok" if values else "ok_shape", None
    for i, (r, g) in enumerate(zip(ref, got, strict=True)):
        text = mismatch(r, g, override, values)
        if text.startswith("values:") and wide:
            truth = truth or attempt(in_double, wide)
            if (
                truth[0] == "ok"
                and len(truth[1]) == len(ref)
                and no_worse(r, g, truth[1][i], override, pointwise)
            ):
                kind, text = "ok_by_float64", ""
        if text:
            return "wrong", f"{r.label}: {text}"
    return kind, ""


def absent(e):
    """Was this AttributeError a name the implementation lacks (and not a bug inside it)?"""
    tb = e.__traceback__
    while tb.tb_next:
        tb = tb.tb_next
    code = tb.tb_frame.f_code
    ours = code.co_filename.startswith((HERE, os.path.dirname(inspect.getfile(torch.testing))))
    return ours or code.co_name in ("__getattr__", "__getattribute__")


def attempt(f, *args):
    """("ok", result), or the kind of failure and its message."""
    try:
        return "ok", f(*args)
    except KeyboardInterrupt:
        raise
    except Unsupported as e:
        return "unsupported", str(e)
    except Missing as e:
        return "missing", str(e)
    except BaseException as e:
        text = f"{type(e).__name__}: {' '.join(str(e).split())}"[:300]
        return "missing" if isinstance(e, AttributeError) and absent(e) else "error", text


class Tally:
    """Counts of samples by variant and kind, and the first messages of each."""

    def __init__(self, dtype, mode):
        self.where, self.counts, self.messages = {"dtype": dtype, "mode": mode}, {}, []

    def add(self, variant, kind, text="", sample=""):
        counts = self.counts.setdefault(variant, Counter())
        counts[kind] += 1
        if counts[kind] <= 2 and not kind.startswith("ok"):
            self.messages.append(
                dict(variant=variant, **self.where, kind=kind, text=text[:600], sample=sample[:300])
            )

    def result(self):
        return {"counts": self.counts, "messages": self.messages}


def consumes_random(f, *args):
    """attempt(f) and whether it drew random numbers."""
    before = torch.get_rng_state()
    return *attempt(f, *args), not torch.equal(before, torch.get_rng_state())


def compare(tally, variant, note, sample, reference, candidate, values=True, **judging):
    """Runs one sample in torch and in the implementation and records the outcome."""
    note("reference", variant, sample)
    kind, ref, random = consumes_random(reference)
    if kind != "ok":
        return tally.add(
            variant, "unsupported" if kind == "unsupported" else "reference", ref, sample
        )
    if ref is None:
        return None  # nothing to compare, e.g. no differentiable result
    note("candidate", variant, sample)
    kind, got = attempt(candidate)
    if kind == "ok":
        kind, got = attempt(lambda: judge(ref, got, values=values and not random, **judging))
        kind, got = got if kind == "ok" else ("wrong", f"not comparable: {got}")
    tally.add(variant, kind, got, sample)


def spread(items, limit):
    """At most `limit` items, evenly spaced."""
    items = list(items)
    if not limit or len(items) <= limit:
        return items
    return [items[i * (len(items) - 1) // max(limit - 1, 1)] for i in range(limit)]
