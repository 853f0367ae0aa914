"""Limited-memory BFGS (Nocedal 1980) with an optional line search after Wolfe (Nocedal and Wright,
algorithms 3.5 and 3.6). May import optimizer, core and ops.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np

from ..core.modes import enable_grad, no_grad
from ..core.tensor import Tensor
from ..errors import check
from ..ops.complex import view_as_real
from ..ops.shape import cat
from .optimizer import Optimizer, ParamsT
from .rule import zeros

CURVATURE = 1e-10  # pairs of steps and gradient changes that curve less are not remembered


class LBFGS(Optimizer):
    """Steps along -H @ g, with H, the inverse of the second derivatives, known by the last steps'
    effect on g.

    `step(closure)` evaluates the closure several times. `line_search_fn` is None or
    `"strong_wolfe"`. All parameters form one vector; the state is kept with the first one.
    """

    def __init__(
        self,
        params: ParamsT,
        lr: float | Tensor = 1,
        max_iter: int = 20,
        max_eval: int | None = None,
        tolerance_grad: float = 1e-7,
        tolerance_change: float = 1e-9,
        history_size: int = 100,
        line_search_fn: str | None = None,
    ) -> None:
        one = not isinstance(lr, Tensor) or lr.numel() == 1
        check(one, "Tensor lr must be 1-element", ValueError)
        check(bool(lr >= 0), lambda: f"Invalid learning rate: {lr}", ValueError)
        defaults = {
            "lr": lr,
            "max_iter": max_iter,
            "max_eval": max_iter * 5 // 4 if max_eval is None else max_eval,
            "tolerance_grad": tolerance_grad,
            "tolerance_change": tolerance_change,
            "history_size": history_size,
            "line_search_fn": line_search_fn,
        }
        super().__init__(params, defaults)
        check(
            len(self.param_groups) == 1,
            "LBFGS doesn't support per-parameter options (parameter groups)",
            ValueError,
        )

    @property
    def _params(self) -> list[Tensor]:
        return self.param_groups[0]["params"]

    @no_grad()
    def step(self, closure: Callable[[], Any]) -> Any:
        """Up to `max_iter` iterations; returns the loss at the start. `closure` is required."""
        closure = enable_grad()(closure)
        group, state = self.param_groups[0], self.state[self._params[0]]
        for name in ("func_evals", "n_iter"):
            state.setdefault(name, 0)
        first_loss = closure()
        loss, gradient = np.float64(float(first_loss)), self._gradient()
        state["func_evals"] += 1
        if largest(gradient) <= group["tolerance_grad"]:
            return first_loss
        evaluations = 1
        for iteration in range(1, group["max_iter"] + 1):
            direction = self._direction(gradient, state, group["history_size"])
            size = self._first_size(gradient, state["n_iter"])
            state.update(d=direction, t=size, prev_loss=float(loss))
            start = Point(0.0, loss, gradient, slope(gradient, direction))
            if start.slope > -group["tolerance_change"]:
                break
            last = iteration == group["max_iter"]
            point, cost = self._go(
                closure, direction, start, size, group["max_eval"] - evaluations, last
            )
            change, size, loss, gradient = point.loss - loss, point.t, point.loss, point.gradient
            state["t"] = size
            state["func_evals"] += cost
            evaluations += cost
            if last or evaluations >= group["max_eval"]:
                break
            if self._converged(gradient, direction, size, change):
                break
        return first_loss

    def _first_size(self, gradient: Tensor, iteration: int) -> float:
        """How far along the direction to try: lr, and less of a first, unscaled direction."""
        lr = float(self.param_groups[0]["lr"])
        return lr if iteration > 1 else lr * min(1.0, 1.0 / float(gradient.abs().sum()))

    def _go(
        self,
        closure: Callable[[], Any],
        direction: Tensor,
        start: Point,
        size: float,
        budget: int,
        last: bool,
    ) -> tuple[Point, int]:
        """Moves the parameters along the direction; returns where to, and the number of
        evaluations.
        """
        group = self.param_groups[0]
        check(group["line_search_fn"] in (None, "strong_wolfe"), "only 'strong_wolfe' is supported")
        if group["line_search_fn"] is None:
            self._move(direction, size)
            if last:
                return start._replace(t=size), 0
            loss = np.float64(float(closure()))
            return Point(size, loss, self._gradient(), start.slope), 1
        line = Line(self, closure, direction)
        point = line.strong_wolfe(start, size, group["tolerance_change"], budget)
        self._move(direction, point.t)
        return point, line.evaluations

    def _converged(self, gradient: Tensor, direction: Tensor, size: float, change: float) -> bool:
        """Whether the gradient, the step or the change of the loss became too small to go on."""
        group = self.param_groups[0]
        return (
            largest(gradient) <= group["tolerance_grad"]
            or largest(direction) * abs(size) <= group["tolerance_change"]
            or abs(change) < group["tolerance_change"]
        )

    def _direction(self, gradient: Tensor, state: dict, history: int) -> Tensor:
        """-H @ g by the two loops over the remembered steps; remembers the last step first."""
        state["n_iter"] += 1
        if state["n_iter"] == 1:
            state.update(old_dirs=[], old_stps=[], ro=[], H_diag=1, al=[None] * history)
            state["prev_flat_grad"] = gradient.clone()
            return -gradient
        change, step = gradient - state["prev_flat_grad"], state["d"] * state["t"]
        state["prev_flat_grad"].copy_(gradient)
        changes, steps, ro = state["old_dirs"], state["old_stps"], state["ro"]
        curvature = change.dot(step)
        if curvature > CURVATURE:
            if len(changes) == history:
                for remembered in (changes, steps, ro):
                    remembered.pop(0)
            changes.append(change)
            steps.append(step)
            ro.append(1.0 / curvature)
            state["H_diag"] = curvature / change.dot(change)
        shares = state["al"]
        q = -gradient
        for i in reversed(range(len(changes))):
            shares[i] = steps[i].dot(q) * ro[i]
            q -= shares[i] * changes[i]
        q = q * state["H_diag"]
        for i in range(len(changes)):
            q += (shares[i] - changes[i].dot(q) * ro[i]) * steps[i]
        return q

    # -- all parameters as one vector ----------------------------------------------------------

    def _gradient(self) -> Tensor:
        """All gradients as one vector; zeros where a parameter has none."""
        parts = []
        for p in self._params:
            g = real(zeros(p) if p.grad is None else p.grad)
            parts.append(g.reshape(-1))
        return cat(parts)

    def _move(self, direction: Tensor, size: float) -> None:
        """Adds a multiple of the direction to the parameters."""
        offset = 0
        for p in map(real, self._params):
            part = direction[offset : offset + p.numel()]
            p += size * part.reshape(p.shape)
            offset += p.numel()


def real(x: Tensor) -> Tensor:
    """Complex numbers as pairs of real ones."""
    return view_as_real(x) if x.is_complex() else x


def largest(x: Tensor) -> float:
    """The largest absolute value."""
    return float(x.abs().max())


def slope(gradient: Tensor, direction: Tensor) -> np.float64:
    """How the loss changes along a direction. NumPy's number, since its divisions by zero do not
    raise.
    """
    return np.float64(gradient.dot(direction).item())


class Point(NamedTuple):
    """A place on the line: how far along it, the loss there, its gradient and its slope along the
    line.
    """

    t: float
    loss: np.float64
    gradient: Tensor
    slope: np.float64


class Line:
    """The losses along a direction from where the parameters are; these stay there."""

    def __init__(self, optimizer: LBFGS, closure: Callable[[], Any], direction: Tensor) -> None:
        self.optimizer, self.closure, self.direction = optimizer, closure, direction
        self.start = [p.clone() for p in optimizer._params]
        self.evaluations = 0

    def at(self, t: float) -> Point:
        """Evaluates the loss at `start + t * direction`."""
        self.optimizer._move(self.direction, t)
        loss, gradient = np.float64(float(self.closure())), self.optimizer._gradient()
        for p, saved in zip(self.optimizer._params, self.start, strict=True):
            p.copy_(saved)
        self.evaluations += 1
        return Point(t, loss, gradient, slope(gradient, self.direction))

    def strong_wolfe(
        self,
        start: Point,
        t: float,
        tolerance: float,
        budget: int,
        c1: float = 1e-4,
        c2: float = 0.9,
    ) -> Point:
        """A point whose loss fell by c1 of what the slope promised, and whose slope by c2."""
        ends = self.bracket(start, t, budget, c1, c2)
        if len(ends) == 1:
            return ends[0]
        extent = largest(self.direction)
        low, stalled = int(ends[0].loss > ends[1].loss), False
        while self.evaluations <= budget and abs(ends[1].t - ends[0].t) * extent >= tolerance:
            t, stalled = inner_point(ends, stalled)
            point = self.at(t)
            if point.loss > start.loss + c1 * t * start.slope or point.loss >= ends[low].loss:
                ends[1 - low] = point
                low = int(ends[0].loss > ends[1].loss)
                continue
            if abs(point.slope) <= -c2 * start.slope:
                return point
            if point.slope * (ends[1 - low].t - ends[low].t) >= 0:
                ends[1 - low] = ends[low]
            ends[low] = point
        return ends[low]

    def bracket(self, start: Point, t: float, budget: int, c1: float, c2: float) -> list[Point]:
        """Two points with one that fulfils the conditions in between; or that point alone."""
        last, point = start, self.at(t)
        for i in range(budget):
            too_high = point.loss > start.loss + c1 * point.t * start.slope
            if too_high or (i > 1 and point.loss >= last.loss):
                return [last, point]
            if abs(point.slope) <= -c2 * start.slope:
                return [point]
            if point.slope >= 0:
                return [last, point]
            bounds = point.t + 0.01 * (point.t - last.t), point.t * 10
            last, point = point, self.at(cubic_minimum(last, point, bounds))
        return [start, point]


def inner_point(ends: list[Point], stalled: bool) -> tuple[float, bool]:
    """Where to look next between two points, and whether that is close to one of them.

    If the last one was close as well, it is moved away, to a tenth of the way between them.
    """
    t = cubic_minimum(ends[0], ends[1])
    left, right = sorted((ends[0].t, ends[1].t))
    margin = 0.1 * (right - left)
    if min(right - t, t - left) >= margin:
        return t, False
    if stalled or t >= right or t <= left:
        return (right - margin if abs(t - right) < abs(t - left) else left + margin), False
    return t, True


def cubic_minimum(a: Point, b: Point, bounds: tuple[float, float] | None = None) -> float:
    """The minimum, within bounds, of the cubic through two points with their slopes; else the
    middle.
    """
    low, high = bounds or (min(a.t, b.t), max(a.t, b.t))
    first, second = (a, b) if a.t <= b.t else (b, a)
    mean = first.slope + second.slope - 3 * (first.loss - second.loss) / (first.t - second.t)
    square = mean * mean - first.slope * second.slope
    if square < 0:
        return (low + high) / 2
    root = square**0.5
    share = (second.slope + root - mean) / (second.slope - first.slope + 2 * root)
    return min(max(second.t - (second.t - first.t) * share, low), high)
