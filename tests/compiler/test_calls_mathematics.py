"""Mathematical functions of compiled calls against NumPy in a wider type, in lanes and alone."""

import ctypes
import math

import numpy as np
import pytest

from lampion.compiler.calls import mathematics
from lampion.compiler.native import runtime
from lampion.compiler.native.emit import Module, vector

pytestmark = pytest.mark.skipif(not runtime.available(), reason="needs llvmlite")
LANES = 16
REFERENCES = {name: getattr(np, name) for name in ("exp", "expm1", "log", "log1p", "tanh")}
REFERENCES["erf"] = np.vectorize(math.erf, otypes=[np.float64])


@pytest.fixture(scope="module")
def code():
    """Loops `exp_float_1(x, y, n)`, `exp_float_16`, ... over all functions."""
    module = Module()
    for name in mathematics.FUNCTIONS:
        for type in ("float", "double"):
            for lanes in (1, LANES):
                f = module.function(f"of_{name}_{type}_{lanes}", "void", x="ptr", y="ptr", n="i64")
                wide = type if lanes == 1 else vector(lanes, type)
                with f.loop(0, f["n"], lanes) as i:
                    value = f.load(wide, f.at(f["x"], i, type), align=4)
                    f.store(mathematics.called(f, name, value), f.at(f["y"], i, type), align=4)
                f.ret()
    return runtime.load(module.text())


@pytest.mark.parametrize("lanes", [1, LANES])
@pytest.mark.parametrize("name", mathematics.FUNCTIONS)
def test_functions(code, name, lanes):
    """Within three units in the last place (of float64: of what NumPy has), and where it is inf,
    zero or nan.
    """
    rng = np.random.default_rng(0)
    spread = np.concatenate([rng.normal(0, s, 1000) for s in (1e-8, 0.1, 1, 10, 90)])
    special = [0.0, -0.0, 1.0, -1.0, math.inf, -math.inf, math.nan, 88.8, -104.0, 750.0, -750.0]
    x = np.concatenate([spread, special, np.zeros(-(len(spread) + len(special)) % LANES)])
    for dtype, type in ((np.float32, "float"), (np.float64, "double")):
        given = x.astype(dtype)
        found = np.empty_like(given)
        run = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64)
        run(code.address(f"of_{name}_{type}_{lanes}"))(
            given.ctypes.data, found.ctypes.data, given.size
        )
        with np.errstate(all="ignore"):
            wanted = REFERENCES[name](given.astype(np.float64)).astype(dtype)
        same = (found == wanted) | (np.isnan(found) & np.isnan(wanted))
        normal = np.isfinite(wanted) & (np.abs(wanted) >= np.finfo(dtype).tiny)
        assert same[~normal & ~(np.abs(wanted) < np.finfo(dtype).tiny)].all()
        error = np.abs(found - wanted)[normal] / np.spacing(np.abs(wanted[normal]))
        assert error.max() <= 3
