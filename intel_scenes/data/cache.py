"""What is computed once and kept for all runs: a folder that is there whole or not at all."""

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
    """Has a folder made where it is not there yet; a second process waits for the first.

    Args:
        folder: In a cache, named after all that its content depends on.
        write: Fills the new folder that it is given.

    Raises:
        UserError: The cache cannot be written.
    """
    if folder.exists():  # whole, so that a cache that cannot be written is of use
        return
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        with FileLock(f"{folder}.lock"):
            if folder.exists():
                return
            partial = folder.with_name(f".{folder.name}")
            shutil.rmtree(partial, ignore_errors=True)  # of a killed process; the lock is ours
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
        raise UserError(f"the cache {folder.parent} cannot be written ({error}): set data.cache_dir") from error


def arrays(folder: Path, *names: str) -> list[Array]:
    """Arrays of a kept folder, mapped into memory; what is changed in memory stays there.

    Raises:
        UserError: They cannot be read.
    """
    with reading(folder):
        return [np.load(folder / f"{name}.npy", mmap_mode="c") for name in names]


@contextmanager
def reading(folder: Path) -> Iterator[None]:
    """Turns what goes wrong while a kept folder is read into one sentence.

    Raises:
        UserError: It cannot be read.
    """
    try:
        yield
    except (FileNotFoundError, ValueError, EOFError) as error:
        raise UserError(f"the cache {folder} is damaged ({first_line(error)}): remove that folder") from error
    except OSError as error:
        raise UserError(f"the cache {folder} cannot be read ({error}): set data.cache_dir") from error


def _sync(path: Path) -> None:
    """Waits until a file, or the names in a folder, are on the disk."""
    opened = os.open(path, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
