"""Short-time Fourier transforms of signals. May import fft, pad, earlier families, core and the
base.

Composites: the signal is cut into overlapping frames, each is weighted with a window and
transformed. The inverse adds the frames up again and divides by the sum of squared windows, which
is the least-squares signal (Griffin & Lim 1984).
"""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
from numpy import ndarray

from .. import dtypes
from ..core.tensor import Tensor
from ..errors import check
from .complex import view_as_real
from .create import ones, zeros
from .fft import FFT_C2C, FFT_C2R, FFT_R2C, resize, scaling
from .pad import pad
from .rules import public


def window_argument(name: str, window: Tensor | None, length: int, n_fft: int, kind: Any) -> Tensor:
    """The window (rectangular by default), with zeros on both sides up to n_fft."""
    if window is None:
        warnings.warn(
            f"[{name}] A window was not provided. A rectangular window will be applied, which is "
            "known to cause spectral leakage; pass window=torch.hann_window(win_length), or "
            "torch.ones(win_length) to keep it",
            stacklevel=3,
        )
        window = ones(length, dtype=kind)
    check(
        window.dim() == 1 and window.shape[0] == length,
        lambda: (
            f"{name}: expected a 1D window tensor of size equal to win_length={length}, but got "
            f"window with size {list(window.shape)}"
        ),
    )
    left = (n_fft - length) // 2
    return pad(window, (left, n_fft - length - left)) if length < n_fft else window


def check_window(name: str, length: int, n_fft: int) -> None:
    """Raises RuntimeError for a window that is longer than a frame, or empty."""
    check(
        0 < length <= n_fft,
        lambda: f"{name}: expected 0 < win_length <= n_fft, but got win_length={length}",
    )


@public
def stft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    pad_mode: str = "reflect",
    normalized: bool = False,
    onesided: bool | None = None,
    return_complex: bool | None = None,
    align_to_window: bool | None = None,
) -> Tensor:
    """The spectra of overlapping frames: (B?, L) -> (B?, frequencies, frames), complex.

    Frames of `n_fft` samples lie `hop_length` (n_fft // 4) apart and are weighted with the window
    of `win_length` (n_fft) samples. With `center`, frame t has sample t * hop_length in its middle,
    and the signal is padded. Of real signals only n_fft // 2 + 1 frequencies are kept unless
    `onesided` is False. `return_complex=False` gives two reals instead.
    """
    hop = n_fft // 4 if hop_length is None else hop_length
    length = n_fft if win_length is None else win_length
    is_complex = input.is_complex() or (window is not None and window.is_complex())
    onesided = not is_complex if onesided is None else onesided
    check_signal(input)
    check(
        not (center and align_to_window is not None),
        "stft align_to_window should only be set when center = false",
    )
    check(
        return_complex is not None or is_complex,
        "stft requires the return_complex parameter be given for real inputs, and will further "
        "require that return_complex=True in a future PyTorch release.",
    )
    check(
        not (onesided and is_complex),
        "Cannot have onesided output if window or input is complex",
    )
    check(hop > 0, lambda: f"stft: expected hop_length > 0, but got hop_length={hop}")
    check_window("stft", length, n_fft)
    x = input if input.dim() == 2 else input.unsqueeze(0)  # (B, L)
    if center:
        x = pad(x.unsqueeze(0), (n_fft // 2, n_fft // 2), pad_mode).squeeze(0)
    shift = (n_fft - length) // 2 if align_to_window else 0
    x = pad(x, (shift, shift)) if shift else x
    check(
        0 < n_fft <= x.shape[-1],
        lambda: f"stft: expected 0 < n_fft <= {x.shape[-1]}, but got n_fft={n_fft}",
    )
    weights = window_argument("stft", window, length, n_fft, input.dtype)
    frames = x.unfold(-1, n_fft, hop) * weights  # (B, frames, n_fft)
    if not (is_complex or onesided):
        frames = frames.to(frames.dtype.to_complex())
    transform = FFT_R2C if onesided else FFT_C2C
    scale = scaling("ortho" if normalized else None, n_fft, True)
    y = transform(frames, dim=(2,), scale=scale, forward=True)
    y = y.transpose(1, 2)  # (B, frequencies, frames)
    y = y if input.dim() == 2 else y.squeeze(0)
    return y if return_complex or return_complex is None else view_as_real(y)


def check_signal(input: Tensor) -> None:
    """Raises RuntimeError for what is no signal (B?, L)."""
    check(
        input.dtype.category >= dtypes.FLOAT,
        lambda: f"stft: expected a tensor of floating point or complex values, got {input.dtype}",
    )
    check(1 <= input.dim() <= 2, lambda: f"stft: expected a 1D or 2D tensor, got {input.dim()}D")


def add_frames(frames: Tensor, hop: int) -> Tensor:
    """Frames (B, T, n), `hop` apart, added up where they overlap: (B, hop * (T - 1) + n)."""
    b, t, n = frames.shape
    parts = -(-n // hop)  # each frame as so many parts of `hop` samples
    cut = resize(frames, 2, parts * hop).reshape(b, t, parts, hop)
    total = zeros(b, t + parts - 1, hop, dtype=frames.dtype)
    for i in range(parts):
        total = total + pad(cut[:, :, i], (0, 0, i, parts - 1 - i))
    return total.reshape(b, -1).narrow(1, 0, hop * (t - 1) + n)


@public
def istft(
    input: Tensor,
    n_fft: int,
    hop_length: int | None = None,
    win_length: int | None = None,
    window: Tensor | None = None,
    center: bool = True,
    normalized: bool = False,
    onesided: bool | None = None,
    length: int | None = None,
    return_complex: bool = False,
) -> Tensor:
    """The signal whose `stft` is nearest to the input: complex (B?, frequencies, frames) -> (B?,
    L).

    Raises RuntimeError where the windows do not cover the signal. With `length` it is cut or padded
    to that.
    """
    check_spectrum(input, n_fft, onesided, return_complex)
    hop = n_fft // 4 if hop_length is None else hop_length
    win_length = n_fft if win_length is None else win_length
    check_window("istft", win_length, n_fft)
    check(
        0 < hop <= win_length,
        lambda: f"istft: expected 0 < hop_length <= win_length, but got hop_length={hop}",
    )
    check(
        return_complex or window is None or not window.is_complex(),
        "Complex windows are incompatible with return_complex=False",
    )
    kind = input.dtype if return_complex else input.dtype.to_real()
    weights = window_argument("istft", window, win_length, n_fft, kind)
    x = input if input.dim() == 3 else input.unsqueeze(0)
    x = x.transpose(1, 2)  # (B, frames, frequencies)
    frames = frames_of(x, n_fft, "ortho" if normalized else None, return_complex)
    square = (weights * weights).expand(1, x.shape[1], n_fft)
    y = signal_part(add_frames(frames * weights, hop), n_fft, center, length)  # (B, samples)
    envelope = signal_part(add_frames(square, hop), n_fft, center, length)
    check_cover(envelope)
    y = y / envelope
    if length is not None and y.shape[1] < length:
        warnings.warn(
            "[istft] The signal is shorter than `length`; it is padded with zeros", stacklevel=2
        )
        y = resize(y, 1, length)
    return y if input.dim() == 3 else y.squeeze(0)


def check_spectrum(input: Tensor, n_fft: int, onesided: bool | None, return_complex: bool) -> None:
    """Raises RuntimeError for what is no (B?, frequencies, frames) of `istft`."""
    check(
        input.is_complex(),
        "istft requires a complex-valued input tensor matching the output from stft with "
        "return_complex=True.",
    )
    check(
        input.dim() in (2, 3),
        lambda: f"istft: expected a tensor with 2 or 3 dimensions, but got {input.dim()}",
    )
    check(input.numel() > 0, "istft: input tensor cannot be empty.")
    frequencies = input.shape[-2]
    onesided = frequencies != n_fft if onesided is None else onesided
    check(
        frequencies == (n_fft // 2 + 1 if onesided else n_fft),
        lambda: (
            "istft: expected the frequency dimension (3rd to the last) of the input tensor to "
            f"match {'n_fft / 2 + 1' if onesided else 'n_fft'} when onesided={onesided}, but got "
            f"{frequencies}"
        ),
    )
    check(
        not (return_complex and onesided),
        "istft: cannot have onesided input when return_complex is set: a complex signal needs all "
        "frequencies",
    )


def frames_of(x: Tensor, n_fft: int, norm: str | None, return_complex: bool) -> Tensor:
    """The frames (B, T, n_fft) whose spectra are (B, T, frequencies)."""
    scale = scaling(norm, n_fft, False)
    if return_complex:
        return FFT_C2C(x, dim=(2,), scale=scale, forward=False)
    half = x.narrow(2, 0, n_fft // 2 + 1)
    return FFT_C2R(half, dim=(2,), size=n_fft, scale=scale, forward=False)


def check_cover(envelope: Tensor) -> None:
    """Raises RuntimeError where the sum of squared windows is zero somewhere."""
    values = envelope._data  # under a transform only their shape is known
    check(
        not isinstance(values, ndarray) or np.abs(values).min(initial=np.inf) > 1e-11,
        "istft: window overlap add min is 0: the windows do not cover the signal; use a smaller "
        "hop_length, or center=True for a window that starts at 0",
    )


def signal_part(y: Tensor, n_fft: int, center: bool, length: int | None) -> Tensor:
    """The samples without the padding that centering added, at most `length` of them."""
    start = n_fft // 2 if center else 0
    whole = y.shape[1]
    end = start + length if length is not None else whole - start
    return y[:, start : min(end, whole)]
