"""Devices: where a tensor lives. May import errors."""

from __future__ import annotations

from .errors import check


class NoDeviceError(AssertionError, RuntimeError):
    """A CUDA device was asked for and there is none: PyTorch raises the one class here and the
    other there.
    """


KINDS = ("cpu", "cuda", "mps", "xpu", "meta")


class device:
    """Where a tensor lives: `device("cpu")`, `device("cuda:0")`, `device("cuda", 0)`."""

    __slots__ = ("type", "index")
    type: str
    index: int | None

    def __init__(self, type: str | device | int, index: int | None = None) -> None:
        if isinstance(type, device):
            index, type = type.index, type.type
        elif isinstance(type, int):
            index, type = type, "cuda"
        given = type
        if not isinstance(type, str):
            raise TypeError(
                f"device(): argument 'device' must be torch.device, str or int, not "
                f"{given.__class__.__name__}"
            )
        if not (index is None or isinstance(index, int)):
            raise TypeError(
                "device(): argument 'index' (position 2) must be int, not "
                f"{index.__class__.__name__}"
            )
        kind, _, number = type.partition(":")
        check(
            kind in KINDS and (not number or number.isdigit()),
            lambda: (
                f"Expected one of {', '.join(KINDS)} device type at start of device string: {type}"
            ),
        )
        check(
            not (number and index is not None),
            lambda: (
                "type (string) must not include an index because index was passed explicitly: "
                f"{type}"
            ),
        )
        check(
            number == "0" or not number.startswith("0"), lambda: f"Invalid device string: '{given}'"
        )
        self.type = kind
        self.index = int(number) if number else index

    def __eq__(self, other: object) -> bool:
        return isinstance(other, device) and (self.type, self.index) == (other.type, other.index)

    def __hash__(self) -> int:
        return hash((self.type, self.index))

    def __str__(self) -> str:
        return self.type if self.index is None else f"{self.type}:{self.index}"

    def __repr__(self) -> str:
        index = "" if self.index is None else f", index={self.index}"
        return f"device(type='{self.type}'{index})"

    def __reduce__(self) -> tuple:
        return device, (str(self),)

    def __enter__(self) -> device:
        """Inside the block tensors are made on this device; raises where this machine does not have
        it.
        """
        usable(self)
        return self

    def __exit__(self, *exception: object) -> None:
        """Leaves the block."""


CPU = device("cpu")


def usable(where: device | str | int | None) -> device:
    """The device asked for (None: the CPU); raises for one that this machine does not have."""
    if where is None or where is CPU or where == "cpu":
        return CPU
    if where.__class__ is device and where.type == "cpu":
        return CPU
    where = device(where)
    if where.type == "cpu":
        return CPU
    if where.type == "cuda":
        raise NoDeviceError(
            f"[device] Torch not compiled with CUDA enabled: {where} was asked for, but no CUDA "
            "device is available; use device='cpu' or test torch.cuda.is_available() first"
        )
    kind = NoDeviceError if where.type == "xpu" else NotImplementedError
    raise kind(f"[device] {where} was asked for, but only 'cpu' is supported here; use 'cpu'")
