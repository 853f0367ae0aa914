"""Lookup tables: `Embedding` and `EmbeddingBag`. May import core and ops."""

from __future__ import annotations

from typing import Any, Self

from ..core.modes import no_grad
from ..core.tensor import Tensor
from ..errors import check
from . import functional as F, init
from .layer import unlike
from .module import Module
from .names import torch
from .parameter import Parameter


class _Table(Module):
    """A matrix with a row for each of `num_embeddings` words; drawn from a normal distribution."""

    weight: Tensor

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None,
        weight: Tensor | None,
        trained: bool,
        made: dict[str, Any],
    ) -> None:
        super().__init__()
        self.num_embeddings, self.embedding_dim = num_embeddings, embedding_dim
        if padding_idx is not None:
            check(
                -num_embeddings <= padding_idx < max(num_embeddings, 1),
                "padding_idx must be within num_embeddings",
                AssertionError,
            )
            padding_idx += num_embeddings if padding_idx < 0 else 0
        self.padding_idx = padding_idx
        if weight is None:
            empty = torch.empty((num_embeddings, embedding_dim), **made)
            self.weight = Parameter(empty, requires_grad=trained)
            self.reset_parameters()
        else:
            check(
                tuple(weight.shape) == (num_embeddings, embedding_dim),
                "Shape of weight does not match num_embeddings and embedding_dim",
                AssertionError,
            )
            self.weight = Parameter(weight, requires_grad=trained)

    def reset_parameters(self) -> None:
        """Draws the table anew; the padding's row is zero."""
        init.normal_(self.weight)
        self._fill_padding_idx_with_zero()

    def _fill_padding_idx_with_zero(self) -> None:
        if self.padding_idx is not None:
            with no_grad():
                self.weight[self.padding_idx].fill_(0)

    @classmethod
    def _with_rows(cls, embeddings: Tensor, freeze: bool, **settings: Any) -> Self:
        """A table with these rows, which are not trained if `freeze`."""
        check(
            embeddings.dim() == 2,
            "Embeddings parameter is expected to be 2-dimensional",
            AssertionError,
        )
        made = cls(*embeddings.shape, _weight=embeddings, **settings)  # type: ignore[call-arg]
        made.weight.requires_grad = not freeze
        return made


class Embedding(_Table):
    """Looks up rows of a table: `y = weight[x]` for indices x of any shape.

    Shapes: x (*) of integers, y (*, embedding_dim), weight (num_embeddings, embedding_dim). The row
    `padding_idx` starts at zero and gets no gradient. Rows longer than `max_norm` are shortened, in
    place, when they are used.

    >>> table = torch.nn.Embedding(10, 3, padding_idx=0)
    >>> table(torch.tensor([[0, 2, 0, 5]])).shape
    torch.Size([1, 4, 3])
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
        _weight: Tensor | None = None,
        _freeze: bool = False,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        made = {"device": device, "dtype": dtype}
        super().__init__(num_embeddings, embedding_dim, padding_idx, _weight, not _freeze, made)
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse

    def forward(self, input: Tensor) -> Tensor:
        return F.embedding(
            input,
            self.weight,
            self.padding_idx,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.sparse,
        )

    def extra_repr(self) -> str:
        defaults = {
            "padding_idx": None, "max_norm": None, "norm_type": 2, "scale_grad_by_freq": False,
            "sparse": False,
        }  # fmt: skip
        return f"{self.num_embeddings}, {self.embedding_dim}" + unlike(self, defaults)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        padding_idx: int | None = None,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        sparse: bool = False,
    ) -> Self:
        """A table with these rows, which are not trained if `freeze`."""
        return cls._with_rows(
            embeddings,
            freeze,
            padding_idx=padding_idx,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            sparse=sparse,
        )


class EmbeddingBag(_Table):
    """The sum, mean or largest of the rows of each bag of indices, without the rows in between.

    Input (B, N) is B bags of N indices; input (N,) with `offsets` (B,) is bags that start at the
    offsets.
    """

    def __init__(
        self,
        num_embeddings: int,
        embedding_dim: int,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        _weight: Tensor | None = None,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
        device: Any = None,
        dtype: Any = None,
    ) -> None:
        made = {"device": device, "dtype": dtype}
        super().__init__(num_embeddings, embedding_dim, padding_idx, _weight, True, made)
        self.max_norm, self.norm_type = max_norm, norm_type
        self.scale_grad_by_freq, self.sparse = scale_grad_by_freq, sparse
        self.mode, self.include_last_offset = mode, include_last_offset

    def forward(
        self,
        input: Tensor,
        offsets: Tensor | None = None,
        per_sample_weights: Tensor | None = None,
    ) -> Tensor:
        return F.embedding_bag(
            input,
            self.weight,
            offsets,
            self.max_norm,
            self.norm_type,
            self.scale_grad_by_freq,
            self.mode,
            self.sparse,
            per_sample_weights,
            self.include_last_offset,
            self.padding_idx,
        )

    def extra_repr(self) -> str:
        defaults = {
            "max_norm": None, "norm_type": 2, "scale_grad_by_freq": False, "mode": "",
            "padding_idx": None,
        }  # fmt: skip
        return f"{self.num_embeddings}, {self.embedding_dim}" + unlike(self, defaults)

    @classmethod
    def from_pretrained(
        cls,
        embeddings: Tensor,
        freeze: bool = True,
        max_norm: float | None = None,
        norm_type: float = 2.0,
        scale_grad_by_freq: bool = False,
        mode: str = "mean",
        sparse: bool = False,
        include_last_offset: bool = False,
        padding_idx: int | None = None,
    ) -> Self:
        """A table with these rows, which are not trained if `freeze`."""
        return cls._with_rows(
            embeddings,
            freeze,
            max_norm=max_norm,
            norm_type=norm_type,
            scale_grad_by_freq=scale_grad_by_freq,
            mode=mode,
            sparse=sparse,
            include_last_offset=include_last_offset,
            padding_idx=padding_idx,
        )
