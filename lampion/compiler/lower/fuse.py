"""Which values one kernel makes. May import the other files here it needs.

A group is one space of iterations, all dimensions kept or some reduced, and the values made in it.
Values are visited in order; each joins the group of something it reads (or one that reads the same)
if every member it reads is read at the very place the loops are at, and no cycle arises. The greedy
walk is that of TorchInductor's scheduler, on definitions instead of buffers. What is made of a
product or convolution element by element joins its call, as an epilogue.
"""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

from ..ir.node import loop_range
from ..trace.graph import Value, contiguous_strides
from .definitions import Call, Definitions, canonical, reads_of
from .index import Counter, Index, count, digits
from .matrix import matrix_of
from .reduce import Pattern, Reduction, is_column, kept_size
from .values import Alias, Map

MOST_MEMBERS, MOST_LEAVES, MOST_COST = 48, 40, 3000
TRIES = 4  # groups that a value tries to join

Factor = tuple[int, bool]  # a loop's size, and whether its dimension is kept


class Misfit(Exception):
    """A value cannot be made in a group."""


class Recut(Exception):
    """The loops were cut more finely; what was found so far is about others."""


class Group:
    """Values made by one kernel, or (with `call`) a call and those made by its epilogue.

    factors  the loops, outermost first; their product is the number of iterations. Those of a
             call: batches, rows and columns; none if it takes no epilogue
    leaves   values read from memory
    before   bits of the groups that must run first
    """

    def __init__(self, number: int, factors: tuple[Factor, ...], call: Call | None = None) -> None:
        self.number, self.factors, self.call = number, factors, call
        self.members: dict[Value, None] = {}
        self.leaves: dict[Value, None] = {}
        self.pattern: Pattern | None = None
        self.before = 0
        self.cost = 0
        self.counters: list[Counter] | None = None

    @property
    def size(self) -> int:
        """The number of iterations."""
        return prod(n for n, _ in self.factors)

    def space(self) -> tuple[Index, Index]:
        """Where the loops are: among all iterations, and among the kept ones."""
        if self.counters is None:
            self.counters = [
                Counter(loop_range(0, n, i), n) for i, (n, _) in enumerate(self.factors)
            ]
        return space(self.factors, self.counters)


def space(factors: tuple[Factor, ...], counters: list[Counter]) -> tuple[Index, Index]:
    """The index of the loops' iteration, and the one among kept dimensions only."""
    full: list[tuple[Counter, int]] = []
    kept: list[tuple[Counter, int]] = []
    step = kept_step = 1
    for (n, is_kept), counter in zip(reversed(factors), reversed(counters), strict=True):
        if n > 1:
            full.insert(0, (counter, step))
            if is_kept:
                kept.insert(0, (counter, kept_step))
        step *= n
        kept_step *= n if is_kept else 1
    return Index(tuple(full)), Index(tuple(kept))


def refined(factors: tuple[Factor, ...], shape: tuple[int, ...]) -> tuple[Factor, ...] | None:
    """The loops cut where a shape of the same size has its dimensions, None if they cross."""
    result: list[Factor] = []
    sizes = [n for n in reversed(shape) if n > 1]
    for n, kept in reversed(factors):
        while n > 1:
            if not sizes:
                return None
            size = sizes.pop(0)
            if n % size == 0:
                result.insert(0, (size, kept))
                n //= size
            elif size % n == 0:
                result.insert(0, (n, kept))
                sizes.insert(0, size // n)
                n = 1
            else:
                return None
    return None if sizes else tuple(result)


def refined_kept(factors: tuple[Factor, ...], shape: tuple[int, ...]) -> tuple[Factor, ...] | None:
    """The same for a shape of the kept dimensions."""
    cut = refined(tuple(f for f in factors if f[1]), shape)
    if cut is None:
        return None
    pieces, result = list(cut), list[Factor]()
    for n, kept in factors:
        if not kept:
            result.append((n, False))
            continue
        while n > 1:
            size = pieces.pop(0)[0]
            result.append((size, True))
            n //= size
    return tuple(result)


class Fusion:
    """Groups the values of a program."""

    def __init__(self, program: Definitions) -> None:
        self.program = program
        self.groups: list[Group] = []
        self.home: dict[Value, Group] = {}
        self.readers: dict[Value, list[Group]] = {}
        self.stored: set[Value] = set()
        self.drawn: Group | None = None  # the last that draws random numbers
        calls: dict[int, Group] = {}
        for value, how in list(program.made.items()):
            if isinstance(how, Call):
                self.home[value] = calls.get(id(how)) or calls.setdefault(id(how), self.call(how))
                self.home[value].members[value] = None
            elif value.size and not isinstance(how, Alias):
                if not program.is_inline(value):
                    self.place(value, how)
                elif isinstance(how, Map) and how.reads is not None:
                    self.finish(value, how)

    # -- calls -------------------------------------------------------------------------------

    def call(self, how: Call) -> Group:
        """A group for a step that reads memory."""
        matrix = matrix_of(self.program, how.step) or ()
        group = self.new(tuple((n, True) for n in matrix), how)
        for value in how.step.inputs:
            if value is not None:
                self.need(self.in_memory(value), group)
        if how.step.op.random:
            if self.drawn is not None:
                self.follow(group, 1 << self.drawn.number | self.drawn.before)
            self.drawn = group
        return group

    def finish(self, value: Value, how: Map) -> None:
        """Puts a value that could be recomputed into the epilogue of the call whose result only it
        reads: there it costs no memory.
        """
        program = self.program
        for source, _ in reads_of(how, canonical(value)):
            group = self.home.get(source)
            if group is None or group.call is None or not group.factors:
                continue
            if program.uses[source] > 1 or not program.weight(value)[0]:
                continue
            try:
                found = self.join(value, how, group)
            except Misfit:
                continue
            program.kept.add(value)
            self.settle(value, group, *found)
            return

    def in_memory(self, value: Value) -> Value:
        """The value's root, put into memory in a group of its own if it would be recomputed."""
        root = self.program.root(value)
        if isinstance(self.program.made.get(root), Map) and root not in self.home and root.size:
            self.place(root, self.program.made[root])
        return root

    def new(self, factors: tuple[Factor, ...], call: Call | None = None) -> Group:
        """A new group, the last."""
        self.groups.append(Group(len(self.groups), factors, call))
        return self.groups[-1]

    def need(self, leaf: Value, group: Group) -> None:
        """Notes that a group reads a value from memory."""
        if leaf not in group.leaves:
            group.leaves[leaf] = None
            self.readers.setdefault(leaf, []).append(group)
        home = self.home.get(leaf)
        if home is not None:
            self.stored.add(leaf)
            self.follow(group, 1 << home.number | home.before)

    def follow(self, group: Group, before: int) -> None:
        """Adds groups that must run before this one, and so before those after it."""
        if before & ~group.before == 0:
            return
        group.before |= before
        bit = 1 << group.number
        for other in self.groups:
            if other.before & bit:
                other.before |= before

    # -- joining -----------------------------------------------------------------------------

    def place(self, value: Value, how: object) -> None:
        """Puts a value into the best group that takes it, or a new one."""
        source = how.source if isinstance(how, Reduction) else value
        alone = Group(-1, tuple((n, True) for n in source.shape if n > 1))
        if isinstance(how, Reduction):
            alone.pattern = how.pattern
            cut = refined(alone.factors, tuple(n for n, _ in how.pattern))
            alone.factors = how.pattern if cut is None else marked(cut, how.pattern)
        leaves, factors = self.walk(value, alone)
        for group in self.candidates(leaves, source.size, value.size):
            try:
                joined, factors_there = self.join(value, how, group)
            except Misfit:
                continue
            self.settle(value, group, joined, factors_there)
            return
        group = self.new(factors)
        self.settle(value, group, leaves, factors)

    def settle(
        self, value: Value, group: Group, leaves: list[Value], factors: tuple[Factor, ...]
    ) -> None:
        """Makes a value a member of a group."""
        group.factors, group.counters = factors, None
        group.members[value] = None
        how = self.program.made[value]
        if isinstance(how, Reduction):
            group.pattern = how.pattern
        group.cost += how.cost if isinstance(how, Map) else 1
        self.home[value] = group
        for leaf in leaves:
            self.need(leaf, group)

    def candidates(self, leaves: list[Value], size: int, own: int) -> Iterator[Group]:
        """Groups worth trying: those that make what is read, then those that read the same."""
        found: dict[Group, None] = {}
        for leaf in leaves:
            if leaf in self.home:
                found[self.home[leaf]] = None
        made = sorted(found, key=lambda g: (g.call is None, -g.number))
        large = [leaf for leaf in leaves if leaf.size * 4 >= size]
        same = {g for leaf in large for g in self.readers.get(leaf, ()) if g.call is None}
        both = dict.fromkeys((*made, *sorted(same, key=lambda g: -g.number)))
        fitting = [
            g
            for g in both
            if (g.call is None or g.factors)
            and (g.size == size or kept_size(g.factors) == own)
            and len(g.members) < MOST_MEMBERS
            and len(g.leaves) < MOST_LEAVES
            and g.cost < MOST_COST
        ]
        yield from fitting[:TRIES]

    def join(
        self, value: Value, how: object, group: Group
    ) -> tuple[list[Value], tuple[Factor, ...]]:
        """What the value would read in the group, and the group's loops; raises Misfit."""
        trial = Group(group.number, group.factors, group.call)
        trial.members, trial.pattern = group.members, group.pattern
        if isinstance(how, Reduction):
            if group.call is not None:
                raise Misfit
            if group.size != how.source.size or group.pattern not in (None, how.pattern):
                raise Misfit
            if is_column(how.pattern) and not is_simple_column(how.pattern):
                raise Misfit
            if group.pattern is None:
                cut = refined(trial.factors, tuple(n for n, _ in how.pattern))
                if cut is None:
                    raise Misfit
                trial.factors, trial.pattern = marked(cut, how.pattern), how.pattern
        elif is_column(group.pattern or ()) and value.size != group.size:
            raise Misfit  # columns hold sums only
        leaves, factors = self.walk(value, trial)
        large = any(v.size * 4 >= group.size and v not in group.leaves for v in leaves)
        if group.call is not None and large and not self.is_only_reader(value, how, group):
            raise Misfit
        bit = 1 << group.number
        for leaf in leaves:
            home = self.home.get(leaf)
            if home is not None and home.before & bit:
                raise Misfit  # it would have to run before and after this group
        return leaves, factors

    def is_only_reader(self, value: Value, how: object, group: Group) -> bool:
        """Whether nobody else reads the members of a group that a value reads: then it takes their
        place in memory, else it is one more array that is read and written.
        """
        assert isinstance(how, Map)
        read = [v for v, _ in reads_of(how, canonical(value)) if v in group.members]
        return bool(read) and all(self.program.uses[v] == 1 for v in read)

    def walk(self, value: Value, group: Group) -> tuple[list[Value], tuple[Factor, ...]]:
        """What a value reads from memory when it is made in a group's loops, which are cut as
        finely as the shapes on the way; raises Misfit where it reads a member elsewhere.
        """
        kind = Walk if group.call is None else MatrixWalk
        while True:
            try:
                return kind(self, group).run(value), group.factors
            except Recut:
                continue


def marked(factors: tuple[Factor, ...], pattern: Pattern) -> tuple[Factor, ...]:
    """The loops with the dimensions of a pattern kept or reduced."""
    cut = refined(factors, tuple(n for n, _ in pattern))
    if cut is None:
        raise Misfit
    result: list[Factor] = []
    left = [list(p) for p in pattern]
    for n, _ in cut:
        kept = bool(left[0][1])
        result.append((n, kept))
        left[0][0] //= n
        if left[0][0] == 1:
            left.pop(0)
    return tuple(result)


def is_simple_column(pattern: Pattern) -> bool:
    """Kept rows, then what is reduced, then kept columns: the form that has fast code."""
    return [kept for _, kept in pattern] in ([False, True], [True, False, True])


class Walk:
    """One look at what a value reads, through everything that is recomputed."""

    def __init__(self, fusion: Fusion, group: Group) -> None:
        self.fusion, self.group, self.program = fusion, group, fusion.program
        self.leaves: dict[Value, None] = {}
        self.seen: set[tuple[Value, Index]] = set()
        self.full, self.kept = group.space()

    def run(self, value: Value) -> list[Value]:
        """The leaves."""
        how = self.program.made[value]
        if isinstance(how, Reduction):
            self.cut(how.source)
            self.visit(how.source, self.full)
        else:
            assert isinstance(how, Map)
            index = self.cut(value)
            self.cut_for(index, getattr(how.element, "cut", ()))
            for source, at in reads_of(how, index):
                self.visit(source, at)
        return list(self.leaves)

    def cut(self, value: Value) -> Index:
        """Cuts the loops where the value has its dimensions; the index it is made at."""
        group = self.group
        if value.size == group.size:
            finer = refined(group.factors, value.shape)
        elif value.size == kept_size(group.factors):
            finer = refined_kept(group.factors, value.shape)
        else:
            raise Misfit
        if finer is not None and finer != group.factors:
            group.factors, group.counters = finer, None
            raise Recut
        return self.full if value.size == group.size else self.kept

    def cut_for(self, index: Index, shape: tuple[int, ...]) -> None:
        """Cuts a loop that runs across a dimension of a shape that is read, if it divides evenly:
        then positions are sums of counters, without division.
        """
        group = self.group
        numbers = {c: i for i, c in enumerate(group.counters or ())}
        for stride in contiguous_strides(shape):
            for counter, factor in index.terms:
                at = numbers.get(counter)
                inner = stride // factor if factor > 0 and stride % factor == 0 else 0
                if at is None or not 1 < inner < counter.size or counter.size % inner:
                    continue
                kept = group.factors[at][1]
                pieces = ((counter.size // inner, kept), (inner, kept))
                group.factors = (*group.factors[:at], *pieces, *group.factors[at + 1 :])
                group.counters = None
                raise Recut

    def visit(self, value: Value, index: Index) -> None:
        """Follows a read at an index."""
        if (value, index) in self.seen:
            return
        self.seen.add((value, index))
        group, how = self.group, self.program.made.get(value)
        if isinstance(how, Alias) and how.strides == contiguous_strides(value.shape):
            self.visit(how.base, index.shifted(how.offset))
        elif isinstance(how, Alias):
            self.cut_for(index, value.shape)
            places = digits(index, value.shape)
            self.visit(how.base, count(places, how.strides, how.offset))
        elif value in group.members:
            reduced = isinstance(how, Reduction)
            at = self.kept if reduced or value.size != group.size else self.full
            if index != at or (group.pattern and is_column(group.pattern) and at != self.full):
                raise Misfit
        elif self.program.is_inline(value):
            if isinstance(how, Map):
                self.cut_for(index, value.shape)
                for source, at in reads_of(how, index):
                    self.visit(source, at)
        else:
            self.leaves[value] = None


class MatrixWalk(Walk):
    """The same for a call's epilogue, whose loops are rows and columns: what is read must lie
    evenly along them. It reads no states of the result's size: updates of parameters read several
    of them, and threads share those more evenly in stages of their own.
    """

    def cut(self, value: Value) -> Index:
        """The index that the value is made at."""
        if value.size != self.group.size:
            raise Misfit
        return self.full

    def cut_for(self, index: Index, shape: tuple[int, ...]) -> None:
        """Refuses to cut a loop."""

    def visit(self, value: Value, index: Index) -> None:
        """Follows a read at an index."""
        given = self.program.inputs.get(value)
        state = given is not None and given.role == "state" and value.size == self.group.size
        if state or not {c for c, _ in index.terms} <= set(self.group.counters or ()):
            raise Misfit
        super().visit(value, index)
