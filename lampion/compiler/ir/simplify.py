"""Simplification that changes no bit of a result: folding, identities, index arithmetic, dead code.

May import ir, rewrite, interpret, specification. Floats keep -0.0, nan and inf, so x + 0.0, x * 0.0
and x - x stay; integers wrap, so sums have one affine form. Equal parts are one node anyway.
"""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable

from .interpret import evaluate
from .node import BITS, FLOATS, INTS, NUMPY, Node, constant, reduction_identity
from .rewrite import Rules, rewrite
from .specification import EXPRESSIONS, verified

SIMPLIFY = Rules()
rule = SIMPLIFY.add
FOLDABLE = [op for op in EXPRESSIONS if op not in ("const", "param", "load", "store")]
WIDENING = {("i32", "i64"), ("i32", "f64"), ("f32", "f64"), ("bf16", "f32"), ("f16", "f32")}
Bounds = tuple[int, int]
known_bounds: weakref.WeakKeyDictionary[Node, Bounds | None] = weakref.WeakKeyDictionary()


def is_constant(node: Node, value: float) -> bool:
    """Is this the constant `value`, its sign included?"""
    if node.op != "const" or node.arg != value:
        return False
    return node.dtype not in FLOATS or math.copysign(1, node.arg) == math.copysign(1, value)


@rule(*FOLDABLE)
def fold(node: Node) -> Node | None:
    """An operation on constants is a constant; bf16 and f16 have none."""
    if any(s.op != "const" for s in node.src) or node.dtype not in BITS and node.dtype != "bool":
        return None
    values = (NUMPY[s.dtype](s.arg) for s in node.src)
    return constant(evaluate(node.op, node.dtype, *values).item(), node.dtype)


@rule("add", "mul", "max", "min", "and", "or", "xor", "eq", "ne")
def constant_to_the_right(node: Node) -> Node | None:
    """These commute."""
    x, y = node.src
    return node.with_src((y, x)) if x.op == "const" and y.op != "const" else None


@rule("add", "sub", "mul", "div")
def float_identity(node: Node) -> Node | None:
    """x + -0, x - 0, x * 1, x / 1 are x; x * -1 and x / -1 are -x; division by 2^n is a product."""
    x, y = node.src
    if node.dtype not in FLOATS or y.op != "const":
        return None
    if node.op in ("add", "sub"):
        return x if is_constant(y, -0.0 if node.op == "add" else 0.0) else None
    if abs(y.arg) == 1:
        return x if y.arg == 1 else -x
    if node.op == "div" and abs(math.frexp(y.arg)[0]) == 0.5 and 2.0**-100 < abs(y.arg) < 2.0**100:
        return x * (1 / y.arg)
    return None


@rule("fma")
def fma_identity(node: Node) -> Node | None:
    """x * 1 + z is x + z, x * y + -0 is x * y."""
    x, y, z = node.src
    if is_constant(z, -0.0):
        return x * y
    return next((a + z for a, b in ((x, y), (y, x)) if is_constant(b, 1.0)), None)


@rule("neg", "abs", "floor", "ceil", "trunc", "round", "cast", "bitcast")
def unary_of_unary(node: Node) -> Node | None:
    """-(-x), |-x|, rounding twice, casts to x's own type and back from a wider one."""
    (x,) = node.src
    inner = x.src[0] if len(x.src) == 1 else None
    if node.op == "cast":
        if x.op != "cast" or inner is None or inner.dtype != node.dtype:
            return None
        return inner if (inner.dtype, x.dtype) in WIDENING or inner.dtype == "bool" else None
    if node.op == "bitcast":
        return inner if x.op == "bitcast" else None
    if node.op == "neg":
        return inner if x.op == "neg" else None
    if node.op == "abs":
        return abs(inner) if x.op in ("neg", "abs") and inner is not None else None
    return x if x.op in ("floor", "ceil", "trunc", "round") else None


@rule("max", "min", "and", "or")
def idempotent(node: Node) -> Node | None:
    """x op x is x; and the neutral and the absorbing truth value."""
    x, y = node.src
    if x is y:
        return x
    if node.dtype == "bool" and y.op == "const":
        return x if y.arg == (node.op in ("and", "min")) else y
    return None


@rule("where")
def where_identity(node: Node) -> Node | None:
    """A known or negated condition, or two equal branches."""
    condition, yes, no = node.src
    if yes is no:
        return yes
    if condition.op == "const":
        return yes if condition.arg else no
    if condition.op == "xor" and is_constant(condition.src[1], True):
        return node.with_src((condition.src[0], no, yes))
    return None


def terms_of(node: Node) -> tuple[dict[Node, int], int]:
    """An integer as {term: coefficient} and a constant."""
    terms: dict[Node, int] = {}
    total, work = 0, [(node, 1)]
    while work:
        n, factor = work.pop()
        if n.op == "const":
            total += factor * n.arg
        elif n.op in ("add", "sub"):
            work += [(n.src[1], factor if n.op == "add" else -factor), (n.src[0], factor)]
        elif n.op == "neg":
            work.append((n.src[0], -factor))
        elif n.op == "mul" and n.src[1].op == "const":
            work.append((n.src[0], factor * n.src[1].arg))
        else:
            terms[n] = terms.get(n, 0) + factor
    return {t: c for t, c in terms.items() if c}, total


def sum_of(terms: dict[Node, int], total: int, dtype: str) -> Node:
    """t1 * c1 + t2 * c2 + ... + total: the one form of an integer sum."""
    products = [t if c == 1 else t * constant(c, dtype) for t, c in terms.items()]
    if not products:
        return constant(total, dtype)
    result = products[0]
    for product in products[1:]:
        result = result + product
    return result + constant(total, dtype) if total else result


@rule("add", "sub", "mul", "neg")
def affine(node: Node) -> Node | None:
    """Integer sums in their one form; exact, since integers wrap."""
    if node.dtype not in INTS or (node.op == "mul" and node.src[1].op != "const"):
        return None
    terms, total = terms_of(node)
    wrapped = {t: constant(c, node.dtype).arg for t, c in terms.items()}
    return sum_of(
        {t: c for t, c in wrapped.items() if c}, constant(total, node.dtype).arg, node.dtype
    )


# The extremes of an operation, if the first operand lies in [a, b] and the last in [c, d].
CORNERS: dict[str, Callable[[int, int, int, int], tuple[int, ...]]] = {
    "range": lambda a, b, c, d: (a, d - 1),
    "add": lambda a, b, c, d: (a + c, b + d),
    "sub": lambda a, b, c, d: (a - d, b - c),
    "neg": lambda a, b, c, d: (-b, -a),
    "mul": lambda a, b, c, d: (a * c, a * d, b * c, b * d),
    "div": lambda a, b, c, d: (a // c, b // c),
    "cast": lambda a, b, c, d: (a, b),
}


def find_bounds(node: Node) -> Bounds | None:
    """The least and the largest value an integer can have, from those of its operands."""
    if node.op == "const":
        return node.arg, node.arg
    inner = [known_bounds[s] for s in node.src]
    if node.op == "cast" and node.src[0].dtype == "bool":
        return 0, 1
    if node.op == "mod":
        span, modulus = inner[0], node.src[1].arg
        return span if span and span[0] >= 0 and span[1] < modulus else (0, modulus - 1)
    if node.op == "where":
        inner = inner[1:]
    if not inner or any(b is None for b in inner):
        return None
    known = [b for b in inner if b is not None]
    (a, b), (c, d) = known[0], known[-1]
    if node.op in ("max", "min", "where"):
        pick_low, pick_high = {"max": (max, max), "min": (min, min)}.get(node.op, (min, max))
        return pick_low(a, c), pick_high(b, d)
    corners = CORNERS.get(node.op)
    if corners is None:
        return None
    values = corners(a, b, c, d)
    low, high = min(values), max(values)
    half = 1 << (BITS[node.dtype] - 1)
    return (low, high) if -half <= low and high < half else None


def bounds(root: Node) -> Bounds | None:
    """The interval an integer lies in, None if it is not known."""
    if root not in known_bounds:
        for node in root.toposort():
            if node not in known_bounds:
                known_bounds[node] = find_bounds(node) if node.dtype in INTS else None
    return known_bounds[root]


@rule("div", "mod")
def divide_integers(node: Node) -> Node | None:
    """(a * c + b) // c is a + b // c where nothing wraps; x // a // b is one division."""
    x, c = node.src
    if node.dtype not in INTS or c.op != "const" or c.arg <= 0:
        return None
    divides, dtype = node.op == "div", node.dtype
    if c.arg == 1:
        return x if divides else constant(0, dtype)
    span = bounds(x)
    if span and span[0] >= 0 and span[1] < c.arg:
        return constant(0, dtype) if divides else x
    if x.op == node.op:
        inner = x.src[1].arg
        if divides and inner * c.arg < 1 << (BITS[dtype] - 1):
            return x.src[0] // (inner * c.arg)
        if not divides and inner % c.arg == 0:
            return Node("mod", dtype, (x.src[0], c))
    terms, total = terms_of(x)
    whole = {t: k // c.arg for t, k in terms.items() if k % c.arg == 0}
    rest = {t: k for t, k in terms.items() if t not in whole}
    remainder = sum_of(rest, total % c.arg, dtype)
    parts = [bounds(n) for n in (sum_of(whole, 0, dtype), remainder, x)]
    if any(p is None for p in parts) or not (whole or total != total % c.arg):
        return None
    if not divides:
        return Node("mod", dtype, (remainder, c))
    return sum_of(whole, total // c.arg, dtype) + Node("div", dtype, (remainder, c))


@rule("add")
def quotient_and_remainder(node: Node) -> Node | None:
    """(x // c) * c + x % c is x."""
    if node.dtype not in INTS:
        return None
    terms, total = terms_of(node)
    for r, k in terms.items():
        if r.op == "mod":
            q = Node("div", r.dtype, r.src)
            if terms.get(q) == k * r.src[1].arg:
                rest = {t: v for t, v in terms.items() if t not in (q, r)}
                rest[r.src[0]] = rest.get(r.src[0], 0) + k
                return sum_of(rest, total, r.dtype)
    return None


@rule("lt", "le", "eq", "ne")
def compare_integers(node: Node) -> Node | None:
    """What the operands' bounds decide."""
    x, y = (bounds(s) if s.dtype in INTS else None for s in node.src)
    if x is None or y is None:
        return None
    apart = x[1] < y[0] or y[1] < x[0]
    always = {"lt": x[1] < y[0], "le": x[1] <= y[0], "eq": False, "ne": apart}[node.op]
    never = {"lt": y[1] <= x[0], "le": y[1] < x[0], "eq": apart, "ne": False}[node.op]
    return constant(always, "bool") if always or never else None


@rule("load", "store")
def masked_access(node: Node) -> Node | None:
    """A mask that always holds is none; a load that never happens is its other value."""
    at = 2 if node.op == "load" else 3
    if len(node.src) <= at or node.src[at].op != "const":
        return None
    if node.src[at].arg:
        return node.with_src(node.src[:at])
    return node.src[3] if node.op == "load" else None


@rule("range")
def single_step(node: Node) -> Node | None:
    """The counter of a loop that runs once is a constant."""
    start, stop = node.src
    return start if start.op == stop.op == "const" and stop.arg == start.arg + 1 else None


def never_runs(range_: Node) -> bool:
    """Is this the range of a loop that runs zero times?"""
    return (
        range_.op == "range"
        and all(b.op == "const" for b in range_.src)
        and (range_.src[1].arg <= range_.src[0].arg)
    )


@rule("reduce")
def trivial_reduction(node: Node) -> Node | None:
    """Over nothing: the identity; over one element: that (and a sum's 0.0 + x)."""
    value, *ranges = node.src
    if any(map(never_runs, ranges)):
        return reduction_identity(node.arg[0], node.dtype)
    left = [r for r in ranges if r.op == "range"]
    if left:
        return node.with_src((value, *left))
    if node.arg[0] == "add" and node.dtype in FLOATS:
        return value + 0.0
    return value


def is_dead(statement: Node) -> bool:
    """Does a statement do nothing: a loop without steps or body, a store never made?"""
    if statement.op == "loop":
        return len(statement.src) == 1 or never_runs(statement.src[0])
    return len(statement.src) == 4 and is_constant(statement.src[3], False)


@rule("loop", "program")
def statements(node: Node) -> Node | None:
    """Drops dead statements and puts the body of a loop that runs once in its place."""
    first = [node.src[0]] if node.op == "loop" else []
    body: list[Node] = []
    for statement in node.src[len(first) :]:
        single = statement.op == "loop" and statement.src[0].op != "range"
        if not is_dead(statement):
            body += statement.src[1:] if single else [statement]
    return node.with_src((*first, *body))


def simplify(root: Node) -> Node:
    """The same program, or expression, with less to do; verified under `config.flags.check`."""
    return verified(rewrite(root, SIMPLIFY), "simplify")
