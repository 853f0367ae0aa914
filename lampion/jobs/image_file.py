"""Reading a picture of a digit as ink on an 8 by 8 grid. May import errors;
Pillow is imported on use.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy import ndarray

from ..errors import check


def read_ink(path: str | Path) -> ndarray:
    """An image file, or a `.npy` array, as ink (8, 8) from 0 (paper) to 1.

    Dark on light is turned round; other sizes are cropped to the ink, squared and averaged down.
    Raises FileNotFoundError, and ValueError for what is no picture.
    """
    path = Path(path)
    check(path.is_file(), lambda: f"[predict] {path} does not exist", FileNotFoundError)
    gray = read_array(path) if path.suffix == ".npy" else read_picture(path)
    check(
        gray.ndim == 2 and gray.size > 0 and np.isfinite(gray).all(),
        lambda: f"[predict] expects a gray picture, got an array of shape {gray.shape} in {path}",
        ValueError,
    )
    low, high = gray.min(), gray.max()
    check(high > low, lambda: f"[predict] {path} is blank: all its pixels are {low:g}", ValueError)
    ink = (gray - low) / (high - low)
    border = np.concatenate([ink[0], ink[-1], ink[:, 0], ink[:, -1]])
    if ink.shape != (8, 8) and np.median(border) > 0.5:
        ink = 1 - ink
    return ink if ink.shape == (8, 8) else shrink(ink)


def read_array(path: Path) -> ndarray:
    """The array in a .npy file."""
    try:
        return np.asarray(np.load(path, allow_pickle=False), float)
    except (ValueError, TypeError) as error:
        raise ValueError(f"[predict] {path} is no array of numbers: {error}") from error


def read_picture(path: Path) -> ndarray:
    """The gray values of a picture file."""
    try:
        from PIL import Image, UnidentifiedImageError
    except ImportError:
        raise RuntimeError(
            '[predict] reading pictures needs Pillow: pip install "lampion[plots]", '
            "or give a .npy array"
        ) from None
    try:
        with Image.open(path) as picture:
            return np.asarray(picture.convert("L"), float)
    except (UnidentifiedImageError, OSError, SyntaxError) as error:
        raise ValueError(f"[predict] {path} is no picture that can be read: {error}") from error


def shrink(ink: ndarray) -> ndarray:
    """The box around the ink, made square with paper, averaged down to 8 by 8."""
    rows, columns = np.nonzero(ink.max(1) > 0.2)[0], np.nonzero(ink.max(0) > 0.2)[0]
    ink = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    side = max(ink.shape)
    square = np.zeros((side, side))
    top, left = (side - ink.shape[0]) // 2, (side - ink.shape[1]) // 2
    square[top : top + ink.shape[0], left : left + ink.shape[1]] = ink
    large = np.kron(square, np.ones((8, 8)))  # (8 side, 8 side)
    return large.reshape(8, side, 8, side).mean((1, 3))
