"""Which buffers of a kernel list share memory, and where the temporaries lie. Imports arena and
kernels.

A result that goes to a parameter is made in the parameter's memory where nobody needs the old
content later; a kernel that reads and writes element by element works in place.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

from ..lower.kernels import INPUTS, Buffer, Host, Kernel, KernelList
from ..native.arena import Lifetime, Plan, plan


@dataclass
class Placement:
    """Where every buffer of a kernel list is.

    root     the buffer whose memory a buffer uses (itself if it is not there)
    arrays   for each output of the program the buffer that is a new array at each call
    copies   (from, to) at the end: content that could not be made where it goes
    offsets  of temporaries in the arena
    size     bytes of the arena
    lives    of temporaries: first and last kernel
    """

    root: dict[Buffer, Buffer] = field(default_factory=dict)
    arrays: list[Buffer] = field(default_factory=list)
    copies: list[tuple[Buffer, Buffer]] = field(default_factory=list)
    offsets: dict[Buffer, int] = field(default_factory=dict)
    size: int = 0
    lives: dict[Buffer, tuple[int, int]] = field(default_factory=dict)

    def memory(self, buffer: Buffer) -> Buffer:
        """The buffer whose memory this one uses."""
        return self.root.get(buffer, buffer)


class Uses:
    """The kernels that make and read each buffer; the end counts as one more kernel.

    sure  the last kernel that can stop the program: until then states must stay as they are
    """

    def __init__(self, listed: KernelList) -> None:
        self.made: dict[Buffer, int] = {}
        self.last: dict[Buffer, int] = {}
        for number, kernel in enumerate(listed.kernels):
            for buffer in kernel.writes:
                self.made.setdefault(buffer, number)
            for buffer in (*kernel.reads, *kernel.writes):
                self.last[buffer] = number
        self.end = len(listed.kernels)
        stops = (k.check or isinstance(k.work, Host) for k in listed.kernels)
        self.sure = max((i for i, stop in enumerate(stops) if stop), default=-1)

    def keep(self, buffers: Iterable[Buffer]) -> None:
        """Notes that the content is needed at the end."""
        for buffer in buffers:
            self.last[buffer] = self.end


def place(listed: KernelList) -> Placement:
    """Decides where every buffer is."""
    placement, uses = Placement(), Uses(listed)
    choose_outputs(listed, placement, uses)
    write_states(listed, placement, uses)
    uses.keep(source for source, _ in placement.copies)
    for number, kernel in enumerate(listed.kernels):
        work_in_place(kernel, number, placement, uses)
    lay_out(placement, uses)
    return placement


def choose_outputs(listed: KernelList, placement: Placement, uses: Uses) -> None:
    """Makes outputs where they are returned; others, inputs for instance, are copied there."""
    stored = {value for _, value in listed.writes}
    for buffer in listed.outputs:
        kept = buffer not in uses.made or buffer.role in INPUTS or buffer in stored
        target = buffer
        if kept or buffer in placement.arrays:
            target = Buffer("output", buffer.shape, buffer.dtype, buffer.number)
            placement.copies.append((buffer, target))
        placement.arrays.append(target)


def write_states(listed: KernelList, placement: Placement, uses: Uses) -> None:
    """Makes new contents of states in the states' memory, or copies them there at the end."""
    needed = {*listed.outputs, *(value for _, value in listed.writes)}
    late: list[tuple[Buffer, Buffer]] = []
    for state, value in listed.writes:
        if value is state:
            continue
        free = value in uses.made and value.role not in INPUTS and value not in placement.root
        if free and state not in needed and fits(listed.kernels, state, value, uses):
            placement.root[value] = state
        else:
            late.append((value, state))
    overwritten = {state for state, _ in listed.writes}
    for i, (value, state) in enumerate(late):
        if value in overwritten:  # its content must not be gone by then
            saved = Buffer("temporary", value.shape, value.dtype, value.number)
            placement.copies.append((value, saved))
            uses.made[saved] = uses.last[saved] = uses.end
            late[i] = saved, state
    placement.copies += late


def fits(kernels: list[Kernel], state: Buffer, value: Buffer, uses: Uses) -> bool:
    """Whether `value` may be made in the memory of `state`: its old content is read no later, and
    by the kernel that makes it only in place; and nothing stops the program any more.
    """
    made, last = uses.made[value], uses.last.get(state, -1)
    free = last < made or (last == made and (state, value) in kernels[made].in_place)
    return free and made > uses.sure


def work_in_place(kernel: Kernel, number: int, placement: Placement, uses: Uses) -> None:
    """Lets results take the memory of temporaries that are read for the last time."""
    taken: set[Buffer] = set()
    for read, written in kernel.in_place:
        source = placement.memory(read)
        if source in taken:
            continue
        fresh = written not in placement.root and written not in placement.arrays
        if source.role not in ("temporary", "output") or source in placement.arrays or not fresh:
            continue
        if written.role in INPUTS or uses.made[written] != number or source is written:
            continue
        if uses.last[read] == number and uses.last[source] <= number:
            placement.root[written] = source
            uses.last[source] = uses.last[written]  # of its newest content
            taken.add(source)


def lay_out(placement: Placement, uses: Uses) -> None:
    """Gives every temporary its bytes of the arena."""
    arrays = set(placement.arrays)
    lives: dict[Buffer, tuple[int, int]] = {}
    for buffer, made in uses.made.items():
        root = placement.memory(buffer)
        if root.role not in ("temporary", "output") or root in arrays:
            continue
        first, last = lives.get(root, (made, made))
        lives[root] = min(first, made), max(last, uses.last[buffer])
    buffers = list(lives)
    made_plan: Plan = plan([Lifetime(b.size, *lives[b]) for b in buffers])
    placement.offsets = dict(zip(buffers, made_plan.offsets, strict=True))
    placement.size, placement.lives = made_plan.size, lives
