"""Cache folders that are computed once for all runs; each is complete or absent."""

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from filelock import FileLock

from intel_scenes.errors import UserError, first_line
from intel_scenes.files import sha256

Array = npt.NDArray[Any]

CONTENTS = "sha256.json"  # digests of the other files of a cache folder, by name


def make_once(folder: Path, write: Callable[[Path], None], *, verify: bool = False) -> None:
    """Create a cache folder unless it exists; a second process waits for the first.

    Args:
        folder: Folder to create; its name must depend on everything that its content depends on.
        write: Fills the new folder whose path it is called with.
        verify: Whether an existing folder is read, to check that it holds what was written.

    Raises:
        UserError: The cache cannot be written, or does not hold what was written.
    """
    if folder.exists():  # complete, so a read-only cache can be used
        if verify:
            _check_contents(folder)
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if folder.exists():
                return
            partial = folder.with_name(f".{folder.name}")
            shutil.rmtree(partial, ignore_errors=True)  # left by a killed process: this one holds the lock
            partial.mkdir()
            try:
                write(partial)
                contents = {path.name: sha256(path) for path in sorted(partial.iterdir())}
                (partial / CONTENTS).write_text(json.dumps(contents))
                for path in (*partial.iterdir(), partial):
                    _sync(path)
                partial.rename(folder)
            except BaseException:
                shutil.rmtree(partial, ignore_errors=True)
                raise
    except OSError as error:
        raise UserError(
            f"the cache folder {folder.parent} cannot be written ({error}): set data.cache_dir to another folder"
        ) from error


def _check_contents(folder: Path) -> None:
    if not (folder / CONTENTS).exists():
        raise UserError(f"the cache folder {folder} is of an earlier version, without checksums: remove it")
    with reading(folder):
        for name, content in json.loads((folder / CONTENTS).read_text()).items():
            if sha256(folder / name) != content:
                raise UserError(f"the cache folder {folder} is corrupt (the checksum of {name} is wrong): remove it")


def arrays(folder: Path, *names: str) -> list[Array]:
    """Return arrays of a cache folder, memory-mapped copy-on-write.

    Raises:
        UserError: An array cannot be read.
    """
    with reading(folder):
        return [np.load(folder / f"{name}.npy", mmap_mode="c") for name in names]


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turn errors while a cache folder is read into a UserError.

    Raises:
        UserError: The folder cannot be read, or is corrupt.
    """
    try:
        yield
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise UserError(f"the cache folder {folder} is corrupt ({first_line(error)}): remove it") from error
    except OSError as error:
        raise UserError(
            f"the cache folder {folder} cannot be read ({error}): check its permissions, or set data.cache_dir"
        ) from error


def _sync(path: Path) -> None:
    """Wait until a file, or a folder's directory entries, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
