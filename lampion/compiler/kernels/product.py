"""Matrix products through the compiled kernels. Imports plan, entry and earlier files.

`product` is the fast way in for two matrices; `gemm` takes batches, factors and sums besides. Both
write into an array.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import cache

import numpy as np
from numpy import ndarray

from ...settings import processors, settings
from ..native import entry, pool, runtime
from ..native.emit import Function, Module, Value
from ..native.stages import LINE, Layout
from .gemm import BATCH_DIMS, JOB, kernels
from .gemm_pack import Shape, shape_for
from .plan import PARALLEL, slot, volume, write_plan
from .product_jobs import descriptions

TYPES = ("float32", "float64", "bfloat16")
RELEASE = 1 << 16  # multiplications worth releasing the GIL for
POOL_FUNCTIONS = ("enter", "leave", "parallel")

# -- from a job to its tiles -------------------------------------------------------------------


def write_run(module: Module) -> None:
    """Writes `run(job) -> i64`: does the work, alone where it is small or the workers are taken.
    Not 0: there is no memory.
    """
    f = module.function("run", "i64", job="ptr")
    f.call("void", "plan", f["job"])
    state = f.load("ptr", slot(f, "pool"))
    pointers = (f.load("ptr", Value(f, "ptr", module.pointer(n))) for n in POOL_FUNCTIONS)
    enter, leave, parallel = pointers
    zero = f.constant("i64", 0)
    tiles = Value(f, "ptr", "@tiles")
    with f.when(f.call("i64", enter, state).equals(0)):
        space = f.call("ptr", "malloc", f.constant("i64", pool.SHARE + LINE))
        with f.when(f.convert("ptrtoint", space, "i64").equals(0)):
            f.ret(f.constant("i64", 1))
        offset = (f.constant("i64", LINE) - f.convert("ptrtoint", space, "i64") % LINE) % LINE
        f.store(f.at(space, offset), slot(f, "workspace"))
        f.call("void", tiles, f["job"], zero)
        f.call("void", "free", space)
        f.ret(zero)
    f.store(f.load("ptr", f.at(state, pool.FIELDS["workspace"])), slot(f, "workspace"))
    many = (volume(f) >= PARALLEL) & (f.load("i64", slot(f, "total")) > 1)
    with f.when(many):
        f.call("void", parallel, state, tiles, f["job"])
    with f.when(many.equals(0)):
        f.call("void", tiles, f["job"], zero)
    f.call("void", leave, state)
    f.ret(zero)


def write_entry(module: Module, shape: Shape, number: int) -> None:
    """Writes `product(a, b, out, bias, relu)` for CPython, see `Product.general`."""
    f, (a, b, out, bias, relu), general = entry.begin(module, "product", 5)
    x, y = (entry.read_array(f, value, 2, number, general) for value in (a, b))
    z = entry.read_array(f, out, 2, number, general, writeable=True)
    (m, k), (k2, n), (m2, n2) = x.shape, y.shape, z.shape
    entry.require(f, k.equals(k2) & m.equals(m2) & n.equals(n2), general)
    entry.require(f, (m > 0) & (n > 0) & (k > 0), general)
    entry.require(f, z.strides[1].equals(shape.size), general)
    inputs = [x, y]
    row = f.variable("ptr", Value(f, "ptr", "null"))
    none = f.load("ptr", Value(f, "ptr", module.pointer("none")))
    with f.when(bias.differs(none)):
        v = entry.read_array(f, bias, 1, number, general)
        entry.require(f, v.shape[0].equals(n) & v.strides[0].equals(shape.size), general)
        apart(f, z, v, shape.size, general)
        row.set(v.data)
    for array in inputs:
        apart(f, z, array, shape.size, general)
    true, false = (f.load("ptr", Value(f, "ptr", module.pointer(w))) for w in ("true", "false"))
    entry.require(f, relu.equals(true) | relu.equals(false), general)
    f.parameters["job"] = f.buffer(8 * len(JOB))
    strides = [s / shape.size for s in (*x.strides, *y.strides, z.strides[0])]
    zero, one = f.constant("i64", 0), f.constant("i64", 1)
    state = f.load("ptr", Value(f, "ptr", module.pointer("pool")))
    fields = dict.fromkeys(JOB, zero) | {f"size{d}": one for d in range(BATCH_DIMS)}
    operands = x.data, y.data, z.data, row.get(), m, n, k, *strides, one, f.constant(shape.type, 1)
    fields |= dict(zip(JOB, operands, strict=False))
    fields |= {"relu": f.convert("zext", relu.equals(true), "i64"), "batches": one, "pool": state}
    for name, value in fields.items():
        f.store(value, slot(f, name))
    failed = f.variable("i64", 0)
    long = volume(f) >= RELEASE
    with f.when(long):
        thread = f.call("ptr", "PyEval_SaveThread")
        failed.set(f.call("i64", "run", f["job"]))
        f.call("void", "PyEval_RestoreThread", thread)
    with f.when(long.equals(0)):
        failed.set(f.call("i64", "run", f["job"]))
    entry.require(f, failed.get().equals(0), general)
    entry.finish(f, out)


def apart(f: Function, x: entry.Array, y: entry.Array, size: int, otherwise: str) -> None:
    """Goes to the label if the arrays' memory may overlap."""
    (low_x, high_x), (low_y, high_y) = (entry.extent(f, array, size) for array in (x, y))
    entry.require(f, (high_x <= low_y) | (high_y <= low_x), otherwise)


# -- from Python -------------------------------------------------------------------------------


class Product:
    """The products of one type on one target; `call` is the compiled entry."""

    def __init__(self, dtype: str, target: runtime.Target | None = None, result: str = "") -> None:
        shape = shape_for(target or runtime.host(), dtype, result)
        self.dtype, self.shape = np.dtype(dtype), shape
        self.result = np.dtype(np.float64 if shape.size == 8 else np.float32)
        module = kernels(shape)
        write_plan(module, shape)
        write_run(module)
        same = self.dtype == self.result
        if same:
            write_entry(module, shape, self.dtype.num)
        code = runtime.load(module.text(), target)
        for name in POOL_FUNCTIONS:
            code.fill(name, pool.native().address(name))
        self.run = code.function("run", ctypes.c_int64, ctypes.c_void_p)
        self.plan = code.function("plan", None, ctypes.c_void_p)
        self.tile, self.block = code.address("tile"), code.address("block")
        self.call: Callable[..., ndarray] = self.general
        if same:
            code.fill("pool", pool.pool().address)
            for name, object in (("none", None), ("true", True), ("false", False)):
                code.fill(name, id(object))
            self.call = entry.builtin(code, "product", self.general)

    def general(
        self, a: ndarray, b: ndarray, out: ndarray, bias: ndarray | None, relu: bool
    ) -> ndarray:
        """`out = a @ b + bias`, then relu where asked for: (M, K), (K, N), (M, N) and (N,) arrays
        of one type; raises TypeError and ValueError for others.
        """
        return self.batched(a, b, out, bias, relu)

    def batched(
        self, a: ndarray, b: ndarray, out: ndarray, bias: ndarray | None = None,
        relu: bool = False, alpha: float = 1.0, accumulate: bool = False,
    ) -> ndarray:  # fmt: skip
        """`general` for batches (..., M, K) and (..., K, N) too, with `alpha * a @ b` and the sum
        added to what `out` holds.
        """
        self.check(a, b, out, bias)
        if out.size == 0:
            return out
        if not plain(out) or any(overlap(out, x) for x in (a, b, bias) if x is not None):
            made = out.astype(out.dtype, order="C", copy=True)
            out[...] = self.batched(a, b, made, bias, relu, alpha, accumulate)
            return out
        a, b = (x if aligned(x) else x.copy() for x in (a, b))
        if bias is not None:
            bias = np.ascontiguousarray(bias)
        lead = out.shape[:-2]
        a, b = (np.broadcast_to(x, lead + x.shape[-2:]) for x in (a, b))
        layouts = [Layout.of(x) for x in (a, b, out)]
        for fields in descriptions(
            *layouts, alpha=alpha, accumulate=accumulate, relu=relu, fold=True
        ):
            fields |= {"pool": pool.pool().address, "bias": address(bias)}
            fields |= {"a": address(a), "b": address(b), "c": address(out)}
            if self.run((ctypes.c_int64 * len(JOB))(*map(fields.__getitem__, JOB))):
                raise MemoryError("[gemm] expects 2 MiB of memory for packing, got none")
        return out

    def planned(self, fields: dict[str, int]) -> list[int]:
        """The words of a job with these fields, cut into tiles for the pool's threads."""
        fields = fields | {"pool": pool.pool().address}
        job = (ctypes.c_int64 * len(JOB))(*map(fields.__getitem__, JOB))
        self.plan(job)
        return list(job)

    def check(self, a: ndarray, b: ndarray, out: ndarray, bias: ndarray | None) -> None:
        """Raises TypeError or ValueError unless the arrays fit one another."""
        for name, x in (("a", a), ("b", b), ("out", out), ("bias", bias)):
            if x is None and name == "bias":
                continue
            dtype = self.dtype if name in "ab" else self.result
            if not isinstance(x, ndarray) or x.dtype != dtype:
                kind = x.dtype if isinstance(x, ndarray) else type(x).__name__
                raise TypeError(f"[gemm] expects {name} of {dtype}, got {kind}; convert it")
        if min(a.ndim, b.ndim, out.ndim) < 2 or a.shape[-1] != b.shape[-2]:
            raise ValueError(
                f"[gemm] expects (..., M, K) and (..., K, N), got {a.shape} and {b.shape}"
            )
        lead = np.broadcast_shapes(a.shape[:-2], b.shape[:-2])
        shape = (*lead, a.shape[-2], b.shape[-1])
        if out.shape != shape:
            raise ValueError(f"[gemm] expects out of shape {shape}, got {out.shape}")
        if not out.flags.writeable:
            raise ValueError("[gemm] expects an out that can be written, got a read-only array")
        if bias is not None and bias.shape != shape[-1:]:
            raise ValueError(f"[gemm] expects bias of shape {shape[-1:]}, got {bias.shape}")


def address(x: ndarray | None) -> int:
    """Where the elements begin; 0 where there is no array."""
    return 0 if x is None else x.ctypes.data


def aligned(x: ndarray) -> bool:
    """Whether strides are whole numbers of elements."""
    return x.flags.aligned and all(s % x.itemsize == 0 for s in x.strides)


def plain(x: ndarray) -> bool:
    """Whether columns lie side by side, as the kernels write them."""
    return aligned(x) and (x.strides[-1] == x.itemsize or x.shape[-1] <= 1)


def overlap(x: ndarray, y: ndarray) -> bool:
    """Whether the arrays may share memory (by the addresses they span)."""
    return np.may_share_memory(x, y)


@cache
def kernel(dtype: str, result: str = "") -> Product:
    """The products of a type of `TYPES` on this machine, compiled at the first call; in the sums'
    type unless another is given.
    """
    if dtype not in TYPES:
        raise TypeError(f"[gemm] expects {', '.join(TYPES)}, got {dtype}; convert the arrays")
    return Product(dtype, result=result)


def gemm(
    a: ndarray, b: ndarray, out: ndarray | None = None, *, bias: ndarray | None = None,
    relu: bool = False, alpha: float = 1.0, accumulate: bool = False,
) -> ndarray:  # fmt: skip
    """`relu(alpha * a @ b + out + bias)`, each part where it is asked for, into `out` or a new
    array: (..., M, K), (..., K, N), (..., M, N) and (N,), all float32 or all
    float64; or bfloat16 operands with sums, bias and result in float32.

    Raises TypeError for other types and ValueError for shapes that do not fit.

    >>> gemm(np.eye(2), np.ones((2, 3)), alpha=2)
    array([[2., 2., 2.],
           [2., 2., 2.]])
    """
    made = kernel(a.dtype.name if isinstance(a, ndarray) else "float32")
    workers = pool.pool()
    if workers.threads != (settings.threads or processors()):
        workers.settle()
    if out is None:
        if accumulate:
            raise ValueError("[gemm] expects an out to add to, got none; pass out=")
        shape = np.broadcast_shapes(a.shape[:-2], b.shape[:-2]) + (a.shape[-2], b.shape[-1])
        out = np.empty(shape, made.result)
    if alpha == 1 and not accumulate:
        return made.call(a, b, out, bias, relu)
    return made.batched(a, b, out, bias, relu, alpha, accumulate)
