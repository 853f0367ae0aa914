"""Models and weights from GitHub and the web: `torch.hub`. May import io.

A repository offers its models as functions in a file `hubconf.py`, which is run: load only what you
trust. Downloads are written to a temporary file and renamed when complete.
"""

from __future__ import annotations

import builtins
import hashlib
import importlib.util
import os
import re
import shutil
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.error import HTTPError
from urllib.parse import urlparse
from urllib.request import Request, urlopen

from .errors import check
from .io import load as load_file

__all__ = [
    "download_url_to_file",
    "get_dir",
    "help",
    "list",
    "load",
    "load_state_dict_from_url",
    "set_dir",
]

HASH = re.compile(r"-([a-f0-9]*)\.")  # as in resnet18-bfd8deac.pth
CHUNK = 1 << 17
_chosen_dir: str | None = None

# -- where things are kept ---------------------------------------------------------------------


def get_dir() -> str:
    """The folder for repositories and weights: `set_dir`'s, else `$TORCH_HOME/hub`, else
    `~/.cache/torch/hub`.
    """
    if _chosen_dir is not None:
        return _chosen_dir
    cache = os.environ.get("XDG_CACHE_HOME", "~/.cache")
    return os.path.join(os.path.expanduser(os.environ.get("TORCH_HOME", f"{cache}/torch")), "hub")


def set_dir(d: str | os.PathLike[str]) -> None:
    """Chooses the folder for repositories and weights."""
    global _chosen_dir
    _chosen_dir = os.path.expanduser(d)


# -- downloads ---------------------------------------------------------------------------------


def download_url_to_file(
    url: str, dst: str | os.PathLike[str], hash_prefix: str | None = None, progress: bool = True
) -> None:
    """Downloads a file; raises RuntimeError if its SHA-256 does not begin with `hash_prefix`.

    `progress` writes the share that has arrived to stderr.
    """
    target = Path(dst).expanduser()
    digest = hashlib.sha256()
    with (
        urlopen(Request(url, headers={"User-Agent": "lampion.hub"})) as source,
        tempfile.NamedTemporaryFile(dir=target.parent, prefix=target.name, delete=False) as part,
    ):
        try:
            total, done = int(source.headers.get("Content-Length") or 0), 0
            while chunk := source.read(CHUNK):
                part.write(chunk)
                digest.update(chunk)
                done += len(chunk)
                if progress and total:
                    print(f"\r{done / total:4.0%} of {total / 1e6:.1f} MB", end="", file=sys.stderr)
            if progress and total:
                print(file=sys.stderr)
            found = digest.hexdigest()
            check(
                hash_prefix is None or found.startswith(hash_prefix),
                f'[hub] invalid hash value (expected "{hash_prefix}", got "{found}"); try again',
            )
            part.close()
            os.replace(part.name, target)
        except BaseException:
            part.close()
            os.unlink(part.name)
            raise


def load_state_dict_from_url(
    url: str,
    model_dir: str | None = None,
    map_location: Any = None,
    progress: bool = True,
    check_hash: bool = False,
    file_name: str | None = None,
    weights_only: bool = True,
) -> dict[str, Any]:
    """Downloads a file of weights, unless it is there already, and loads it.

    With `check_hash` the name must contain the first digits of its SHA-256:
    `resnet18-bfd8deac.pth`.
    """
    folder = Path(model_dir or os.path.join(get_dir(), "checkpoints"))
    folder.mkdir(parents=True, exist_ok=True)
    name = file_name or os.path.basename(urlparse(url).path)
    file = folder / name
    if not file.exists():
        print(f'Downloading: "{url}" to {file}', file=sys.stderr)
        digits = HASH.search(name) if check_hash else None
        download_url_to_file(url, file, digits[1] if digits else None, progress=progress)
    return load_file(file, map_location=map_location, weights_only=weights_only)


# -- repositories ------------------------------------------------------------------------------


def repository_parts(github: str) -> tuple[str, str, str]:
    """(owner, name, branch or tag) of `owner/name:ref`; asks GitHub for the branch if none is
    given.
    """
    path, _, ref = github.partition(":")
    owner, slash, name = path.partition("/")
    check(
        bool(owner and slash and name) and "/" not in name,
        f"[hub] expects owner/name or owner/name:ref, got {github!r}",
        ValueError,
    )
    return owner, name, ref or default_branch(owner, name)


def default_branch(owner: str, name: str) -> str:
    """`main` if the repository has it, else `master`."""
    try:
        with urlopen(f"https://github.com/{owner}/{name}/tree/main/"):
            return "main"
    except HTTPError as error:
        if error.code != 404:
            raise
        return "master"


def fetch_repository(github: str, force_reload: bool, verbose: bool, trust_repo: Any) -> Path:
    """The folder of a GitHub repository's files, downloaded unless it is there."""
    owner, name, ref = repository_parts(github)
    hub = Path(get_dir())
    hub.mkdir(parents=True, exist_ok=True)
    check_trust(hub, owner, name, trust_repo)
    folder = hub / "_".join([owner, name, ref.replace("/", "_")])
    if folder.exists() and not force_reload:
        if verbose:
            print(f"Using cache found in {folder}", file=sys.stderr)
        return folder
    with tempfile.TemporaryDirectory(dir=hub) as scratch:
        archive = Path(scratch, "repository.zip")
        download_url_to_file(
            f"https://github.com/{owner}/{name}/zipball/{ref}", archive, progress=False
        )
        with zipfile.ZipFile(archive) as files:
            files.extractall(scratch)
            top = files.namelist()[0].split("/")[0]
        shutil.rmtree(folder, ignore_errors=True)
        os.replace(Path(scratch, top), folder)
    return folder


def check_trust(hub: Path, owner: str, name: str, trust_repo: Any) -> None:
    """Asks before code of an owner that is not trusted yet is run; raises Exception if the answer
    is no.
    """
    trusted = hub / "trusted_list"
    known = trusted.read_text().split() if trusted.exists() else []
    entry = f"{owner}_{name}"
    if entry in known:
        return
    if trust_repo is not True:
        question = (
            f"The repository {owner}_{name} does not belong to the list of trusted repositories "
            "and as such cannot be downloaded. Do you trust this repository and wish to add it to "
            "the trusted list of repositories (y/N)?"
        )
        if input(question).lower() not in ("y", "yes"):
            raise Exception("Untrusted repository.")
    trusted.write_text("\n".join([*known, entry]) + "\n")


def run_hubconf(folder: Path) -> ModuleType:
    """Runs `hubconf.py` of a folder and returns it as a module; raises RuntimeError where a package
    is missing.
    """
    file = folder / "hubconf.py"
    check(file.exists(), f"[hub] {folder} has no hubconf.py", FileNotFoundError)
    sys.path.insert(0, str(folder))
    try:
        spec = importlib.util.spec_from_file_location("hubconf", file)
        assert spec is not None and spec.loader is not None
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(str(folder))
    needed = getattr(module, "dependencies", [])
    missing = [package for package in needed if importlib.util.find_spec(package) is None]
    check(not missing, f"[hub] Missing dependencies: {', '.join(missing)}; install them")
    return module


def entry_point(module: ModuleType, model: str) -> Callable:
    """The function that makes a model; raises RuntimeError if `hubconf.py` has none."""
    check(
        isinstance(model, str),
        "[hub] Invalid input: model should be a string of function name",
        ValueError,
    )
    function = getattr(module, model, None)
    check(callable(function), f"[hub] Cannot find callable {model} in hubconf")
    return function  # type: ignore[return-value]


def load(
    repo_or_dir: str,
    model: str,
    *args: Any,
    source: str = "github",
    trust_repo: Any = None,
    force_reload: bool = False,
    verbose: bool = True,
    skip_validation: bool = False,
    **kwargs: Any,
) -> Any:
    """What the function `model` of a repository's `hubconf.py` returns for the other arguments.

    `repo_or_dir` is `owner/name[:ref]` on GitHub, or with `source="local"` a folder.
    """
    check(
        source in ("github", "local"),
        f'Unknown source: "{source}". Allowed values: "github" | "local".',
        ValueError,
    )
    folder = Path(repo_or_dir)
    if source == "github":
        folder = fetch_repository(repo_or_dir, force_reload, verbose, trust_repo)
    return entry_point(run_hubconf(folder), model)(*args, **kwargs)


def list(
    github: str,
    force_reload: bool = False,
    skip_validation: bool = False,
    trust_repo: Any = None,
    verbose: bool = True,
) -> builtins.list[str]:
    """The names of the models that a repository offers."""
    module = run_hubconf(fetch_repository(github, force_reload, verbose, trust_repo))
    return [
        name for name in dir(module) if callable(getattr(module, name)) and not name.startswith("_")
    ]


def help(
    github: str,
    model: str,
    force_reload: bool = False,
    skip_validation: bool = False,
    trust_repo: Any = None,
) -> str | None:
    """The docstring of a model's function."""
    module = run_hubconf(fetch_repository(github, force_reload, True, trust_repo))
    return entry_point(module, model).__doc__
