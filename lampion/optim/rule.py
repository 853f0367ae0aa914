"""The one step loop that the algorithms share, and the arithmetic their rules need beyond
operators.

May import optimizer, core and the base. A rule is a few lines of arithmetic on a parameter, its
gradient and its state. The same lines run on NumPy arrays, block by block, which is fast; and on
tensors when the step itself is differentiated or traced.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, ClassVar

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.graph import STATE
from ..core.inplace import check_memory
from ..core.memory import Storage, tick
from ..core.modes import enable_grad, set_grad_enabled
from ..core.tensor import Tensor, wrap
from ..errors import check
from ..ops.complex import view_as_real
from ..ops.large import LARGE, engine
from .optimizer import Optimizer, ParamsT

BLOCK = 1 << 14  # elements worked on at a time: temporaries stay in the second-level cache
PLAIN = (float, bool, list, type(None), int)  # types of options that are taken as they are
NUMBERS = (float, int, np.number)
FEW = 50  # steps of small parameters that are not worth compiling


class Rule(Optimizer):
    """An optimizer given by its `initial_state`, `advance` and `update`.

    The arguments of its constructor are its options. For each algorithm:

    on_arrays    whether its rule is elementwise arithmetic, for arrays as well as for tensors
    nonnegative  its options that must not be negative
    sparse_hint  what to say beyond that it does not take sparse gradients
    """

    on_arrays = True
    nonnegative: tuple[str, ...] = ("lr", "eps", "weight_decay")
    sparse_hint = ""
    listed = ""  # the options in the order that groups list them in, if it is not the signature's
    steps = 0  # that were made on arrays
    met: tuple[list, dict, dict, dict] = (
        [],
        {},
        {},
        {},
    )  # options, split, and the kernels for them

    def __init__(self, params: ParamsT, arguments: dict[str, Any]) -> None:
        skipped = ("self", "params", "__class__")
        names = dict.fromkeys([*self.listed.split(), *arguments])
        options = {name: arguments[name] for name in names if name not in skipped}
        self.check_options(**options)
        super().__init__(params, options)

    def check_options(self, **options: Any) -> None:
        """Raises ValueError or RuntimeError for options out of range or at odds with each other."""
        lr = options["lr"]
        one = not isinstance(lr, Tensor) or lr.numel() == 1
        check(one, "Tensor lr must be 1-element", ValueError)
        for name in self.nonnegative:
            check_option(name, options[name] >= 0, options[name])
        betas = options.get("betas", ())
        check(
            isinstance(betas, Sequence),
            lambda: f"betas must be a tuple of two numbers, not {type(betas).__name__}",
            TypeError,
        )
        for i, beta in enumerate(betas):
            valid = 0 <= beta < 1
            check(valid, lambda: f"Invalid beta parameter at index {i}: {beta}", ValueError)
        if options.get("fused"):
            differentiable, foreach = options.get("differentiable"), options.get("foreach")
            check(not differentiable, "`fused` does not support `differentiable`")
            check(not foreach, "`fused` and `foreach` cannot be `True` together.")

    def __setstate__(self, state: dict[str, Any]) -> None:
        super().__setstate__(state)
        for group in self.param_groups:
            for name, default in self.defaults.items():
                group.setdefault(name, default)
        for of_parameter in self.state.values():
            if isinstance(of_parameter.get("step"), (int, float)):  # files of early versions
                of_parameter["step"] = scalar(of_parameter["step"])

    # -- what an algorithm gives ---------------------------------------------------------------

    def initial_state(self, parameter: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The state before the first step."""
        return {}

    def advance(self, state: dict, group: dict) -> dict[str, Any]:
        """Moves the numbers in the state on, once in a step, and returns what the rule needs of
        them.
        """
        return {"step": count_step(state)} if "step" in state else {}

    def update(self, parameter: Any, gradient: Any, state: dict, group: dict) -> None:
        """The rule: writes the parameter and the state, which also has what `advance` returned."""
        raise NotImplementedError(f"[{type(self).__name__}] has no rule; define update")

    # -- the loop ------------------------------------------------------------------------------

    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """Updates all parameters that have a gradient; returns the loss of `closure`, if given."""
        loss = None
        if closure is not None:
            with enable_grad():
                loss = closure()
        for group in self.param_groups:
            watched = STATE.interpreters or STATE.observers
            if self.on_arrays and not watched and not group.get("differentiable"):
                self.step_on_arrays(group)
                continue
            for observer in STATE.observers:
                group = observer.options(self, group)
            with set_grad_enabled(bool(group.get("differentiable"))):
                self.step_on_tensors(group)
        return loss

    def step_on_arrays(self, group: dict) -> None:
        """Updates a group's parameters in memory, unseen by autograd but for counted writes."""
        group = {k: v if v.__class__ in PLAIN else as_number(v) for k, v in group.items()}
        batches: dict[tuple, list[tuple]] = {}  # parameters for which one kernel is the same
        writer = None
        for p in group["params"]:
            gradient = p.grad
            if gradient is None:
                continue
            x, g = p._data, gradient._data
            state = {k: v._data for k, v in self.state_of(p, gradient, group).items()}
            numbers = self.advance(state, group)
            if not x.flags.writeable:
                check_memory(x, type(self).__name__)
            names = [k for k, v in state.items() if v.ndim]
            arrays = (x, g, *[state[k] for k in names])
            if (x.size >= LARGE or self.steps >= FEW) and alike(arrays):
                key = x.dtype, *names, *numbers.values()
                batches.setdefault(key, []).append((arrays, state, numbers))
            else:
                self.update_array(x, g, state, numbers, group)
            writer = note_write(p, type(self).__name__, writer)
        if batches:
            self.run_batches(batches, group)
        self.steps += 1

    def run_batches(self, batches: dict[tuple, list[tuple]], group: dict) -> None:
        """Updates each batch, (arrays, state, numbers) of its parameters, by a kernel if there is
        one.
        """
        values = [group.get(name) for name in self.defaults]
        if values != self.met[0]:
            options, fixed = self.split_options(group)
            key = type(self), *options, *fixed.items()
            self.met = values, options, fixed, self.compiled.setdefault(key, {})
        _, options, fixed, compiled = self.met
        for batch in batches.values():
            (x, *_), state, numbers = batch[0]
            names = [k for k, v in state.items() if v.ndim]
            truths = [v for v in numbers.values() if v.__class__ is bool]
            others = [v for v in numbers.values() if v.__class__ is not bool]
            given = (*options.values(), *others)
            steps = compiled.setdefault((x.dtype, *names, *truths), [])
            step: Any = next((s for s in steps if s is None or s.serves(given)), 0)
            if step == 0:
                step = self.compile(x.dtype, names, numbers, options, fixed, given)
                steps.append(step)
            if step is not None:
                step([arrays for arrays, _, _ in batch], given)
                continue
            for (x, g, *_), state, numbers in batch:
                self.update_array(x, g, state, numbers, group)

    # Rules as kernels, by what their options are; then by the arrays' type and the state's names.
    compiled: ClassVar[dict[tuple, dict[tuple, list]]] = {}

    def split_options(self, group: dict) -> tuple[dict[str, float], dict[str, Any]]:
        """A group's options that are numbers, those in tuples one by one, and the others."""
        numeric: dict[str, float] = {}
        fixed: dict[str, Any] = {}
        for name in self.defaults:
            value = group.get(name)
            if isinstance(value, NUMBERS) and value.__class__ is not bool:
                numeric[name] = float(value)
            elif value.__class__ is tuple:
                numeric.update({f"{name} {i}": v for i, v in enumerate(value)})
                fixed[name] = len(value)
            else:
                fixed[name] = value
        return numeric, fixed

    def compile(
        self, dtype: np.dtype, names: list, numbers: dict, options: dict, fixed: dict, given: tuple
    ) -> Any:
        """The rule as one kernel for all parameters, None where it cannot be: the options that are
        numbers, and those that `advance` gave, are its arguments.
        """
        compiler = engine("optimizer")
        truths = {k: v for k, v in numbers.items() if v.__class__ is bool}
        changing = [k for k in numbers if k not in truths]
        counts = {k: v for k, v in fixed.items() if f"{k} 0" in options}

        def rule(parameter: Any, gradient: Any, arrays: dict, symbols: dict) -> None:
            group = {**fixed, **{k: symbols[k] for k in options}}
            for name, count in counts.items():
                group[name] = tuple([symbols[f"{name} {i}"] for i in range(count)])
            values = {**arrays, **truths, **{k: symbols[f"next {k}"] for k in changing}}
            self.update(parameter, self.decay(parameter, gradient, group), values, group)

        arguments = [*options, *[f"next {k}" for k in changing]]
        return compiler and compiler.compiled(rule, dtype, names, arguments, given)

    def update_array(self, x: ndarray, g: ndarray, state: dict, numbers: dict, group: dict) -> None:
        """Updates one parameter by NumPy, large ones block by block."""
        if x.dtype.kind == "c":
            x, g = real_view(x), real_view(g)
            state = {k: real_view(v) if v.dtype.kind == "c" else v for k, v in state.items()}
        if x.size <= BLOCK:
            state.update(numbers)
            self.update(x, self.decay(x, g, group), state, group)
            return
        for x_part, g_part, part in blocks(x, g, state):
            part.update(numbers)
            self.update(x_part, self.decay(x_part, g_part, group), part, group)

    def step_on_tensors(self, group: dict) -> None:
        """Updates a group's parameters with tensor operators, which can be recorded."""
        for p in group["params"]:
            if p.grad is None:
                continue
            x, g, state = p, p.grad, dict(self.state_of(p, p.grad, group))
            state.update(self.advance(state, group))
            if x.is_complex():
                x, g = view_as_real(x), view_as_real(g)
                state = {k: view_as_real(v) if is_complex(v) else v for k, v in state.items()}
            self.update(x, self.decay(x, g, group), state, group)

    def state_of(self, p: Tensor, gradient: Tensor, group: dict) -> dict[str, Tensor]:
        """The state of a parameter, made before its first step."""
        if gradient.is_sparse:
            name = type(self).__name__
            raise RuntimeError(f"{name} does not support sparse gradients{self.sparse_hint}")
        state = self.state.get(p)
        if not state:
            state = self.initial_state(p, gradient, group)
            if state:
                self.state[p] = state
                for observer in STATE.observers:
                    observer.fail("an optimizer makes its state", again=True)
        return state

    def decay(self, parameter: Any, gradient: Any, group: dict) -> Any:
        """Weight decay, and the sign of the gradient: returns the gradient that the rule sees."""
        if group.get("maximize"):
            gradient = -gradient
        weight_decay = group.get("weight_decay", 0)
        if weight_decay == 0:
            return gradient
        if group.get("decoupled_weight_decay"):
            parameter *= 1 - group["lr"] * weight_decay
            return gradient
        return gradient + weight_decay * parameter


def note_write(p: Tensor, name: str, writer: Any) -> Any:
    """Counts a write into a parameter; returns who wrote, which is the same in the whole step."""
    storage = p._storage
    if storage is None:
        storage = p._storage = Storage()
    if writer is None:
        storage.write(name)
    else:
        storage.version += 1
        storage.written, storage.writer = tick(), writer
    return storage.writer


def alike(arrays: tuple[ndarray, ...]) -> bool:
    """Whether arrays are of one type and shape, laid out row by row, and not empty or 0-dim."""
    first = arrays[0]
    if not first.ndim or not first.size:
        return False
    for a in arrays:
        if a.dtype is not first.dtype or a.shape != first.shape or not a.flags.c_contiguous:
            return False
    return True


def check_option(name: str, valid: Any, value: Any) -> None:
    """Raises ValueError unless an option's value is valid."""
    title = {"lr": "learning rate", "eps": "epsilon value"}.get(name, f"{name} value")
    check(bool(valid), lambda: f"Invalid {title}: {value}", ValueError)


def as_number(option: Any) -> Any:
    """An option that is a tensor (or a tuple with tensors, as betas can be) as a number."""
    if isinstance(option, Tensor):
        return option.item()
    if option.__class__ is tuple:
        return tuple([as_number(o) for o in option])
    return option


def number(x: Any) -> Any:
    """A 0-dim array as a number; a tensor stays one, in the precision of Python's numbers."""
    return x.double() if isinstance(x, Tensor) else float(x)


def count_step(state: dict) -> Any:
    """Counts a step; returns the count as a number, or as a tensor where the state has tensors."""
    step = state["step"]
    step += 1
    return number(step)


def blocks(x: ndarray, g: ndarray, state: dict) -> Iterator[tuple[ndarray, ndarray, dict]]:
    """A parameter, its gradient and its state, in pieces that fit the cache."""
    same = [x, g, *(v for v in state.values() if v.shape == x.shape)]
    if not all(a.flags.c_contiguous for a in same):
        yield x, g, state
        return
    flat = {k: v.reshape(-1) if v.shape == x.shape else v for k, v in state.items()}
    x, g = x.reshape(-1), g.reshape(-1)
    for start in range(0, x.size, BLOCK):
        part = slice(start, start + BLOCK)
        piece = {k: v[part] if v.size == x.size else v for k, v in flat.items()}
        yield x[part], g[part], piece


def real_view(x: ndarray) -> ndarray:
    """Complex numbers as pairs of real ones, in the same memory: (...) -> (..., 2)."""
    real = x.real
    shape, strides = (*x.shape, 2), (*x.strides, real.itemsize)
    return np.lib.stride_tricks.as_strided(real, shape, strides)


def is_complex(value: Any) -> bool:
    """Whether a value is a tensor of complex numbers."""
    return isinstance(value, Tensor) and value.is_complex()


# -- state -------------------------------------------------------------------------------------


def scalar(value: float) -> Tensor:
    """A number that counts along with the steps, as a tensor."""
    double = dtypes.get_default_dtype() is dtypes.float64
    return wrap(np.array(value, np.float64 if double else np.float32))


def zeros(like: Tensor) -> Tensor:
    """State that starts from zero, laid out as the parameter."""
    return wrap(np.zeros_like(like._data))


def filled(like: Tensor, value: float) -> Tensor:
    """State that starts from a value: in both parts if the parameter is complex."""
    fill = complex(value, value) if like.is_complex() else value
    return wrap(np.full_like(like._data, fill))


# -- arithmetic for arrays and tensors alike ---------------------------------------------------


def sqrt(x: Any) -> Any:
    """The square root."""
    return x.sqrt() if isinstance(x, Tensor) else np.sqrt(x)


def root(x: Any, eps: Any) -> Any:
    """sqrt(x) + eps, as a new array or tensor."""
    if isinstance(x, Tensor):
        return x.sqrt() + eps
    result = np.sqrt(x)
    result += eps
    return result


def sign(x: Any) -> Any:
    """-1, 0 or 1."""
    return x.sign() if isinstance(x, Tensor) else np.sign(x)


def where(condition: Any, number: float, x: Any) -> Any:
    """The number where the condition holds, else x."""
    if isinstance(x, Tensor):
        return x.masked_fill(condition, number)
    return np.where(condition, x.dtype.type(number), x)


def clip(x: Any, low: float, high: float) -> Any:
    """x moved into [low, high]."""
    return x.clamp(low, high) if isinstance(x, Tensor) else np.clip(x, low, high)


def assign(x: Any, value: Any) -> None:
    """x = value, in place."""
    if not isinstance(x, Tensor):
        np.copyto(x, value, casting="same_kind")
    elif isinstance(value, Tensor):
        x.copy_(value)
    else:
        x.fill_(value)


def maximum(x: Any, y: Any) -> Any:
    """The larger one of each two numbers."""
    return x.maximum(y) if isinstance(x, Tensor) else np.maximum(x, y)


def move_(x: Any, direction: Any, size: Any) -> None:
    """x -= size * direction, where the direction is a temporary: as an array, it is overwritten."""
    if isinstance(direction, Tensor):
        x -= size * direction
    else:
        direction *= size
        x -= direction


def mean_square_(mean: Any, x: Any, beta: Any) -> None:
    """mean = beta * mean + (1 - beta) * x * x, in place."""
    square = x * x
    if isinstance(square, Tensor):
        square = square * (1 - beta)
    else:
        square *= 1 - beta
    mean *= beta
    mean += square


def lerp_(start: Any, end: Any, weight: Any) -> None:
    """start = start + weight * (end - start), in place; exactly `end` for weight 1."""
    if isinstance(start, Tensor):
        start.lerp_(end, weight.to(start.dtype) if isinstance(weight, Tensor) else weight)
    elif weight < 0.5:
        difference = end - start
        difference *= weight
        start += difference
    else:
        start -= end
        start *= 1 - weight
        start += end
