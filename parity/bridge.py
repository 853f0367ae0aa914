"""Carries tensors, modules and functions written against torch over to a library like it.

May import torch and NumPy.
"""

import builtins
import dataclasses
import functools
import re
import types

import numpy as np
import torch
from torch.testing._utils import wrapper_set_seed


class Missing(Exception):
    """The implementation has no such name."""


class Unsupported(Exception):
    """The harness cannot carry this argument across."""


def attr(owner, path):
    """owner.path, with dots; Missing if there is none."""
    for part in filter(None, path.split(".")):
        try:
            owner = getattr(owner, part)
        except AttributeError:
            raise Missing(path) from None
    return owner


def same(owner, path, obj):
    """Is owner.path this very object?"""
    try:
        return attr(owner, path) is obj
    except Missing:
        return False


def dtype_name(dtype):
    """float32 for torch.float32, whatever the library."""
    return re.findall(r"\w+", str(dtype))[-1]


def carrier(name):
    """(numpy dtype that holds it, name if numpy lacks it)"""
    return {"bfloat16": ("float32", name), "complex32": ("complex64", name)}.get(name, (name, ""))


@functools.cache
def public_names():
    """id -> (object, path) of torch's public callables; holding the object keeps the id valid."""
    table = {}
    for space in (
        "",
        "nn.functional",
        "linalg",
        "fft",
        "special",
        "signal.windows",
        "masked",
        "nn",
        "nn.init",
        "nn.utils",
        "nn.utils.rnn",
        "autograd",
        "optim",
        "Tensor",
    ):
        owner = attr(torch, space)
        for name in dir(owner):
            obj = getattr(owner, name, None)
            if callable(obj) and (getattr(obj, "__module__", None) or "torch").startswith("torch"):
                table.setdefault(id(obj), (obj, f"{space}.{name}".lstrip(".")))
    return table


def remember_init(cls, *args, **kwargs):
    """nn.Module.__new__: keeps the arguments, so that a module can be rebuilt elsewhere."""
    self = object.__new__(cls)
    object.__setattr__(self, "_init_args", (args, kwargs))
    return self


torch.nn.Module.__new__ = remember_init


class Bridge:
    """Translates torch objects (and functions written against torch) to another library."""

    def __init__(self, lib, device="cpu"):
        self.lib, self.device, self.memo, self.tensors = lib, device, {}, []

    def __call__(self, x):
        kind = type(x)
        if isinstance(x, torch.nn.Module):
            return self.module(x)
        if isinstance(x, torch.Tensor):
            return self.tensor(x)
        if kind is torch.dtype:
            return attr(self.lib, dtype_name(x))
        if kind is torch.device or kind is str and x == "cpu":
            return self.device
        if kind in (torch.memory_format, torch.layout, torch.Generator):
            raise Unsupported(kind.__name__)
        if kind in (tuple, torch.Size):
            return tuple(map(self, x))
        if kind is list:
            return list(map(self, x))
        if kind is dict:
            return {k: self(v) for k, v in x.items()}
        if kind is slice:
            return slice(self(x.start), self(x.stop), self(x.step))
        if id(kind) in public_names():
            if hasattr(x, "_fields"):
                return self.function(kind)(*map(self, x))
            if dataclasses.is_dataclass(x):
                return self.function(kind)(
                    **{f.name: self(getattr(x, f.name)) for f in dataclasses.fields(x)}
                )
        if isinstance(x, types.ModuleType):
            name = x.__name__
            return attr(self.lib, name[6:]) if re.match(r"torch(?!\.testing)(\.|$)", name) else x
        return self.function(x) if callable(x) else x

    def make(self, array, dtype=""):
        """A new tensor of this library from a numpy array; dtype: one that numpy lacks."""
        x = getattr(self.lib, "from_numpy", None) or attr(self.lib, "tensor")
        x = x(np.array(array, order="C"))
        x = x.to(attr(self.lib, dtype)) if dtype else x
        return x if self.device == "cpu" else x.to(self.device)

    def tensor(self, t):
        if id(t) not in self.memo:
            if t.layout is not torch.strided or t.is_quantized:
                raise Unsupported(f"layout {t.layout}")
            x = self.copy(t.detach().resolve_conj().resolve_neg())
            if t.requires_grad:
                x.requires_grad_(True)
            self.memo[id(t)] = x, t
            self.tensors.append(x)
        return self.memo[id(t)][0]

    def copy(self, t):
        stored = t.untyped_storage().nbytes() // t.element_size()
        if not t.is_contiguous() or stored != t.numel():  # keep the strides, where the library can
            try:
                base = self.copy_dense(torch.as_strided(t, (stored,), (1,), 0).clone())
                return base.as_strided(tuple(t.shape), t.stride(), t.storage_offset())
            except Exception:
                if self.lib is torch:
                    raise
        return self.copy_dense(t)

    def copy_dense(self, t):
        known, dtype = carrier(dtype_name(t.dtype))
        return self.make((t.to(getattr(torch, known)) if dtype else t).numpy(), dtype)

    def module(self, m):
        args, kwargs = m._init_args
        new = self.function(type(m))(*self(args), **self(kwargs))
        self.load(new, m.state_dict())
        return new

    def load(self, module, state):
        if state:
            module.load_state_dict({k: self.copy(v.detach()) for k, v in state.items()})

    def method(self, name):
        def call(x, *args, **kwargs):
            if not hasattr(x, name):
                raise Missing(f"Tensor.{name}")
            return getattr(x, name)(*args, **kwargs)

        return call

    def function(self, f):
        if f is wrapper_set_seed:
            return lambda op, *args, **kwargs: op(*args, **kwargs)
        if id(f) in public_names():
            path = public_names()[id(f)][1]
            space, _, name = path.rpartition(".")
            return self.method(name) if space == "Tensor" else attr(self.lib, path)
        if isinstance(f, functools.partial):
            return functools.partial(self(f.func), *map(self, f.args), **self(f.keywords))
        where = getattr(f, "__module__", None) or ""
        if isinstance(f, types.FunctionType) and where.startswith("torch.testing"):
            return self.rebind(f)
        if (
            where.startswith("torch.")
            and not where.startswith("torch.testing")
            and self.lib is not torch
        ):
            raise Missing(f"{where}.{getattr(f, '__name__', f)}")
        return f

    def rebind(self, f):
        """A copy of a test helper of torch whose `torch` is this library."""
        if id(f) not in self.memo:
            scope = {"__builtins__": builtins}
            cells = tuple(types.CellType() for _ in f.__closure__ or ())
            new = types.FunctionType(f.__code__, scope, f.__name__, None, cells)
            self.memo[id(f)] = new, f
            names, codes = set(), [f.__code__]
            for code in codes:
                names.update(code.co_names)
                codes += [c for c in code.co_consts if isinstance(c, types.CodeType)]
            scope.update({n: self(f.__globals__[n]) for n in names if n in f.__globals__})
            for cell, old in zip(cells, f.__closure__ or (), strict=True):
                cell.cell_contents = self(old.cell_contents)
            new.__defaults__ = self(f.__defaults__)
            new.__kwdefaults__ = self(f.__kwdefaults__)
        return self.memo[id(f)][0]

    def backward(self, outputs, cotangents):
        if hasattr(self.lib, "autograd") and hasattr(self.lib.autograd, "backward"):
            return self.lib.autograd.backward(outputs, cotangents)
        for i, (out, cot) in enumerate(zip(outputs, cotangents, strict=True)):
            out.backward(cot, **({"retain_graph": True} if i + 1 < len(outputs) else {}))


def widen(x):
    """The same inputs in double precision."""
    wide = {torch.float32: torch.float64, torch.complex64: torch.complex128}
    if isinstance(x, torch.Tensor):
        return x.detach().to(wide.get(x.dtype, x.dtype)).requires_grad_(x.requires_grad)
    if isinstance(x, torch.dtype):
        return wide.get(x, x)
    if type(x) in (list, tuple):
        return type(x)(map(widen, x))
    return {k: widen(v) for k, v in x.items()} if type(x) is dict else x
