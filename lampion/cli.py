"""The `lampion` command. May import everything."""

from __future__ import annotations

import argparse
import runpy
import sys
from collections.abc import Sequence
from pathlib import Path
from pickle import UnpicklingError

from . import version


def parser() -> argparse.ArgumentParser:
    """The command's arguments."""
    top = argparse.ArgumentParser(
        "lampion", description="A deep-learning framework that runs PyTorch programs."
    )
    top.add_argument("--version", action="version", version=f"lampion {version.__version__}")
    commands = top.add_subparsers(dest="command", required=True)

    train = commands.add_parser("train", help="train a network")
    train.add_argument("job", choices=["digits"], help="what to learn")
    train.add_argument(
        "--out", default="runs/digits", help="the run's folder (default: %(default)s)"
    )
    train.add_argument(
        "--resume", action="store_true", help="go on where the run in the folder stopped"
    )
    train.add_argument("--seed", type=int, default=0)
    train.add_argument("--epochs", type=positive, default=20)
    train.add_argument("--batch-size", type=positive, default=64)
    train.add_argument(
        "--lr", type=float, default=0.01, help="the highest learning rate (default: %(default)s)"
    )
    train.set_defaults(run=run_train)

    predict = commands.add_parser("predict", help="read a handwritten digit")
    predict.add_argument("image", help="a picture, or a .npy array of 8 by 8 gray values")
    predict.add_argument(
        "--run", dest="folder", default="runs/digits", help="the run whose checkpoint reads it"
    )
    predict.set_defaults(run=run_predict)

    graph = commands.add_parser("run-graph", help="run a graph file (lampion.jit.save)")
    graph.add_argument("graph", help="the graph file")
    graph.add_argument(
        "--input",
        action="append",
        default=[],
        metavar="FILE.npy",
        help="an argument, as a .npy array; once for each, in order",
    )
    graph.add_argument("--output", metavar="FILE.npy", help="where to save the (first) result")
    graph.add_argument("--print", action="store_true", help="print the graph, run nothing")
    graph.set_defaults(run=run_graph)

    script = commands.add_parser("run", help="run a PyTorch program with Lampion as its torch")
    script.add_argument("script", help="a Python file that says `import torch`")
    script.add_argument("arguments", nargs=argparse.REMAINDER, help="passed on to it")
    script.set_defaults(run=run_script)
    return top


def positive(text: str) -> int:
    """A whole number above 0."""
    if not text.isdigit() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"expects a whole number above 0, got {text!r}")
    return int(text)


def run_train(options: argparse.Namespace) -> int:
    """`lampion train digits`."""
    from rich.console import Console

    from .jobs.digits import Interrupted, Settings, train_digits

    console = Console()
    settings = Settings(options.seed, options.epochs, options.batch_size, options.lr)
    try:
        results = train_digits(options.out, settings, options.resume, console)
    except Interrupted:
        console.print(f"Stopped. Go on with: lampion train digits --resume --out {options.out}")
        return 130
    console.print(
        f"[bold]{results['test accuracy']:.2%}[/] of the test digits are read correctly "
        f"({results['test mistakes']} wrong), trained in {results['seconds']:.1f} s"
    )
    console.print(
        f"Results are in {options.out}: "
        f"{', '.join(sorted(p.name for p in Path(options.out).iterdir()))}"
    )
    return 0


def run_predict(options: argparse.Namespace) -> int:
    """`lampion predict`."""
    from rich.console import Console
    from rich.table import Table

    from .jobs.digits import predict_digit
    from .jobs.image_file import read_ink

    chances = predict_digit(read_ink(options.image), options.folder)
    table = Table("digit", "chance", "", box=None)
    for digit in chances.argsort()[::-1][:3]:
        table.add_row(str(digit), f"{chances[digit]:.1%}", "█" * round(30 * float(chances[digit])))
    Console().print(table)
    return 0


def run_graph(options: argparse.Namespace) -> int:
    """`lampion run-graph`: the arguments come from .npy files, results are printed or saved."""
    import numpy as np

    from . import jit, tensor
    from .utils._pytree import tree_leaves

    module = jit.load(options.graph)
    if options.print:
        print(module)
        return 0
    results = module(*[tensor(np.load(path, allow_pickle=False)) for path in options.input])
    if options.output is None:
        print(results)
    else:
        np.save(options.output, tree_leaves(results)[0].detach().numpy())
    return 0


def run_script(options: argparse.Namespace) -> int:
    """`lampion run`: the script's `import torch` gets Lampion, with all its modules."""
    from .drop_in import install

    install()
    sys.argv = [options.script, *options.arguments]
    sys.path.insert(0, str(Path(options.script).resolve().parent))
    runpy.run_path(options.script, run_name="__main__")
    return 0


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs the command; errors that a user can repair are one line, without a traceback."""
    options = parser().parse_args(arguments)
    try:
        return options.run(options)
    except (FileNotFoundError, ValueError) as error:
        print(f"lampion: {error}", file=sys.stderr)
    except (RuntimeError, UnpicklingError, EOFError) as error:
        if options.command == "run" or not str(error).startswith("["):
            raise
        print(f"lampion: {error}", file=sys.stderr)
    return 1
