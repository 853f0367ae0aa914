"""Every operator, by family, in the order in which a family may use earlier ones."""

from . import (  # noqa: I001  (the order is the order of layers)
    rules as rules,
    elementwise as elementwise,
    create as create,
    views as views,
    reduce as reduce,
    index as index,
    shape as shape,
    sort as sort,
    linalg as linalg,
    complex as complex,
    special as special,
    fft as fft,
    random as random,
    activation as activation,
    loss as loss,
    conv as conv,
    pool as pool,
    norm as norm,
    attention as attention,
    resize as resize,
)
