"""The house of Lampion: imports point only downwards, and none hides inside a function.

The lists below are the design; the tests read the imports of every file with `ast`.
"""

import ast
import functools
import graphlib
import sys
from fnmatch import fnmatch
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = "lampion"

# From the ground up, by the first name below `lampion`. Names on one line are neighbours: they may
# import each other as long as no cycle comes of it.
LAYERS = [
    ["version"],
    ["errors"],
    ["config"],
    ["dtypes"],
    ["device", "layout"],
    ["random", "settings"],
    ["core"],
    ["compiler"],
    ["ops"],
    [
        "amp",
        "autograd",
        "fft",
        "func",
        "linalg",
        "nn",
        "optim",
        "return_types",
        "special",
        "utils",
    ],
    ["accelerators"],
    [
        "accelerator",
        "backends",
        "cpu",
        "cuda",
        "mps",
        "multiprocessing",
        "testing",
        "types",
        "xpu",
        "signal",
        "storage",
        "_dynamo",
    ],
    ["distributed", "explain", "io", "vision"],
    ["hub", "jit", "serialization"],
    ["__init__"],
    ["jobs"],
    ["drop_in"],
    ["cli"],
    ["__main__"],
]

# Inside these folders a file imports only files named before it. A folder that is not listed
# here needs to be free of cycles, no more.
ORDER = {
    "core": [
        "changes",
        "naming",
        "op",
        "memory",
        "printing",
        "tensor",
        "arguments",
        "graph",
        "modes",
        "promotion",
        "quick",
        "dispatch",
        "zero",
        "inplace",
        "hooks",
        "anomaly",
        "leaves",
        "autograd",
        "transforms",
        "function",
        "__init__",
    ],
    "compiler": [
        "ir",
        "native",
        "calls",
        "kernels",
        "trace",
        "lower",
        "program",
        "compiled",
        "__init__",
    ],
}

# Only these files of a folder may import that layer below it.
ONLY = {("ops", "compiler"): ["*_cpu", "*_cuda"]}  # other operators know nothing of compiling

# Packages that a file may import besides the standard library.
PACKAGES = {
    "*": {"numpy", "ml_dtypes"},
    "io/*": {"safetensors"},
    "jit/*": {"safetensors"},
    "explain/*": {"rich"},
    "jobs/*": {"rich"},
}

# Imports inside functions: (file, imported, why it cannot stand at the top).
LATE = [
    ("*", "llvmlite", "takes as long to import as all the rest; only compiled code needs it"),
    ("*", "cupy", "there only with a CUDA device"),
    ("*", "matplotlib", "an extra, and slow to import"),
    ("*", "IPython", "there only in a notebook"),
    ("utils/*", "tensorboard", "an extra"),
    ("io/*", "safetensors", "needed only once a file of that format is met"),
    ("jobs/image_file", "PIL", "an extra: it comes with matplotlib"),
    ("*", "rich", "slow to import, and only printed pictures need it"),
    ("*", "multiprocessing", "slow to import, and only worker processes need it"),
    ("*", "concurrent", "slow to import, and only worker threads need it"),
    ("ops/*_cpu", "lampion.compiler", "bound at the first call that is large enough"),
    ("ops/*_cuda", "lampion.compiler", "bound at the first call on a CUDA device"),
    ("__init__", "lampion", "names that few programs use load on first use; nothing is above"),
    ("cli", "lampion", "a command loads only what it needs; nothing is above"),
    ("cli", "numpy", "the same"),
]


def source_files():
    """Every file of the package, by its path without suffix below `lampion/`."""
    folder = ROOT / PACKAGE
    files = {p.relative_to(folder).with_suffix("").as_posix(): p for p in folder.rglob("*.py")}
    return dict(sorted(files.items()))


FILES = source_files()


def is_type_checking(node):
    """Is this an `if TYPE_CHECKING:`, which never runs?"""
    return isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")


def import_nodes(tree, inside=False):
    """(import statement, is it inside a function) of all that can run."""
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            yield node, inside
            continue
        if is_type_checking(node):
            node = ast.Module(node.orelse, [])
        function = isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        yield from import_nodes(node, inside or function)


def module_name(file):
    """core/tensor -> lampion.core.tensor; a package is named by its folder."""
    parts = [PACKAGE, *file.split("/")]
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def file_of(module):
    """lampion.core -> core/__init__, None for what is no file of the package."""
    below = module.split(".")[1:]
    candidates = ["/".join([*below, "__init__"]), "/".join(below)]
    return next((c for c in candidates if c in FILES), None)


def imported_modules(node, file):
    """The full names of the modules that a statement imports."""
    if isinstance(node, ast.Import):
        return [alias.name for alias in node.names]
    base = node.module or ""
    if node.level:
        package = [PACKAGE, *file.split("/")][: -node.level]
        base = ".".join([*package, base] if base else package)
    if base.split(".")[0] != PACKAGE:
        return [base]
    submodules = [f"{base}.{alias.name}" for alias in node.names]
    return [name if file_of(name) else base for name in submodules]


@functools.cache
def imports(file):
    """(module, line, is it inside a function) of every import in a file."""
    tree = ast.parse(FILES[file].read_text(encoding="utf-8"))
    return [
        (module, node.lineno, inside)
        for node, inside in import_nodes(tree)
        for module in imported_modules(node, file)
    ]


def own_imports(file):
    """(file, line) of the imports from Lampion itself."""
    found = [(module, line) for module, line, _ in imports(file) if within(module, PACKAGE)]
    missing = [f"{module}, line {line}" for module, line in found if not file_of(module)]
    assert not missing, f"[layers] {file} imports what is not there: {missing}"
    return [(file_of(module), line) for module, line in found]


def within(module, package):
    """Is a module this package or below it?"""
    return f"{module}.".startswith(f"{package}.")


def layer(file):
    """The height of a file's layer."""
    name = file.split("/")[0]
    heights = [i for i, names in enumerate(LAYERS) if name in names]
    assert heights, f"[layers] {name} stands in no layer; add it to LAYERS of tests/test_layers.py"
    return heights[0]


@functools.cache
def families():
    """The operator families in the order in which lampion/ops/__init__.py imports them."""
    tree = ast.parse(FILES["ops/__init__"].read_text(encoding="utf-8"))
    first = next(n for n in tree.body if isinstance(n, ast.ImportFrom) and n.level and not n.module)
    return [alias.name for alias in first.names]


def place(file):
    """(folder, position) of a file in a folder whose order is fixed, else (folder, None)."""
    folder, _, name = file.partition("/")
    name = name.split("/")[0]
    # The order of ops is that of its __init__; what is not named there needs to be free of cycles.
    if folder == "ops":
        order = families()
        return folder, order.index(name) if name in order else None
    if folder not in ORDER:
        return folder, None
    order = ORDER[folder]
    assert name in order, (
        f"[layers] {folder}/{name} has no place; add it to ORDER[{folder!r}] of "
        "tests/test_layers.py, after all that it imports"
    )
    return folder, order.index(name)


def upward(file, target):
    """Why one file must not import another, or None."""
    if layer(target) > layer(file):
        return "is in a higher layer"
    (folder, position), (other, its_position) = place(file), place(target)
    may = ONLY.get((folder, other))
    if may and not any(fnmatch(file, f"{folder}/{name}") for name in may):
        return f"is for {' and '.join(may)} only"
    if folder == other and None not in (position, its_position) and its_position > position:
        return f"comes later in {folder}"
    return None


@pytest.mark.parametrize("file", FILES)
def test_imports_point_downwards(file):
    layer(file), place(file)
    reasons = ((line, target, upward(file, target)) for target, line in own_imports(file))
    wrong = [f"line {line}: {target} {why}" for line, target, why in reasons if why]
    assert not wrong, f"[layers] {file} imports upwards: " + "; ".join(wrong)


def test_no_cycles():
    graph = {file: {t for t, _ in own_imports(file) if t != file} for file in FILES}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        pytest.fail("[layers] imports in a circle: " + " <- ".join(error.args[1]))


@pytest.mark.parametrize("file", FILES)
def test_functions_import_only_what_is_listed(file):
    late = [(module, line) for module, line, inside in imports(file) if inside]
    wrong = [
        f"line {line}: {module}"
        for module, line in late
        if not any(fnmatch(file, who) and within(module, what) for who, what, _ in LATE)
    ]
    assert not wrong, (
        f"[layers] {file} imports inside a function: {'; '.join(wrong)}; move it to the top, or "
        "add it to LATE of tests/test_layers.py with its reason"
    )


@pytest.mark.parametrize("file", FILES)
def test_only_known_packages_are_imported(file):
    allowed = {PACKAGE, *sys.stdlib_module_names}
    allowed |= {p for who, packages in PACKAGES.items() if fnmatch(file, who) for p in packages}
    late = {what for who, what, _ in LATE if fnmatch(file, who)}
    wrong = [
        f"line {line}: {module}"
        for module, line, inside in imports(file)
        if module.split(".")[0] not in (allowed | late if inside else allowed)
    ]
    assert not wrong, f"[layers] {file} imports packages it may not: " + "; ".join(wrong)


@pytest.mark.parametrize(
    ("file", "target", "why"),
    [
        ("core/op", "errors", None),
        ("core/op", "ops/rules", "is in a higher layer"),
        ("core/tensor", "core/op", None),
        ("core/op", "core/tensor", "comes later in core"),
        ("ops/nn_cpu", "compiler/kernels/product", None),
        ("ops/nn", "compiler/kernels/product", "is for *_cpu and *_cuda only"),
        ("compiler/lower/fuse", "ops/rules", "is in a higher layer"),
        ("nn/linear", "optim/sgd", None),
        ("errors", "__init__", "is in a higher layer"),
    ],
)
def test_the_rule_itself(file, target, why):
    assert upward(file, target) == why


def test_every_import_that_can_run_is_seen():
    text = """
import os
if TYPE_CHECKING:
    import typed
else:
    import untyped
class A:
    import inner
    def f(self):
        try:
            import late
        except ImportError:
            raise
g = lambda: [x for x in ()]
"""
    found = [(node.names[0].name, inside) for node, inside in import_nodes(ast.parse(text))]
    assert found == [("os", False), ("untyped", False), ("inner", False), ("late", True)]


def test_relative_and_package_imports_are_resolved():
    def resolved(text, file):
        return imported_modules(ast.parse(text).body[0], file)

    assert resolved("from . import op", "core/tensor") == ["lampion.core.op"]
    assert resolved("from .op import Op", "core/tensor") == ["lampion.core.op"]
    assert resolved("from .. import errors", "core/tensor") == ["lampion.errors"]
    assert resolved("from ..errors import check", "core/__init__") == ["lampion.errors"]
    assert resolved("from lampion import core, errors", "x") == ["lampion.core", "lampion.errors"]
    assert resolved("import numpy as np", "core/op") == ["numpy"]
