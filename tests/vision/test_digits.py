"""The shipped digits: facts published with the data set, the split, what a damaged file says."""

import numpy as np
import pytest

from lampion.utils.data import DataLoader
from lampion.vision import Digits, digits, load_digits


def test_counts_of_the_published_test_set():
    images, labels = load_digits()
    assert images.shape == (1797, 8, 8) and images.dtype == np.uint8
    assert labels.shape == (1797,) and labels.dtype == np.int64
    # The numbers of scans per class that the repository states for optdigits.tes.
    assert np.bincount(labels).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert images.min() == 0 and images.max() == 16


def test_first_scan_is_the_first_line_of_the_original_file():
    images, labels = load_digits()
    assert images[0, :3].tolist() == [
        [0, 0, 5, 13, 9, 1, 0, 0],
        [0, 0, 13, 15, 10, 15, 5, 0],
        [0, 3, 15, 2, 0, 11, 8, 0],
    ]
    assert labels[0] == 0


def test_digits_can_be_told_apart():
    """The nearest class mean names most test scans: images and labels belong together."""
    train, test = Digits(train=True), Digits(train=False)
    means = np.stack([train.data[train.targets == k].mean(0) for k in range(10)])  # (10, 8, 8)
    distance = ((test.data[:, None] - means) ** 2).sum((2, 3))  # (360, 10)
    assert (distance.argmin(1) == test.targets).mean() > 0.8


def test_split_covers_every_scan_once():
    images, labels = load_digits()
    train, test = Digits(train=True), Digits(train=False)
    assert (len(train), len(test)) == (1437, 360)
    assert np.array_equal(np.concatenate([train.data, test.data]), images)
    assert np.array_equal(np.concatenate([train.targets, test.targets]), labels)


def test_item_is_a_scaled_image_and_its_class():
    image, digit = Digits()[7]
    assert image.shape == (1, 8, 8) and image.dtype == np.float32
    assert image.max() == 1.0 and np.array_equal(image[0] * 16, load_digits()[0][7])
    assert digit == 7 and type(digit) is int


def test_transforms_are_applied():
    image, digit = Digits(transform=lambda x: x.sum(), target_transform=lambda k: -k)[3]
    assert image == load_digits()[0][3].sum() / 16
    assert digit == -3


def test_index_past_the_end_stops_iteration():
    with pytest.raises(IndexError):
        Digits(train=False)[360]
    assert sum(1 for _ in Digits(train=False)) == 360


def test_repr_names_size_and_split():
    expected = "Dataset Digits\n    Number of datapoints: 360\n    Split: test"
    assert repr(Digits(train=False)) == expected


def test_loader_makes_batches_of_tensors():
    images, labels = next(iter(DataLoader(Digits(), batch_size=4)))
    assert tuple(images.shape) == (4, 1, 8, 8) and str(images.dtype) == "torch.float32"
    assert labels.tolist() == [0, 1, 2, 3] and str(labels.dtype) == "torch.int64"


@pytest.mark.parametrize(
    "damage", [lambda b: b[:-1], lambda b: b[:500] + b"\0" + b[501:], lambda b: b""]
)
def test_damaged_file_is_refused(tmp_path, monkeypatch, damage):
    copy = tmp_path / "digits.npz"
    copy.write_bytes(damage(digits.ARCHIVE.read_bytes()))
    monkeypatch.setattr(digits, "ARCHIVE", copy)
    with pytest.raises(
        RuntimeError, match=r"\[digits\] expects .*SHA-256.*damaged; repair it with"
    ):
        load_digits()


def test_missing_file_is_named(tmp_path, monkeypatch):
    monkeypatch.setattr(digits, "ARCHIVE", tmp_path / "gone.npz")
    with pytest.raises(FileNotFoundError, match=r"\[digits\] expects .*gone\.npz.*reinstall"):
        Digits()
