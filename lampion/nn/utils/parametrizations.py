"""Ready parametrizations: `orthogonal`, `weight_norm`, `spectral_norm`. May import core."""

from __future__ import annotations

from typing import Any

from ...core.modes import no_grad
from ...core.tensor import Tensor
from ...dtypes import finfo
from ...errors import check
from .. import functional as F
from ..module import Module
from ..names import torch
from .parametrize import register_parametrization
from .spectral_norm import as_matrix, output_dim
from .weight_norm import norm_except_dim, scaled_to

MAPS = ("matrix_exp", "cayley", "householder")


# -- orthogonal --------------------------------------------------------------------------------


class _Orthogonal(Module):
    """A matrix with orthonormal columns (rows, if there are fewer of them), from any matrix of its
    shape.

    "matrix_exp" and "cayley" map a skew-symmetric matrix to a rotation, "householder" multiplies
    reflections. With a trivialization the result is multiplied by `base`, so that the original can
    start at minus the identity.
    """

    base: Tensor

    def __init__(
        self, weight: Tensor, orthogonal_map: str, *, use_trivialization: bool = True
    ) -> None:
        super().__init__()
        check(
            not (weight.is_complex() and orthogonal_map == "householder"),
            "The householder parametrization does not support complex tensors.",
            ValueError,
        )
        self.shape, self.orthogonal_map = weight.shape, orthogonal_map
        if use_trivialization:
            self.register_buffer("base", None)

    def forward(self, x: Tensor) -> Tensor:
        wide = x.size(-2) < x.size(-1)
        x = x.mT if wide else x  # (*, n, k), n >= k
        n, k = x.size(-2), x.size(-1)
        if self.orthogonal_map == "householder":
            below = x.tril(-1)
            tau = 2.0 / (1.0 + (below * below).sum(-2))
            q = torch.linalg.householder_product(below, tau)
            q = q * x.diagonal(dim1=-2, dim2=-1).int().unsqueeze(-2)
        else:
            q = self._rotation(x.tril(), n, k)[..., :k]
        q = self.base @ q if hasattr(self, "base") else q
        return q.mT if wide else q

    def _rotation(self, lower: Tensor, n: int, k: int) -> Tensor:
        """The rotation (*, n, n) of a skew-symmetric matrix made of a lower triangle (*, n, k)."""
        if n != k:
            zeros = torch.zeros((*lower.shape[:-1], n - k), dtype=lower.dtype)
            lower = torch.cat([lower, zeros], dim=-1)
        skew = lower - lower.mH
        if self.orthogonal_map == "matrix_exp":
            return torch.matrix_exp(skew)
        unit = torch.eye(n, dtype=skew.dtype)
        return torch.linalg.solve(unit - 0.5 * skew, unit + 0.5 * skew)

    @no_grad()
    def right_inverse(self, value: Tensor) -> Tensor:
        """What gives `value`, or the orthogonal matrix of its QR decomposition where it is not
        orthogonal.
        """
        check(
            value.shape == self.shape,
            lambda: (
                f"Expected a matrix or batch of matrices of shape {self.shape}. Got a tensor of "
                f"shape {value.shape}."
            ),
            ValueError,
        )
        wide = value.size(-2) < value.size(-1)
        q = value.mT if wide else value
        if hasattr(self, "base"):
            self.base = self._completed(q)
            start = torch.zeros_like(value)
            start.diagonal(dim1=-2, dim2=-1).fill_(-1.0)
            return start
        if self.orthogonal_map != "householder":
            raise NotImplementedError(
                "It is not possible to assign to the matrix exponential or the Cayley "
                "parametrizations when use_trivialization=False."
            )
        reflections, tau = torch.geqrf(q)
        diagonal = reflections.diagonal(dim1=-2, dim2=-1)
        diagonal.copy_(torch.where(tau == 0.0, -diagonal.sign(), diagonal.sign()))
        return reflections.mT if wide else reflections

    def _completed(self, q: Tensor) -> Tensor:
        """A square orthogonal matrix that starts with q (made orthogonal); it maps minus the
        identity to q.
        """
        n, k = q.size(-2), q.size(-1)
        if n != k:
            return make_orthogonal(
                torch.cat([q, torch.randn((*q.shape[:-2], n, n - k), dtype=q.dtype)], -1)
            )
        return q.clone() if is_orthogonal(q) else make_orthogonal(q)


def is_orthogonal(q: Tensor) -> bool:
    """Whether the columns are orthonormal up to rounding."""
    n, k = q.size(-2), q.size(-1)
    unit = torch.eye(k, dtype=q.dtype)
    return torch.allclose(
        q.mH @ q, unit.expand((*q.shape[:-2], k, k)), atol=10.0 * n * finfo(q.dtype).eps
    )


def make_orthogonal(a: Tensor) -> Tensor:
    """The q of `a = q r` with r's diagonal not negative."""
    q, r = torch.linalg.qr(a)
    return q * r.diagonal(dim1=-2, dim2=-1).sgn().unsqueeze(-2)


def orthogonal(
    module: Module,
    name: str = "weight",
    orthogonal_map: str | None = None,
    *,
    use_trivialization: bool = True,
) -> Module:
    """Makes a parameter an orthogonal (or unitary) matrix, or a batch of them."""
    weight = named_tensor(module, name)
    check(
        weight.ndim >= 2,
        lambda: (
            f"Expected a matrix or batch of matrices. Got a tensor of {weight.ndim} dimensions."
        ),
        ValueError,
    )
    if orthogonal_map is None:
        square = weight.size(-2) == weight.size(-1)
        orthogonal_map = "matrix_exp" if square or weight.is_complex() else "householder"
    check(
        orthogonal_map in MAPS,
        lambda: (
            'orthogonal_map has to be one of "matrix_exp", "cayley", "householder". Got: '
            f"{orthogonal_map}"
        ),
        ValueError,
    )
    made = _Orthogonal(weight, orthogonal_map, use_trivialization=use_trivialization)
    return register_parametrization(module, name, made, unsafe=True)


def named_tensor(module: Module, name: str) -> Tensor:
    """The parameter or buffer of a name; ValueError if there is none."""
    found: Any = getattr(module, name, None)
    check(
        isinstance(found, Tensor),
        lambda: f"Module '{module}' has no parameter or buffer with name '{name}'",
        ValueError,
    )
    return found


# -- weight norm -------------------------------------------------------------------------------


class _WeightNorm(Module):
    """`g * v / |v|`, the norm over all dimensions but `dim`."""

    def __init__(self, dim: int | None = 0) -> None:
        super().__init__()
        self.dim = -1 if dim is None else dim

    def forward(self, weight_g: Tensor, weight_v: Tensor) -> Tensor:
        return scaled_to(weight_v, weight_g, self.dim)

    def right_inverse(self, weight: Tensor) -> tuple[Tensor, Tensor]:
        """(norm, direction) of a weight."""
        return norm_except_dim(weight, self.dim), weight


def weight_norm(module: Module, name: str = "weight", dim: int | None = 0) -> Module:
    """Computes a parameter from its norm (`original0`) and its direction (`original1`).

    >>> layer = weight_norm(torch.nn.Linear(20, 40))
    >>> layer.parametrizations.weight.original0.shape
    torch.Size([40, 1])
    """
    register_parametrization(module, name, _WeightNorm(dim), unsafe=True)

    def read_old_names(state_dict: dict, prefix: str, *rest: Any) -> None:
        old = f"{prefix}{name}_g", f"{prefix}{name}_v"
        if all(key in state_dict for key in old):
            for i, key in enumerate(old):
                state_dict[f"{prefix}parametrizations.{name}.original{i}"] = state_dict.pop(key)

    module._register_load_state_dict_pre_hook(read_old_names)
    return module


# -- spectral norm -----------------------------------------------------------------------------


class _SpectralNorm(Module):
    """The weight divided by its largest singular value, which power iterations estimate while
    training.
    """

    def __init__(
        self, weight: Tensor, n_power_iterations: int = 1, dim: int = 0, eps: float = 1e-12
    ) -> None:
        super().__init__()
        ndim = weight.ndim
        if not -ndim <= dim < ndim:
            raise IndexError(
                f"Dimension out of range (expected to be in range of [-{ndim}, {ndim - 1}] but "
                f"got {dim})"
            )
        check(
            n_power_iterations > 0,
            "Expected n_power_iterations to be positive, but got "
            f"n_power_iterations={n_power_iterations}",
            ValueError,
        )
        self.dim, self.eps = dim % ndim, eps
        if ndim > 1:
            self.n_power_iterations = n_power_iterations
            matrix = as_matrix(weight.detach(), self.dim)
            for name, size in zip(("_u", "_v"), matrix.shape, strict=True):
                vector = matrix.new_empty(size).normal_(0, 1)
                self.register_buffer(name, F.normalize(vector, dim=0, eps=eps))
            self._power_method(matrix, 15)

    @no_grad()
    def _power_method(self, matrix: Tensor, count: int) -> None:
        for _ in range(count):
            self._u.copy_(F.normalize(torch.mv(matrix, self._v), dim=0, eps=self.eps))
            self._v.copy_(F.normalize(torch.mv(matrix.mH, self._u), dim=0, eps=self.eps))

    def forward(self, weight: Tensor) -> Tensor:
        if weight.ndim == 1:
            return F.normalize(weight, dim=0, eps=self.eps)
        matrix = as_matrix(weight, self.dim)
        if self.training:
            self._power_method(matrix, self.n_power_iterations)
        u, v = self._u.clone(), self._v.clone()
        return weight / torch.vdot(u, torch.mv(matrix, v))

    def right_inverse(self, value: Tensor) -> Tensor:
        """The value itself, although its norm may not be 1."""
        return value


def spectral_norm(
    module: Module,
    name: str = "weight",
    n_power_iterations: int = 1,
    eps: float = 1e-12,
    dim: int | None = None,
) -> Module:
    """Divides a parameter by its largest singular value whenever it is read."""
    weight = named_tensor(module, name)
    made = _SpectralNorm(weight, n_power_iterations, output_dim(module, dim), eps)
    return register_parametrization(module, name, made)
