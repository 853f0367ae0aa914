"""What the three databases share: their command line, and what each has to give.

May import workers and report.
"""

import argparse
import re

from report import report
from workers import run_all, serve


class Database:
    """A script gives title, spaces, tasks(), run() and load(), which fills entries and excluded."""

    title, spaces = "", ()

    def __init__(self):
        self.entries, self.excluded = {}, []

    def matches(self, opts, key):
        return re.search(opts.ops, key) is not None


def options(db, dtypes):
    """The command line of a database; by default all samples of these dtypes."""
    p = argparse.ArgumentParser(description=db.__doc__)
    p.add_argument("--impl", required=True, help="importable module that mirrors torch's names")
    p.add_argument("--ops", default="", metavar="REGEX", help="only entries whose name has a match")
    p.add_argument("--dtype", default=dtypes, help="comma-separated (default: %(default)s)")
    p.add_argument(
        "--grad", action="store_true", help="also compare gradients (op_db; module_db always does)"
    )
    p.add_argument(
        "--max-samples", type=int, default=0, metavar="N", help="per entry and dtype; 0: all"
    )
    p.add_argument("--json", metavar="OUT")
    p.add_argument("--jobs", type=int, default=1, metavar="N", help="worker processes")
    p.add_argument("--device", default="cpu", help="device of the implementation's tensors")
    p.add_argument(
        "--timeout",
        type=float,
        default=30,
        metavar="S",
        help="seconds per sample (20 times that per entry)",
    )
    p.add_argument(
        "--mem", type=float, default=8, metavar="GB", help="memory limit of a worker; 0: none"
    )
    p.add_argument("--no-exclude", action="store_true", help="run the excluded entries too")
    p.add_argument("-v", "--verbose", action="store_true", help="list entries that do not pass")
    p.add_argument("--worker", action="store_true", help=argparse.SUPPRESS)
    return p.parse_args()


def main(db, dtypes="float32"):
    """Runs a database as the command line says, or serves as one of its workers."""
    opts = options(db, dtypes)
    db.load(opts)
    if opts.worker:
        return serve(db, opts)
    tasks = [
        (key, *t)
        for key, info in db.entries.items()
        if db.matches(opts, key)
        for t in db.tasks(info, opts)
    ]
    report(db, opts, *run_all(tasks, opts))
