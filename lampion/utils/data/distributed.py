"""The sampler of data-parallel training: each process visits its own part. May import sampler."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sized

from ... import random
from ...errors import check
from .sampler import Sampler

# (number of processes, this one's rank) of the running process group; set by lampion.distributed.
process_group: Callable[[], tuple[int, int]] | None = None


class DistributedSampler(Sampler[int]):
    """Every `num_replicas`-th index from `rank` on, of an order that is the same in all processes.

    The order is repeated from its beginning until all processes have as many samples, or cut short
    with `drop_last`. Call `set_epoch` before each epoch, or every epoch has the same order.
    """

    def __init__(
        self,
        dataset: Sized,
        num_replicas: int | None = None,
        rank: int | None = None,
        shuffle: bool = True,
        seed: int = 0,
        drop_last: bool = False,
    ) -> None:
        if num_replicas is None or rank is None:
            check(
                process_group is not None,
                "[DistributedSampler] expects an initialized process group, got none; call "
                "torch.distributed.init_process_group, or give num_replicas and rank",
            )
            world, own = process_group()  # type: ignore[misc]
            num_replicas = world if num_replicas is None else num_replicas
            rank = own if rank is None else rank
        check(
            0 <= rank < num_replicas,
            f"Invalid rank {rank}, rank should be in the interval [0, {num_replicas - 1}]",
            ValueError,
        )
        self.dataset, self.num_replicas, self.rank = dataset, num_replicas, rank
        self.shuffle, self.seed, self.drop_last, self.epoch = shuffle, seed, drop_last, 0
        size = len(dataset)
        self.num_samples = size // num_replicas if drop_last else math.ceil(size / num_replicas)
        self.total_size = self.num_samples * num_replicas

    def __iter__(self) -> Iterator[int]:
        size = len(self.dataset)
        order = list(range(size))
        if self.shuffle:
            generator = random.Generator().manual_seed(self.seed + self.epoch)
            order = random.randperm(size, generator=generator).tolist()
        if self.total_size > size:
            order *= math.ceil(self.total_size / size)
        return iter(order[self.rank : self.total_size : self.num_replicas])

    def __len__(self) -> int:
        return self.num_samples

    def set_epoch(self, epoch: int) -> None:
        """Sets the epoch, which is added to the seed."""
        self.epoch = epoch
