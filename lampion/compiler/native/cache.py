"""Compiled objects on disk, by content. Imports the version.

A file is named by the hash of everything that decides its bytes and begins with the hash of what
follows, so a cut or altered file is noticed and built again. Files appear by rename, so any number
of processes may share the folder.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

LIMIT = 64 << 20  # bytes the folder may hold
MAGIC = b"lampion object 1\n"


def folder() -> Path:
    """Where objects are kept: `LAMPION_CACHE`, else a folder in the user's cache."""
    chosen = os.environ.get("LAMPION_CACHE")
    if chosen:
        return Path(chosen)
    base = os.environ.get("XDG_CACHE_HOME")
    return (Path(base) if base else Path.home() / ".cache") / "lampion"


def key(*parts: str) -> str:
    """The name of what the parts decide."""
    digest = hashlib.sha256()
    for part in parts:
        digest.update(f"{len(part)}:{part}".encode())
    return digest.hexdigest()[:40]


def fetch(name: str, build: Callable[[], bytes]) -> bytes:
    """The stored bytes of that name, else what `build` makes, which is then stored.

    A folder that cannot be written makes each process build for itself.
    """
    try:
        path = folder() / name
    except RuntimeError:  # there is no home folder
        return build()
    found = read(path)
    if found is None:
        found = build()
        write(path, found)
    return found


def read(path: Path) -> bytes | None:
    """The file's content, None where it is missing or damaged."""
    try:
        content = path.read_bytes()
        os.utime(path)  # what was used last is kept longest
    except OSError:
        return None
    start = len(MAGIC) + 32
    digest, payload = content[len(MAGIC) : start], content[start:]
    good = content.startswith(MAGIC) and hashlib.sha256(payload).digest() == digest
    return payload if good else None


def write(path: Path, payload: bytes) -> None:
    """Stores by rename, then removes the files used longest ago while there are too many bytes."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(prefix="new-", dir=path.parent)
        try:
            with os.fdopen(handle, "wb") as file:
                file.write(MAGIC + hashlib.sha256(payload).digest() + payload)
            os.replace(temporary, path)
        except OSError:
            os.unlink(temporary)
            raise
        trim(path.parent)
    except OSError:
        return  # the disk is full or may not be written: nothing is kept


def trim(place: Path) -> None:
    """Removes the files used longest ago until the folder holds at most `LIMIT` bytes."""
    files = []
    for entry in os.scandir(place):
        try:
            status = entry.stat()
        except FileNotFoundError:  # another process was faster
            continue
        files.append((status.st_mtime, status.st_size, entry.path))
    total = sum(size for _, size, _ in files)
    for _, size, path in sorted(files):
        if total <= LIMIT:
            return
        Path(path).unlink(missing_ok=True)
        total -= size
