"""Linear algebra where samples do not reach: structured inputs, gauge-invariant losses, `out=`,
removed functions."""

import numpy as np
import pytest

import lampion as torch
from lampion.autograd import gradcheck, gradgradcheck
from lampion.func import vmap

linalg = torch.linalg


def random(*shape, kind=torch.float64, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.standard_normal(shape)
    return torch.tensor(x + 1j * rng.standard_normal(shape) if kind.is_complex else x).to(kind)


def positive(a):
    return a @ a.mH + torch.eye(a.shape[-1], dtype=a.dtype)


LOSSES = {  # functions of any matrix that ask for a decomposition of a structured one
    "cholesky": lambda a: linalg.cholesky(positive(a)),
    "cholesky, upper": lambda a: linalg.cholesky(positive(a), upper=True),
    "cholesky_solve": lambda a: torch.cholesky_solve(a, linalg.cholesky(positive(a))),
    "cholesky_inverse": lambda a: torch.cholesky_inverse(linalg.cholesky(positive(a))),
    "eigh": lambda a: (lambda e: (e.eigenvalues, e.eigenvectors.abs()))(linalg.eigh(positive(a))),
    "eigh, whole": lambda a: (
        lambda e: e.eigenvectors @ e.eigenvalues.log().diag_embed().to(a.dtype) @ e.eigenvectors.mH
    )(linalg.eigh(positive(a), "U")),
    "eigvalsh": lambda a: linalg.eigvalsh(positive(a)),
    "eig": lambda a: (lambda e: (e.eigenvalues, e.eigenvectors.abs()))(linalg.eig(a)),
    "eigvals": lambda a: linalg.eigvals(a),
    "svd": lambda a: (lambda s: (s.U.abs(), s.S, s.Vh.abs(), s.U[..., :3] @ s.Vh))(
        linalg.svd(a, full_matrices=False)
    ),
    "qr": lambda a: (lambda q: (q.Q @ q.R, q.Q.abs(), q.R))(linalg.qr(a)),
    "pinv, hermitian": lambda a: linalg.pinv(positive(a), hermitian=True),
    "matrix_exp": lambda a: torch.matrix_exp(a),
}


@pytest.mark.parametrize("kind", [torch.float64, torch.complex128], ids=str)
@pytest.mark.parametrize("name", LOSSES)
def test_gradients(name, kind):
    a = random(3, 3, kind=kind).requires_grad_()
    assert gradcheck(LOSSES[name], (a,))
    assert gradgradcheck(LOSSES[name], (a,), atol=1e-4)


def test_loss_of_a_phase_is_refused():
    a = random(3, 3, kind=torch.complex128).requires_grad_()
    for vectors in (
        linalg.svd(a).U,
        linalg.eigh(positive(a)).eigenvectors,
        linalg.eig(a).eigenvectors,
    ):
        with pytest.raises(RuntimeError, match="phase"):
            (vectors.real * random(3, 3)).sum().backward()


def test_derivatives_that_do_not_exist():
    a = random(3, 2).requires_grad_()
    with pytest.raises(RuntimeError, match="mode='complete' and nrows > ncols"):
        linalg.qr(a, "complete").Q.sum().backward()
    with pytest.raises(RuntimeError, match="not computed when mode='r'"):
        linalg.qr(a, "r").R.sum().backward()


def test_gradient_of_a_singular_determinant_is_the_adjugate():
    a = torch.tensor([[1.0, 2.0], [2.0, 4.0]], dtype=torch.float64, requires_grad=True)
    torch.det(a).backward()
    np.testing.assert_allclose(a.grad.numpy(), [[4, -2], [-2, 1]], atol=1e-12)


@pytest.mark.parametrize("hermitian", [False, True])
@pytest.mark.parametrize("size", [1, 2, 5, 40])
def test_ldl_solves_indefinite_systems(size, hermitian):
    a = random(2, size, size, kind=torch.complex128)
    a = a + (a.mH if hermitian else a.mT)
    a = a - 0.95 * a.diagonal(0, -2, -1).diag_embed()  # small diagonals ask for blocks of 2x2
    b = random(2, size, 3, kind=torch.complex128, seed=1)
    factors = linalg.ldl_factor(a, hermitian=hermitian)
    assert size < 5 or (factors.pivots < 0).any()
    x = linalg.ldl_solve(*factors, b, hermitian=hermitian)
    np.testing.assert_allclose((a @ x).numpy(), b.numpy(), atol=1e-9)


@pytest.mark.parametrize("shape", [(40, 40), (2, 50, 33), (33, 50), (0, 3, 3), (2, 0, 0), (0, 4)])
def test_lu_multiplies_to_the_matrix(shape):
    a = random(*shape, kind=torch.complex128)
    P, L, U = linalg.lu(a)
    np.testing.assert_allclose((P @ L @ U).numpy(), a.numpy(), atol=1e-12)
    assert (L.abs() <= 2**0.5 + 1e-9).all()  # partial pivoting, by |re| + |im|


def test_matrix_exp_scales_each_matrix_of_a_batch():
    a = random(3, 4, 4) * torch.tensor([1e-3, 1.0, 20.0], dtype=torch.float64)[:, None, None]
    a = (a - a.mT) / 2  # a rotation's logarithm
    y = torch.matrix_exp(a)
    np.testing.assert_allclose(
        (y @ y.mT).numpy(), np.broadcast_to(np.eye(4), (3, 4, 4)), atol=1e-12
    )
    values, vectors = np.linalg.eig(a.numpy())
    expected = (vectors * np.exp(values)[:, None]) @ np.linalg.inv(vectors)
    np.testing.assert_allclose(y.numpy(), expected.real, atol=1e-11)


def test_low_rank_matrices_are_found():
    a = random(3, 30, 4) @ random(3, 4, 20, seed=1)
    for found, wanted in (
        (torch.svd_lowrank(a, 6), a),
        (torch.pca_lowrank(a.mT, 6), a.mT - a.mT.mean(-2, keepdim=True)),
    ):
        U, S, V = found
        np.testing.assert_allclose((U * S.unsqueeze(-2) @ V.mT).numpy(), wanted.numpy(), atol=1e-10)
    with pytest.raises(ValueError, match="must be non-negative integer"):
        torch.pca_lowrank(a, q=21)


def test_tolerances_decide_about_the_rank():
    a = torch.diag(torch.tensor([10.0, 1.0, 1e-3]))
    assert linalg.matrix_rank(a) == 3
    assert (
        linalg.matrix_rank(a, atol=0.1)
        == linalg.matrix_rank(a, rtol=0.01)
        == linalg.matrix_rank(a, 0.1)
        == 2
    )
    assert linalg.matrix_rank(a.expand(2, 3, 3), atol=torch.tensor([0.1, 2.0])).tolist() == [2, 1]
    np.testing.assert_allclose(linalg.pinv(a, rtol=0.5).numpy(), np.diag([0.1, 0, 0]), atol=1e-7)


def test_norms_of_nothing():
    empty = torch.zeros(0, 5)
    assert (
        linalg.matrix_norm(empty, float("inf"))
        == linalg.matrix_norm(empty, 2)
        == linalg.norm(empty)
        == 0
    )
    assert linalg.norm(torch.tensor(-3.0)) == 3


def test_out_and_named_results():
    a = random(3, 3)
    out = (torch.empty(0, dtype=torch.float64), torch.empty(0, dtype=torch.float64))
    found = linalg.qr(a, out=out)
    assert found.Q is out[0] and torch.equal(out[1], linalg.qr(a).R)
    assert type(found) is torch.return_types.linalg_qr
    inverse = torch.empty(3, 3, dtype=torch.float64)
    assert torch.inverse(a, out=inverse) is inverse and torch.allclose(
        inverse @ a, torch.eye(3, dtype=torch.float64)
    )


def test_residuals_are_those_of_full_rank():
    a, b = random(5, 2), random(5, seed=1)
    x, residuals, rank, values = linalg.lstsq(a, b, driver="gelss")
    np.testing.assert_allclose(residuals.item(), ((a @ x - b) ** 2).sum().item())
    assert rank == 2 and values.shape == (2,)
    assert linalg.lstsq(torch.zeros(5, 2), b.float(), driver="gelsd").residuals.numel() == 0


def test_vmap_over_one_operand():
    a, b = random(4, 3, 3), random(3, 2, seed=1)
    np.testing.assert_allclose(
        vmap(linalg.solve, (0, None))(a, b).numpy(), linalg.solve(a, b).numpy()
    )
    np.testing.assert_allclose(vmap(linalg.pinv)(a).numpy(), linalg.pinv(a).numpy())
    np.testing.assert_allclose(
        vmap(torch.logdet)(positive(a)).numpy(), torch.logdet(positive(a)).numpy()
    )
    with pytest.raises(linalg.LinAlgError, match="Batch element 0"):
        vmap(linalg.inv)(torch.zeros(2, 3, 3))


@pytest.mark.parametrize("name", ["eig", "symeig", "solve", "lstsq", "matrix_rank"])
def test_removed_functions_name_their_successor(name):
    with pytest.raises(RuntimeError, match="now removed; use torch.linalg"):
        getattr(torch, name)(torch.eye(2), torch.eye(2))


def test_signals_come_back():
    x, window = random(2, 50), torch.hann_window(16, dtype=torch.float64)
    y = torch.stft(x, 16, window=window, return_complex=True)
    assert y.shape == (2, 9, 13)
    np.testing.assert_allclose(
        torch.istft(y, 16, window=window, length=50).numpy(), x.numpy(), atol=1e-12
    )
    z = random(2, 50, kind=torch.complex128)
    y = torch.stft(z, 16, window=window, normalized=True)
    back = torch.istft(
        y, 16, window=window.to(torch.complex128), normalized=True, return_complex=True
    )
    np.testing.assert_allclose(back.numpy(), z[:, : back.shape[1]].numpy(), atol=1e-12)
    with pytest.warns(UserWarning, match="rectangular window"):
        torch.stft(x, 16, return_complex=True)
