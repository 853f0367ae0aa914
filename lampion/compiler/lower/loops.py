"""A group of values as a kernel: loops, reductions and stores in IR. May import the other lower_
files, fuse, kernels and ir.

Rows: loops over what is kept, outermost first, inside each a loop per reduction that needs those
before it and one for the stores; LLVM runs the innermost as SIMD lanes. Columns, where the
innermost dimension is kept: rows of the source are added to a row of results, a few at a time.
"""

from __future__ import annotations

from collections.abc import Callable
from math import prod

from ..ir.node import (
    FLOATS,
    Node,
    constant,
    loop,
    loop_range,
    parameter,
    program,
    reduce,
    reduction_identity,
    store,
)
from ..ir.rewrite import substitute
from ..ir.specification import verified
from ..trace.graph import Value, contiguous_strides
from .definitions import Call, Definitions
from .fuse import Group, is_simple_column, space
from .index import Counter, Index, as_node, count, digits
from .keep import LONGEST, kept_in_results
from .kernels import Buffer, Generated, Kernel
from .reduce import COMBINE, Reduction, as_ordered, from_ordered
from .scalar import rounded, storage_type, value_type
from .values import Alias, Map, Reader

Buffers = Callable[[Value], Buffer]
ROWS_AT_ONCE = 8  # of a column reduction


class Unmade(Exception):
    """A value was read that is no member and has no memory."""


class Writer:
    """Makes elements in a group's loops. A `Reader`, see maps.

    seen  the loops' coefficients in every index that became code; loops that always go together
          become one
    """

    def __init__(self, program: Definitions, group: Group, counters: list[Counter]) -> None:
        self.program, self.group, self.counters = program, group, counters
        self.full, self.kept = space(group.factors, counters)
        self.operands: dict[Value, Node] = {}
        self.memo: dict[tuple, Node] = {}
        self.seen: dict[tuple[int, ...], None] = {}
        self.replace: dict[Counter, Counter] = {}  # the last of joined loops by their one counter
        self.drop: set[Counter] = set()
        self.origins = dict.fromkeys(program.origin[v] for v in group.members)
        self.mask: Node | None = None
        self.ranges: tuple[Node, ...] = ()
        self.rewritten: set[Node] = set()  # results that something else is kept in first

    # -- reading -----------------------------------------------------------------------------

    def under(self, mask: Node) -> Reader:
        """See Reader."""
        return self.masked(mask if self.mask is None else self.mask & mask)

    def masked(self, mask: Node | None) -> Writer:
        """This writer with another mask."""
        inner = Writer.__new__(Writer)
        inner.__dict__.update(self.__dict__)
        inner.mask = mask
        return inner

    def node(self, index: Index) -> Node:
        """See Reader."""
        if self.replace or self.drop:
            terms = [(self.replace.get(c, c), f) for c, f in index.terms if c not in self.drop]
            return as_node(Index(tuple(terms), index.constant))
        factors = dict(index.terms)
        self.seen[tuple(factors.get(c, 0) for c in self.counters)] = None
        return as_node(index)

    def read(self, value: Value, index: Index) -> Node:
        """See Reader."""
        key = value, index, self.mask
        found = self.memo.get(key)
        if found is None:
            found = self.memo[key] = self.make(value, index)
        return found

    def make(self, value: Value, index: Index) -> Node:
        """The element by the value's definition, or from memory."""
        how = self.program.made.get(value)
        if isinstance(how, Alias):
            if how.strides == contiguous_strides(value.shape):
                return self.read(how.base, index.shifted(how.offset))
            places = digits(index, value.shape, self.node)
            return self.read(how.base, count(places, how.strides, how.offset))
        if value in self.group.members and not isinstance(how, Call):
            if isinstance(how, Reduction):
                return self.reduced(value, how)
            assert isinstance(how, Map)
            return how.element(self, index)
        if self.program.is_inline(value):
            number = self.program.constant(value)
            if number is not None:
                return number
            assert isinstance(how, Map)
            self.origins[self.program.origin[value]] = None
            return how.element(self, index)
        return self.load(value, index)

    def load(self, value: Value, index: Index) -> Node:
        """The element from memory."""
        kind = storage_type(value.dtype)
        pointer = self.operand(value)
        if self.mask is None:
            loaded = pointer.load(self.node(index))
        else:
            zero = constant(0, value_type(value.dtype))
            other = zero if zero.dtype == kind else zero.cast(kind)
            loaded = pointer.load(self.node(index), self.mask, other)
        return loaded.cast(value_type(value.dtype))

    def operand(self, value: Value) -> Node:
        """The pointer to a value's memory: parameters are numbered as they are met."""
        found = self.operands.get(value)
        if found is None:
            pointer = parameter(len(self.operands), f"*{storage_type(value.dtype)}")
            found = self.operands[value] = pointer
        return found

    def reduced(self, value: Value, how: Reduction) -> Node:
        """A reduction over the loops that are not kept: of all elements, whoever asks for it."""
        element = how.prepare(self.masked(None).read(how.source, self.full))
        if how.kind in ("max", "min") and element.dtype in FLOATS:
            key = reduce(as_ordered(element, how.kind), self.ranges, how.kind, "reassoc")
            return rounded(from_ordered(key, element.dtype), how.dtype)
        result = reduce(element, self.ranges, how.kind, "reassoc")
        return rounded(result, how.dtype)

    # -- statements --------------------------------------------------------------------------

    def stored(self, value: Value, index: Index) -> Node:
        """The statement that puts a member into memory."""
        element = self.read(value, index)
        kind = storage_type(value.dtype)
        return store(self.operand(value), self.node(index), element.cast(kind))


class Plan:
    """The loops of a group's kernel: finely cut ones joined again where nothing tells them apart.

    runs   the numbers of the fine loops that each loop joins, outermost first
    begin  the number of the parameter `begin`, if all that the group reads turns out to be needed
    """

    def __init__(self, program: Definitions, group: Group, stores: list[Value]) -> None:
        self.program, self.group, self.stores = program, group, stores
        self.begin = len(group.leaves) + len(stores)
        halves = any(v.dtype.itemsize == 2 for v in stores if not self.is_full(v))
        self.column = not halves and is_simple_column(group.pattern or ())
        fine = [Counter(loop_range(0, n, i), n) for i, (n, _) in enumerate(group.factors)]
        self.runs: list[list[int]] = [[i] for i in range(len(fine))]
        self.kinds = [kept for _, kept in group.factors]
        if len(fine) > 1:
            self.runs = self.joined(fine)

    def joined(self, fine: list[Counter]) -> list[list[int]]:
        """Which fine loops can run as one."""
        writer = Writer(self.program, self.group, fine)
        writer.ranges = tuple(
            c.node for c, (_, kept) in zip(fine, self.group.factors, strict=True) if not kept
        )
        for value in self.stores:
            writer.stored(value, writer.full if self.is_full(value) else writer.kept)
        runs: list[list[int]] = [[0]]
        for i in range(1, len(fine)):
            size = fine[i].size
            together = self.kinds[i] == self.kinds[i - 1] and all(
                c[i - 1] == c[i] * size for c in writer.seen
            )
            if together:
                runs[-1].append(i)
            else:
                runs.append([i])
        return runs

    def is_full(self, value: Value) -> bool:
        """Whether a member is made at every iteration, not once for each kept one."""
        how = self.program.made[value]
        return not isinstance(how, Reduction) and value.size == self.group.size

    def sizes(self) -> list[tuple[int, bool]]:
        """The joined loops."""
        return [
            (prod(self.group.factors[i][0] for i in run), self.kinds[run[0]]) for run in self.runs
        ]

    def writer(self, counters: list[Counter]) -> Writer:
        """A writer whose loops are the joined ones."""
        fine: list[Counter] = []
        replace: dict[Counter, Counter] = {}
        drop: set[Counter] = set()
        for run, counter in zip(self.runs, counters, strict=True):
            for i in run:
                n = self.group.factors[i][0]
                own = Counter(loop_range(0, n, 500 + i), n)
                fine.append(own)
                if i == run[-1]:
                    replace[own] = counter
                else:
                    drop.add(own)
        writer = Writer(self.program, self.group, fine)
        writer.replace, writer.drop = replace, drop
        return writer


def generate(program_: Definitions, group: Group, stores: list[Value], buffer: Buffers) -> Kernel:
    """The kernel that makes a group's values and stores some of them."""
    plan = Plan(program_, group, stores)
    if plan.column:
        statement, writer, extent = columns(plan)
    else:
        statement, writer, extent = rows(plan)
    signature = [p.dtype for p in writer.operands.values()] + ["i64", "i64"]
    count = len(writer.operands)
    numbers = {parameter(plan.begin + i, "i64"): parameter(count + i, "i64") for i in (0, 1)}
    code = statement if count == plan.begin else substitute(statement, numbers)
    root = verified(program("kernel", signature, code), "lowering")
    operands = tuple(buffer(v) for v in writer.operands)
    written = {buffer(v) for v in stores}
    tiles = tiles_of(group, stores, extent)
    pure = all(kept for _, kept in group.factors) and len(plan.runs) <= 1
    grain = 64 if pure and extent >= 1024 else 1
    work = Generated(root, operands, extent, tiles, grain)
    reads = tuple(b for b in operands if b not in written)
    places = {v: writer.full if plan.is_full(v) else writer.kept for v in stores}
    pairs = () if plan.column else in_place(places, writer, statement, buffer)
    name = " ".join(writer.origins)
    return Kernel(name, tuple(writer.origins), reads, tuple(buffer(v) for v in stores), work, pairs)


def tiles_of(group: Group, stores: list[Value], extent: int) -> int:
    """How many tiles: of 20 us or more each, at most 32."""
    moved = sum(v.size * v.dtype.itemsize for v in (*group.leaves, *stores))
    work = moved / 8e3 + group.size * group.cost / 1.6e4  # us, at 8 GB/s and 16 lanes of 1 GHz
    return max(1, min(32, int(work / 20), extent))


def outer_range(plan: Plan) -> Node:
    """The outermost loop, over the tile's part."""
    return loop_range(parameter(plan.begin, "i64"), parameter(plan.begin + 1, "i64"), 0)


def rows(plan: Plan) -> tuple[Node, Writer, int]:
    """Kept loops outside, reduced loops inside."""
    counters: list[Counter] = []
    kept: list[Node] = []
    inner: list[Node] = []
    for i, (size, is_kept) in enumerate(plan.sizes()):
        first = is_kept and not kept
        node = outer_range(plan) if first else loop_range(0, size, i + 1)
        counters.append(Counter(node, size))
        (kept if is_kept else inner).append(node)
    writer = plan.writer(counters)
    writer.ranges = tuple(inner)
    each = [writer.stored(v, writer.kept) for v in plan.stores if not plan.is_full(v)]
    every = [writer.stored(v, writer.full) for v in plan.stores if plan.is_full(v)]
    body = [*each, *every]
    if every and inner:
        early: list[Node] = []
        if prod(n for n, is_kept in plan.sizes() if not is_kept) <= LONGEST:
            early, each, every = kept_in_results(kept, each, every)
        writer.rewritten.update([statement.src[0] for statement in early])
        body = [*([nest(inner, early)] if early else []), *each, nest(inner, every)]
    extent = 1
    if kept:
        extent = next(n for n, is_kept in plan.sizes() if is_kept)
    outer = kept or [outer_range(plan)]
    statement = body
    for node in reversed(outer):
        statement = [loop(node, *statement)]
    return statement[0], writer, extent


def nest(ranges: list[Node], body: list[Node]) -> Node:
    """Statements inside loops, the first outermost."""
    for node in reversed(ranges):
        body = [loop(node, *body)]
    return body[0]


def columns(plan: Plan) -> tuple[Node, Writer, int]:
    """For rows of the source, a few at a time: loops over the columns that add them to the row of
    results.
    """
    sizes = plan.sizes()
    at = next(i for i, (_, kept) in enumerate(sizes) if not kept)
    until = next(i for i in range(at, len(sizes) + 1) if i == len(sizes) or sizes[i][1])
    length = sizes[until - 1][0]  # of the innermost reduced loop
    step = next(u for u in range(ROWS_AT_ONCE, 0, -1) if length % u == 0)
    nodes: list[Node] = []
    for i, (size, kept) in enumerate(sizes):
        first = i == 0 and kept
        size = size // step if i == until - 1 else size
        nodes.append(outer_range(plan) if first else loop_range(0, size, i + 1))
    results = [v for v in plan.stores if not plan.is_full(v)]
    others = [v for v in plan.stores if plan.is_full(v)]
    first_writer: Writer | None = None
    sums: dict[Value, Node] = {}
    body: list[Node] = []
    for u in range(step):
        counters = [Counter(node, n) for node, (n, _) in zip(nodes, sizes, strict=True)]
        counters[until - 1] = Counter(nodes[until - 1] * step + u, length)
        writer = plan.writer(counters)
        if first_writer is not None:
            writer.operands = first_writer.operands
        first_writer = first_writer or writer
        body += [writer.stored(v, writer.full) for v in others]
        for value in results:
            how = plan.program.made[value]
            assert isinstance(how, Reduction)
            element = how.prepare(writer.read(how.source, writer.full))
            sums[value] = COMBINE[how.kind](sums[value], element) if value in sums else element
    assert first_writer is not None
    clear: list[Node] = []
    for value in results:
        how = plan.program.made[value]
        assert isinstance(how, Reduction)
        pointer, place = first_writer.operand(value), first_writer.node(first_writer.kept)
        clear.append(store(pointer, place, reduction_identity(how.kind, pointer.dtype[1:])))
        body.append(store(pointer, place, COMBINE[how.kind](pointer.load(place), sums[value])))
    outer, reduced, inner = nodes[:at], nodes[at:until], nodes[until:]
    statements = [nest(inner, clear), nest(reduced, [nest(inner, body)])]
    extent = sizes[0][0] if outer else 1
    for node in reversed(outer or [outer_range(plan)]):
        statements = [loop(node, *statements)]
    return statements[0], first_writer, extent


def in_place(
    places: dict[Value, Index], writer: Writer, statement: Node, buffer: Buffers
) -> tuple[tuple[Buffer, Buffer], ...]:
    """Pairs of a leaf and a result that may share memory: the leaf is read only at the place where
    the result is written, and the statement that writes it has read it there.
    """
    met: dict[Value, set[Index]] = {}
    for value, index, mask in writer.memo:
        if value in writer.operands and value not in writer.group.members:
            met.setdefault(value, set()).add(index if mask is None else Index((), -1))
    loads: dict[Node, set[Node]] = {}
    for node in statement.toposort():
        if node.op == "store":
            loads[node.src[0]] = direct_loads(node.src[2])
    pairs = []
    for result, place in places.items():
        if writer.operands[result] in writer.rewritten:
            continue
        read = {pointer.src[0] for pointer in loads.get(writer.operands[result], ())}
        for leaf, found in met.items():
            alike = leaf.dtype == result.dtype and leaf.size == result.size
            if alike and found == {place} and writer.operands[leaf] in read:
                pairs.append((buffer(leaf), buffer(result)))
    return tuple(pairs)


def direct_loads(value: Node) -> set[Node]:
    """The loads that a value is made of, but for those of reductions."""
    found: set[Node] = set()
    seen: set[Node] = set()
    work = [value]
    while work:
        node = work.pop()
        if node in seen or node.op == "reduce":
            continue
        seen.add(node)
        if node.op == "load":
            found.add(node)
        work += node.src
    return found
