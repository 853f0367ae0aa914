"""Loss scaling, so that small gradients survive in half precision. May import core, ops and utils.

Source: P. Micikevicius et al., "Mixed precision training" (2018): scale the loss up, the gradients
down; skip a step whose gradients overflowed and halve the scale; double it after a long run of
good steps.
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np

from .. import dtypes
from ..core.tensor import Tensor
from ..errors import check
from ..ops.create import full
from ..utils._pytree import tree_map

READY, UNSCALED, STEPPED = range(3)


class GradScaler:
    """Multiplies losses by a scale that grows while gradients stay finite and shrinks when they do
    not.
    """

    def __init__(
        self,
        device: str = "cuda",
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        enabled: bool = True,
    ) -> None:
        if enabled and device == "cuda":
            warnings.warn(
                "torch.cuda.amp.GradScaler is enabled, but CUDA is not available.  Disabling.",
                stacklevel=2,
            )
            enabled = False
        check(growth_factor > 1.0, "The growth factor must be > 1.0.", AssertionError)
        check(backoff_factor < 1.0, "The backoff factor must be < 1.0.", AssertionError)
        self._enabled, self._scale = enabled, float(init_scale)
        self._growth_factor, self._backoff_factor = growth_factor, backoff_factor
        self._growth_interval, self._growth_tracker = growth_interval, 0
        self._stages: dict[int, int] = {}
        self._found_inf: dict[int, bool] = {}

    def scale(self, outputs: Any) -> Any:
        """A tensor, or nested containers of tensors, times the scale."""
        if not self._enabled:
            return outputs
        return tree_map(lambda t: t * full((), self._scale, dtype=dtypes.float32), outputs)

    def unscale_(self, optimizer: Any) -> None:
        """Divides the optimizer's gradients by the scale, e.g. before clipping;
        at most once per step.
        """
        if not self._enabled:
            return
        stage = self._stages.get(id(optimizer), READY)
        check(
            stage != UNSCALED,
            "unscale_() has already been called on this optimizer since the last update().",
        )
        check(stage != STEPPED, "unscale_() is being called after step().")
        found = False
        for group in optimizer.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    check(
                        p.grad.dtype is not dtypes.float16,
                        "Attempting to unscale FP16 gradients.",
                        ValueError,
                    )
                    found |= not bool(np.isfinite(p.grad._data).all())
                    p.grad.mul_(1.0 / self._scale)
        self._found_inf[id(optimizer)] = found
        self._stages[id(optimizer)] = UNSCALED

    def step(self, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
        """`optimizer.step()` with unscaled gradients, unless one of them is infinite or nan."""
        if not self._enabled:
            return optimizer.step(*args, **kwargs)
        check(
            "closure" not in kwargs,
            "Closure use is not currently supported if GradScaler is enabled.",
        )
        stage = self._stages.get(id(optimizer), READY)
        check(stage != STEPPED, "step() has already been called since the last update().")
        if stage == READY:
            self.unscale_(optimizer)
        result = None if self._found_inf[id(optimizer)] else optimizer.step(*args, **kwargs)
        self._stages[id(optimizer)] = STEPPED
        return result

    def update(self, new_scale: float | Tensor | None = None) -> None:
        """Ends the step: sets the scale, or lets it grow or shrink by what the gradients were."""
        if not self._enabled:
            return
        if new_scale is not None:
            self._scale = float(new_scale)
        else:
            check(
                bool(self._found_inf),
                "No inf checks were recorded prior to update.",
                AssertionError,
            )
            if any(self._found_inf.values()):
                self._scale *= self._backoff_factor
                self._growth_tracker = 0
            else:
                self._growth_tracker += 1
                if self._growth_tracker == self._growth_interval:
                    self._scale *= self._growth_factor
                    self._growth_tracker = 0
        self._stages.clear()
        self._found_inf.clear()

    def get_scale(self) -> float:
        """The scale now, 1 if disabled."""
        return self._scale if self._enabled else 1.0

    def get_growth_factor(self) -> float:
        """What the scale is multiplied by when it grows."""
        return self._growth_factor

    def set_growth_factor(self, new_factor: float) -> None:
        """Sets what the scale is multiplied by when it grows."""
        self._growth_factor = new_factor

    def get_backoff_factor(self) -> float:
        """What the scale is multiplied by when gradients overflow."""
        return self._backoff_factor

    def set_backoff_factor(self, new_factor: float) -> None:
        """Sets what the scale is multiplied by when gradients overflow."""
        self._backoff_factor = new_factor

    def get_growth_interval(self) -> int:
        """How many good steps in a row make the scale grow."""
        return self._growth_interval

    def set_growth_interval(self, new_interval: int) -> None:
        """Sets how many good steps in a row make the scale grow."""
        self._growth_interval = new_interval

    def is_enabled(self) -> bool:
        """Whether it does anything."""
        return self._enabled

    def state_dict(self) -> dict[str, Any]:
        """What `load_state_dict` needs; empty if disabled."""
        if not self._enabled:
            return {}
        return {
            "scale": self._scale,
            "growth_factor": self._growth_factor,
            "backoff_factor": self._backoff_factor,
            "growth_interval": self._growth_interval,
            "_growth_tracker": self._growth_tracker,
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes over a saved state; raises RuntimeError for an empty one."""
        if not self._enabled:
            return
        check(
            len(state_dict) > 0,
            "The source state dict is empty, possibly because it was saved from a disabled "
            "instance of GradScaler.",
        )
        self._scale = float(state_dict["scale"])
        self._growth_factor, self._backoff_factor = (
            state_dict["growth_factor"],
            state_dict["backoff_factor"],
        )
        self._growth_interval = state_dict["growth_interval"]
        self._growth_tracker = state_dict["_growth_tracker"]
