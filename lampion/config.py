"""Flags, in one table. Imports nothing.

Each flag has an environment variable `LAMPION_<NAME>` that sets its starting value.
"""

from __future__ import annotations

import os


class Flags:
    """What can be switched: `check` verifies the compiler's programs after every pass."""

    def __init__(self) -> None:
        self.check = int(os.environ.get("LAMPION_CHECK", "0"))


flags = Flags()
