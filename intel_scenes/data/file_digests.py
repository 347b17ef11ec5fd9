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

from intel_scenes import safe_images
from intel_scenes.errors import UserError, counted, few
from intel_scenes.files import digest, write_whole

Item = TypeVar("Item")
Result = TypeVar("Result")

# File times may be this coarse: a file that changes twice within this time may keep its time, so its digest is not
# stored yet.
CLOCK_SECONDS = 2.0
DIGEST_BYTES = 16
FORMAT = 1  # part of the file's name: change it with the arrays

log = logging.getLogger(__name__)


class _Kept(NamedTuple):
    """Content of the cache for N files: relative paths, (N, 4) statuses (0: not settled) and (N, 16) digests."""

    paths: Sequence[str]
    statuses: npt.NDArray[np.uint64]
    digests: npt.NDArray[np.uint8]

    def equals(self, other: "_Kept") -> bool:
        """Return whether both are of the same files with the same statuses and contents."""
        pairs = (self.statuses, other.statuses), (self.digests, other.digests)
        return list(self.paths) == list(other.paths) and all(np.array_equal(one, another) for one, another in pairs)

    @property
    def contents(self) -> dict[str, bytes]:
        """Digest of each file, by its path."""
        return dict(zip(self.paths, map(bytes, self.digests), strict=True))


@dataclass(frozen=True)
class FileDigests:
    """Digests of files, read from the cache where the file is unchanged.

    A file counts as unchanged if its path, inode, size, modification time and change time (`ctime`) are those of the
    time when it was read. Unlike the modification time, no program can set the change time. So a change is missed
    only if the system does not record it: a disk that flips bits, a write to the device below the file system, a
    network or FUSE file system without change times, or a clock that was set back to the nanosecond. `verify` detects
    these too.

    Attributes:
        cache_dir: Folder of the cache; None keeps nothing, so that every file is read.
        verify: Whether every file is read, and changes that were missed before are logged as a warning.
    """

    cache_dir: Path | None = None
    verify: bool = False

    def of(self, folder: Path, paths: Sequence[str], listed_in: Path | None = None) -> tuple[str, ...]:
        """Return the digest of each file's bytes, 32 hexadecimal digits.

        Args:
            folder: Folder that the paths are relative to.
            paths: Paths of the files.
            listed_in: File that lists them; None if they are all images of the folder.

        Raises:
            UserError: A file cannot be read.
        """
        begun = time.time_ns()  # before any file is read: what changes from now on has a later time
        statuses = np.array(_in_threads(lambda path: _status(folder, path), paths), np.uint64).reshape(-1, 4)
        file = None if self.cache_dir is None else self.cache_dir / _name(folder, listed_in)
        kept = _read(file)
        is_kept, values = _matched(kept, paths, statuses)
        to_read = np.flatnonzero(~is_kept) if not self.verify else np.arange(len(paths))
        read = b"".join(_in_threads(lambda row: _digest(folder, paths[row]), to_read.tolist()))
        before = values.copy()
        values[to_read] = np.frombuffer(read, np.uint8).reshape(-1, DIGEST_BYTES)
        changed = np.flatnonzero(is_kept & (values != before).any(axis=1))
        if len(changed):
            log.warning(
                "%s of %s changed without a change of size or times: %s; records of runs since then have old digests",
                counted(len(changed), "file"),
                folder,
                few([paths[row] for row in changed.tolist()]),
            )
        # A time in the future, of a clock that was set back, is not settled either.
        is_settled = is_kept | (statuses[:, 3].astype(np.int64) < begun - int(CLOCK_SECONDS * 1e9))
        now = _Kept(paths, np.where(is_settled[:, None], statuses, 0), values)
        if not now.equals(kept):
            _warn_of_changes(folder, kept, now)
            _write(file, now)
        digits = values.tobytes().hex()
        return tuple(digits[start : start + 2 * DIGEST_BYTES] for start in range(0, len(digits), 2 * DIGEST_BYTES))


READ_ALL = FileDigests()


def _name(folder: Path, listed_in: Path | None) -> str:
    places = [str(place.absolute()) for place in (folder, listed_in) if place is not None]
    return f"file-digests-{digest([FORMAT, places])[:32]}.npz"


def _read(file: Path | None) -> _Kept:
    """Return what is kept; nothing if the file is missing or damaged."""
    if file is not None and file.exists():
        try:
            with file.open("rb") as opened, np.load(opened) as arrays:  # the archive has a checksum of each array
                paths = os.fsdecode(arrays["paths"].tobytes()).split("\0")
                statuses = arrays["statuses"].astype(np.uint64).reshape(len(paths), 4)
                return _Kept(paths, statuses, arrays["digests"].astype(np.uint8).reshape(len(paths), DIGEST_BYTES))
        except Exception:  # a damaged archive raises various exceptions
            log.warning("%s is damaged, so all files are read again", file)
    return _Kept([], np.zeros((0, 4), np.uint64), np.zeros((0, DIGEST_BYTES), np.uint8))


def _write(file: Path | None, kept: _Kept) -> None:
    if file is None or not kept.paths:
        return
    paths = np.frombuffer(os.fsencode("\0".join(kept.paths)), np.uint8)
    with suppress(OSError):  # a cache that cannot be written costs time only
        write_whole(file, lambda opened: np.savez(opened, paths=paths, statuses=kept.statuses, digests=kept.digests))


def _warn_of_changes(folder: Path, kept: _Kept, now: _Kept) -> None:
    """Name the files that changed since the folder was last read: runs before and after cannot be compared."""
    if not kept.paths:
        return
    old, new = kept.contents, now.contents
    changes = {
        "changed": [path for path in new if path in old and old[path] != new[path]],
        "added": [path for path in new if path not in old],
        "removed": [path for path in old if path not in new],
    }
    if told := [f"{counted(len(names), 'file')} {verb}: {few(names)}" for verb, names in changes.items() if names]:
        log.warning("%s has changed since the last start: %s", folder, "; ".join(told))


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
        raise unreadable(folder / path, error) from error
    values = status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns
    inode, size, modified, changed = (value & (2**64 - 1) for value in values)
    return inode, size, modified, changed


def _digest(folder: Path, path: str) -> bytes:
    try:
        return hashlib.blake2b(safe_images.read(folder / path), digest_size=DIGEST_BYTES).digest()
    except OSError as error:
        raise unreadable(folder / path, error) from error


def unreadable(file: Path, error: OSError) -> UserError:
    """Return the sentence for an image file that cannot be read."""
    return UserError(f"the file {file} cannot be read ({error.strerror}): repair or remove it")
