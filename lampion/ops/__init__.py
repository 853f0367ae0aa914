"""Every operator, by family, in the order in which a family may use earlier ones."""

from . import (  # noqa: I001  (the order is the order of layers)
    rules as rules,
    elementwise as elementwise,
    comparison as comparison,
    powers as powers,
    trigonometry as trigonometry,
    rounding as rounding,
    bits as bits,
    data as data,
    create as create,
    ranges as ranges,
    views as views,
    expand as expand,
    slices as slices,
    splits as splits,
    strided as strided,
    metadata as metadata,
    return_types as return_types,
    reduce as reduce,
    extremes as extremes,
    index as index,
    shape as shape,
    rearrange as rearrange,
    sort as sort,
    search as search,
    cumulative as cumulative,
    statistics as statistics,
    distances as distances,
    matmul as matmul,
    linalg as linalg,
    complex as complex,
    special as special,
    fft as fft,
    random as random,
    activation as activation,
    loss as loss,
    adjoint as adjoint,
    conv as conv,
    pool as pool,
    norm as norm,
    attention as attention,
    resize as resize,
)

from ..core.op import TENSOR_NAMES  # noqa: E402
from .rules import EXPORTS  # noqa: E402

for _name, _function in EXPORTS["torch"].items():  # what gradient rules and transforms may call
    TENSOR_NAMES.setdefault(_name, _function)
