"""Einstein's summation. May import rules, matmul, earlier families, core and the base.

What an equation asks of operands of certain shapes is found out once: for each operand the views
and sums on its way to a product, and the products from left to right.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from ..core.promotion import CAST
from ..core.tensor import Tensor
from ..errors import check
from .matmul import bmm, matmul
from .rules import public

Steps = list[tuple[str, tuple]]  # names of methods, and their arguments


class Stage(NamedTuple):
    """What happens to an operand before its product with those before it, and to these.

    product  "matmul", "bmm" or "mul"; "" for the first operand
    """

    operand: Steps
    before: Steps
    product: str


@public(method=False)
def einsum(equation: Any, *operands: Any) -> Tensor:
    """Sums of products by Einstein's convention: letters name dimensions, those not in the result
    are summed.

    >>> torch.einsum("ij,jk->ik", torch.ones(2, 3), torch.ones(3, 4)).shape
    torch.Size([2, 4])
    """
    if not isinstance(equation, str):
        equation, operands = equation_of_sublists((equation, *operands))
    if len(operands) == 1 and isinstance(operands[0], (list, tuple)):
        operands = tuple(operands[0])
    check(len(operands) > 0, "einsum(): must provide at least one operand")
    stages, after = plan(equation, *[x._data.shape for x in operands])
    out = operands[0]
    for x, stage in zip(operands, stages, strict=True):
        x = walk(x, stage.operand)
        out = multiply(walk(out, stage.before), x, stage.product) if stage.product else x
    return walk(out, after)


def walk(x: Tensor, steps: Steps) -> Tensor:
    """The tensor after all steps."""
    for name, args in steps:
        x = getattr(x, name)(*args)
    return x


def multiply(x: Tensor, y: Tensor, product: str) -> Tensor:
    """The product of two operands in their common type."""
    if x._data.dtype != y._data.dtype:
        kind = (x.new_zeros(()) + y.new_zeros(())).dtype
        x, y = (t if t.dtype == kind else CAST(t, dtype=kind) for t in (x, y))
    return matmul(x, y) if product == "matmul" else bmm(x, y) if product == "bmm" else x * y


# -- equations ---------------------------------------------------------------------------------


def equation_of_sublists(items: tuple) -> tuple[str, tuple]:
    """The string form of `einsum(x, [0, 1], y, [1, 2], [0, 2])`."""
    letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz"

    def spell(names: Sequence) -> str:
        return "".join("..." if n is Ellipsis else letters[n] for n in names)

    operands, lists = items[: len(items) // 2 * 2 : 2], items[1 : len(items) // 2 * 2 : 2]
    equation = ",".join(spell(s) for s in lists)
    return (equation + "->" + spell(items[-1]) if len(items) % 2 else equation), operands


def parse_equation(equation: str, shapes: Sequence[tuple]) -> tuple[list[list[str]], list[str]]:
    """The names of each operand's dimensions and of the result's;
    an ellipsis becomes names of its own.
    """
    left, arrow, right = equation.partition("->")
    texts = left.split(",")
    check(
        len(texts) == len(shapes),
        lambda: (
            "einsum(): more operands were provided than specified in the equation: "
            f"{len(shapes)} for {equation!r}"
        ),
    )
    longest = max(
        (
            len(shape) - len(t.replace("...", ""))
            for t, shape in zip(texts, shapes, strict=True)
            if "..." in t
        ),
        default=0,
    )
    dots = [f".{i}" for i in range(longest)]
    terms = []
    for text, shape in zip(texts, shapes, strict=True):
        before, ellipsis, after = text.partition("...")
        count = len(shape) - len(before) - len(after)
        check(
            count == 0 or (ellipsis and count > 0),
            lambda: (
                f"einsum(): the number of subscripts in the equation ({len(before) + len(after)}) "
                f"does not match the number of dimensions ({len(shape)}) for operand {text!r}"
            ),
        )
        terms.append([*before, *(dots[longest - count :] if count else []), *after])
        check(
            all(c.isalpha() for c in before + after),
            lambda: f"einsum(): invalid subscript given in {text!r}",
        )
    if arrow:
        before, ellipsis, after = right.partition("...")
        result = [*before, *(dots if ellipsis else []), *after]
    else:
        counts: dict[str, int] = {}
        for name in left.replace("...", "").replace(",", ""):
            counts[name] = counts.get(name, 0) + 1
        result = dots + sorted(n for n, k in counts.items() if k == 1)
    for name in result:
        check(
            any(name in t for t in terms),
            lambda: (
                f"einsum(): output subscript {name} does not appear in the equation for any input "
                "operand"
            ),
        )
    return terms, result


def dimension_sizes(terms: list[list[str]], shapes: Sequence[tuple]) -> dict[str, int]:
    """The size of each named dimension; sizes of 1 broadcast."""
    sizes: dict[str, int] = {}
    for term, shape in zip(terms, shapes, strict=True):
        for name, n in zip(term, shape, strict=True):
            have = sizes.get(name, 1)
            check(
                n == have or 1 in (n, have),
                lambda: (
                    f"einsum(): subscript {name} has size {n} for an operand which does not "
                    f"broadcast with previously seen size {have}"
                ),
            )
            sizes[name] = n if have == 1 else have
    return sizes


# -- plans -------------------------------------------------------------------------------------


class Operand:
    """An operand on its way to a product: the names and sizes of its dimensions, and its steps."""

    def __init__(self, names: Sequence[str], shape: Sequence[int]) -> None:
        self.names, self.shape, self.steps = list(names), list(shape), Steps()

    def take_diagonals(self) -> None:
        """Reduces each repeated name to its diagonal."""
        for name in dict.fromkeys(self.names):
            while self.names.count(name) > 1:
                i = self.names.index(name)
                j = self.names.index(name, i + 1)
                size, other = self.shape[i], self.shape[j]
                check(
                    size == other,
                    lambda name=name, size=size, other=other: (
                        f"einsum(): subscript {name} is repeated for operand but the sizes don't "
                        f"match, {other} != {size}"
                    ),
                )
                self.steps.append(("diagonal", (0, i, j)))
                left = [k for k in range(len(self.names)) if k not in (i, j)]
                self.names = [self.names[k] for k in left] + [name]
                self.shape = [self.shape[k] for k in left] + [size]

    def sum_over(self, done: list[str]) -> None:
        """Sums over the named dimensions."""
        if not done:
            return
        self.steps.append(("sum", ([self.names.index(n) for n in done],)))
        self.shape = [s for n, s in zip(self.names, self.shape, strict=True) if n not in done]
        self.names = [n for n in self.names if n not in done]

    def permute(self, order: list[str]) -> None:
        """Brings the dimensions into an order."""
        if order != self.names:
            places = [self.names.index(n) for n in order]
            self.steps.append(("permute", (places,)))
            self.names, self.shape = order, [self.shape[i] for i in places]

    def arrange(self, groups: list[list[str]], sizes: dict[str, int], common: list[str]) -> None:
        """Brings the dimensions into groups, each flattened; shared ones are broadcast to their
        size.
        """
        self.permute([n for g in groups for n in g])
        pairs = list(zip(self.names, self.shape, strict=True))
        whole = [sizes[n] if n in common else s for n, s in pairs]
        if whole != self.shape:
            self.steps.append(("expand", (whole,)))
        self.shape = whole
        self.reshape([math.prod([sizes[n] for n in g]) for g in groups])

    def reshape(self, shape: list[int]) -> None:
        """Gives the dimensions other sizes; their names are lost."""
        if shape != self.shape:
            self.steps.append(("reshape", (shape,)))


@functools.lru_cache(1024)
def plan(equation: str, *shapes: tuple[int, ...]) -> tuple[list[Stage], Steps]:
    """What to do with each operand, and with the last product."""
    terms, result = parse_equation(equation.replace(" ", ""), shapes)
    sizes = dimension_sizes(terms, shapes)
    stages: list[Stage] = []
    out = Operand((), ())
    for i, (term, shape) in enumerate(zip(terms, shapes, strict=True)):
        x = Operand(term, shape)
        x.take_diagonals()
        later = {n for t in terms[i + 1 :] for n in t} | set(result)
        x.sum_over([n for n in x.names if n not in later and n not in out.names])
        if not i:
            stages.append(Stage(x.steps, [], ""))
            out = Operand(x.names, x.shape)
            continue
        keep = [n for n in dict.fromkeys([*out.names, *x.names]) if n in later]
        product, made = contract(out, x, keep, sizes)
        stages.append(Stage(x.steps, out.steps, product))
        out = made
    order = [out.names.index(n) for n in result]
    if len(stages) == 1 or order != sorted(order):  # the result is never an operand itself
        out.steps.append(("permute", (order,)))
    return stages, out.steps


def contract(x: Operand, y: Operand, keep: list[str], sizes: dict[str, int]) -> tuple[str, Operand]:
    """The kind of product that two operands are made ready for, and its result."""
    common = [n for n in x.names if n in y.names]
    batch = [n for n in common if n in keep]
    summed = [n for n in common if n not in keep]
    right = [n for n in y.names if n not in x.names]
    x.sum_over([n for n in x.names if n not in y.names and n not in keep])
    left = [n for n in x.names if n not in common]
    names = [*batch, *left, *right]
    made = Operand(names, [sizes[n] for n in names])
    if not summed:
        x.permute([*batch, *left])
        y.permute([*batch, *right])
        x.reshape([*x.shape, *[1] * len(right)])
        y.reshape([*y.shape[: len(batch)], *[1] * len(left), *y.shape[len(batch) :]])
        return "mul", made
    lead = [batch] if batch else []
    x.arrange([*lead, left, summed], sizes, common)
    y.arrange([*lead, summed, right], sizes, common)
    flat = [math.prod([sizes[n] for n in g]) for g in (*lead, left, right)]
    if flat != made.shape:
        made.steps.append(("reshape", (made.shape,)))
    return "bmm" if batch else "matmul", made
