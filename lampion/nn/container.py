"""Modules and parameters in sequences and dictionaries. May import core."""

from __future__ import annotations

import operator
from collections import OrderedDict, abc
from collections.abc import Iterable, Iterator, Mapping
from itertools import islice
from typing import Any, Self

from ..core.tensor import Tensor
from ..errors import check
from .module import Module, indent
from .parameter import Parameter, typename


class Container(Module):
    """The old base of containers: a module with the given children."""

    def __init__(self, **kwargs: Any) -> None:
        super().__init__()
        for name, value in kwargs.items():
            self.add_module(name, value)


class _Numbered(Module):
    """What `Sequential` and `ModuleList` share: children "0", "1", ... and the ways of a list."""

    def _name(self, index: Any) -> str:
        """The name of the child at an index, which may be negative."""
        return next(islice(self._modules, checked_index(index, len(self)), None))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(list(self._modules.values())[index])
        return self._modules[self._name(index)]

    def __setitem__(self, index: int, module: Module) -> None:
        setattr(self, self._name(index), module)

    def __delitem__(self, index: Any) -> None:
        names = list(self._modules)
        chosen = names[index] if isinstance(index, slice) else [self._name(index)]
        kept = [m for n, m in self._modules.items() if n not in chosen]
        self._renumber(kept)

    def _renumber(self, modules: Iterable) -> None:
        self._modules.clear()
        self._modules.update((str(i), m) for i, m in enumerate(modules))

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[Any]:
        return iter(self._modules.values())

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.isdigit()]

    def append(self, module: Module) -> Self:
        """Adds a module at the end."""
        self.add_module(str(len(self)), module)
        return self

    def insert(self, index: int, module: Module) -> Any:
        """Adds a module before the one at `index`."""
        modules = list(self._modules.values())
        modules.insert(index, module)
        self._renumber(modules)
        return self

    def extend(self, modules: Iterable[Module]) -> Self:
        """Adds modules at the end."""
        for module in list(modules):
            self.append(module)
        return self

    def pop(self, index: int | slice) -> Any:
        """Takes the module at `index` out and returns it."""
        found = self[index]
        del self[index]
        return found


class Sequential(_Numbered):
    """Modules in a row, each one's output the next one's input; from arguments or an OrderedDict of
    names.

    >>> net = torch.nn.Sequential(torch.nn.Linear(4, 3), torch.nn.ReLU())
    >>> net(torch.ones(2, 4)).shape, net[:1]
    (torch.Size([2, 3]), Sequential(
      (0): Linear(in_features=4, out_features=3, bias=True)
    ))
    """

    def __init__(self, *args: Any) -> None:
        super().__init__()
        named = len(args) == 1 and isinstance(args[0], OrderedDict)
        for name, module in args[0].items() if named else enumerate(args):
            self.add_module(str(name), module)

    def forward(self, input: Any) -> Any:
        for module in self._modules.values():
            input = module(input)
        return input

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(OrderedDict(list(self._modules.items())[index]))
        return super().__getitem__(index)

    def __add__(self, other: Sequential) -> Sequential:
        check(
            isinstance(other, Sequential),
            lambda: (
                f"add operator supports only objects of Sequential class, but {type(other)} is "
                "given."
            ),
            ValueError,
        )
        return Sequential(*self, *other)

    def __iadd__(self, other: Sequential) -> Self:
        check(
            isinstance(other, Sequential),
            lambda: (
                f"add operator supports only objects of Sequential class, but {type(other)} is "
                "given."
            ),
            ValueError,
        )
        return self.extend(other)

    def __mul__(self, other: int) -> Sequential:
        return Sequential(*self._repeated(other))

    def __rmul__(self, other: int) -> Sequential:
        return self * other

    def __imul__(self, other: int) -> Self:
        return self.extend(self._repeated(other)[len(self) :])

    def _repeated(self, times: int) -> list[Module]:
        check(
            isinstance(times, int),
            lambda: f"unsupported operand type(s) for *: {type(self)} and {type(times)}",
            TypeError,
        )
        check(
            times > 0,
            lambda: f"Non-positive multiplication factor {times} for {type(self)}",
            ValueError,
        )
        return list(self) * times

    def insert(self, index: int, module: Module) -> Self:
        """Adds a module before the one at `index`."""
        check(
            isinstance(module, Module),
            lambda: f"module should be of type: {Module}",
            AssertionError,
        )
        size = len(self)
        if not -size <= index <= size:
            raise IndexError(f"Index out of range: {index}")
        return super().insert(index, module)


class ModuleList(_Numbered):
    """A list of modules that are registered: their parameters are the owner's.

    >>> layers = torch.nn.ModuleList([torch.nn.Linear(2, 2) for _ in range(3)])
    >>> len(list(layers.parameters()))
    6
    """

    def __init__(self, modules: Iterable[Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self += modules

    def __iadd__(self, modules: Iterable[Module]) -> Self:
        return self.extend(modules)

    def __add__(self, other: Iterable[Module]) -> ModuleList:
        return ModuleList([*self, *other])

    def extend(self, modules: Iterable[Module]) -> Self:
        """Adds modules at the end."""
        check(
            isinstance(modules, abc.Iterable),
            lambda: (
                "ModuleList.extend should be called with an iterable, but got "
                f"{type(modules).__name__}"
            ),
            TypeError,
        )
        return super().extend(modules)

    def __repr__(self) -> str:
        """Equal modules in a row are printed once, as `(0-5): 6 x Linear(...)`."""
        runs: list[list] = []  # [first, last, text]
        for i, text in enumerate(map(repr, self)):
            if runs and runs[-1][2] == text:
                runs[-1][1] = i
            else:
                runs.append([i, i, text])
        if not runs:
            return f"{self._get_name()}()"
        lines = [
            f"({first}): {indent(text)}"
            if first == last
            else f"({first}-{last}): {last - first + 1} x {indent(text)}"
            for first, last, text in runs
        ]
        return f"{self._get_name()}(\n  " + "\n  ".join(lines) + "\n)"


class ModuleDict(Module):
    """A dictionary of modules that are registered, in the order of insertion."""

    def __init__(self, modules: Mapping[str, Module] | None = None) -> None:
        super().__init__()
        if modules is not None:
            self.update(modules)

    def __getitem__(self, key: str) -> Any:
        return self._modules[key]

    def __setitem__(self, key: str, module: Module) -> None:
        self.add_module(key, module)

    def __delitem__(self, key: str) -> None:
        del self._modules[key]

    def __len__(self) -> int:
        return len(self._modules)

    def __iter__(self) -> Iterator[str]:
        return iter(self._modules)

    def __contains__(self, key: str) -> bool:
        return key in self._modules

    def clear(self) -> None:
        """Removes everything."""
        self._modules.clear()

    def pop(self, key: str) -> Any:
        """Takes a module out and returns it."""
        return self._modules.pop(key)

    def keys(self) -> abc.KeysView:
        """The names."""
        return self._modules.keys()

    def items(self) -> abc.ItemsView:
        """(name, module) pairs."""
        return self._modules.items()

    def values(self) -> abc.ValuesView:
        """The modules."""
        return self._modules.values()

    def update(self, modules: Mapping[str, Module] | Iterable) -> None:
        """Adds or replaces modules by name."""
        for key, module in pairs_of(modules, "ModuleDict.update"):
            self[key] = module


class ParameterList(Module):
    """A list of parameters that are registered; tensors become parameters, other values are kept as
    they are.
    """

    def __init__(self, values: Iterable[Any] | None = None) -> None:
        super().__init__()
        self._size = 0
        if values is not None:
            self += values

    def _key(self, index: Any) -> str:
        return str(checked_index(index, self._size))

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return type(self)(getattr(self, str(i)) for i in range(*index.indices(self._size)))
        return getattr(self, self._key(index))

    def __setitem__(self, index: int, value: Any) -> None:
        setattr(self, self._key(index), as_parameter(value))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[Any]:
        return iter(self[i] for i in range(self._size))

    def __iadd__(self, values: Iterable[Any]) -> Self:
        return self.extend(values)

    def __dir__(self) -> list[str]:
        return [name for name in super().__dir__() if not name.isdigit()]

    def append(self, value: Any) -> Self:
        """Adds a value at the end."""
        self._size += 1
        self[self._size - 1] = value
        return self

    def extend(self, values: Iterable[Any]) -> Self:
        """Adds values at the end."""
        check(
            isinstance(values, abc.Iterable) and not isinstance(values, Tensor),
            lambda: (
                "ParameterList.extend should be called with an iterable, but got "
                f"{type(values).__name__}"
            ),
            TypeError,
        )
        for value in list(values):
            self.append(value)
        return self

    def extra_repr(self) -> str:
        return "\n".join(
            f"  ({i}): {describe(v, str(getattr(v, 'dtype', '')))}" for i, v in enumerate(self)
        )

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        raise RuntimeError("ParameterList should not be called.")


class ParameterDict(Module):
    """A dictionary of parameters that are registered; tensors become parameters."""

    def __init__(self, parameters: Any = None) -> None:
        super().__init__()
        self._keys: dict[str, None] = {}
        if parameters is not None:
            self.update(parameters)

    def __getitem__(self, key: str) -> Any:
        return getattr(self, self._checked(key))

    def __setitem__(self, key: str, value: Any) -> None:
        self._keys[self._checked(key)] = None
        setattr(self, key, as_parameter(value))

    def _checked(self, key: Any) -> str:
        check(
            isinstance(key, str),
            lambda: (
                "Index given to ParameterDict cannot be used as a key as it is not a string "
                f"(type is '{type(key).__name__}'). Open an issue on github if you need "
                "non-string keys."
            ),
            TypeError,
        )
        return key

    def __delitem__(self, key: str) -> None:
        del self._keys[key]
        delattr(self, key)

    def __len__(self) -> int:
        return len(self._keys)

    def __iter__(self) -> Iterator[str]:
        return iter(self._keys)

    def __reversed__(self) -> Iterator[str]:
        return reversed(list(self._keys))

    def __contains__(self, key: str) -> bool:
        return key in self._keys

    def __or__(self, other: ParameterDict) -> ParameterDict:
        joined = self.copy()
        joined.update(other)
        return joined

    def __ror__(self, other: ParameterDict) -> ParameterDict:
        joined = other.copy()
        joined.update(self)
        return joined

    def __ior__(self, other: ParameterDict) -> Self:
        self.update(other)
        return self

    def copy(self) -> ParameterDict:
        """A dictionary with the same parameters."""
        return ParameterDict(OrderedDict(self.items()))

    def setdefault(self, key: str, default: Any = None) -> Any:
        """The value of `key`, which is set to `default` if it is not there."""
        if key not in self:
            self[key] = default
        return self[key]

    def clear(self) -> None:
        """Removes everything."""
        for key in list(self._keys):
            del self[key]

    def pop(self, key: str) -> Any:
        """Takes a value out and returns it."""
        found = self[key]
        del self[key]
        return found

    def popitem(self) -> tuple[str, Any]:
        """Takes the last (key, value) out and returns it."""
        key = next(reversed(self))
        return key, self.pop(key)

    def get(self, key: str, default: Any = None) -> Any:
        """The value of `key`, or `default`."""
        return getattr(self, key) if key in self._keys else default

    def fromkeys(self, keys: Iterable[str], default: Any = None) -> ParameterDict:
        """A dictionary with these keys and one value."""
        return ParameterDict((key, default) for key in keys)

    def keys(self) -> abc.KeysView:
        """The names."""
        return self._keys.keys()

    def items(self) -> Iterable[tuple[str, Any]]:
        """(name, value) pairs."""
        return ((key, self[key]) for key in self._keys)

    def values(self) -> Iterable[Any]:
        """The values."""
        return (self[key] for key in self._keys)

    def update(self, parameters: Any) -> None:
        """Adds or replaces values by name."""
        pairs = pairs_of(parameters, "ParametersDict.update")
        plain = isinstance(parameters, Mapping) and not isinstance(parameters, OrderedDict)
        for key, value in sorted(pairs) if plain else pairs:
            self[key] = value

    def extra_repr(self) -> str:
        return "\n".join(f"  ({key}): {describe(v, typename(v))}" for key, v in self.items())

    def __call__(self, input: Any) -> Any:
        raise RuntimeError("ParameterDict should not be called.")


def as_parameter(value: Any) -> Any:
    """A tensor as a parameter, anything else as it is."""
    return (
        Parameter(value)
        if isinstance(value, Tensor) and not isinstance(value, Parameter)
        else value
    )


def describe(value: Any, kind: str) -> str:
    """How an element of a list or dictionary of parameters prints."""
    if not isinstance(value, Tensor):
        return f"Object of type: {type(value).__name__}"
    name = "Parameter" if isinstance(value, Parameter) else "Tensor"
    return f"{name} containing: [{kind} of size {'x'.join(map(str, value.shape))}]"


def checked_index(index: Any, size: int) -> int:
    """An index counted from the front; raises IndexError when out of range."""
    index = operator.index(index)
    if not -size <= index < size:
        raise IndexError(f"index {index} is out of range")
    return index % size


def pairs_of(values: Any, where: str) -> Iterable[tuple[str, Any]]:
    """(key, value) pairs of a mapping or an iterable of pairs; raises TypeError or ValueError."""
    check(
        isinstance(values, abc.Iterable),
        lambda: (
            f"{where} should be called with an iterable of key/value pairs, but got "
            f"{type(values).__name__}"
        ),
        TypeError,
    )
    if isinstance(values, (Mapping, ModuleDict, ParameterDict)):
        return list(values.items())
    found = []
    for i, pair in enumerate(values):
        what = f"{where[:-7]} update sequence element #{i}"
        if not hasattr(pair, "__iter__"):
            raise TypeError(f"{what} should be Iterable; is {type(pair).__name__}")
        if len(pair) != 2:
            raise ValueError(f"{what} has length {len(pair)}; 2 is required")
        found.append((pair[0], pair[1]))
    return found
