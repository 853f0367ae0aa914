"""What a program takes for granted of Python's objects, found by walking what a function can reach.

Imports core. A fact is a place (a dictionary's key, a cell) and the object that was there. Facts
about modules are compared only when `core.changes` has counted something.
"""

from __future__ import annotations

import dis
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any, NamedTuple

from ...core.changes import CHANGES
from ...core.memory import root_array
from ...core.tensor import Tensor
from .graph import brief

PLAIN = (bool, int, float, complex, str, bytes, type(None))
LIBRARIES = {"lampion", "torch", "numpy", *sys.stdlib_module_names} - {"__main__"}
LIMIT = 4096  # facts: a function that can reach more is not looked at further
LONG = 256  # elements of a container that are looked at
MISSING: Any = type("Missing", (), {})()


class Fact(NamedTuple):
    """`holder[key] is expected`; a cell has the key None."""

    holder: Any
    key: Any
    expected: Any

    def __str__(self) -> str:
        return (
            f"{self.key or 'a variable'} was {brief(self.expected):.60}, is {brief(self.now()):.60}"
        )

    def now(self) -> Any:
        """What is there now."""
        if self.key is None:
            return contents(self.holder)
        return self.holder.get(self.key, MISSING)

    def holds(self) -> bool:
        """Whether the object is still there, or an equal number or text."""
        found = self.now()
        return found is self.expected or same(found, self.expected)


class Row(NamedTuple):
    """A list (or a dictionary's values) and the objects that were in it, in order."""

    holder: Any
    expected: tuple

    def __str__(self) -> str:
        return f"a {type(self.holder).__name__} of {len(self.expected)}"

    def holds(self) -> bool:
        """Whether the same objects are in it."""
        found = self.holder.values() if isinstance(self.holder, dict) else self.holder
        if len(found) != len(self.expected):
            return False
        return all(a is b or same(a, b) for a, b in zip(found, self.expected))


class Hooks(NamedTuple):
    """A tensor and the numbers of its hooks."""

    holder: Tensor
    expected: tuple

    @classmethod
    def of(cls, t: Tensor) -> Hooks:
        return cls(t, (tuple(t._hooks or ()), tuple(t._post_hooks or ())))

    def holds(self) -> bool:
        """Whether it has the same hooks."""
        return Hooks.of(self.holder) == self


def contents(cell: Any) -> Any:
    """What a closure's cell holds."""
    try:
        return cell.cell_contents
    except ValueError:
        return MISSING


def same(a: Any, b: Any) -> bool:
    """Whether two numbers or texts can't be told apart."""
    kind = a.__class__
    return kind is b.__class__ and kind in PLAIN and a == b and repr(a) == repr(b)


class Guards:
    """The facts that a program relies on.

    always  facts that are compared at each call
    modules facts that are compared when `changes` counted something
    roots   ids of the memory of tensors that were met
    moving  an iterator that was met: a call may take from it
    """

    def __init__(self) -> None:
        self.always: list[Any] = []  # Fact, Row, and whatever else has `holds`
        self.modules: list[Fact | Row | Hooks] = []
        self.count = CHANGES[0]
        self.roots: set[int] = set()
        self.moving: Any = None

    def hold(self) -> bool:
        """Whether all facts are still true."""
        for fact in self.always:
            if not fact.holds():
                return False
        return self.count == CHANGES[0] or self.recheck()

    def recheck(self) -> bool:
        """Compares the facts about modules, and notes the count if they hold."""
        count = CHANGES[0]
        if all(fact.holds() for fact in self.modules):
            self.count = count
            return True
        return False

    def broken(self) -> Fact | Row | Hooks | None:
        """A fact that is no longer true."""
        return next((f for f in (*self.always, *self.modules) if not f.holds()), None)


def guards_of(roots: Iterable[Any]) -> Guards:
    """Facts about all that functions, modules and other objects can reach."""
    walk = Walk()
    for root in roots:
        walk.visit(root)
    return walk.guards


class Walk:
    """Visits each object once."""

    def __init__(self) -> None:
        self.guards = Guards()
        self.seen: dict[int, Any] = {}

    def visit(self, x: Any) -> None:
        """Looks at an object and at what it holds."""
        if isinstance(x, Tensor):
            self.guards.roots.add(id(root_array(x._data)))
            return
        if id(x) in self.seen or isinstance(x, (*PLAIN, types.ModuleType)):
            return
        if len(self.guards.always) > LIMIT:
            return
        self.seen[id(x)] = x
        if hasattr(type(x), "__next__"):
            self.guards.moving = x
        elif isinstance(x, types.MethodType):
            self.visit(x.__func__)
            self.visit(x.__self__)
        elif isinstance(x, types.FunctionType):
            self.visit_function(x)
        elif isinstance(x, (list, tuple, dict)):
            self.visit_container(x)
        elif is_module(x):
            self.visit_module(x)
        elif not isinstance(x, type) and is_users(type(x)) and hasattr(x, "__dict__"):
            self.visit_object(x)

    def visit_function(self, f: types.FunctionType) -> None:
        wrapped = getattr(f, "__wrapped__", None)
        if wrapped is not None:
            self.visit(wrapped)
        if not is_own(f.__globals__.get("__name__") or ""):  # `vmap(f)` has the module of f
            return
        facts = [Fact(cell, None, contents(cell)) for cell in f.__closure__ or ()]
        known = f.__globals__.keys() & global_names(f.__code__)
        facts += [Fact(f.__globals__, name, f.__globals__[name]) for name in sorted(known)]
        for fact in facts:
            if isinstance(fact.expected, types.ModuleType):
                self.visit_package(fact.expected, f.__code__)
            else:
                self.always(fact)
        for default in (*(f.__defaults__ or ()), *(f.__kwdefaults__ or {}).values()):
            self.visit(default)

    def visit_package(self, package: types.ModuleType, code: types.CodeType) -> None:
        """What a function reads of another file of the program's own."""
        own = vars(package)
        if is_own(package.__name__):
            for name in code.co_names:
                if name in own and not isinstance(own[name], types.ModuleType):
                    self.always(Fact(own, name, own[name]))

    def always(self, fact: Fact) -> None:
        """A fact about something that is not a module, class or function of a library."""
        x = fact.expected
        if isinstance(x, (types.ModuleType, type, types.BuiltinFunctionType)):
            return
        if isinstance(x, types.FunctionType) and not is_users(x):
            return
        self.guards.always.append(fact)
        self.visit(x)

    def visit_container(self, x: Any) -> None:
        values = tuple(x.values()) if isinstance(x, dict) else tuple(x)
        if not isinstance(x, tuple):
            self.guards.always.append(Row(x, values[:LONG] if len(values) <= LONG else values))
        for value in values[:LONG]:
            self.visit(value)

    def visit_object(self, x: Any) -> None:
        for name, value in list(vars(x).items()):
            self.always(Fact(vars(x), name, value))
        for method in methods(type(x)):
            self.visit(method)

    def visit_module(self, x: Any) -> None:
        own = vars(x)
        for name, value in own.items():
            if isinstance(value, (*PLAIN, Tensor)) or callable(value):
                self.guards.modules.append(Fact(own, name, value))
            elif isinstance(value, (dict, list)):
                values = tuple(value.values()) if isinstance(value, dict) else tuple(value)
                self.guards.modules.append(Row(value, values))
            if not name.startswith("_"):
                self.visit(value)
        for hooks in own.values():
            if isinstance(hooks, dict):
                for value in list(hooks.values()):
                    self.visit(value)
        for method in methods(type(x)):
            self.visit(method)


def is_module(x: Any) -> bool:
    """Whether x is a module of a network: known by its tables, since `nn` lies above."""
    return "_modules" in getattr(x, "__dict__", ()) and "_parameters" in x.__dict__


def is_users(x: Any) -> bool:
    """Whether a function or class is the program's own, not a library's."""
    return is_own(getattr(x, "__module__", None) or "")


def is_own(name: str) -> bool:
    """Whether a file of this name is neither Lampion's, nor NumPy's, nor Python's."""
    top = name.partition(".")[0]
    return top not in LIBRARIES


def methods(kind: type) -> Iterator[Callable]:
    """The functions of a class and of its bases that are the program's own."""
    for base in kind.__mro__:
        if is_users(base):
            yield from (m for m in vars(base).values() if isinstance(m, types.FunctionType))


def global_names(code: types.CodeType) -> set[str]:
    """The global names that a function's code reads, those of functions inside it included."""
    names = {i.argval for i in dis.get_instructions(code) if i.opname == "LOAD_GLOBAL"}
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names |= global_names(constant)
    return names
