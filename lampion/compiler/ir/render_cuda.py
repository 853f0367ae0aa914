"""Flat programs as CUDA C text for NVRTC: a table of expressions. May import ir.

Results are those of the interpreter: nothing is contracted (compile with --fmad=false), and signed
integers wrap. Needs no header: what C has no word for is a helper of PRELUDE.
"""

from __future__ import annotations

import math

from .node import FLOATS, INTS, Instruction, Program

TYPES = {
    "bool": "bool",
    "i32": "int",
    "i64": "long long",
    "f32": "float",
    "f64": "double",
    "bf16": "unsigned short",
    "f16": "unsigned short",
}

PRELUDE = """\
#define MAXIMUM(name, type) static __device__ type name(type a, type b) \\
  { return a == b ? (signbit(a) ? b : a) : (a > b || a != a) ? a : b; }
#define MINIMUM(name, type) static __device__ type name(type a, type b) \\
  { return a == b ? (signbit(a) ? a : b) : (a < b || a != a) ? a : b; }
#define FLOOR_DIVISION(name, type) static __device__ type name(type a, type b) \\
  { return a / b - (a % b < 0); }
#define FLOOR_REMAINDER(name, type) static __device__ type name(type a, type b) \\
  { return a % b + (a % b < 0 ? b : 0); }
#define TO_INTEGER(name, from, to, half) static __device__ to name(from x) \\
  { double w = trunc(x); return w >= -half && w < half ? (to)w : (to)(-half); }
MAXIMUM(maximum_f32, float) MAXIMUM(maximum_f64, double)
MINIMUM(minimum_f32, float) MINIMUM(minimum_f64, double)
FLOOR_DIVISION(divide_i32, int) FLOOR_DIVISION(divide_i64, long long)
FLOOR_REMAINDER(modulo_i32, int) FLOOR_REMAINDER(modulo_i64, long long)
TO_INTEGER(f32_to_i32, float, int, 2147483648.0f)
TO_INTEGER(f32_to_i64, float, long long, 9223372036854775808.0f)
TO_INTEGER(f64_to_i32, double, int, 2147483648.0)
TO_INTEGER(f64_to_i64, double, long long, 9223372036854775808.0)
static __device__ float bf16_to_f32(unsigned short x) { return __int_as_float((int)x << 16); }
static __device__ unsigned short f32_to_bf16(float x) {
  unsigned int bits = (unsigned int)__float_as_int(x), upper = bits >> 16;
  return (unsigned short)(x != x ? upper | 64u : (bits + 32767u + (upper & 1u)) >> 16);
}
#ifdef __CUDACC__
static __device__ float f16_to_f32(unsigned short x)
  { float y; asm("cvt.f32.f16 %0, %1;" : "=f"(y) : "h"(x)); return y; }
static __device__ unsigned short f32_to_f16(float x)
  { unsigned short y; asm("cvt.rn.f16.f32 %0, %1;" : "=h"(y) : "f"(x)); return y; }
#endif
"""

# {t}: the result's type, {u}: its unsigned twin, {d}: its short name, {f}: the C functions' suffix.
EXPRESSIONS = {
    "neg": "(-{0})",
    "and": "({t})({0} & {1})",
    "or": "({t})({0} | {1})",
    "xor": "({t})({0} ^ {1})",
    "shr": "({0} >> {1})",
    "lt": "({0} < {1})",
    "le": "({0} <= {1})",
    "eq": "({0} == {1})",
    "ne": "({0} != {1})",
    "where": "({0} ? {1} : {2})",
}
FLOAT_EXPRESSIONS = {
    "add": "({0} + {1})",
    "sub": "({0} - {1})",
    "mul": "({0} * {1})",
    "div": "({0} / {1})",
    "max": "maximum_{d}({0}, {1})",
    "min": "minimum_{d}({0}, {1})",
    "fma": "fma{f}({0}, {1}, {2})",
    "abs": "fabs{f}({0})",
    "round": "rint{f}({0})",
    **{op: f"{op}{{f}}({{0}})" for op in ("sqrt", "floor", "ceil", "trunc")},
}
INTEGER_EXPRESSIONS = {
    "neg": "({t})(0 - ({u}){0})",
    "add": "({t})(({u}){0} + ({u}){1})",
    "sub": "({t})(({u}){0} - ({u}){1})",
    "mul": "({t})(({u}){0} * ({u}){1})",
    "shl": "({t})(({u}){0} << {1})",
    "abs": "({t})({0} < 0 ? 0 - ({u}){0} : ({u}){0})",
    "max": "({0} > {1} ? {0} : {1})",
    "min": "({0} < {1} ? {0} : {1})",
    "div": "divide_{d}({0}, {1})",
    "mod": "modulo_{d}({0}, {1})",
}
BOOL_EXPRESSIONS = {"max": "({0} || {1})", "min": "({0} && {1})"}
BITCASTS = {
    "i32": "__float_as_int({0})",
    "f32": "__int_as_float({0})",
    "i64": "__double_as_longlong({0})",
    "f64": "__longlong_as_double({0})",
}


def literal(value: float, dtype: str) -> str:
    """A constant; floats in hexadecimal, nan and inf by their bits."""
    if dtype == "bool":
        return str(value).lower()
    if dtype in INTS:
        suffix = "LL" if dtype == "i64" else ""
        smallest = -(1 << (63 if suffix else 31))
        return f"({smallest + 1}{suffix} - 1)" if value == smallest else f"({value}{suffix})"
    if math.isfinite(value):
        return f"({float(value).hex()}{'f' if dtype == 'f32' else ''})"
    bits = 0x7FF8000000000000 if math.isnan(value) else 0x7FF0000000000000
    if dtype == "f64":
        text = f"__longlong_as_double(0x{bits:X}LL)"
    else:
        text = f"__int_as_float(0x{0x7FC00000 if math.isnan(value) else 0x7F800000:X})"
    return f"(-{text})" if math.copysign(1.0, value) < 0 else text


def expression(op: str, dtype: str, *operands: str) -> str:
    """One operation as C."""
    own = (
        FLOAT_EXPRESSIONS
        if dtype in FLOATS
        else INTEGER_EXPRESSIONS
        if dtype in INTS
        else BOOL_EXPRESSIONS
    )
    kind = TYPES[dtype]
    template = own.get(op) or EXPRESSIONS[op]
    return template.format(
        *operands, t=kind, u=f"unsigned {kind}", d=dtype, f="f" if dtype == "f32" else ""
    )


def cast(source: str, target: str, x: str) -> str:
    """A conversion as C."""
    named = (source in FLOATS and target in INTS) or {"bf16", "f16"} & {source, target}
    if named:
        return f"{source}_to_{target}({x})"
    return f"({x} != 0)" if target == "bool" else f"({TYPES[target]}){x}"


class Renderer:
    """The text of one kernel: lines so far, and the C text of every value."""

    def __init__(self, program: Program) -> None:
        self.program = program
        self.values: list[str] = []
        self.lines: list[str] = []
        self.depth = 1

    def write(self, text: str) -> None:
        """Adds a line."""
        self.lines.append("  " * self.depth + text)

    def define(self, i: int, dtype: str, text: str) -> str:
        """Adds the definition of a value; its name."""
        self.write(f"{TYPES[dtype]} v{i} = {text};")
        return f"v{i}"

    def text(self) -> str:
        """The whole source."""
        for i, line in enumerate(self.program.instructions):
            operands = [self.values[s] for s in line.src]
            handler = getattr(self, f"render_{line.op}", self.arithmetic)
            self.values.append(handler(i, line, *operands))
        parameters = ", ".join(
            f"{TYPES[dtype[1:]]}* __restrict__ p{i}" if dtype[0] == "*" else f"{TYPES[dtype]} p{i}"
            for i, dtype in enumerate(self.program.signature)
        )
        head = f'extern "C" __global__ void {self.program.name}({parameters}) {{'
        return "\n".join([PRELUDE + head, *self.lines, "}"]) + "\n"

    def dtype_of(self, position: int) -> str:
        """The type of an earlier line."""
        return self.program.instructions[position].dtype

    def arithmetic(self, i: int, line: Instruction, *operands: str) -> str:
        return self.define(i, line.dtype, expression(line.op, line.dtype, *operands))

    def render_const(self, i: int, line: Instruction) -> str:
        return literal(line.arg, line.dtype)

    def render_param(self, i: int, line: Instruction) -> str:
        return f"p{line.arg}"

    def render_cast(self, i: int, line: Instruction, x: str) -> str:
        return self.define(i, line.dtype, cast(self.dtype_of(line.src[0]), line.dtype, x))

    def render_bitcast(self, i: int, line: Instruction, x: str) -> str:
        return self.define(i, line.dtype, BITCASTS[line.dtype].format(x))

    def render_load(
        self, i: int, line: Instruction, pointer: str, index: str, mask: str = "", other: str = ""
    ) -> str:
        access = f"{pointer}[{index}]"
        return self.define(i, line.dtype, f"{mask} ? {access} : {other}" if mask else access)

    def render_store(
        self, i: int, line: Instruction, pointer: str, index: str, value: str, mask: str = ""
    ) -> str:
        self.write(f"{f'if ({mask}) ' if mask else ''}{pointer}[{index}] = {value};")
        return ""

    def render_accumulator(self, i: int, line: Instruction, first: str) -> str:
        return self.define(i, line.dtype, first)

    def render_update(self, i: int, line: Instruction, accumulator: str, value: str) -> str:
        opened = self.program.instructions[line.src[0]]
        self.write(
            f"{accumulator} = {expression(opened.arg[0], opened.dtype, accumulator, value)};"
        )
        return ""

    def render_read(self, i: int, line: Instruction, accumulator: str) -> str:
        return self.define(i, line.dtype, accumulator)

    def render_for(self, i: int, line: Instruction, start: str, stop: str) -> str:
        """A grid loop is spread over the threads, in several passes if there are too few."""
        first, step = start, "1"
        if line.arg[1] == "grid":
            first = f"{start} + (long long)blockIdx.x * blockDim.x + threadIdx.x"
            step = "(long long)gridDim.x * blockDim.x"
        self.write(f"for (long long v{i} = {first}; v{i} < {stop}; v{i} += {step}) {{")
        self.depth += 1
        return f"v{i}"

    def render_end(self, i: int, line: Instruction, counter: str) -> str:
        self.depth -= 1
        self.write("}")
        return ""


def render_cuda(program: Program) -> str:
    """CUDA C with one kernel `name(parameters)`, right on any grid; pointers must not overlap."""
    return Renderer(program).text()
