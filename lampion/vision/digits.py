"""The UCI handwritten digits: 1,797 scans of 8 by 8 pixels, shipped here (CC BY 4.0, digits.txt).

May import everything but the command line. The class follows torchvision's MNIST, with nothing
to download.
"""

from __future__ import annotations

import hashlib
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from lampion.errors import check
from lampion.utils.data import Dataset

ARCHIVE = Path(__file__).with_name("digits.npz")
SHA256 = "56691635b5c95f315ed55907c4fe83309809b3b822ee0b8d68e84bba3ffd4ca3"
BRIGHTEST = 16  # a pixel counts the inked ones of a 4 by 4 block
TRAINING_SCANS = 1437  # four fifths; later scans come from other writers


def load_digits() -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
    """All scans and what they show: images (1797, 8, 8) with values 0 to 16, labels (1797,) 0 to 9.

    Raises FileNotFoundError or RuntimeError when the shipped file is missing or damaged.

    >>> images, labels = load_digits()
    >>> images.shape, images.max().item(), labels[:5].tolist()
    ((1797, 8, 8), 16, [0, 1, 2, 3, 4])
    """
    repair = "repair it with `pip install --force-reinstall lampion`"
    check(
        ARCHIVE.is_file(), f"[digits] expects {ARCHIVE}, found no file; {repair}", FileNotFoundError
    )
    content = ARCHIVE.read_bytes()
    found = hashlib.sha256(content).hexdigest()
    check(
        found == SHA256,
        f"[digits] expects {ARCHIVE} with SHA-256 {SHA256[:12]}..., got {found[:12]}... "
        f"({len(content)} bytes): the file is damaged; {repair}",
    )
    with np.load(io.BytesIO(content), allow_pickle=False) as arrays:
        return arrays["images"], arrays["labels"].astype(np.int64)


class Digits(Dataset):
    """Handwritten digits as pairs of image, a float32 array (1, 8, 8) from 0 to 1, and class.

    `train` selects the first 1,437 scans, else the other 360. `transform` and `target_transform`
    are applied to the image and to the class. `data` (N, 8, 8) and `targets` (N,) are the raw
    arrays.

    >>> image, digit = Digits(train=False)[0]
    >>> image.shape, image.dtype, digit
    ((1, 8, 8), dtype('float32'), 2)
    """

    classes = tuple(str(digit) for digit in range(10))

    def __init__(
        self,
        train: bool = True,
        transform: Callable | None = None,
        target_transform: Callable | None = None,
    ) -> None:
        images, labels = load_digits()
        part = slice(TRAINING_SCANS) if train else slice(TRAINING_SCANS, None)
        self.train = train
        self.transform = transform
        self.target_transform = target_transform
        self.data = images[part]
        self.targets = labels[part]

    def __len__(self) -> int:
        return len(self.data)

    def __getitem__(self, index: int) -> tuple:
        image = self.data[index][np.newaxis].astype(np.float32) / BRIGHTEST  # (1, 8, 8)
        digit = int(self.targets[index])
        if self.transform is not None:
            image = self.transform(image)
        if self.target_transform is not None:
            digit = self.target_transform(digit)
        return image, digit

    def __repr__(self) -> str:
        split = "train" if self.train else "test"
        return f"Dataset Digits\n    Number of datapoints: {len(self)}\n    Split: {split}"
