"""Digests of the contents of image files, kept in the cache so that a later start does not read unchanged files."""

import hashlib
import logging
import os
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt

from intel_scenes.errors import UserError, counted
from intel_scenes.files import digest, write_whole

Item = TypeVar("Item")
Result = TypeVar("Result")

# File times may be this coarse: a file that changes again within them keeps its time, so its digest is not kept yet.
CLOCK_SECONDS = 2.0
DIGEST_BYTES = 16
FORMAT = 1  # part of the file's name: change it with the arrays
MAX_NAMED = 5

log = logging.getLogger(__name__)


class _Kept(NamedTuple):
    """What the cache holds of N files: relative paths, (N, 4) statuses and (N, 16) digests."""

    paths: Sequence[str]
    statuses: npt.NDArray[np.uint64]
    digests: npt.NDArray[np.uint8]


@dataclass(frozen=True)
class FileDigests:
    """Digests of files, read from the cache where the file is unchanged.

    A file counts as unchanged if its path, inode, size, modification time and change time (`ctime`) are those of the
    time when it was read. Unlike the modification time, no program can set the change time. So a change goes unseen
    only if the system does not record it: a disk that loses bits, a write to the device below the file system, a
    network or FUSE file system without change times, or a clock that was set back to the nanosecond. `verify` sees
    these too.

    Attributes:
        cache_dir: Folder of the cache; None keeps nothing, so that every file is read.
        verify: Whether every file is read, and changes that went unseen are logged as a warning.
    """

    cache_dir: Path | None = None
    verify: bool = False

    def of(self, folder: Path, paths: Sequence[str]) -> tuple[str, ...]:
        """Return the digest of each file's bytes, 32 hexadecimal digits.

        Args:
            folder: Folder that the paths are relative to.
            paths: Paths of the files.

        Raises:
            UserError: A file cannot be read.
        """
        begun = time.time_ns()  # before any file is read: what changes from now on has a later time
        statuses = np.array(_in_threads(lambda path: _status(folder, path), paths), np.uint64).reshape(-1, 4)
        kept = self._read(folder)
        is_kept, values = _matched(kept, paths, statuses)
        to_read = np.flatnonzero(~is_kept) if not self.verify else np.arange(len(paths))
        read = b"".join(_in_threads(lambda row: _digest(folder, paths[row]), to_read.tolist()))
        before = values.copy()
        values[to_read] = np.frombuffer(read, np.uint8).reshape(-1, DIGEST_BYTES)
        changed = np.flatnonzero(is_kept & (values != before).any(axis=1))
        if len(changed):
            named = [str(folder / paths[row]) for row in changed[:MAX_NAMED]] + ["..."] * (len(changed) > MAX_NAMED)
            log.warning(
                "%s changed, but not in size and times: %s; runs since then were told the old content",
                counted(len(changed), "file"),
                ", ".join(named),
            )
        # A time in the future, of a clock that was set back, is not settled either.
        is_settled = is_kept | (statuses[:, 3].astype(np.int64) < begun - int(CLOCK_SECONDS * 1e9))
        if len(changed) or (is_settled & ~is_kept).any() or is_kept.sum() < len(kept.paths):
            settled = np.flatnonzero(is_settled)
            self._write(folder, _Kept([paths[row] for row in settled], statuses[settled], values[settled]))
        digits = values.tobytes().hex()
        return tuple(digits[start : start + 2 * DIGEST_BYTES] for start in range(0, len(digits), 2 * DIGEST_BYTES))

    def _file(self, folder: Path) -> Path | None:
        name = f"file-digests-{digest([FORMAT, str(folder.absolute())])[:32]}.npz"
        return None if self.cache_dir is None else self.cache_dir / name

    def _read(self, folder: Path) -> _Kept:
        """Return what is kept of a folder; nothing if its file is missing or damaged."""
        file = self._file(folder)
        if file is not None and file.exists():
            try:
                with file.open("rb") as opened, np.load(opened) as arrays:  # the archive has a checksum of each array
                    paths = os.fsdecode(arrays["paths"].tobytes()).split("\0")
                    return _Kept(paths, arrays["statuses"], arrays["digests"])
            except Exception:  # a damaged archive raises various exceptions
                log.warning("%s is damaged: all files are read again", file)
        return _Kept([], np.zeros((0, 4), np.uint64), np.zeros((0, DIGEST_BYTES), np.uint8))

    def _write(self, folder: Path, kept: _Kept) -> None:
        file = self._file(folder)
        if file is None or not kept.paths:
            return
        paths = np.frombuffer(os.fsencode("\0".join(kept.paths)), np.uint8)
        with suppress(OSError):  # a cache that cannot be written costs time only
            write_whole(
                file, lambda opened: np.savez(opened, paths=paths, statuses=kept.statuses, digests=kept.digests)
            )


READ_ALL = FileDigests()


def _matched(
    kept: _Kept, paths: Sequence[str], statuses: npt.NDArray[np.uint64]
) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.uint8]]:
    """Return which files are unchanged, (N,), and their digests, (N, 16); zeros of the others."""
    values = np.zeros((len(paths), DIGEST_BYTES), np.uint8)
    row_of = {path: row for row, path in enumerate(kept.paths)}
    rows = np.array([row_of.get(path, -1) for path in paths], np.int64)
    is_kept = rows >= 0
    is_kept[is_kept] = (kept.statuses[rows[is_kept]] == statuses[is_kept]).all(axis=1)
    values[is_kept] = kept.digests[rows[is_kept]]
    return is_kept, values


def _in_threads(function: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """Return the results in order. Threads hide the latency of the disk; a task for each file would cost more."""
    chunks = [items[start : start + 256] for start in range(0, len(items), 256)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        return [result for results in pool.map(lambda chunk: list(map(function, chunk)), chunks) for result in results]


def _status(folder: Path, path: str) -> tuple[int, int, int, int]:
    """Return inode, size, modification and change time (ns), each as 64 bits without a sign."""
    try:
        status = os.stat(os.path.join(folder, path))  # a `Path` for each file would cost as much again
    except OSError as error:
        raise _unreadable(folder / path, error) from error
    values = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    inode, size, modified, changed = (value & (2**64 - 1) for value in values)
    return inode, size, modified, changed


def _digest(folder: Path, path: str) -> bytes:
    try:
        return hashlib.blake2b((folder / path).read_bytes(), digest_size=DIGEST_BYTES).digest()
    except OSError as error:
        raise _unreadable(folder / path, error) from error


def _unreadable(file: Path, error: OSError) -> UserError:
    return UserError(f"the file {file} cannot be read ({error.strerror}): repair or remove it")
