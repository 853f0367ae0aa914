"""Samples of Fourier transforms and of spectra of signals."""

import numpy as np

import lampion as torch
from tests.samples.common import COMPLEX, FLOATS, A, Sample

BOTH = FLOATS + COMPLEX
WINDOW = A(6, low=0.5, high=1.5)
NO_POINTS = ([A(3), 0], RuntimeError, r"Invalid number of data points \(0\) specified")
FIXED = {"dtypes": ("float32",), "gradient": False, "batch": False}  # no tensor goes in
BAD_NORM = ([A(3)], {"norm": "x"}, RuntimeError, "Invalid normalization mode")
COMPLEX_INPUT = ([A(3, dtype="complex64")], RuntimeError, "expects a real input")


def family(name, dtypes, errors):
    """A transform over one, two and all dimensions, resized and scaled. NumPy has no hfftn and
    ihfftn."""
    one = getattr(np.fft, name)
    many = [
        Sample(f"fft.{name}{suffix}", inputs, getattr(np.fft, name + suffix), dtypes=dtypes)
        for suffix, inputs in (
            ("2", [A(2, 3, 4)]),
            ("n", [A(2, 3, 4), None, (0, 2)]),
            ("n", [A(3, 4), (4, 3), (0, 1)]),
        )
        if "hf" not in name
    ]
    return [
        Sample(f"fft.{name}", [A(2, 5)], one, dtypes=dtypes, errors=errors),
        Sample(f"fft.{name}", [A(2, 5), 4, 1, "ortho"], one, dtypes=dtypes),
        Sample(f"fft.{name}", [A(4, 2), 5, 0, "forward"], one, dtypes=dtypes),
        *many,
    ]


def hfft2(x):
    return np.fft.irfftn(x.conj(), norm="forward")


def spectra(x, n, hop, length, window, center, normalized, onesided):
    """Frame by frame."""
    window = np.pad(window, (n - length) // 2)
    rows = []
    for row in x:
        if center:
            row = np.pad(row, n // 2, mode="reflect")
        frames = [np.fft.fft(row[i : i + n] * window) for i in range(0, len(row) - n + 1, hop)]
        rows.append(np.stack(frames, 1))
    y = np.stack(rows) / (np.sqrt(n) if normalized else 1)
    return y[:, : n // 2 + 1] if onesided else y


def stft(
    x, n, hop, length, window, return_complex=True, center=True, normalized=False, onesided=True
):
    y = spectra(x, n, hop, length, window, center, normalized, onesided)
    return y if return_complex else np.stack([y.real, y.imag], -1)


def istft(y, n, hop, length, window):
    """The least-squares signal, by the normal equations of overlapping frames."""
    window = np.pad(window, (n - length) // 2)
    frames = np.fft.irfft(y, n, axis=1)
    total = hop * (y.shape[-1] - 1) + n
    x, weight = np.zeros((len(y), total)), np.zeros(total)
    for t in range(y.shape[-1]):
        x[:, t * hop : t * hop + n] += frames[:, :, t] * window
        weight[t * hop : t * hop + n] += window**2
    return (x / weight)[:, n // 2 : total - n // 2]


SAMPLES = [
    *[
        Sample(
            f"{name}_window",
            [9, False],
            lambda n, p, f=f: f(n),
            **FIXED,
            errors=[
                ([-1], RuntimeError, "non-negative window_length, got window_length=-1"),
                ([4], {"dtype": torch.int64}, RuntimeError, "expects floating point dtypes"),
            ],
        )
        for name, f in (
            ("bartlett", np.bartlett),
            ("blackman", np.blackman),
            ("hamming", np.hamming),
            ("hann", np.hanning),
        )
    ],
    Sample("kaiser_window", [8, True, 5.0], lambda n, p, b: np.kaiser(n + 1, b)[:n], **FIXED),
    Sample("hann_window", [1], np.ones, **FIXED),
    *family(
        "fft",
        BOTH,
        [
            NO_POINTS,
            BAD_NORM,
            ([A(3, dtype="float16")], RuntimeError, "does not support torch.float16"),
        ],
    ),
    *family("ifft", BOTH, [NO_POINTS]),
    *family("rfft", FLOATS, [NO_POINTS, COMPLEX_INPUT]),
    *family("irfft", BOTH, [NO_POINTS]),
    *family("hfft", BOTH, [NO_POINTS]),
    *family("ihfft", FLOATS, [NO_POINTS, COMPLEX_INPUT]),
    Sample(
        "fft.fftn",
        [A(2, 3)],
        np.fft.fftn,
        dtypes=BOTH,
        errors=[
            ([A(2, 3), (2,), (0, 1)], RuntimeError, "must have the same length"),
            ([A(2), (2, 2)], RuntimeError, "only has 1"),
        ],
    ),
    Sample("fft.hfft2", [A(2, 3)], hfft2, dtypes=BOTH),
    Sample("fft.hfftn", [A(2, 3)], hfft2, dtypes=BOTH),
    Sample("fft.ihfft2", [A(2, 3)], lambda x: np.fft.rfftn(x).conj() / x.size),
    Sample("fft.ihfftn", [A(2, 3)], lambda x: np.fft.rfftn(x).conj() / x.size),
    Sample("fft.fftshift", [A(3, 4)], np.fft.fftshift, dtypes=BOTH),
    Sample("fft.ifftshift", [A(3, 5), 1], np.fft.ifftshift, dtypes=BOTH),
    Sample(
        "stft",
        [A(2, 20), 8, 3, 6, WINDOW, True, "reflect", True],
        lambda x, n, hop, m, w, c, p, normalized, **k: stft(
            x, n, hop, m, w, center=c, normalized=normalized
        ),
        {"return_complex": True},
        errors=[
            ([A(20), 8], RuntimeError, "requires the return_complex"),
            (
                [A(20), 8],
                {"return_complex": True, "hop_length": 0},
                RuntimeError,
                "expected hop_length > 0",
            ),
            (
                [A(20), 8],
                {"return_complex": True, "win_length": 9},
                RuntimeError,
                "win_length <= n_fft, but got win_length=9",
            ),
            (
                [A(2, 2, 2), 2],
                {"return_complex": True, "center": False},
                RuntimeError,
                "1D or 2D tensor",
            ),
            (
                [A(20, dtype="int64"), 8],
                {"return_complex": True},
                RuntimeError,
                "floating point or complex",
            ),
            (
                [A(20), 8, 2, 8, A(9)],
                {"return_complex": True},
                RuntimeError,
                "window tensor of size equal to win_length=8",
            ),
            (
                [A(20), 8],
                {"return_complex": True, "align_to_window": True},
                RuntimeError,
                "when center = false",
            ),
            (
                [A(4), 8],
                {"return_complex": True, "center": False},
                RuntimeError,
                "expected 0 < n_fft <= 4",
            ),
        ],
    ),
    Sample(
        "stft",
        [A(1, 12), 6, 2, 6, WINDOW, False],
        lambda x, n, hop, m, w, c, **k: stft(x, n, hop, m, w, center=c, **k),
        {"onesided": False, "return_complex": False},
    ),
    Sample(
        "istft",
        [A(2, 5, 6, dtype="complex128"), 8, 2, 6, WINDOW],
        istft,
        dtypes=("float64",),
        errors=[
            ([A(5, 6), 8], RuntimeError, "complex-valued input"),
            ([A(5, 0, dtype="complex64"), 8], RuntimeError, "cannot be empty"),
            (
                [A(5, 6, dtype="complex64"), 8, 9],
                RuntimeError,
                "expected 0 < hop_length <= win_length",
            ),
            (
                [A(5, 6, dtype="complex64"), 8, 2, 8, A(8, values=[0] * 8)],
                RuntimeError,
                "window overlap add min",
            ),
            ([A(4, 6, dtype="complex64"), 8], RuntimeError, "frequency dimension"),
        ],
    ),
]
