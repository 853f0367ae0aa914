"""`python -m lampion` is the `lampion` command."""

import sys

from .cli import main

sys.exit(main())
