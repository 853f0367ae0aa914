"""A count of changes that compiled programs take for granted not to happen. May import nothing.

Attributes and hooks of modules are compared with what they were only after the count has moved, so
that a call which changes nothing pays for one comparison.
"""

from __future__ import annotations

CHANGES = [0]


def note() -> None:
    """Something changed that programs may have looked at when they were made."""
    CHANGES[0] += 1
