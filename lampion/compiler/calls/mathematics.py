"""Mathematical functions in compiled calls: the straight-line formulas of `ir.mathematics` as code,
without branches, so that LLVM runs loops around them as SIMD lanes. Imports ir and emit.
"""

from __future__ import annotations

from ..ir import mathematics
from ..ir.node import FLOATS, Node, parameter
from ..ir.render_llvm import (
    COMPARE,
    FLOAT_INTRINSICS,
    FLOAT_OPS,
    INTEGER_OPS,
    TO_FLOAT,
    TYPES,
    literal,
)
from ..native.emit import Function, Module, Value, lanes_of, suffix_of, vector

FUNCTIONS = ("exp", "expm1", "log", "log1p", "tanh", "erf")
DTYPES = {"float": "f32", "double": "f64"}


def called(f: Function, name: str, x: Value) -> Value:
    """One of `FUNCTIONS` of floats or doubles, inlined; of others that of C's library, of one."""
    if name not in FUNCTIONS:
        return f.call(x.type, name + ("f" if x.type == "float" else ""), x)
    full = f"{name}_{suffix_of(x.type)}"
    if full not in f.module.functions:
        write_function(f.module, name, full, x.type)
    return f.call(x.type, full, x)


def write_function(module: Module, name: str, full: str, type: str) -> None:
    """`exp_f32(x)`, `exp_v16f32(x)`, ..."""
    made = module.function(full, type, True)
    made.parameters["x"] = Value(made, type, "%x")
    made.head = f"define internal {type} @{full}({type} %x) alwaysinline"
    scalar = type.split(" x ")[-1].rstrip(">")
    leaf = parameter(0, DTYPES[scalar])
    root = getattr(mathematics, name)(leaf)
    values = {leaf: made["x"]}
    for node in root.toposort():
        if node not in values:
            values[node] = value_of(made, node, [values[s] for s in node.src])
    made.ret(values[root])


def value_of(f: Function, node: Node, operands: list[Value]) -> Value:
    """The value of one node, in as many lanes as the function's."""
    kind, op = typed(f, node.dtype), node.op
    if op == "const":
        one = Value(f, TYPES[node.dtype], literal(node.arg, node.dtype))
        return one if kind == one.type else f.splat(one, lanes_of(kind))
    if op == "where":
        return f.select(operands[0], operands[1], operands[2])
    if op == "bitcast":
        return f.convert("bitcast", operands[0], kind)
    if op == "cast":
        return cast(f, node, operands[0], kind)
    if op == "neg":
        return -operands[0]
    names = [str(operands[0]), *[v.name for v in operands[1:]]]
    if op in COMPARE["float"]:
        source = node.src[0].dtype
        real = source in FLOATS
        words = COMPARE["float" if real else "bool" if source == "bool" else "integer"]
        return f.emit(kind, f"{'fcmp' if real else 'icmp'} {words[op]} {', '.join(names)}")
    instruction = (FLOAT_OPS if node.dtype in FLOATS else INTEGER_OPS).get(op)
    if instruction is not None:
        return f.emit(kind, f"{instruction} {', '.join(names)}")
    return f.call(kind, f"llvm.{FLOAT_INTRINSICS[op]}.{suffix_of(kind)}", *operands)


def typed(f: Function, dtype: str) -> str:
    """The type of values of a function: its lanes."""
    lanes = lanes_of(f["x"].type)
    return TYPES[dtype] if lanes == 1 else vector(lanes, TYPES[dtype])


def cast(f: Function, node: Node, x: Value, kind: str) -> Value:
    """A number in another type: of floats, or of integers to floats."""
    source = node.src[0].dtype
    if source == node.dtype:
        return x
    if source in FLOATS:
        return f.convert("fpext" if node.dtype == "f64" else "fptrunc", x, kind)
    return f.convert(TO_FLOAT[source], x, kind)
