"""`python -m lampion` is the `lampion` command. Imports cli."""

import sys

from .cli import main

sys.exit(main())
