"""Every operator, by family, in the order in which a family may use earlier ones.
May import core.
"""

from . import (  # noqa: I001  (the order is the order of layers)
    large as large,
    rules as rules,
    return_types as return_types,
    special_functions as special_functions,
    elementwise as elementwise,
    comparison as comparison,
    powers as powers,
    trigonometry as trigonometry,
    rounding as rounding,
    bits as bits,
    lists as lists,
    data as data,
    create as create,
    ranges as ranges,
    convert as convert,
    storage as storage,
    legacy as legacy,
    views as views,
    expand as expand,
    slices as slices,
    splits as splits,
    strided as strided,
    metadata as metadata,
    reduce as reduce,
    extremes as extremes,
    accumulate as accumulate,
    index as index,
    brackets as brackets,
    gather as gather,
    masks as masks,
    fill as fill,
    shape as shape,
    rearrange as rearrange,
    sort as sort,
    search as search,
    cumulative as cumulative,
    statistics as statistics,
    distances as distances,
    matmul as matmul,
    linear as linear,
    products as products,
    einsum as einsum,
    complex as complex,
    linalg as linalg,
    solve as solve,
    decompose as decompose,
    factor as factor,
    matrix_functions as matrix_functions,
    norms as norms,
    special as special,
    fft as fft,
    draws as draws,
    random as random,
    lowrank as lowrank,
    dropout as dropout,
    rectifiers as rectifiers,
    activation as activation,
    softmax as softmax,
    loss as loss,
    margins as margins,
    classification as classification,
    similarity as similarity,
    ctc as ctc,
    numbered as numbered,
    adjoint as adjoint,
    conv as conv,
    blocks as blocks,
    pool as pool,
    pool_adaptive as pool_adaptive,
    pad as pad,
    windows as windows,
    spectrum as spectrum,
    resize as resize,
    grid as grid,
    norm as norm,
    batchnorm as batchnorm,
    embedding as embedding,
    attention as attention,
    multihead as multihead,
    recurrent as recurrent,
    compiled_calls as compiled_calls,
)

from ..core.arguments import guarded, takes_tensors
from ..core.op import TENSOR_NAMES
from .rules import EXPORTS

for _name, _function in EXPORTS["torch"].items():  # what gradient rules and transforms may call
    TENSOR_NAMES.setdefault(_name, _function)

_guarded: dict = {}  # a function that has several names stays one function
for _space in EXPORTS.values():
    for _name, _function in _space.items():
        if takes_tensors(_function, 1):
            if _function not in _guarded:
                _guarded[_function] = guarded(_function)
            _space[_name] = _guarded[_function]
