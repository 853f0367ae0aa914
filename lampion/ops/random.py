"""Random tensors: new ones, by parameters in tensors, fills. May import rules, create, draws, core.

Fills walk a tensor in the order of its memory, as PyTorch does.
"""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes, random as streams
from ..core.dispatch import apply
from ..core.graph import STATE
from ..core.inplace import assign, check_writable, write_out
from ..core.op import TENSOR_NAMES, Op
from ..core.tensor import Tensor, wrap
from ..core.transforms import Batched
from ..errors import check
from ..layout import Order, inverse, order_of
from ..random import Generator, default_generator
from .create import factory, like, number_argument, size_argument
from .draws import (
    BERNOULLI_NUMBER,
    CAUCHY,
    EXPONENTIAL,
    GEOMETRIC,
    LOG_NORMAL,
    NORMAL,
    RANDINT,
    RANDPERM,
    UNIFORM,
    check_generator,
    draw,
    draw_from,
    level_of_rows,
)
from .rules import EXPORTS, batch_elementwise, move_to_front, public

# -- new tensors -------------------------------------------------------------------------------


@factory
def rand(*sizes: Any, size: Any = None, dtype: Any = None, generator: Any = None) -> Tensor:
    """Uniform numbers of [0, 1).

    >>> torch.manual_seed(0).initial_seed()
    0
    >>> torch.rand(2)
    tensor([0.4963, 0.7682])
    """
    shape = size_argument("rand", sizes, size)
    return draw(UNIFORM, shape, dtype, generator, low=0.0, high=1.0)


@factory
def randn(*sizes: Any, size: Any = None, dtype: Any = None, generator: Any = None) -> Tensor:
    """Normal numbers of mean 0 and variance 1."""
    shape = size_argument("randn", sizes, size)
    return draw(NORMAL, shape, dtype, generator, mean=0.0, std=1.0, contiguous=True)


@factory
def randint(*bounds: Any, dtype: Any = None, generator: Any = None, **named: Any) -> Tensor:
    """Whole numbers of [low, high): `randint(high, size)` or `randint(low, high, size)`; int64 by
    default.
    """
    low, high, size = randint_arguments("randint", bounds, named, ("size",))
    check(
        not isinstance(size, int),
        f"randint(): argument 'size' must be tuple of ints, not {type(size).__name__}",
        TypeError,
    )
    shape = size_argument("randint", (size,))
    return draw(RANDINT, shape, dtype or dtypes.int64, generator, low=low, high=high)


def randint_arguments(name: str, given: tuple, named: dict, after: tuple[str, ...]) -> list:
    """low (0 if not given), high and what comes after them; raises TypeError for others."""
    last = ("high", *after)
    names = ("low", *last) if len(given) + len(named) > len(last) else last
    values = {**dict(zip(names, given, strict=False)), **named}
    check(
        len(given) + len(named) == len(names) and values.keys() == set(names),
        lambda: (
            f"{name}() received an invalid combination of arguments: {len(given)} by position and "
            f"{sorted(named)}; call {name}({', '.join(last)}) or {name}(low, {', '.join(last)})"
        ),
        TypeError,
    )
    bounds = [number_argument(name, n, values.get(n, 0)) for n in ("low", "high")]
    for bound in bounds:
        check(
            isinstance(bound, int),
            lambda bound=bound: f"{name}(): bounds must be int, not {type(bound).__name__}",
            TypeError,
        )
    return [*bounds, *(values[n] for n in after)]


@factory
def randperm(n: int, *, dtype: Any = None, generator: Any = None) -> Tensor:
    """The numbers 0 to n - 1 in a random order."""
    check(
        hasattr(n, "__index__"),
        lambda: f"randperm(): argument 'n' (position 1) must be int, not {type(n).__name__}",
        TypeError,
    )
    check_generator(generator, "randperm")
    params = {"n": n.__index__(), "dtype": dtype or dtypes.int64, "generator": generator}
    level = level_of_rows() if STATE.interpreters else None
    if level is None:
        return apply(RANDPERM, **params)
    with STATE.set(interpreters=level.before):
        rows = TENSOR_NAMES["stack"]([apply(RANDPERM, **params) for _ in range(level.size)])
    return Batched(level, rows, 0)


@factory
def rand_like(
    input: Tensor, *, dtype: Any = None, memory_format: Any = None, generator: Any = None
) -> Tensor:
    """Uniform numbers of [0, 1), of the shape and type of `input`."""
    shape, dtype, order = like("rand_like", input, dtype, memory_format)
    return draw(UNIFORM, shape, dtype, generator, order, low=0.0, high=1.0)


@factory
def randn_like(
    input: Tensor, *, dtype: Any = None, memory_format: Any = None, generator: Any = None
) -> Tensor:
    """Normal numbers, of the shape and type of `input`."""
    shape, dtype, order = like("randn_like", input, dtype, memory_format)
    return draw(NORMAL, shape, dtype, generator, order, mean=0.0, std=1.0, contiguous=order is None)


@factory
def randint_like(
    input: Tensor,
    *bounds: Any,
    dtype: Any = None,
    memory_format: Any = None,
    generator: Any = None,
    **named: Any,
) -> Tensor:
    """Whole numbers of [low, high), of the shape and type of `input`: `randint_like(x, high)` or
    `(x, low, high)`.
    """
    low, high = randint_arguments("randint_like", bounds, named, ())
    shape, dtype, order = like("randint_like", input, dtype, memory_format)
    return draw(RANDINT, shape, dtype, generator, order, low=low, high=high)


# -- by parameters in tensors ------------------------------------------------------------------


def no_gradient(g: Tensor, x_shape: tuple) -> Tensor:
    """Zeros: a draw does not change smoothly with its parameter."""
    return g.new_zeros(x_shape)


def bernoulli_kernel(x: ndarray, order: Order, generator: Any) -> ndarray:
    """1 with probability x, drawn for the elements in this order."""
    inside = x if order is None else x.transpose(order)
    drawn = streams.bernoulli(inside.shape, inside, x.dtype, generator)
    return drawn if order is None else drawn.transpose(inverse(order))


def normal_kernel(x: ndarray | None, std: ndarray | None, number: float, generator: Any) -> ndarray:
    """Normal numbers of these means and deviations; `number` stands for what is no array."""
    if x is not None and std is not None:
        try:
            np.broadcast_shapes(x.shape, std.shape)
        except ValueError:
            raise RuntimeError(
                f"[normal] means of shape {x.shape} and deviations of shape {std.shape} do not "
                "broadcast; their sizes must match, or be 1"
            ) from None
    return streams.normal_of(number if x is None else x, number if std is None else std, generator)


def batch_draw(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """All rows in one draw."""
    return apply(op, move_to_front(values[0], dims[0]), **params), 0


def batch_multinomial(size: int, values: tuple, dims: tuple, params: dict, op: Op) -> tuple:
    """All rows of all batches in one draw."""
    x = move_to_front(values[0], dims[0])
    drawn = apply(op, x.reshape(-1, x._data.shape[-1]), **params)
    return drawn.reshape(*x._data.shape[:-1], params["num_samples"]), 0


def multinomial_kernel(x: ndarray, num_samples: int, replacement: bool, generator: Any) -> ndarray:
    """The indices, row by row in memory."""
    return np.ascontiguousarray(streams.multinomial(x, num_samples, replacement, generator))


BERNOULLI = Op(
    "bernoulli", ("x",), bernoulli_kernel, vjp={"x": no_gradient}, batch=batch_draw, random=True
)
POISSON = Op(
    "poisson", ("x",), streams.poisson, vjp={"x": no_gradient}, batch=batch_draw, random=True
)
BINOMIAL = Op(
    "binomial",
    ("x", "prob"),
    streams.binomial,
    vjp={"x": no_gradient, "prob": lambda g, prob_shape: g.new_zeros(prob_shape)},
    batch=batch_elementwise,
    random=True,
)
MULTINOMIAL = Op("multinomial", ("x",), multinomial_kernel, batch=batch_multinomial, random=True)
NORMAL_OF = Op(
    "normal",
    ("x", "std"),
    normal_kernel,
    vjp={"x": no_gradient, "std": lambda g, std_shape: g.new_zeros(std_shape)},
    batch=batch_elementwise,
    random=True,
)


def normal(
    mean: Any,
    std: Any = 1.0,
    size: Any = None,
    *,
    generator: Any = None,
    out: Tensor | None = None,
    **options: Any,
) -> Tensor:
    """Normal numbers: `normal(mean, std, size)`, or with a tensor of means, of deviations, or of
    both.

    Raises RuntimeError for a negative deviation.
    """
    check_generator(generator, "normal")
    if size is not None:
        numbers = {
            "mean": number_argument("normal", "mean", mean),
            "std": number_argument("normal", "std", std),
        }
        return normal_sized(size, generator=generator, out=out, **numbers, **options)
    tensors = [v if isinstance(v, Tensor) else None for v in (mean, std)]
    check(any(t is not None for t in tensors), "normal() of two numbers needs a size", TypeError)
    number = number_argument("normal", "std", std) if tensors[1] is None else mean
    number = 0.0 if isinstance(number, Tensor) else number
    made = draw_from(NORMAL_OF, *tensors, number=float(number), generator=generator)
    return made if out is None else write_out(out, made, "normal")


@functools.partial(factory, publish=False)
def normal_sized(
    size: Any, *, mean: float, std: float, dtype: Any = None, generator: Any = None
) -> Tensor:
    """`normal` of two numbers."""
    shape = size_argument("normal", (size,))
    return draw(NORMAL, shape, dtype, generator, mean=mean, std=std, contiguous=True)


@public
def bernoulli(input: Tensor, p: float | None = None, *, generator: Any = None) -> Tensor:
    """1 with the probability in each element of `input` (or with `p`), else 0."""
    check_generator(generator, "bernoulli")
    if p is None:
        return draw_from(BERNOULLI, input, order=None, generator=generator)
    return draw(BERNOULLI_NUMBER, tuple(input._data.shape), input.dtype, generator, p=p)


@public(out=True)
def multinomial(
    input: Tensor, num_samples: int, replacement: bool = False, *, generator: Any = None
) -> Tensor:
    """Indices drawn with chances in proportion to `input`, of each row: (K,) or (N, K) -> (n,) or
    (N, n).
    """
    check_generator(generator, "multinomial")
    return draw_from(
        MULTINOMIAL, input, num_samples=num_samples, replacement=replacement, generator=generator
    )


@public(method=False)
def poisson(input: Tensor, generator: Any = None) -> Tensor:
    """Counts of the Poisson distribution with these rates."""
    check_generator(generator, "poisson")
    return draw_from(POISSON, input, generator=generator)


@public(method=False)
def binomial(count: Tensor, prob: Tensor, generator: Any = None) -> Tensor:
    """How many of `count` trials succeed that each succeed with probability `prob`."""
    check_generator(generator, "binomial")
    return draw_from(BINOMIAL, count, prob, generator=generator)


# -- fills -------------------------------------------------------------------------------------


def fill_order(self: Tensor) -> Order:
    """The order in which a fill walks a tensor: that of its memory."""
    return order_of(self._data) if self._data.__class__ is ndarray else None


def fill_with(self: Tensor, op: Op, name: str, generator: Any, **params: Any) -> Tensor:
    """Fills the tensor with draws in the order of its memory."""
    check_writable(self, name)
    order = fill_order(self)
    if op is NORMAL:
        params["contiguous"] = self.is_contiguous()
    drawn = draw(op, tuple(self._data.shape), self.dtype, generator, order, **params)
    return assign(self, drawn, name)


def named_from(name: str, from_: Any, options: dict) -> Any:
    """PyTorch calls a lower bound `from`, which Python allows only inside `**`."""
    bound = options.pop("from", from_)
    check(
        not options,
        lambda: f"{name}() got an unexpected keyword argument {next(iter(options))!r}",
        TypeError,
    )
    return bound


def uniform_(
    self: Tensor, from_: float = 0.0, to: float = 1.0, /, *, generator: Any = None, **bounds: Any
) -> Tensor:
    """Fills with uniform numbers of [from, to)."""
    to = bounds.pop("to", to)
    low = named_from("uniform_", from_, bounds)
    return fill_with(self, UNIFORM, "uniform_", generator, low=float(low), high=float(to))


def normal_(self: Tensor, mean: float = 0.0, std: float = 1.0, *, generator: Any = None) -> Tensor:
    """Fills with normal numbers."""
    return fill_with(self, NORMAL, "normal_", generator, mean=float(mean), std=float(std))


def random_(self: Tensor, *bounds: int, generator: Any = None, **named: int) -> Tensor:
    """Fills with whole numbers: `random_()` of all that fit the type, `random_(to)`, `random_(from,
    to)`.
    """
    names = ("from", "to") if len(bounds) + len(named) == 2 else ("to",)
    given = {**dict(zip(names, bounds, strict=False)), **named}
    check(
        len(bounds) <= 2 and given.keys() <= {"from", "to"},
        lambda: (
            f"random_() takes from and to, got {len(bounds)} arguments by position and "
            f"{sorted(named)}"
        ),
        TypeError,
    )
    low, high = given.get("from"), given.get("to")
    if high is not None and low is None:
        low = 0
    return fill_with(self, RANDINT, "random_", generator, low=low, high=high)


def bernoulli_(self: Tensor, p: Any = 0.5, *, generator: Any = None) -> Tensor:
    """Fills with 1 (with probability `p`, a number or tensor) and 0."""
    if not isinstance(p, Tensor):
        return fill_with(self, BERNOULLI_NUMBER, "bernoulli_", generator, p=float(p))
    check_writable(self, "bernoulli_")
    check_generator(generator, "bernoulli_")
    order = fill_order(self)
    drawn = draw_from(BERNOULLI, p.expand(self._data.shape), order=order, generator=generator)
    return assign(self, drawn.to(self.dtype), "bernoulli_")


def exponential_(self: Tensor, lambd: float = 1.0, *, generator: Any = None) -> Tensor:
    """Fills with numbers of density lambd * exp(-lambd * x)."""
    return fill_with(self, EXPONENTIAL, "exponential_", generator, rate=float(lambd))


def cauchy_(
    self: Tensor, median: float = 0.0, sigma: float = 1.0, *, generator: Any = None
) -> Tensor:
    """Fills with numbers of the Cauchy distribution."""
    return fill_with(self, CAUCHY, "cauchy_", generator, median=float(median), sigma=float(sigma))


def geometric_(self: Tensor, p: float, *, generator: Any = None) -> Tensor:
    """Fills with the number of trials that it takes to succeed once, from 1 on."""
    return fill_with(self, GEOMETRIC, "geometric_", generator, p=float(p))


def log_normal_(
    self: Tensor, mean: float = 1.0, std: float = 2.0, *, generator: Any = None
) -> Tensor:
    """Fills with numbers whose logarithm is normal with this mean and deviation."""
    return fill_with(self, LOG_NORMAL, "log_normal_", generator, mean=float(mean), std=float(std))


FILLS = (
    uniform_,
    normal_,
    random_,
    bernoulli_,
    exponential_,
    cauchy_,
    geometric_,
    log_normal_,
)
for fill in FILLS:
    setattr(Tensor, fill.__name__, fill)

# -- the state of the streams ------------------------------------------------------------------


def get_state(self: Generator) -> Tensor:
    """The state as PyTorch's tensor of 5056 bytes."""
    return wrap(self.state())


def set_state(self: Generator, new_state: Tensor) -> Generator:
    """Takes over a state that `get_state` returned."""
    check(
        isinstance(new_state, Tensor) and new_state.dtype is dtypes.uint8,
        "RNG state must be a torch.ByteTensor",
        TypeError,
    )
    self.set_state_bytes(np.ascontiguousarray(new_state._data))
    return self


def get_rng_state() -> Tensor:
    """The state of the default stream."""
    return get_state(default_generator)


def set_rng_state(new_state: Tensor) -> None:
    """Puts the default stream into a state that `get_rng_state` returned."""
    set_state(default_generator, new_state)


Generator.get_state, Generator.set_state = get_state, set_state  # type: ignore[attr-defined]
streams.get_rng_state, streams.set_rng_state = get_rng_state, set_rng_state  # type: ignore[attr-defined]
EXPORTS["torch"].update(
    normal=normal,
    Generator=Generator,
    default_generator=default_generator,
    manual_seed=streams.manual_seed,
    seed=streams.seed,
    initial_seed=streams.initial_seed,
    get_rng_state=get_rng_state,
    set_rng_state=set_rng_state,
)
