"""Flat programs as LLVM IR text: a table entry per operation. May import ir.

Counters and accumulators live in allocas, which LLVM's mem2reg turns into SSA: no phi is written.
The updates of `reassoc` reductions carry a fast-math flag: with it LLVM runs them as SIMD lanes,
in an order that depends on the machine and the loop's length, never on the threads. The only other
one stands where a square root is made of the machine's estimate, which gives the same bits.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterable

from .node import BITS, FLOATS, INTS, Instruction, Program

TYPES = {
    "bool": "i1",
    "i32": "i32",
    "i64": "i64",
    "f32": "float",
    "f64": "double",
    "bf16": "i16",
    "f16": "half",
}
MEMORY = {**TYPES, "bool": "i8"}  # a truth value in memory is a byte

# Operations of one instruction: by the kind of their operands, float or integer (bool included).
FLOAT_OPS = {"add": "fadd", "sub": "fsub", "mul": "fmul", "div": "fdiv"}
INTEGER_OPS = {"add": "add", "sub": "sub", "mul": "mul", "shl": "shl", "shr": "ashr"}
INTEGER_OPS |= {op: op for op in ("and", "or", "xor")}
COMPARE = {
    "float": {"lt": "olt", "le": "ole", "eq": "oeq", "ne": "une"},
    "integer": {"lt": "slt", "le": "sle", "eq": "eq", "ne": "ne"},
    "bool": {"lt": "ult", "le": "ule", "eq": "eq", "ne": "ne"},
}
FLOAT_INTRINSICS = {
    "max": "maximum",
    "min": "minimum",
    "abs": "fabs",
    "sqrt": "sqrt",
    "floor": "floor",
    "ceil": "ceil",
    "trunc": "trunc",
    "round": "roundeven",
    "fma": "fma",
}
INTEGER_INTRINSICS = {"max": "smax", "min": "smin"}
TO_FLOAT = {"bool": "uitofp", "i32": "sitofp", "i64": "sitofp"}
HINTS = {"vector": ['!{!"llvm.loop.vectorize.enable", i1 true}']}
ESTIMATING = 512  # bits of the vectors whose square root is slower than an estimate and ten steps
OFTEN = 64  # times
# No smaller vectors for the end of such a loop: their estimates are worse, and inf for subnormals.
LANES = f'!{{!"llvm.loop.vectorize.width", i32 {ESTIMATING // 32}}}'


def attributes(vector_bits: int | None) -> str:
    """What is said of a function: the width of vectors to prefer; that where a quotient may be
    estimated, as `Renderer.root` allows, the machine's estimate is taken as it is, but for a single
    number, whose exact one costs no more.
    """
    if not vector_bits:
        return ""
    estimates = ' "reciprocal-estimates"="vec-sqrtf:0,!sqrtf"' if vector_bits == ESTIMATING else ""
    return f' "prefer-vector-width"="{vector_bits}"{estimates}'


def literal(value: float, dtype: str) -> str:
    """A constant; floats by their bits, which also says nan and inf."""
    if dtype in FLOATS:
        return f"0x{struct.unpack('<Q', struct.pack('<d', value))[0]:016X}"
    return str(value).lower()


def long_loops(program: Program) -> set[int]:
    """The loops with no loop in them that run often, as far as that is known."""
    lines = program.instructions
    found: set[int] = set()
    inside = False  # is nothing but straight-line code since the last loop's beginning?
    for line in lines:
        if line.op == "end" and inside:
            start, stop = (lines[s] for s in lines[line.src[0]].src)
            known = start.op == stop.op == "const"
            if not known or stop.arg - start.arg >= OFTEN:
                found.add(line.src[0])
        inside = line.op == "for" or (inside and line.op != "end")
    return found


class Renderer:
    """The text of one function: lines so far, and the LLVM name of every value."""

    def __init__(self, program: Program, vector_bits: int | None) -> None:
        self.program, self.vector_bits = program, vector_bits
        self.values: list[str] = []
        self.lines: list[str] = []
        self.allocas: list[str] = []
        self.declarations: dict[str, None] = {}
        self.metadata: list[str] = []
        self.counters: dict[int, str] = {}  # the slot of each loop's counter
        self.open: list[int] = []  # the loops around
        self.estimating: set[int] = set()  # the loops with a square root by an estimate
        self.long = long_loops(program)
        self.temporaries = 0

    def emit(self, text: str) -> str:
        """Adds an instruction with a result; its name."""
        name = f"%t{self.temporaries}"
        self.temporaries += 1
        self.lines.append(f"  {name} = {text}")
        return name

    def effect(self, text: str) -> None:
        """Adds an instruction without a result."""
        self.lines.append(f"  {text}")

    def slot(self, kind: str) -> str:
        """A new stack slot, made at the function's entry where mem2reg looks."""
        name = f"%s{len(self.allocas)}"
        self.allocas.append(f"  {name} = alloca {kind}")
        return name

    def call(self, function: str, dtype: str, operands: Iterable[str], flag: str = "") -> str:
        """A call of an intrinsic whose operands all have the result's type."""
        kind, operands = TYPES[dtype], list(operands)
        name = f"@llvm.{function}.{kind if kind[0] == 'i' else 'f' + str(BITS[dtype])}"
        self.declarations[f"declare {kind} {name}({', '.join([kind] * len(operands))})"] = None
        listed = ", ".join(f"{kind} {x}" for x in operands)
        return self.emit(f"call {flag}{kind} {name}({listed})")

    def text(self) -> str:
        """The whole module."""
        for i, line in enumerate(self.program.instructions):
            operands = [self.values[s] for s in line.src]
            handler: Callable[..., str] = getattr(self, f"render_{line.op}", self.arithmetic)
            self.values.append(handler(i, line, *operands))
        parameters = ", ".join(
            f"ptr noalias %p{i}" if dtype[0] == "*" else f"{TYPES[dtype]} %p{i}"
            for i, dtype in enumerate(self.program.signature)
        )
        said = attributes(self.vector_bits)
        head = f'define void @"{self.program.name}"({parameters}) nounwind{said} {{'
        body = [head, *self.allocas, *self.lines, "  ret void", "}"]
        return "\n".join([*self.declarations, *body, *self.metadata]) + "\n"

    def operand_type(self, line: Instruction, position: int = 0) -> str:
        """The dtype of an operand."""
        return self.program.instructions[line.src[position]].dtype

    def arithmetic(self, i: int, line: Instruction, *operands: str) -> str:
        """All operations that are an instruction or an intrinsic of their own."""
        return self.compute(line.op, line.dtype, *operands)

    def compute(self, op: str, dtype: str, *operands: str, flag: str = "") -> str:
        """One operation on named values."""
        listed = ", ".join(operands)
        if dtype == "bool" and op in ("max", "min"):
            op = {"max": "or", "min": "and"}[op]
        instruction = (FLOAT_OPS if dtype in FLOATS else INTEGER_OPS).get(op)
        if instruction:
            return self.emit(f"{instruction} {flag}{TYPES[dtype]} {listed}")
        intrinsics = FLOAT_INTRINSICS if dtype in FLOATS else INTEGER_INTRINSICS
        return self.call(intrinsics[op], dtype, operands, flag)

    def render_const(self, i: int, line: Instruction) -> str:
        return literal(line.arg, line.dtype)

    def render_param(self, i: int, line: Instruction) -> str:
        return f"%p{line.arg}"

    def render_neg(self, i: int, line: Instruction, x: str) -> str:
        kind = TYPES[line.dtype]
        return self.emit(f"fneg {kind} {x}" if line.dtype in FLOATS else f"sub {kind} 0, {x}")

    def render_abs(self, i: int, line: Instruction, x: str) -> str:
        if line.dtype in FLOATS:
            return self.compute("abs", line.dtype, x)
        return self.call("smax", line.dtype, [x, self.render_neg(i, line, x)])

    def render_sqrt(self, i: int, line: Instruction, x: str) -> str:
        """The instruction, or in a long loop of wide vectors what is faster."""
        wide = self.vector_bits == ESTIMATING and line.dtype == "f32"
        if not (wide and self.open and self.open[-1] in self.long):
            return self.compute("sqrt", line.dtype, x)
        self.estimating.add(self.open[-1])
        return self.root(x)

    def root(self, x: str) -> str:
        """The square root of an f32 from an estimate of 1 / sqrt(x), by a step of Goldschmidt's and
        one of Markstein's (IA-64 and Elementary Functions, 2000): rounded correctly, as tests show
        of all mantissas; below 2^-100, where the rest of the last step may be subnormal, 1 ulp.
        """
        half = literal(0.5, "f32")
        estimate = self.emit(f"fdiv arcp float 1.0, {self.compute('sqrt', 'f32', x)}")
        g = self.compute("mul", "f32", x, estimate)
        h = self.compute("mul", "f32", estimate, half)
        minus_g = self.emit(f"fneg float {g}")
        step = self.compute("fma", "f32", minus_g, h, half)
        g = self.compute("fma", "f32", g, step, g)
        h = self.compute("fma", "f32", h, step, h)
        minus_g = self.emit(f"fneg float {g}")
        root = self.compute("fma", "f32", self.compute("fma", "f32", minus_g, g, x), h, g)
        # zeros and infinity give nan by 0 * inf, and are their own roots
        lost = self.emit(f"fcmp uno float {root}, 0.0")
        own = self.emit(f"and i1 {lost}, {self.emit(f'fcmp oge float {x}, 0.0')}")
        return self.emit(f"select i1 {own}, float {x}, float {root}")

    def render_div(self, i: int, line: Instruction, x: str, y: str) -> str:
        """Integers: the quotient toward zero, one less if the remainder is negative."""
        if line.dtype in FLOATS:
            return self.compute("div", line.dtype, x, y)
        kind = TYPES[line.dtype]
        quotient = self.emit(f"sdiv {kind} {x}, {y}")
        remainder = self.emit(f"srem {kind} {x}, {y}")
        borrow = self.emit(f"ashr {kind} {remainder}, {BITS[line.dtype] - 1}")
        return self.emit(f"add {kind} {quotient}, {borrow}")

    def render_mod(self, i: int, line: Instruction, x: str, y: str) -> str:
        kind = TYPES[line.dtype]
        remainder = self.emit(f"srem {kind} {x}, {y}")
        borrow = self.emit(f"ashr {kind} {remainder}, {BITS[line.dtype] - 1}")
        return self.emit(f"add {kind} {remainder}, {self.emit(f'and {kind} {borrow}, {y}')}")

    def compare(self, i: int, line: Instruction, x: str, y: str) -> str:
        """Ordered comparisons; `ne` holds of nan."""
        dtype = self.operand_type(line)
        kind = "float" if dtype in FLOATS else "bool" if dtype == "bool" else "integer"
        word = "fcmp" if dtype in FLOATS else "icmp"
        return self.emit(f"{word} {COMPARE[kind][line.op]} {TYPES[dtype]} {x}, {y}")

    render_lt = render_le = render_eq = render_ne = compare

    def render_where(self, i: int, line: Instruction, condition: str, yes: str, no: str) -> str:
        kind = TYPES[line.dtype]
        return self.emit(f"select i1 {condition}, {kind} {yes}, {kind} {no}")

    def render_bitcast(self, i: int, line: Instruction, x: str) -> str:
        return self.emit(f"bitcast {TYPES[self.operand_type(line)]} {x} to {TYPES[line.dtype]}")

    def render_cast(self, i: int, line: Instruction, x: str) -> str:
        source, target = self.operand_type(line), line.dtype
        old, new = TYPES[source], TYPES[target]
        if target == "bool":
            zero = "fcmp une" if source in FLOATS else "icmp ne"
            return self.emit(f"{zero} {old} {x}, {'0.0' if source in FLOATS else '0'}")
        if source == "bf16":
            wide = self.emit(f"zext i16 {x} to i32")
            return self.emit(f"bitcast i32 {self.emit(f'shl i32 {wide}, 16')} to float")
        if target == "bf16":
            return self.round_to_bf16(x)
        if source in FLOATS and target in INTS:
            return self.float_to_integer(x, source, target)
        if source in INTS or source == "bool":
            extend = "zext" if source == "bool" else "trunc" if source == "i64" else "sext"
            return self.emit(f"{extend if target in INTS else TO_FLOAT[source]} {old} {x} to {new}")
        narrows = target == "f16" or (source, target) == ("f64", "f32")
        return self.emit(f"{'fptrunc' if narrows else 'fpext'} {old} {x} to {new}")

    def round_to_bf16(self, x: str) -> str:
        """The upper half of the bits, rounded to nearest even; nan stays nan."""
        bits = self.emit(f"bitcast float {x} to i32")
        upper = self.emit(f"lshr i32 {bits}, 16")
        bias = self.emit(f"add i32 {self.emit(f'and i32 {upper}, 1')}, 32767")
        rounded = self.emit(f"lshr i32 {self.emit(f'add i32 {bits}, {bias}')}, 16")
        quiet = self.emit(f"or i32 {upper}, 64")
        chosen = self.emit(
            f"select i1 {self.emit(f'fcmp uno float {x}, {x}')}, i32 {quiet}, i32 {rounded}"
        )
        return self.emit(f"trunc i32 {chosen} to i16")

    def float_to_integer(self, x: str, source: str, target: str) -> str:
        """Toward zero; out of range, where `fptosi` promises nothing, the smallest integer."""
        kind, half = TYPES[source], 2.0 ** (BITS[target] - 1)
        whole = self.call("trunc", source, [x])
        low = self.emit(f"fcmp oge {kind} {whole}, {literal(-half, source)}")
        high = self.emit(f"fcmp olt {kind} {whole}, {literal(half, source)}")
        inside = self.emit(f"and i1 {low}, {high}")
        converted = self.emit(f"fptosi {kind} {whole} to {TYPES[target]}")
        return self.emit(
            f"select i1 {inside}, {TYPES[target]} {converted}, {TYPES[target]} {-int(half)}"
        )

    def address(self, dtype: str, pointer: str, index: str) -> str:
        """The address of an element."""
        return self.emit(f"getelementptr inbounds {MEMORY[dtype]}, ptr {pointer}, i64 {index}")

    def masked(self, i: int, mask: str | None, access: Callable[[], None]) -> None:
        """Runs an access behind a branch if it has a mask."""
        if mask is None:
            access()
            return
        self.effect(f"br i1 {mask}, label %do{i}, label %done{i}")
        self.lines.append(f"do{i}:")
        access()
        self.effect(f"br label %done{i}")
        self.lines.append(f"done{i}:")

    def render_load(
        self,
        i: int,
        line: Instruction,
        pointer: str,
        index: str,
        mask: str | None = None,
        other: str = "",
    ) -> str:
        dtype, slot = line.dtype, None if mask is None else self.slot(TYPES[line.dtype])
        if slot:
            self.effect(f"store {TYPES[dtype]} {other}, ptr {slot}")
        loaded = ""

        def access() -> None:
            nonlocal loaded
            loaded = self.emit(f"load {MEMORY[dtype]}, ptr {self.address(dtype, pointer, index)}")
            if dtype == "bool":
                loaded = self.emit(f"icmp ne i8 {loaded}, 0")
            if slot:
                self.effect(f"store {TYPES[dtype]} {loaded}, ptr {slot}")

        self.masked(i, mask, access)
        return self.emit(f"load {TYPES[dtype]}, ptr {slot}") if slot else loaded

    def render_store(
        self,
        i: int,
        line: Instruction,
        pointer: str,
        index: str,
        value: str,
        mask: str | None = None,
    ) -> str:
        dtype = self.operand_type(line, 2)

        def access() -> None:
            stored = self.emit(f"zext i1 {value} to i8") if dtype == "bool" else value
            self.effect(
                f"store {MEMORY[dtype]} {stored}, ptr {self.address(dtype, pointer, index)}"
            )

        self.masked(i, mask, access)
        return ""

    def render_accumulator(self, i: int, line: Instruction, first: str) -> str:
        slot = self.slot(TYPES[line.dtype])
        self.effect(f"store {TYPES[line.dtype]} {first}, ptr {slot}")
        return slot

    def render_update(self, i: int, line: Instruction, slot: str, value: str) -> str:
        accumulator = self.program.instructions[line.src[0]]
        kind, order = accumulator.arg
        relaxed = order == "reassoc" and accumulator.dtype in FLOATS
        # of two zeros either may be the largest, which spares the sign's own test
        flag = ("nsz " if kind in ("max", "min") else "reassoc ") if relaxed else ""
        old = self.emit(f"load {TYPES[accumulator.dtype]}, ptr {slot}")
        new = self.compute(kind, accumulator.dtype, old, value, flag=flag)
        self.effect(f"store {TYPES[accumulator.dtype]} {new}, ptr {slot}")
        return ""

    def render_read(self, i: int, line: Instruction, slot: str) -> str:
        return self.emit(f"load {TYPES[line.dtype]}, ptr {slot}")

    def render_for(self, i: int, line: Instruction, start: str, stop: str) -> str:
        slot = self.counters[i] = self.slot("i64")
        self.effect(f"store i64 {start}, ptr {slot}")
        self.effect(f"br label %head{i}")
        self.lines.append(f"head{i}:")
        counter = self.emit(f"load i64, ptr {slot}")
        running = self.emit(f"icmp slt i64 {counter}, {stop}")
        self.effect(f"br i1 {running}, label %body{i}, label %exit{i}")
        self.lines.append(f"body{i}:")
        self.open.append(i)
        return counter

    def render_end(self, i: int, line: Instruction, counter: str) -> str:
        opened = line.src[0]
        self.open.pop()
        following = self.emit(f"add nsw i64 {counter}, 1")
        self.effect(f"store i64 {following}, ptr {self.counters[opened]}")
        hints = HINTS.get(self.program.instructions[opened].arg[1], [])
        if opened in self.estimating:
            hints = [*hints, LANES]
        self.effect(f"br label %head{opened}{self.loop_metadata(hints) if hints else ''}")
        self.lines.append(f"exit{opened}:")
        return ""

    def loop_metadata(self, hints: list[str]) -> str:
        """A reference to a new loop node with hints for the vectoriser."""
        at = len(self.metadata)
        named = range(at + 1, at + 1 + len(hints))
        self.metadata.append(f"!{at} = distinct !{{{', '.join(f'!{k}' for k in (at, *named))}}}")
        self.metadata += [f"!{k} = {hint}" for k, hint in zip(named, hints, strict=True)]
        return f", !llvm.loop !{at}"


def render_llvm(program: Program, vector_bits: int | None = None) -> str:
    """A module with one function `void name(parameters)`; pointers must not overlap.

    `vector_bits` is the SIMD width LLVM should prefer (512 where the machine is good at it).
    """
    return Renderer(program, vector_bits).text()
