"""Flags, in one table. Imports nothing.

Each flag has an environment variable `LAMPION_<NAME>` that sets its starting value.
"""

from __future__ import annotations

import os


class Flags:
    """What can be switched: `check` verifies shape rules and graphs,
    `debug` prints what is compiled.
    """

    def __init__(self) -> None:
        self.check = int(os.environ.get("LAMPION_CHECK", "0"))
        self.debug = int(os.environ.get("LAMPION_DEBUG", "0"))


flags = Flags()
