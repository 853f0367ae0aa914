"""The plan of an arena: nothing that lives at the same time overlaps, and little room is lost."""

import numpy as np
from hypothesis import given, strategies as st

from lampion.compiler.native.arena import ALIGNMENT, HUGE, Arena, Lifetime, aligned_bytes, plan

LIVES = st.lists(
    st.builds(lambda size, first, length: Lifetime(size, first, first + length),
              st.integers(0, 5000), st.integers(0, 20), st.integers(0, 6)),
    max_size=40,
)  # fmt: skip


def least(lives):
    """The most bytes alive at one kernel: no plan is smaller."""
    rounded = [-(-life.size // ALIGNMENT) * ALIGNMENT for life in lives]
    times = range(max((life.last for life in lives), default=-1) + 1)
    alive = (
        sum(n for n, life in zip(rounded, lives, strict=True) if life.first <= t <= life.last)
        for t in times
    )
    return max(alive, default=0)


@given(LIVES)
def test_what_lives_together_lies_apart(lives):
    offsets, size = plan(lives)
    for i, (a, at) in enumerate(zip(lives, offsets, strict=True)):
        assert at % ALIGNMENT == 0
        assert at + a.size <= size
        for b, other in zip(lives[:i], offsets, strict=False):
            together = a.first <= b.last and b.first <= a.last
            assert not (together and at < other + b.size and other < at + a.size)
    assert least(lives) <= size <= sum(life.size + ALIGNMENT for life in lives)


def test_a_chain_needs_two_buffers():
    lives = [Lifetime(1000, i, i + 1) for i in range(50)]
    assert plan(lives).size == 2 * 1024


def test_the_smallest_gap_is_taken():
    lives = [Lifetime(640, 0, 1), Lifetime(512, 0, 9), Lifetime(256, 0, 1), Lifetime(192, 0, 9)]
    lives.append(Lifetime(128, 5, 6))
    offsets, size = plan(lives)
    assert offsets == (0, 640, 1152, 1408, 1152)
    assert size == 1600


def test_arenas_are_aligned():
    for size, unit in ((0, ALIGNMENT), (1000, ALIGNMENT), (3 * HUGE, HUGE)):
        arena = Arena(size)
        assert arena.address % unit == 0
        view = arena.view(0, (size // 8,), np.dtype(np.float64))
        view[...] = 1.0
        assert view.ctypes.data == arena.address or size == 0


def test_aligned_bytes():
    for size in (1, 63, 64, 1000):
        memory = aligned_bytes(size)
        assert len(memory) == size
        memory[:] = b"x" * size
