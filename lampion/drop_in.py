"""Lampion under the name `torch`, for programs that say `import torch`.
May import everything below cli.
"""

from __future__ import annotations

import importlib
import importlib.abc
import importlib.util
import sys
from importlib.machinery import ModuleSpec
from types import ModuleType
from typing import Any

PREFIX = "torch"


class Alias(importlib.abc.Loader):
    """Loads `torch.x` by importing `lampion.x`."""

    def __init__(self, name: str) -> None:
        self.name = name

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        module = importlib.import_module(self.name)
        self.spec = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Gives the module its own spec back; it has run under its own name."""
        module.__spec__ = self.spec


class Finder(importlib.abc.MetaPathFinder):
    """Finds `torch` and its submodules in Lampion."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != PREFIX and not name.startswith(PREFIX + "."):
            return None
        ours = "lampion" + name[len(PREFIX) :]
        try:
            found = importlib.util.find_spec(ours)
        except ModuleNotFoundError:
            found = None
        if found is None:
            raise ModuleNotFoundError(f"No module named {name!r}: Lampion has no {ours}", name=name)
        spec = ModuleSpec(
            name, Alias(ours), is_package=found.submodule_search_locations is not None
        )
        spec.submodule_search_locations = found.submodule_search_locations
        return spec


def install() -> None:
    """From now on `import torch` gives Lampion;
    raises RuntimeError if PyTorch is already loaded.
    """
    loaded = sys.modules.get(PREFIX)
    if loaded is not None and loaded.__name__ != "lampion":
        raise RuntimeError(
            "[drop_in] torch is already imported; install Lampion under its name before that"
        )
    if not any(isinstance(f, Finder) for f in sys.meta_path):
        sys.meta_path.insert(0, Finder())


def uninstall() -> None:
    """Undoes `install`."""
    sys.meta_path[:] = [f for f in sys.meta_path if not isinstance(f, Finder)]
    for name in [n for n in sys.modules if n == PREFIX or n.startswith(PREFIX + ".")]:
        del sys.modules[name]
