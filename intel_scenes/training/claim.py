"""How a run's record begins and ends: claimed, opened, and closed with a status whatever happens."""

import json
import logging
import signal
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from tempfile import NamedTemporaryFile

import torch
import yaml
from filelock import SoftFileLease, Timeout
from lightning.pytorch.utilities.exceptions import SIGTERMException

from intel_scenes import files, record
from intel_scenes.config import RunConfig, of_record
from intel_scenes.digests import Facts, digests, is_neutral
from intel_scenes.errors import Busy, Refused, Twin, UserError, first_line
from intel_scenes.record import Origin, Status, Summary
from intel_scenes.sections import as_plain
from intel_scenes.training.checkpoints import is_whole

log = logging.getLogger(__name__)

LEASE_SECONDS = 120.0  # long enough for a step that holds the interpreter
MAX_DEATHS = 3
DEATHS = ".deaths.json"
CUT_OFF = "the run is still going on, or was cut off without a word: the same command goes on from its last epoch"
INTERRUPTED = "the run was interrupted: the same command goes on from its last epoch"


@dataclass(frozen=True)
class Place:
    """Where the record of a run goes.

    Attributes:
        folder: Of the run.
        siblings: A folder whose other run folders may hold the same run; None where there is none.
        replaces_changed: Whether another run that the folder holds is moved aside instead of refused.
    """

    folder: Path
    siblings: Path | None = None
    replaces_changed: bool = False


@dataclass(frozen=True)
class Claim:
    """A claim on a run folder.

    Attributes:
        folder: Of the run.
        lease: That the first process of a run holds; None on others, which write nothing.
    """

    folder: Path
    lease: SoftFileLease | None

    def check(self) -> None:
        """Raises Busy where another process has taken the run over, because this one stood still for too long."""
        if self.lease is not None and self.lease.compromise:
            raise Busy(f"{self.folder} was taken over by another process while this one stood still")


@contextmanager
def claimed(folder: Path, *, is_first: bool) -> Iterator[Claim]:
    """Holds a run folder for this process, which is the first of a distributed run.

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
        yield Claim(folder, None)
        return
    lock = SoftFileLease(folder / record.LOCK, lease_duration=LEASE_SECONDS)
    try:
        with as_user_errors():
            folder.mkdir(parents=True, exist_ok=True)
            lock.acquire(timeout=_patience(folder))
    except Timeout as error:
        raise Busy(f"another process is at work in {folder}: wait for it, or set hydra.run.dir") from error
    try:
        with as_user_errors():
            record.remove_leftovers(folder)
            _count_deaths(folder)
        yield Claim(folder, lock)
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


def completed(config: RunConfig, facts: Facts, folder: Path) -> Summary | None:
    """The summary of this very run where it is complete, which no claim is needed to see; None where it is not."""
    summary = Summary.read(folder)
    if summary is None or summary.status is not Status.COMPLETED:
        return None
    if summary.config_digest != digests(config, facts).config:
        return None
    log.info("%s is complete", folder)
    return finished(config, folder)


def finished(config: RunConfig, folder: Path) -> Summary | None:
    """The summary of a run that has ended, without the checkpoint that nobody goes on from."""
    if not config.keep_last:
        (folder / record.LAST).unlink(missing_ok=True)
    return Summary.read(folder)


def settle_previous_run(config: RunConfig, facts: Facts, place: Place, claim: Claim) -> None:
    """Sees to it that a folder holds no other run than this one.

    Another run that the folder holds is moved aside where it failed, for its cause may have been mended in a file, and
    where the place says so: by the process that holds the folder.

    Raises:
        Refused: The folder holds a run of another configuration or of other data.
        Twin: Another folder of `place.siblings` holds this run.
    """
    summary, digest = Summary.read(place.folder), digests(config, facts).config
    if summary is None or summary.config_digest is None:
        _refuse_twins(digest, place)
    elif summary.config_digest != digest:
        if summary.status is Status.FAILED or place.replaces_changed:
            if claim.lease is not None:
                _move_aside(place.folder)
            return
        source = ", the source of the network" if config.model.library == "custom" else ""
        what = (
            ", ".join(_changed(place.folder, config)) or f"the data, the weights{source}, the threads or the precision"
        )
        way = (
            "set another sweep.name, or sweep.redo=changed, which moves the old run aside"
            if place.siblings
            else "set hydra.run.dir=FOLDER, or move the old one away"
        )
        raise Refused(f"{place.folder} holds a run of another configuration: {what}; {way}")


def _changed(folder: Path, config: RunConfig) -> list[str]:
    try:
        there = of_record(folder)
    except UserError as error:
        raise Refused(str(error)) from error
    differences = files.differences(as_plain(there), as_plain(config))
    return [text for text in differences if not is_neutral(text.split(" ")[0])]


def _refuse_twins(config_digest: str, place: Place) -> None:
    folder = place.folder
    for other in sorted(place.siblings.glob(f"*/{record.SUMMARY}")) if place.siblings else ():
        summary = Summary.peek(other.parent) if other.parent != folder else None
        if summary is None or summary.config_digest != config_digest:
            continue
        if summary.status is Status.COMPLETED:
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


def starts_fresh(folder: Path, claim: Claim) -> bool:
    """Whether there is nothing to go on from; who holds the folder moves a damaged checkpoint aside.

    That of the best epoch counts as well, for the end of the run reads it. Asked before the record is opened, which
    removes a checkpoint whose record is gone, and in this order: another rank may be at it.
    """
    last, best, summary = folder / record.LAST, folder / record.BEST, Summary.read(folder)
    if summary is None or not summary.config_digest or not last.exists():
        return True
    damaged = [path for path in (last, best) if not is_whole(path)]
    if not damaged:
        log.info("going on from %s", last)
        return False
    for path in damaged if claim.lease is not None else []:
        aside = path.with_name(f"{path.name}.damaged")
        try:
            path.replace(aside)
        except FileNotFoundError:
            log.warning("%s is missing: the run begins anew", path)
        else:
            log.warning("%s is damaged: moved to %s, and the run begins anew", path, aside.name)
    return True


@dataclass
class OpenRecord:
    """The record of a run that is going on.

    Attributes:
        summary: What is known of the run; with its results by the time it ends.
    """

    summary: Summary


@contextmanager
def recorded(config: RunConfig, origin: Origin, known: Summary, folder: Path, claim: Claim) -> Iterator[OpenRecord]:
    """Opens the record of a run, and closes it with a status whatever happens inside.

    Until it is closed the record says `interrupted`, so a run that is killed leaves a true one.

    Args:
        config: Resolved.
        origin: What was typed and chosen.
        known: What is known before the first step.
        folder: The run folder.
        claim: On the folder.

    Yields:
        The open record, whose summary takes the results: they make it `completed`.

    Raises:
        UserError: The run failed in a way that the user can mend.
        KeyboardInterrupt: The run was interrupted, by Lightning's account too.
    """
    if claim.lease is None:
        with _told(folder):
            yield OpenRecord(known)
        return
    earlier = Summary.read(folder)
    started = (earlier.started if earlier else None) or files.now()
    opened = replace(known, started=started, status=Status.INTERRUPTED)
    with as_user_errors():
        if earlier is None or earlier.config_digest is None:
            for stranger in (record.LAST, record.BEST):  # whose record somebody removed
                (folder / stranger).unlink(missing_ok=True)
            files.write_whole(folder / record.CONFIG, yaml.safe_dump(as_plain(config), sort_keys=False).encode())
            files.write_whole(folder / record.OVERRIDES, yaml.safe_dump(list(origin.overrides)).encode())
        replace(opened, error=CUT_OFF).write(folder)
    try:
        with as_user_errors():
            entry = OpenRecord(opened)
            yield entry
            claim.check()
            replace(entry.summary, status=Status.COMPLETED, ended=files.now()).write(folder)
    except Busy:
        raise
    except (KeyboardInterrupt, Exception) as error:
        if claim.lease.compromise:
            raise
        if told := _failure_of_another(folder):
            raise UserError(told) from error
        with suppress(OSError):  # with the disk full, the record that says `interrupted` stands
            _ended_by(error, opened).write(folder)
        raise


def _ended_by(error: BaseException, opened: Summary) -> Summary:
    if isinstance(error, KeyboardInterrupt):
        return replace(opened, error=INTERRUPTED, ended=files.now())
    text = "".join(traceback.format_exception(error))
    return replace(opened, status=Status.FAILED, error=first_line(error), traceback=text, ended=files.now())


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """On the other processes of a distributed run: puts the reason for a failure into the open record.

    All that the first process sees of it is a connection that breaks off, or a signal; where that one fails first, it
    has closed the record before this one notices.
    """
    try:
        with as_user_errors():
            yield
    except Exception as error:
        summary = Summary.peek(folder)
        if summary is not None and summary.error == CUT_OFF:
            with suppress(OSError):
                _ended_by(error, summary).write(folder)
        raise


def _failure_of_another(folder: Path) -> str | None:
    """The sentence that another process of this run left in its open record."""
    summary = Summary.peek(folder)
    return summary.error if summary is not None and summary.status is Status.FAILED else None


@contextmanager
def as_user_errors() -> Iterator[None]:
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
