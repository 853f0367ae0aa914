"""Averages of a model's parameters along its training: stochastic weight averaging (Izmailov et
al. 2018) and exponential moving averages. May import nn, the schedules, core and ops.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from copy import deepcopy
from itertools import chain
from typing import Any

from .. import dtypes
from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import check
from ..nn.batchnorm import _BatchNorm
from ..nn.module import Module
from ..ops.data import tensor
from .lr_scheduler.base import LRScheduler, one_for_each_group
from .optimizer import Optimizer


def get_ema_avg_fn(decay: float = 0.999) -> Callable:
    """A function for `AveragedModel`: average = decay * average + (1 - decay) * parameter."""
    check_decay(decay)

    @no_grad()
    def update(average: Tensor, parameter: Tensor, count: Tensor | int) -> Tensor:
        return decay * average + (1 - decay) * parameter

    return update


def get_swa_avg_fn() -> Callable:
    """A function for `AveragedModel`: the mean of all parameters so far."""

    @no_grad()
    def update(average: Tensor, parameter: Tensor, count: Tensor | int) -> Tensor:
        return average + (parameter - average) / (count + 1)

    return update


def get_ema_multi_avg_fn(decay: float = 0.999) -> Callable:
    """`get_ema_avg_fn` for lists of tensors, in place."""
    check_decay(decay)
    return in_place(lambda count: 1 - decay, get_ema_avg_fn(decay))


def get_swa_multi_avg_fn() -> Callable:
    """`get_swa_avg_fn` for lists of tensors, in place."""
    return in_place(lambda count: 1 / (float(count) + 1), get_swa_avg_fn())


def check_decay(decay: float) -> None:
    """Raises ValueError unless decay is in [0, 1]."""
    check(
        0 <= decay <= 1,
        f"Invalid decay value {decay} provided. Please provide a value in [0,1] range.",
        ValueError,
    )


def in_place(weight: Callable[[Any], float], of_integers: Callable) -> Callable:
    """A function that moves each average towards its parameter by a weight that the count gives."""

    @no_grad()
    def update(averages: list[Tensor], parameters: list[Tensor], count: Tensor | int) -> None:
        for average, parameter in zip(averages, parameters, strict=True):
            if average.is_floating_point() or average.is_complex():
                average.lerp_(parameter, weight(count))
            else:
                average.copy_(of_integers(average, parameter, count))

    return update


class AveragedModel(Module):
    """A copy of a model whose parameters are averages over the calls of `update_parameters(model)`.

    The first call copies. By default the average is the mean; `avg_fn(average, parameter, count)`
    returns another one, `multi_avg_fn(averages, parameters, count)` writes lists of them. Buffers
    are copied, or averaged as well with `use_buffers`.

    >>> model = torch.nn.Linear(1, 1)
    >>> averaged = torch.optim.swa_utils.AveragedModel(model)
    >>> averaged.update_parameters(model)
    >>> averaged.n_averaged
    tensor(1)
    """

    n_averaged: Tensor

    def __init__(
        self,
        model: Module,
        device: Any = None,
        avg_fn: Callable | None = None,
        multi_avg_fn: Callable | None = None,
        use_buffers: bool = False,
    ) -> None:
        super().__init__()
        check(
            avg_fn is None or multi_avg_fn is None,
            "Only one of avg_fn and multi_avg_fn should be provided",
            AssertionError,
        )
        self.module = deepcopy(model)
        if device is not None:
            self.module = self.module.to(device)
        self.register_buffer("n_averaged", tensor(0, dtype=dtypes.int64, device=device))
        self.avg_fn, self.multi_avg_fn, self.use_buffers = avg_fn, multi_avg_fn, use_buffers

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        """The averaged model's output."""
        return self.module(*args, **kwargs)

    @no_grad()
    def update_parameters(self, model: Module) -> None:
        """Takes the model's present parameters into the averages."""
        mine, theirs = self._tensors(self.module), self._tensors(model)
        if self.n_averaged == 0:
            for average, parameter in zip(mine, theirs, strict=True):
                average.copy_(parameter)
        elif self.multi_avg_fn is not None:
            self.multi_avg_fn(mine, theirs, self.n_averaged)
        else:
            function = self.avg_fn or get_swa_avg_fn()
            for average, parameter in zip(mine, theirs, strict=True):
                average.copy_(function(average, parameter, self.n_averaged))
        if not self.use_buffers:
            for kept, buffer in zip(self.module.buffers(), model.buffers(), strict=True):
                kept.copy_(buffer)
        self.n_averaged += 1

    def _tensors(self, model: Module) -> list[Tensor]:
        buffers = model.buffers() if self.use_buffers else ()
        return [t.detach() for t in chain(model.parameters(), buffers)]


@no_grad()
def update_bn(loader: Iterable[Any], model: Module, device: Any = None) -> None:
    """Computes the running statistics of a model's batch norms anew, by one pass over the loader.

    Of batches that are lists or tuples the first element goes into the model.
    """
    norms = [module for module in model.modules() if isinstance(module, _BatchNorm)]
    if not norms:
        return
    momenta = [module.momentum for module in norms]
    was_training = model.training
    model.train()
    for module in norms:
        module.reset_running_stats()
        module.momentum = None  # statistics of all batches count alike
    for batch in loader:
        inputs = batch[0] if isinstance(batch, (list, tuple)) else batch
        model(inputs if device is None else inputs.to(device))
    for module, momentum in zip(norms, momenta, strict=True):
        module.momentum = momentum
    model.train(was_training)


class SWALR(LRScheduler):
    """lr goes from where it is to `swa_lr` in `anneal_epochs`, along a cosine or a line."""

    def __init__(
        self,
        optimizer: Optimizer,
        swa_lr: float | list[float],
        anneal_epochs: int = 10,
        anneal_strategy: str = "cos",
        last_epoch: int = -1,
    ) -> None:
        check(
            anneal_strategy in ("cos", "linear"),
            f"anneal_strategy must be one of 'cos' or 'linear', instead got {anneal_strategy}",
            ValueError,
        )
        check(
            isinstance(anneal_epochs, int) and anneal_epochs >= 0,
            f"anneal_epochs must be equal or greater than 0, got {anneal_epochs}",
            ValueError,
        )
        rates = one_for_each_group("swa_lr", optimizer, swa_lr)
        for rate, group in zip(rates, optimizer.param_groups, strict=True):
            group["swa_lr"] = rate
        self._anneal_strategy, self.anneal_epochs = anneal_strategy, anneal_epochs
        super().__init__(optimizer, last_epoch)

    def _share(self, step: int) -> float:
        """How far the rate has come after a step, from 0 to 1."""
        done = max(0, min(1, step / max(1, self.anneal_epochs)))
        return done if self._anneal_strategy == "linear" else (1 - math.cos(math.pi * done)) / 2

    def _rates(self) -> list[Any]:
        step = self._step_count - 1
        if self.anneal_epochs == 0:
            step = max(1, step)
        before, share = self._share(step - 1), self._share(step)
        rates = []
        for group in self.optimizer.param_groups:
            lr, end = group["lr"], group["swa_lr"]
            start = end if before == 1 else (lr - before * end) / (1 - before)
            rates.append(end * share + start * (1 - share))
        return rates
