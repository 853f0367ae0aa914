"""Writes LLVM IR text from Python: values with operators, loops, conditions, vectors. Imports
nothing.

Variables and loop counters are `alloca`s in the entry block; LLVM's mem2reg makes SSA of them, so
no phi is written by hand.

>>> module = Module()
>>> f = module.function("triangle", "i64", n="i64")
>>> total = f.variable("i64", 0)
>>> with f.loop(0, f["n"]) as i:
...     total.set(total.get() + i)
>>> f.ret(total.get())
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from ctypes import c_float
from typing import Union

Operand = Union["Value", int, float]

# What an operator is called in IR, for integers and for floating-point numbers.
ARITHMETIC = {
    "+": ("add", "fadd"), "-": ("sub", "fsub"), "*": ("mul", "fmul"), "/": ("sdiv", "fdiv"),
    "%": ("srem", "frem"), "&": ("and", "and"), "|": ("or", "or"), "<<": ("shl", "shl"),
}  # fmt: skip
COMPARISON = {
    "<": ("slt", "olt"), "<=": ("sle", "ole"), ">": ("sgt", "ogt"), ">=": ("sge", "oge"),
    "==": ("eq", "oeq"), "!=": ("ne", "une"),
}  # fmt: skip


def is_float(type: str) -> bool:
    """Whether arithmetic on the type is floating-point arithmetic."""
    return any(name in type for name in ("float", "double", "half"))


def vector(lanes: int, type: str) -> str:
    """The vector type.

    >>> vector(16, "float")
    '<16 x float>'
    """
    return f"<{lanes} x {type}>"


def lanes_of(type: str) -> int:
    """How many numbers a value of the type holds."""
    return int(type[1:].split(" ")[0]) if type[0] == "<" else 1


class Value:
    """A typed SSA name or constant; operators on it write an instruction into its function."""

    __slots__ = ("function", "name", "type")

    def __init__(self, function: Function, type: str, name: str) -> None:
        self.function, self.type, self.name = function, type, name

    def __repr__(self) -> str:
        return f"{self.type} {self.name}"

    def binary(self, sign: str, other: Operand) -> Value:
        """`self sign other`."""
        f = self.function
        a, b = self, f.constant(self.type, other)
        if sign in COMPARISON:
            floating = is_float(self.type)
            word = ("fcmp " if floating else "icmp ") + COMPARISON[sign][floating]
            bits = vector(lanes_of(self.type), "i1") if self.type[0] == "<" else "i1"
            return f.emit(bits, f"{word} {a}, {b.name}")
        return f.emit(self.type, f"{ARITHMETIC[sign][is_float(self.type)]} {a}, {b.name}")

    def __add__(self, other: Operand) -> Value:
        return self if other == 0 and isinstance(other, int) else self.binary("+", other)

    def __sub__(self, other: Operand) -> Value:
        return self.binary("-", other)

    def __mul__(self, other: Operand) -> Value:
        return self if isinstance(other, int) and other == 1 else self.binary("*", other)

    def __truediv__(self, other: Operand) -> Value:
        return self.binary("/", other)

    def __mod__(self, other: Operand) -> Value:
        return self.binary("%", other)

    def __and__(self, other: Operand) -> Value:
        return self.binary("&", other)

    def __or__(self, other: Operand) -> Value:
        return self.binary("|", other)

    def __lt__(self, other: Operand) -> Value:
        return self.binary("<", other)

    def __le__(self, other: Operand) -> Value:
        return self.binary("<=", other)

    def __gt__(self, other: Operand) -> Value:
        return self.binary(">", other)

    def __ge__(self, other: Operand) -> Value:
        return self.binary(">=", other)

    def __neg__(self) -> Value:
        f = self.function
        if is_float(self.type):
            return f.emit(self.type, f"fneg {self}")
        return f.constant(self.type, 0).binary("-", self)

    def equals(self, other: Operand) -> Value:
        """`self == other` as an instruction (`==` itself stays Python's)."""
        return self.binary("==", other)

    def differs(self, other: Operand) -> Value:
        """`self != other` as an instruction."""
        return self.binary("!=", other)

    __radd__, __rmul__ = __add__, __mul__


class Variable:
    """A place on the stack, in registers after mem2reg."""

    def __init__(self, function: Function, type: str, place: Value) -> None:
        self.function, self.type, self.place = function, type, place

    def get(self) -> Value:
        """The present value."""
        return self.function.load(self.type, self.place)

    def set(self, value: Operand) -> None:
        """Stores a value."""
        self.function.store(self.function.constant(self.type, value), self.place)


class Function:
    """One function being written; `f["name"]` is a parameter."""

    def __init__(self, module: Module, head: str, parameters: dict[str, str]) -> None:
        self.module, self.head = module, head
        self.parameters = {n: Value(self, t.split(" ")[0], f"%{n}") for n, t in parameters.items()}
        self.entry: list[str] = []  # the allocas
        self.lines: list[str] = []
        self.count = 0

    def __getitem__(self, name: str) -> Value:
        return self.parameters[name]

    def text(self) -> str:
        """The function as IR."""
        return "\n".join([self.head + " {", "entry:", *self.entry, *self.lines, "}"])

    # -- instructions --------------------------------------------------------------------------

    def do(self, line: str) -> Value:
        """Writes an instruction without a result."""
        self.lines.append("  " + line)
        return Value(self, "void", "")

    def emit(self, type: str, instruction: str) -> Value:
        """Writes an instruction and names its result."""
        self.count += 1
        name = f"%v{self.count}"
        self.lines.append(f"  {name} = {instruction}")
        return Value(self, type, name)

    def constant(self, type: str, value: Operand) -> Value:
        """A number as a value of the type (in all lanes of a vector); values pass through."""
        if isinstance(value, Value):
            return value
        if type[0] == "<":
            scalar = type.split(" x ")[1][:-1]
            return self.splat(self.constant(scalar, value), lanes_of(type))
        if is_float(type):
            number = c_float(value).value if type == "float" else float(value)
            text = repr(number)
            return Value(self, type, text if "." in text else text.replace("e", ".0e"))
        return Value(self, type, str(int(value)))

    def load(self, type: str, pointer: Value, index: Operand = 0, align: int = 0) -> Value:
        """`pointer[index]`, of the type; `align` in bytes where it is less than the type's own."""
        place = self.at(pointer, index, type)
        return self.emit(type, f"load {type}, {place}" + (f", align {align}" if align else ""))

    def store(self, value: Value, pointer: Value, index: Operand = 0, align: int = 0) -> None:
        """`pointer[index] = value`."""
        place = self.at(pointer, index, value.type)
        self.do(f"store {value}, {place}" + (f", align {align}" if align else ""))

    def at(self, pointer: Value, index: Operand, type: str = "i8") -> Value:
        """The address of `pointer[index]`, in elements of the type."""
        if isinstance(index, int) and index == 0:
            return pointer
        return self.emit("ptr", f"getelementptr {type}, {pointer}, {self.constant('i64', index)}")

    def call(self, type: str, function: str | Value, *arguments: Value) -> Value:
        """Calls a function by name (declared if the module does not define it) or by pointer."""
        if isinstance(function, str):
            self.module.declare(type, function, arguments)
        name = f"@{function}" if isinstance(function, str) else function.name
        text = f"call {type} {name}({', '.join(map(str, arguments))})"
        return self.do(text) if type == "void" else self.emit(type, text)

    def convert(self, word: str, value: Value, type: str) -> Value:
        """A cast: trunc, sext, zext, bitcast, fpext, inttoptr, ..."""
        return self.emit(type, f"{word} {value} to {type}")

    def select(self, condition: Value, a: Value, b: Operand) -> Value:
        """`a if condition else b`."""
        return self.emit(a.type, f"select {condition}, {a}, {self.constant(a.type, b)}")

    def minimum(self, a: Value, b: Operand) -> Value:
        """The smaller one of two numbers."""
        return self.select(a < b, a, b)

    def ret(self, value: Value | None = None) -> None:
        """Returns."""
        self.do(f"ret {value}" if value is not None else "ret void")

    # -- vectors -------------------------------------------------------------------------------

    def splat(self, value: Value, lanes: int) -> Value:
        """The number in all lanes."""
        type = vector(lanes, value.type)
        one = self.emit(type, f"insertelement {type} poison, {value}, i32 0")
        zeros = f"{vector(lanes, 'i32')} zeroinitializer"
        return self.emit(type, f"shufflevector {one}, {type} poison, {zeros}")

    def shuffle(self, a: Value, b: Value, indices: list[int]) -> Value:
        """Lanes picked from `a` and `b` laid end to end."""
        type = vector(len(indices), a.type.split(" x ")[1][:-1])
        picks = ", ".join(f"i32 {i}" for i in indices)
        return self.emit(type, f"shufflevector {a}, {b}, <{len(indices)} x i32> <{picks}>")

    def first_lanes(self, count: Value, lanes: int) -> Value:
        """The mask whose first `count` (an i64) lanes are set."""
        ramp = "<" + ", ".join(f"i64 {i}" for i in range(lanes)) + ">"
        return Value(self, vector(lanes, "i64"), ramp) < self.splat(count, lanes)

    def fused(self, a: Value, b: Value, c: Value) -> Value:
        """`a * b + c`, in one rounding where the machine has the instruction."""
        return self.call(a.type, f"llvm.fmuladd.{suffix_of(a.type)}", a, b, c)

    def masked_load(self, type: str, pointer: Value, mask: Value) -> Value:
        """A vector whose lanes outside the mask are zero and not read; any alignment."""
        one, zero = Value(self, "i32", "1"), Value(self, type, "zeroinitializer")
        return self.call(type, f"llvm.masked.load.{suffix_of(type)}.p0", pointer, one, mask, zero)

    def masked_store(self, value: Value, pointer: Value, mask: Value) -> None:
        """Writes the lanes of the mask; any alignment."""
        name = f"llvm.masked.store.{suffix_of(value.type)}.p0"
        self.call("void", name, value, pointer, Value(self, "i32", "1"), mask)

    # -- control flow --------------------------------------------------------------------------

    def label(self, name: str) -> None:
        """Starts a block, reached by falling through too."""
        self.do(f"br label %{name}")
        self.lines.append(f"{name}:")

    def variable(self, type: str, start: Operand | None = None) -> Variable:
        """A new variable; `start` is stored where it is made."""
        self.count += 1
        name = f"%x{self.count}"
        self.entry.append(f"  {name} = alloca {type}")
        made = Variable(self, type, Value(self, "ptr", name))
        if start is not None:
            made.set(start)
        return made

    def buffer(self, size: int, align: int = 64) -> Value:
        """Bytes on the stack."""
        self.count += 1
        name = f"%x{self.count}"
        self.entry.append(f"  {name} = alloca [{size} x i8], align {align}")
        return Value(self, "ptr", name)

    @contextmanager
    def loop(self, low: Operand, high: Operand, step: Operand = 1) -> Iterator[Value]:
        """`for i in range(low, high, step)` over i64."""
        counter = self.variable("i64", low)
        k = self.count
        self.label(f"head{k}")
        i = counter.get()
        self.do(f"br {i < high}, label %body{k}, label %done{k}")
        self.lines.append(f"body{k}:")
        yield i
        counter.set(i + step)
        self.do(f"br label %head{k}")
        self.lines.append(f"done{k}:")

    @contextmanager
    def forever(self) -> Iterator[str]:
        """`while True`; gives the label to branch to in order to leave."""
        self.count += 1
        k = self.count
        self.label(f"head{k}")
        yield f"done{k}"
        self.do(f"br label %head{k}")
        self.lines.append(f"done{k}:")

    @contextmanager
    def when(self, condition: Value, leave: str = "") -> Iterator[None]:
        """`if condition:`; with `leave` the block ends by a jump to that label."""
        self.count += 1
        k = self.count
        self.do(f"br {condition}, label %then{k}, label %end{k}")
        self.lines.append(f"then{k}:")
        yield
        if not self.lines[-1].lstrip().startswith("ret"):
            self.do(f"br label %{leave or f'end{k}'}")
        self.lines.append(f"end{k}:")


def suffix_of(type: str) -> str:
    """How intrinsics spell a type: `<16 x float>` is v16f32."""
    names = {"float": "f32", "double": "f64"}
    scalar = type.split(" x ")[1][:-1] if type[0] == "<" else type
    word = names.get(scalar, scalar)
    return f"v{lanes_of(type)}{word}" if type[0] == "<" else word


class Module:
    """Functions and globals that are compiled together."""

    def __init__(self) -> None:
        self.functions: dict[str, Function] = {}
        self.declarations: dict[str, str] = {}
        self.globals: dict[str, str] = {}

    def function(
        self, name: str, result: str = "void", internal: bool = False, /, **parameters: str
    ) -> Function:
        """Begins a function; parameter types may carry attributes (`ptr noalias`)."""
        listed = ", ".join(f"{type} %{n}" for n, type in parameters.items())
        head = f"define {'internal ' if internal else ''}{result} @{name}({listed})"
        made = self.functions[name] = Function(self, head, parameters)
        return made

    def pointer(self, name: str) -> str:
        """A global pointer that Python fills in after loading; its IR name."""
        self.globals[name] = f"@{name} = global ptr null"
        return f"@{name}"

    def declare(self, type: str, name: str, arguments: tuple[Value, ...]) -> None:
        """Notes that an outside function or an intrinsic is called."""
        types = ", ".join(a.type for a in arguments)
        self.declarations.setdefault(name, f"declare {type} @{name}({types})")

    def text(self) -> str:
        """The module as IR."""
        outside = [d for name, d in self.declarations.items() if name not in self.functions]
        parts = [*self.globals.values(), *outside, *(f.text() for f in self.functions.values())]
        return "\n".join(parts) + "\n"
