"""Inside `autocast`, matrix products compute in a lower type and delicate operators in float32. May
import core.

Which operator computes in what is a field of its record; the casts are recorded, so gradients come
back in the inputs' own types.
"""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

from .. import dtypes
from ..core.graph import STATE
from ..core.modes import Switch
from ..core.op import Op
from ..core.promotion import CAST
from ..core.tensor import Tensor
from ..errors import check

LOWER = {"cpu": dtypes.bfloat16, "cuda": dtypes.float16}
HALVES = (dtypes.float16, dtypes.bfloat16)


class Policy:
    """How inputs are cast: to `dtype` for operators marked lower,
    to float32 for those marked so.
    """

    def __init__(self, device_type: str, dtype: dtypes.dtype, cache: bool) -> None:
        self.device_type, self.dtype = device_type, dtype
        self.cache: dict[int, tuple[Tensor, int, Tensor]] | None = {} if cache else None

    def cast(self, op: Op, inputs: tuple) -> tuple:
        """The inputs in the type that the operator computes in."""
        kind, _, only = op.autocast.partition(" on ")  # type: ignore[union-attr]
        if only and only != self.device_type:
            return inputs
        if kind == "lower":
            return tuple([self.lowered(t) for t in inputs])
        return tuple([
            CAST(t, dtype=dtypes.float32) if t is not None and t.dtype in HALVES else t
            for t in inputs
        ])  # fmt: skip

    def lowered(self, t: Tensor | None) -> Tensor | None:
        """A float32 (or other half) tensor in the lower type;
        a leaf that is trained is cast once per version, but in a trace, which keeps no tensor.
        """
        if t is None or t.dtype is self.dtype or t.dtype not in (dtypes.float32, *HALVES):
            return t
        trained = t._requires_grad and t.grad_fn is None
        if self.cache is None or not trained or STATE.observers:
            return CAST(t, dtype=self.dtype)
        found = self.cache.get(id(t))
        if (
            found is None
            or found[0] is not t
            or found[1] != t._version
            or found[2].requires_grad != STATE.grad
        ):
            found = (t, t._version, CAST(t, dtype=self.dtype))
            self.cache[id(t)] = found
        return found[2]


class autocast(Switch):
    """A block (or decorated function) that computes in mixed precision.

    >>> with torch.autocast("cpu"):
    ...     y = torch.ones(2, 3) @ torch.ones(3, 2)
    >>> y.dtype
    torch.bfloat16
    """

    def __init__(
        self,
        device_type: str,
        dtype: dtypes.dtype | None = None,
        enabled: bool = True,
        cache_enabled: bool | None = None,
    ) -> None:
        check(
            isinstance(device_type, str),
            lambda: f"Expected `device_type` of type `str`, got: `{type(device_type)}`",
            ValueError,
        )
        check(
            device_type in LOWER,
            lambda: f"User specified an unsupported autocast device_type '{device_type}'",
        )
        dtype = LOWER[device_type] if dtype is None else dtype
        if enabled and device_type == "cuda":
            warnings.warn(
                "User provided device_type of 'cuda', but CUDA is not available. Disabling",
                stacklevel=2,
            )
            enabled = False
        if enabled and dtype not in HALVES:
            warnings.warn(
                f"In {device_type.upper()} autocast, but the target dtype is not supported. "
                "Disabling autocast.",
                stacklevel=2,
            )
            enabled = False
        self.device, self.fast_dtype, self._enabled = device_type, dtype, enabled
        self._cache_enabled = True if cache_enabled is None else cache_enabled
        super().__init__(autocast=None)

    def clone(self) -> Switch:
        return autocast(self.device, self.fast_dtype, self._enabled, self._cache_enabled)

    def __enter__(self) -> Any:
        policy = (
            Policy(self.device, self.fast_dtype, self._cache_enabled) if self._enabled else None
        )
        self.values = {"autocast": policy}
        return super().__enter__()


def is_autocast_available(device_type: str) -> bool:
    """Whether `autocast(device_type)` does something on this machine."""
    return device_type == "cpu"


def is_autocast_enabled(device_type: str | None = None) -> bool:
    """Whether autocast is on (for the device; by default for CUDA, as in PyTorch)."""
    return STATE.autocast is not None and STATE.autocast.device_type == (device_type or "cuda")


def get_autocast_dtype(device_type: str) -> dtypes.dtype:
    """The lower type of a device."""
    check(device_type in LOWER, lambda: f"unsupported autocast device_type '{device_type}'")
    on = STATE.autocast is not None and STATE.autocast.device_type == device_type
    return STATE.autocast.dtype if on else LOWER[device_type]


def custom_fwd(
    fwd: Callable | None = None, *, device_type: str, cast_inputs: dtypes.dtype | None = None
) -> Callable:
    """For `forward` of a custom Function: remembers autocast for `backward`,
    or casts its inputs and turns it off.
    """
    if fwd is None:
        return functools.partial(custom_fwd, device_type=device_type, cast_inputs=cast_inputs)

    def cast(x: Any) -> Any:
        return x.to(cast_inputs) if isinstance(x, Tensor) and x.is_floating_point() else x

    @functools.wraps(fwd)
    def decorated(ctx: Any, *args: Any, **kwargs: Any) -> Any:
        ctx.autocast_policy = STATE.autocast
        if cast_inputs is None or STATE.autocast is None:
            return fwd(ctx, *args, **kwargs)
        ctx.autocast_policy = None
        with STATE.set(autocast=None):
            return fwd(ctx, *map(cast, args), **{k: cast(v) for k, v in kwargs.items()})

    return decorated


def custom_bwd(bwd: Callable | None = None, *, device_type: str) -> Callable:
    """For `backward` of a custom Function: runs under the autocast of its `forward`."""
    if bwd is None:
        return functools.partial(custom_bwd, device_type=device_type)

    @functools.wraps(bwd)
    def decorated(ctx: Any, *args: Any) -> Any:
        with STATE.set(autocast=ctx.autocast_policy):
            return bwd(ctx, *args)

    return decorated
