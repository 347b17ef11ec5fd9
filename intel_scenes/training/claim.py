"""How a run's record begins and ends: claimed, opened, and closed with a status whatever happens."""

import json
import logging
import signal
import traceback
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from tempfile import NamedTemporaryFile
from typing import Any

import torch
import yaml
from filelock import SoftFileLease, Timeout
from lightning.pytorch.utilities.exceptions import SIGTERMException

from intel_scenes import files, record
from intel_scenes.errors import Busy, Refused, Twin, UserError, first_line
from intel_scenes.training import configuration

log = logging.getLogger(__name__)

LEASE_SECONDS = 120.0  # long enough for a step that holds the interpreter
MAX_DEATHS = 3
DEATHS = ".deaths.json"
CUT_OFF = "the run is still going on, or was cut off without a word: the same command goes on from its last epoch"
INTERRUPTED = "the run was interrupted: the same command goes on from its last epoch"


@contextmanager
def claimed(folder: Path, *, is_first: bool) -> Iterator[SoftFileLease | None]:
    """Holds a run folder for this process; yields the lease, on the first process of a distributed run.

    A holder that was killed is succeeded at once where it ran on this machine, and after a lease where on another.

    Args:
        folder: Of the run.
        is_first: Whether this is the only process of the run, or the first of several. The Trainer knows: a number that
            a launcher left in the environment may be that of a process with a run of its own.

    Raises:
        Busy: Another process holds it.
        UserError: Its holders died too often.
    """
    if not is_first:
        yield None
        return
    lock = SoftFileLease(folder / record.LOCK, lease_duration=LEASE_SECONDS)
    try:
        with sentences():
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_patience(folder))
    except Timeout as error:
        raise Busy(f"another process is at work in {folder}: wait for it, or set hydra.run.dir") from error
    try:
        with sentences():
            record.remove_leftovers(folder)
            _count_deaths(folder)
        yield lock
    finally:
        (folder / DEATHS).unlink(missing_ok=True)
        lock.release()


def _patience(folder: Path) -> float:
    """Seconds to watch the claim of another: long enough to call it stale, if its holder no longer renews it."""
    try:
        renewed = (folder / record.LOCK).stat().st_mtime
    except FileNotFoundError:
        return 0
    with NamedTemporaryFile(dir=folder, prefix=".clock-") as probe:  # the clock of the file system
        now = Path(probe.name).stat().st_mtime
    return 1.5 * LEASE_SECONDS if now - renewed > LEASE_SECONDS else 0


def _count_deaths(folder: Path) -> None:
    """Counts the holders that left without a word since the last finished epoch: the file of this count is their trace.

    Raises:
        UserError: There were too many. The count begins anew.
    """
    history, trace = folder / record.HISTORY, folder / DEATHS
    lines = len(history.read_text().splitlines()) if history.exists() else 0
    deaths = 0
    if trace.exists():
        earlier = json.loads(trace.read_bytes())
        deaths = earlier["deaths"] + 1 if earlier["lines"] == lines else 1
    if deaths >= MAX_DEATHS:
        raise UserError(
            f"the process of {folder.name} died {deaths} times without a word in one epoch, as when memory runs out: "
            "lower data.batch_size or data.image_size, or start it again"
        )
    files.write_whole(trace, json.dumps({"deaths": deaths, "lines": lines}).encode())


def completed(folder: Path, config_digest: str, plain: Mapping[str, Any]) -> dict[str, Any] | None:
    """The summary of this very run where it is complete, which no claim is needed to see; None where it is not."""
    found = record.read_summary(folder)
    if found is None or found["status"] != "completed" or found["config_digest"] != config_digest:
        return None
    log.info("%s is complete", folder)
    if not plain["keep_last"]:
        (folder / record.LAST).unlink(missing_ok=True)
    return found


def make_room(folder: Path, config_digest: str, plain: Mapping[str, Any], *, holds: bool) -> None:
    """Sees to it that a folder holds no other run than this one.

    Another run that the folder holds is moved aside where it failed, for its cause may have been mended in a file, and
    with `sweep.redo=changed`: by the process that holds the folder.

    Raises:
        Refused: The folder holds a run of another configuration or of other data.
        Twin: Another folder of the sweep holds this run.
    """
    found = record.read_summary(folder)
    if found is None or found["config_digest"] is None:
        _refuse_twins(folder, config_digest, plain)
    elif found["config_digest"] != config_digest:
        if found["status"] == "failed" or plain["sweep"]["redo"] == "changed":
            if holds:
                _move_aside(folder)
            return
        what = ", ".join(_changed(folder, plain)) or "the data, the weights, the threads or the precision"
        way = (
            "set another sweep.name, or sweep.redo=changed, which moves the old run aside"
            if plain["sweep"]["name"]
            else "set hydra.run.dir=FOLDER, or move the old one away"
        )
        raise Refused(f"{folder} holds a run of another configuration: {what}; {way}")


def _changed(folder: Path, plain: Mapping[str, Any]) -> list[str]:
    try:
        there = configuration.of_record(folder)
    except UserError as error:
        raise Refused(str(error)) from error
    return [text for text in files.differences(there, plain) if not record.is_neutral(text.split(" ")[0])]


def _refuse_twins(folder: Path, config_digest: str, plain: Mapping[str, Any]) -> None:
    if not plain["sweep"]["name"]:
        return
    for other in sorted(folder.parent.glob(f"*/{record.SUMMARY}")):
        found = record.peek(other.parent) if other.parent != folder else None
        if found is None or found["config_digest"] != config_digest:
            continue
        if found["status"] == "completed":
            raise Twin(f"{folder.name} is the same run as {other.parent.name}, which is complete", other.parent.name)
        if (other.parent / record.LOCK).exists():
            raise Busy(f"{folder.name} is the same run as {other.parent.name}, at which another process is at work")


def _move_aside(folder: Path) -> None:
    aside = folder.parent / ".replaced" / f"{folder.name}-{files.now().replace(':', '')}"
    aside.mkdir(parents=True)
    for entry in sorted(folder.iterdir()):
        if not entry.name.startswith("."):
            entry.rename(aside / entry.name)
    log.warning("%s was another run: moved to %s", folder.name, aside)


def check_held(folder: Path, lease: SoftFileLease | None) -> None:
    """Raises Busy where another process has taken a run over, because this one stood still for too long."""
    if lease is not None and lease.compromise:
        raise Busy(f"{folder} was taken over by another process while this one stood still")


@contextmanager
def recorded(
    folder: Path,
    lease: SoftFileLease | None,
    plain: Mapping[str, Any],
    overrides: Sequence[str],
    known: Mapping[str, Any],
) -> Iterator[dict[str, Any]]:
    """Opens the record of a run, and closes it with a status whatever happens inside.

    Until it is closed the record says `interrupted`, so a run that is killed leaves a true one.

    Args:
        folder: The run folder.
        lease: The claim on it.
        plain: The resolved configuration.
        overrides: What was typed.
        known: What `summary.json` can hold before the first step.

    Yields:
        A dictionary to put the results in: they make the record `completed`.

    Raises:
        UserError: The run failed in a way that the user can mend.
        KeyboardInterrupt: The run was interrupted, by Lightning's account too.
    """
    if lease is None:
        with _told(folder):
            yield {}
        return
    earlier = record.read_summary(folder) or {}
    summary = {**known, "started": earlier.get("started") or files.now(), "status": "interrupted"}
    with sentences():
        if earlier.get("config_digest") is None:
            for stranger in (record.LAST, record.BEST):  # whose record somebody removed
                (folder / stranger).unlink(missing_ok=True)
            files.write_whole(folder / record.CONFIG, yaml.safe_dump(dict(plain), sort_keys=False).encode())
            files.write_whole(folder / record.OVERRIDES, yaml.safe_dump(list(overrides)).encode())
        record.write_summary(folder, summary | {"error": CUT_OFF})
    results: dict[str, Any] = {}
    try:
        with sentences():
            yield results
            check_held(folder, lease)
            record.write_summary(folder, summary | results | {"status": "completed", "ended": files.now()})
    except Busy:
        raise
    except (KeyboardInterrupt, Exception) as error:
        if lease.compromise:
            raise
        if told := _failure_of_another(folder):
            raise UserError(told) from error
        with suppress(OSError):  # with the disk full, the record that says `interrupted` stands
            record.write_summary(folder, summary | _end_by(error))
        raise


def _end_by(error: BaseException) -> dict[str, Any]:
    if isinstance(error, KeyboardInterrupt):
        return {"error": INTERRUPTED, "ended": files.now()}
    text = "".join(traceback.format_exception(error))
    return {"status": "failed", "error": first_line(error), "traceback": text, "ended": files.now()}


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """On the other processes of a distributed run: puts the reason for a failure into the open record.

    All that the first process sees of it is a connection that breaks off, or a signal; where that one fails first, it
    has closed the record before this one notices.
    """
    try:
        with sentences():
            yield
    except Exception as error:
        found = record.peek(folder)
        if found is not None and found["error"] == CUT_OFF:
            with suppress(OSError):
                record.write_summary(folder, found | _end_by(error))
        raise


def _failure_of_another(folder: Path) -> str | None:
    """The sentence that another process of this run left in its open record."""
    found = record.peek(folder)
    return found["error"] if found is not None and found["status"] == "failed" else None


@contextmanager
def sentences() -> Iterator[None]:
    """Turns what a user can mend into a UserError, and Lightning's ways to stop into a KeyboardInterrupt."""
    handler = signal.getsignal(signal.SIGINT)
    try:
        yield
    except SIGTERMException as stop:
        raise KeyboardInterrupt from stop
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise RuntimeError(f"something called sys.exit({stop.code})") from stop
    except OSError as error:
        if error.errno in (ENOSPC, EDQUOT, EFBIG):
            where = f" for {error.filename}" if error.filename else ""
            raise UserError(f"no space left{where} ({error.strerror}): free some, or set hydra.run.dir") from error
        raise
    except torch.OutOfMemoryError as error:
        raise UserError(
            f"out of memory ({first_line(error)}): lower data.batch_size or data.image_size, or choose another model"
        ) from error
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:  # Lightning has Ctrl-C ignored once it was pressed
            signal.signal(signal.SIGINT, handler)
