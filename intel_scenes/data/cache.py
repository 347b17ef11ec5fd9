"""Cache folders that are computed once for all runs; each is complete or absent."""

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

Array = npt.NDArray[Any]


def make_once(folder: Path, write: Callable[[Path], None]) -> None:
    """Create a cache folder unless it exists; a second process waits for the first.

    Args:
        folder: Folder to create; its name must depend on everything that its content depends on.
        write: Fills the new folder whose path it is called with.

    Raises:
        UserError: The cache cannot be written.
    """
    if folder.exists():  # complete, so a read-only cache can be used
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
