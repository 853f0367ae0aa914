"""Windows of `torch.signal` against NumPy's and against formulas of their own."""

import numpy as np
import pytest

import lampion as torch

windows = torch.signal.windows
N = 9
REFERENCES = {
    "bartlett": (np.bartlett, {}),
    "blackman": (np.blackman, {}),
    "hamming": (np.hamming, {}),
    "hann": (np.hanning, {}),
    "kaiser": (lambda m: np.kaiser(m, 7.0), {"beta": 7.0}),
    "cosine": (lambda m: np.sin(np.pi * (np.arange(m) + 0.5) / m), {}),
    "gaussian": (
        lambda m: np.exp(-(((np.arange(m) - (m - 1) / 2) / 1.7) ** 2) / 2),
        {"std": 1.7},
    ),
    "exponential": (
        lambda m: np.exp(-abs(np.arange(m) - (m - 1) / 2) / 2.5),
        {"tau": 2.5},
    ),
    "general_hamming": (
        lambda m: 0.6 - 0.4 * np.cos(2 * np.pi * np.arange(m) / (m - 1)),
        {"alpha": 0.6},
    ),
    "nuttall": (
        lambda m: sum(
            w * np.cos(i * 2 * np.pi * np.arange(m) / (m - 1))
            for i, w in enumerate([0.3635819, -0.4891775, 0.1365995, -0.0106411])
        ),
        {},
    ),
}


@pytest.mark.parametrize("name", REFERENCES)
def test_windows(name):
    reference, options = REFERENCES[name]
    make = getattr(windows, name)
    symmetric = make(N, dtype=torch.float64, **options)
    np.testing.assert_allclose(symmetric.numpy(), reference(N), atol=1e-9)
    assert make(N, **options).dtype is torch.float32
    assert make(0, **options).shape == (0,) and make(1, **options).tolist() == [1.0]
    if name != "cosine":
        periodic = make(N - 1, sym=False, dtype=torch.float64, **options)
        np.testing.assert_allclose(periodic.numpy(), reference(N)[:-1], atol=1e-9)


def test_general_cosine_is_the_sum():
    hann = windows.general_cosine(N, a=[0.5, 0.5], requires_grad=True)
    assert hann.requires_grad and torch.allclose(hann.detach(), windows.hann(N))


@pytest.mark.parametrize(
    ("call", "error", "message"),
    [
        ("hann(-1)", ValueError, "non-negative"),
        ("hann(3, dtype=torch.int64)", ValueError, "float32 or float64"),
        ("exponential(3, center=1.0)", ValueError, "symmetric"),
        ("exponential(3, tau=-1.0)", ValueError, "positive"),
        ("gaussian(3, std=0.0)", ValueError, "positive"),
        ("kaiser(3, beta=-1.0)", ValueError, "non-negative"),
        ("general_cosine(3, a=[])", ValueError, "empty"),
        ("general_cosine(3, a=1)", TypeError, "list"),
    ],
)
def test_errors(call, error, message):
    with pytest.raises(error, match=message):
        eval(f"windows.{call}", {"windows": windows, "torch": torch})
