"""Draws that take as many numbers as they turn out to need: poisson, binomial, gamma, dirichlet.

Imports NumPy, `errors` and this package's earlier files.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np

from ..errors import check
from .floats import BLOCK, Array, floating, narrow
from .generator import Generator, default_generator
from .normals import polar


class _SingleDraws:
    """Uniforms and normals one by one, for samplers that cannot say how many they need.

    Draws ahead of need; on leaving, moves the engine to just behind what was used.
    """

    def __init__(self, generator: Generator | None) -> None:
        self.generator = generator or default_generator
        self.used, self.ahead = 0, 64
        self.values: Iterator[float] = iter(())

    def __enter__(self) -> _SingleDraws:
        self.start = self.generator._engine.state
        return self

    def __exit__(self, *_: object) -> None:
        self.generator._engine.state = self.start
        self.generator.skip(2 * self.used)

    def uniform(self) -> float:
        value = next(self.values, None)
        if value is None:
            self.ahead = min(2 * self.ahead, BLOCK)
            self.values = iter(self.generator.doubles(self.ahead).tolist())
            value = next(self.values)
        self.used += 1
        return value

    def normal(self) -> float:
        value, self.generator.next_normal = self.generator.next_normal, None
        if value is None:
            value, self.generator.next_normal = polar(self.uniform(), self.uniform())
        return value


def poisson(rates: Array, generator: Generator | None = None) -> Array:
    """Counts of the Poisson distribution with these rates, elementwise."""
    kind = floating("poisson", rates.dtype).dtype
    numbers = rates.astype(np.float64).reshape(-1)
    valid = bool(np.all((numbers >= 0) & np.isfinite(numbers)))
    check(valid, "[poisson] expects finite rates >= 0, got others; clip them")
    with _SingleDraws(generator) as draws:
        counts = [_poisson(rate, draws) for rate in numbers.tolist()]
    return narrow(np.array(counts, np.float64), kind).reshape(rates.shape)


def _poisson(rate: float, draws: _SingleDraws) -> int:
    if rate < 10:  # count the factors until a product of uniforms falls to exp(-rate)
        limit, product, count = math.exp(-rate), 1.0, 0
        while rate > 0 and (product := product * draws.uniform()) > limit:
            count += 1
        return count
    b = 0.931 + 2.53 * math.sqrt(rate)  # transformed rejection (Hoermann 1993)
    a = -0.059 + 0.02483 * b
    inverse_alpha = 1.1239 + 1.1328 / (b - 3.4)
    while True:
        u, v = draws.uniform() - 0.5, draws.uniform()
        edge = 0.5 - abs(u)
        if edge == 0 or v == 0:
            continue
        count = math.floor((2 * a / edge + b) * u + rate + 0.43)
        if edge >= 0.07 and v <= 0.9277 - 3.6224 / (b - 2):
            return count
        if count < 0 or (edge < 0.013 and v > edge):
            continue
        ratio = math.log(v) + math.log(inverse_alpha) - math.log(a / (edge * edge) + b)
        if ratio <= -rate + count * math.log(rate) - math.lgamma(count + 1.0):
            return count


def binomial(count: Array, prob: Array, generator: Generator | None = None) -> Array:
    """How many of `count` trials of chance `prob` succeed, elementwise."""
    dtype = np.dtype(count.dtype)
    supported = dtype.name in ("float32", "float64")
    check(supported, f"[binomial] expects float32 or float64, got {dtype}", NotImplementedError)
    check(dtype == prob.dtype, f"[binomial] expects one dtype, got {dtype} and {prob.dtype}")
    pairs = [x.reshape(-1) for x in np.broadcast_arrays(count, prob)]
    with _SingleDraws(generator) as draws:
        drawn = [_binomial(n, p, draws) for n, p in zip(*pairs, strict=True)]
    return np.array(drawn, dtype).reshape(np.broadcast_shapes(count.shape, prob.shape))


def _binomial(count: Any, chance: Any, draws: _SingleDraws) -> Any:
    """`count` and `chance` are NumPy scalars: PyTorch rounds some steps to their dtype."""
    if count <= 0 or chance <= 0:
        return 0.0
    if not chance < 1:  # 1 and more, or nan
        return count if chance >= 1 else math.nan
    if chance > 0.5:
        return count - _binomial(count, 1 - chance, draws)
    if count * chance >= 10:
        return _binomial_by_rejection(count, chance, draws)
    scale = float(type(count)(math.log1p(-chance)))
    trials, successes = 0.0, 0  # each success takes a geometric number of trials
    while (u := draws.uniform()) and (trials := trials + math.ceil(math.log(u) / scale)) <= count:
        successes += 1
    return successes


def _binomial_by_rejection(count: Any, chance: Any, draws: _SingleDraws) -> float:
    """Hoermann's BTRS (1993)."""
    n, p = float(count), float(chance)
    deviation = float(np.sqrt(count * chance * (1 - chance)))
    b = 1.15 + 2.53 * deviation
    a = -0.0873 + 0.0248 * b + 0.01 * p
    centre, odds = float(count * chance) + 0.5, float(chance / (1 - chance))
    alpha = (2.83 + 5.1 / b) * deviation
    mode = float(np.floor((count + 1) * chance))
    while True:
        u, v = draws.uniform() - 0.5, draws.uniform()
        edge = 0.5 - abs(u)
        if edge == 0 or v == 0:
            continue
        k = float(math.floor((2 * a / edge + b) * u + centre))
        if k < 0 or k > n:
            continue
        if edge >= 0.07 and v <= 0.92 - 4.2 / b:
            return k
        bound = (
            (mode + 0.5) * math.log((mode + 1) / (odds * (n - mode + 1)))
            + (n + 1) * math.log((n - mode + 1) / (n - k + 1))
            + (k + 0.5) * math.log(odds * (n - k + 1) / (k + 1))
            + (_stirling_tail(mode) + _stirling_tail(n - mode))
            - (_stirling_tail(k) + _stirling_tail(n - k))
        )
        if math.log(v * alpha / (a / (edge * edge) + b)) <= bound:
            return k


def _stirling_tail(k: float) -> float:
    """log(k!) minus Stirling's (k + 1/2) log(k + 1) - (k + 1) + log(2 pi) / 2."""
    if k < 10:
        return math.lgamma(k + 1) - (k + 0.5) * math.log(k + 1) + k + 1 - 0.9189385332046728
    square = (k + 1) * (k + 1)
    return (1 / 12 - (1 / 360 - 1 / 1260 / square) / square) / (k + 1)


def standard_gamma(alpha: Array, generator: Generator | None = None) -> Array:
    """Numbers of the Gamma distribution with shape `alpha` and rate 1, elementwise."""
    dtype = np.dtype(alpha.dtype)
    supported = dtype.name in ("float32", "float64")
    check(supported, f"[gamma] expects float32 or float64, got {dtype}", NotImplementedError)
    check(bool(np.all(alpha >= 0)), "[gamma] expects alpha >= 0, got less or nan; clip it")
    with _SingleDraws(generator) as draws:
        drawn = np.array([_gamma(a, draws) for a in alpha.reshape(-1)], np.float64)
    return np.maximum(drawn.astype(dtype), np.finfo(dtype).tiny).reshape(alpha.shape)


def _gamma(alpha: Any, draws: _SingleDraws) -> float:
    """Marsaglia and Tsang (2000). `alpha` is a NumPy scalar: PyTorch rounds some steps to it."""
    scale = 1.0
    if alpha < 1:
        if alpha == 0:
            return 0.0
        scale = (1 - draws.uniform()) ** float(1 / alpha)
        alpha = alpha + 1
    d = float(alpha - type(alpha)(np.float32(1 / 3)))
    c = 1 / math.sqrt(9 * d)
    while True:
        while (y := 1 + c * (x := draws.normal())) <= 0:
            pass
        v, u, square = y * y * y, 1 - draws.uniform(), x * x
        if u < 1 - 0.03310000151395798 * square * square:  # 0.0331 as a float32
            return scale * d * v
        if math.log(u) < 0.5 * square + d * (1 - v + math.log(v)):
            return scale * d * v


def dirichlet(alpha: Array, generator: Generator | None = None) -> Array:
    """Chances of the Dirichlet distribution, along the last dimension: gammas over their sum."""
    gammas = standard_gamma(alpha.astype(np.float64), generator)
    tiny, below_one = np.finfo(alpha.dtype).tiny, np.nextafter(alpha.dtype.type(1), 0)
    return np.clip((gammas / gammas.sum(-1, keepdims=True)).astype(alpha.dtype), tiny, below_one)
