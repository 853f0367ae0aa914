"""Recurrent layers: `RNN`, `LSTM`, `GRU` and their cells. May import core and ops.

The layers hold the weights and arrange inputs and states; `ops.recurrent` walks through the steps.
"""

from __future__ import annotations

import math
import warnings
from typing import Any

from ..core.tensor import Tensor
from ..errors import check
from . import init
from .layer import unlike
from .module import Module
from .names import torch
from .parameter import Parameter
from .utils.rnn import PackedSequence

GATES = {"LSTM": 4, "GRU": 3, "RNN_TANH": 1, "RNN_RELU": 1}
State = tuple[Tensor, ...]


# -- layers ------------------------------------------------------------------------------------


class RNNBase(Module):
    """What recurrent layers share: the weights of every layer and direction, and the walk through
    them.
    """

    def __init__(
        self,
        mode: str,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        check(mode in GATES, lambda: f"Unrecognized RNN mode: {mode}", ValueError)
        self.mode, self.input_size, self.hidden_size = mode, input_size, hidden_size
        self.num_layers, self.bias, self.batch_first = num_layers, bias, batch_first
        self.dropout, self.bidirectional, self.proj_size = dropout, bidirectional, proj_size
        self._check_settings()
        self.dropout = float(dropout)
        self._all_weights: list[list[str]] = []
        made = {"device": device, "dtype": dtype}
        for layer in range(num_layers):
            for suffix in ("", "_reverse")[: 1 + bidirectional]:
                self._add_weights(f"l{layer}{suffix}", layer, made)
        self.reset_parameters()

    def _check_settings(self) -> None:
        kinds = {"bias": bool, "batch_first": bool, "input_size": int, "hidden_size": int}
        for name, kind in kinds.items():
            got = type(getattr(self, name))
            message = f"{name} should be of type {kind.__name__}, got: {got.__name__}"
            check(issubclass(got, kind), message, TypeError)
        for name in ("input_size", "hidden_size", "num_layers"):
            check(getattr(self, name) > 0, f"{name} must be greater than zero", ValueError)
        p, layers = self.dropout, self.num_layers
        check(
            isinstance(p, (int, float)) and not isinstance(p, bool) and 0 <= p <= 1,
            "dropout should be a number in range [0, 1] representing the probability of an "
            "element being zeroed",
            ValueError,
        )
        if p > 0 and layers == 1:
            warnings.warn(
                "dropout option adds dropout after all but last recurrent layer, so non-zero "
                f"dropout expects num_layers greater than 1, but got dropout={p} and "
                f"num_layers={layers}",
                stacklevel=4,
            )
        check(
            self.proj_size >= 0,
            "proj_size should be a positive integer or zero to disable projections",
            ValueError,
        )
        check(
            self.proj_size < self.hidden_size,
            "proj_size has to be smaller than hidden_size",
            ValueError,
        )

    @property
    def _output_size(self) -> int:
        """What one direction of a layer puts out."""
        return self.proj_size or self.hidden_size

    def _add_weights(self, place: str, layer: int, made: dict[str, Any]) -> None:
        rows = GATES[self.mode] * self.hidden_size
        width = self._output_size * (1 + self.bidirectional) if layer else self.input_size
        shapes: dict[str, tuple[int, ...]] = {
            f"weight_ih_{place}": (rows, width),
            f"weight_hh_{place}": (rows, self._output_size),
        }
        if self.bias:
            shapes |= {f"bias_ih_{place}": (rows,), f"bias_hh_{place}": (rows,)}
        if self.proj_size:
            shapes[f"weight_hr_{place}"] = (self.proj_size, self.hidden_size)
        for name, shape in shapes.items():
            setattr(self, name, Parameter(torch.empty(shape, **made)))
        self._all_weights.append(list(shapes))

    @property
    def all_weights(self) -> list[list[Parameter]]:
        """The weights of each layer and direction."""
        return [[getattr(self, name) for name in names] for names in self._all_weights]

    @property
    def _flat_weights_names(self) -> list[str]:
        return [name for names in self._all_weights for name in names]

    @property
    def _flat_weights(self) -> list[Parameter]:
        return [getattr(self, name) for name in self._flat_weights_names]

    def reset_parameters(self) -> None:
        """Draws every weight and bias evenly from [-k, k) with `k = 1 / sqrt(hidden_size)`."""
        bound = 1.0 / math.sqrt(self.hidden_size)
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def flatten_parameters(self) -> None:
        """Does nothing here: it arranges weights for cuDNN, which the CPU does not use."""

    def forward(self, input: Any, hx: Any = None) -> Any:
        if isinstance(input, PackedSequence):
            return self._forward_packed(input, hx)
        batched, x = self._as_batch(input)  # (T, N, input_size)
        self._check_input(x, 3)
        states = self._initial_states(self._state_as_batch(hx, batched), x.size(1), x, None)
        out, *last = self._run(x, *states)
        out = out.transpose(0, 1) if batched and self.batch_first else out
        if not batched:
            out, last = out.squeeze(1), [s.squeeze(1) for s in last]
        return out, self._state_of(last)

    def _forward_packed(self, input: PackedSequence, hx: Any) -> tuple[PackedSequence, Any]:
        self._check_input(input.data, 2)
        batch, back = int(input.batch_sizes[0]), input.unsorted_indices
        states = self._initial_states(hx, batch, input.data, input.sorted_indices)
        out, *last = self._run(input.data, *states, sizes=input.batch_sizes)
        if back is not None:
            last = [s.index_select(1, back) for s in last]
        return input._replace(data=out), self._state_of(last)

    def _run(self, x: Tensor, *states: Tensor, sizes: Tensor | None = None) -> tuple[Tensor, ...]:
        """(outputs of the last layer, last states of all layers); `sizes` of packed steps."""
        run = getattr(torch, self.mode.lower())
        settings = (self.bias, self.num_layers, self.dropout, self.training, self.bidirectional)
        weights, hx = self._flat_weights, self._state_of(list(states))
        if sizes is None:
            return run(x, hx, weights, *settings, False)
        return run(x, sizes, hx, weights, *settings)

    def _state_of(self, states: list[Tensor]) -> Any:
        """The states as the user sees them: (h, c) of an LSTM, else h."""
        return tuple(states) if self.mode == "LSTM" else states[0]

    def _as_batch(self, input: Tensor) -> tuple[bool, Tensor]:
        """(whether the input is a batch, the input as (T, N, input_size))."""
        name = self._get_name()
        check(
            input.dim() in (2, 3),
            lambda: f"{name}: Expected input to be 2D or 3D, got {input.dim()}D instead",
            ValueError,
        )
        if input.dim() == 2:
            return False, input.unsqueeze(1)
        return True, input.transpose(0, 1) if self.batch_first else input

    def _state_as_batch(self, hx: Any, batched: bool) -> Any:
        """The initial state as given, checked, with a batch dimension."""
        if hx is None:
            return None
        is_lstm, want = self.mode == "LSTM", 3 if batched else 2
        states = (hx[0], hx[1]) if is_lstm else (hx,)
        found = ", ".join(f"{s.dim()}-D" for s in states)
        check(
            all(s.dim() == want for s in states),
            lambda: (
                f"For {'' if batched else 'un'}batched {want}-D input, "
                f"{'hx and cx' if is_lstm else 'hx'} should also be {want}-D but got "
                f"{f'({found}) tensors' if is_lstm else f'{found} tensor'}"
            ),
        )
        states = states if batched else tuple(s.unsqueeze(1) for s in states)
        return states if is_lstm else states[0]

    def _check_input(self, x: Tensor, dims: int) -> None:
        weight = getattr(self, self._all_weights[0][0])
        check(
            x.dtype == weight.dtype,
            lambda: (
                f"RNN input dtype ({x.dtype}) does not match weight dtype ({weight.dtype}). "
                f"Convert input: input.to({weight.dtype}), or convert model: model.to({x.dtype})"
            ),
            ValueError,
        )
        check(x.dim() == dims, lambda: f"input must have {dims} dimensions, got {x.dim()}")
        check(
            x.size(-1) == self.input_size,
            lambda: (
                f"input.size(-1) must be equal to input_size. Expected {self.input_size}, got "
                f"{x.size(-1)}"
            ),
        )

    def _initial_states(self, hx: Any, batch: int, x: Tensor, order: Tensor | None) -> State:
        """The states before the first step, (layers * directions, N, size), in batch order."""
        count = self.num_layers * (1 + self.bidirectional)
        widths = (
            (self._output_size, self.hidden_size) if self.mode == "LSTM" else (self._output_size,)
        )
        if hx is None:
            return tuple(torch.zeros((count, batch, w), dtype=x.dtype) for w in widths)
        states = tuple(hx) if self.mode == "LSTM" else (hx,)
        for i, (state, width) in enumerate(zip(states, widths, strict=True)):
            name, want = f"hidden[{i}]" if self.mode == "LSTM" else "hidden", (count, batch, width)
            if state.shape != want:
                raise RuntimeError(f"Expected {name} size {want}, got {list(state.shape)}")
        if order is not None:
            states = tuple(s.index_select(1, order) for s in states)
        return states

    def extra_repr(self) -> str:
        defaults = {
            "proj_size": 0, "num_layers": 1, "bias": True, "batch_first": False, "dropout": 0,
            "bidirectional": False,
        }  # fmt: skip
        return f"{self.input_size}, {self.hidden_size}" + unlike(self, defaults)


class RNN(RNNBase):
    """`h = tanh(W_ih x + b_ih + W_hh h + b_hh)` at each step, or with ReLU; shapes as in `LSTM`,
    one state.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        nonlinearity: str = "tanh",
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check_no_projection(proj_size)
        check(
            nonlinearity in ("tanh", "relu"),
            lambda: f"Unknown nonlinearity '{nonlinearity}'. Select from 'tanh' or 'relu'.",
            ValueError,
        )
        super().__init__(
            f"RNN_{nonlinearity.upper()}", input_size, hidden_size, num_layers, bias, batch_first,
            dropout, bidirectional, 0, device, dtype,
        )  # fmt: skip
        self.nonlinearity = nonlinearity


class LSTM(RNNBase):
    """Long short-term memory (Hochreiter and Schmidhuber, 1997): gates guard the cell c.

    `i, f, o = sigmoid(...)`, `g = tanh(...)` of `W_ih x + b_ih + W_hh h + b_hh`; `c = f * c + i *
    g`, `h = o * tanh(c)`, and `h = W_hr h` where proj_size > 0.

    Shapes: input (T, N, input_size), (N, T, input_size) if `batch_first`, (T, input_size), or a
    PackedSequence; h_0 and c_0 (layers * directions, N, size), zeros if left out. Returns `output,
    (h_n, c_n)`: the h of the last layer at every step, (T, N, directions * size), and the last
    states. Weights start evenly in [-k, k), `k = 1 / sqrt(hidden_size)`.

    >>> lstm = torch.nn.LSTM(10, 20, num_layers=2)
    >>> output, (h, c) = lstm(torch.ones(5, 3, 10))
    >>> output.shape, h.shape
    (torch.Size([5, 3, 20]), torch.Size([2, 3, 20]))
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(
            "LSTM", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            proj_size, device, dtype,
        )  # fmt: skip


class GRU(RNNBase):
    """Gated recurrent unit (Cho et al., 2014): `h = (1 - z) * n + z * h`; shapes as in `LSTM`, one
    state.

    `r, z = sigmoid(W_i x + b_i + W_h h + b_h)`, `n = tanh(W_in x + b_in + r * (W_hn h + b_hn))`.
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        num_layers: int = 1,
        bias: bool = True,
        batch_first: bool = False,
        dropout: float = 0.0,
        bidirectional: bool = False,
        proj_size: int = 0,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        check_no_projection(proj_size)
        super().__init__(
            "GRU", input_size, hidden_size, num_layers, bias, batch_first, dropout, bidirectional,
            0, device, dtype,
        )  # fmt: skip


def check_no_projection(proj_size: int) -> None:
    """Raises ValueError: only the LSTM has a projection."""
    check(
        not proj_size, "proj_size argument is only supported for LSTM, not RNN or GRU", ValueError
    )


# -- cells -------------------------------------------------------------------------------------


class RNNCellBase(Module):
    """One step of a recurrent network, with weights of its own."""

    mode: str

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool,
        num_chunks: int,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__()
        self.input_size, self.hidden_size, self.bias = input_size, hidden_size, bias
        made = {"device": device, "dtype": dtype}
        rows = num_chunks * hidden_size
        self.weight_ih = Parameter(torch.empty((rows, input_size), **made))
        self.weight_hh = Parameter(torch.empty((rows, hidden_size), **made))
        for name in ("bias_ih", "bias_hh"):
            self.register_parameter(name, Parameter(torch.empty(rows, **made)) if bias else None)
        self.reset_parameters()

    def reset_parameters(self) -> None:
        """Draws every weight and bias evenly from [-k, k) with `k = 1 / sqrt(hidden_size)`."""
        bound = 1.0 / math.sqrt(self.hidden_size) if self.hidden_size > 0 else 0
        for weight in self.parameters():
            init.uniform_(weight, -bound, bound)

    def _step(self, kind: str, input: Tensor, states: State | None) -> State:
        """The states after a step of a kind, for input (N, input_size) or (input_size,)."""
        name, count = self._get_name(), 2 if kind == "lstm" else 1
        check(
            input.dim() in (1, 2),
            lambda: f"{name}: Expected input to be 1D or 2D, got {input.dim()}D instead",
            ValueError,
        )
        if states is None:
            zeros = torch.zeros((*input.shape[:-1], self.hidden_size), dtype=input.dtype)
            states = (zeros,) * count
        for i, h in enumerate(states):
            what = f"hx[{i}]" if count == 2 else "hidden"
            message = f"{name}: Expected {what} to be 1D or 2D, got {h.dim()}D instead"
            check(h.dim() in (1, 2), message, ValueError)
        batched = input.dim() == 2
        x, *rows = (t if batched else t.unsqueeze(0) for t in (input, *states))  # (N, *)
        step = getattr(torch, f"{kind}_cell")
        weights = (self.weight_ih, self.weight_hh, self.bias_ih, self.bias_hh)
        found = step(x, tuple(rows) if count == 2 else rows[0], *weights)
        found = found if count == 2 else (found,)
        return found if batched else tuple(s.squeeze(0) for s in found)

    def extra_repr(self) -> str:
        text = f"{self.input_size}, {self.hidden_size}"
        text += "" if self.bias else f", bias={self.bias}"
        kind = getattr(self, "nonlinearity", "tanh")
        return text if kind == "tanh" else f"{text}, nonlinearity={kind}"


class RNNCell(RNNCellBase):
    """`h = tanh(W_ih x + b_ih + W_hh h + b_hh)`, or with ReLU, for x (N, input_size) and h (N,
    hidden_size).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        nonlinearity: str = "tanh",
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 1, device, dtype)
        self.nonlinearity = nonlinearity

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        kind = self.nonlinearity
        check(kind in ("tanh", "relu"), lambda: f"Unknown nonlinearity: {kind}")
        return self._step(f"rnn_{kind}", input, None if hx is None else (hx,))[0]


class LSTMCell(RNNCellBase):
    """One step of an `LSTM`: takes x (N, input_size) and (h, c), each (N, hidden_size); returns the
    new (h, c).
    """

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 4, device, dtype)

    def forward(
        self, input: Tensor, hx: tuple[Tensor, Tensor] | None = None
    ) -> tuple[Tensor, Tensor]:
        h, c = self._step("lstm", input, hx)
        return h, c


class GRUCell(RNNCellBase):
    """One step of a `GRU`: takes x (N, input_size) and h (N, hidden_size); returns the new h."""

    def __init__(
        self,
        input_size: int,
        hidden_size: int,
        bias: bool = True,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        super().__init__(input_size, hidden_size, bias, 3, device, dtype)

    def forward(self, input: Tensor, hx: Tensor | None = None) -> Tensor:
        return self._step("gru", input, None if hx is None else (hx,))[0]
