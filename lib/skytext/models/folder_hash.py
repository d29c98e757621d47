"""Compute the hash of a model folder, for a model that has no revision on a hub."""

from __future__ import annotations

import hashlib
from pathlib import Path


def hash_folder(path: Path) -> str:
    """Return the SHA-256 of the names and contents of all files in a folder, in hexadecimal.

    Hidden files and files in hidden folders are not included.
    """
    digest = hashlib.sha256()
    files = (file for file in path.rglob("*") if file.is_file() and not _is_hidden(file, path))
    for file in sorted(files, key=lambda file: file.relative_to(path).as_posix()):
        with file.open("rb") as stream:
            content = hashlib.file_digest(stream, "sha256").hexdigest()
        digest.update(f"{file.relative_to(path).as_posix()}\0{content}\n".encode())
    return digest.hexdigest()


def _is_hidden(file: Path, root: Path) -> bool:
    return any(part.startswith(".") for part in file.relative_to(root).parts)
