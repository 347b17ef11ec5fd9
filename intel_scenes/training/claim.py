"""Lifecycle of a run's record: claimed, opened, and closed with a status whatever happens."""

import json
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from errno import EDQUOT, EFBIG, ENOSPC
from pathlib import Path
from tempfile import NamedTemporaryFile

import yaml
from filelock import SoftFileLease, Timeout
from lightning.pytorch.utilities.exceptions import SIGTERMException

from intel_scenes import files, record
from intel_scenes.config import RunConfig, of_record
from intel_scenes.digests import DEVICE_KEYS, Facts, digests, is_neutral
from intel_scenes.errors import Busy, Lost, Refused, Twin, UserError, first_line, lack_of_memory
from intel_scenes.record import Origin, Status, Summary
from intel_scenes.sections import as_plain
from intel_scenes.training.checkpoints import is_whole
from intel_scenes.training.ranks import Failure, Ranks, lost_as_user_error, outlast_launcher

log = logging.getLogger(__name__)

LEASE_SECONDS = 120.0  # longer than a step that blocks the interpreter, and with it the renewal
MAX_DEATHS = 3
DEATHS = ".deaths.json"
CUT_OFF = "the run is still training, or its process was killed: the same command resumes it from its last epoch"
INTERRUPTED = "the run was interrupted: the same command resumes it from its last epoch"


@dataclass(frozen=True)
class Place:
    """Location of the record of a run.

    Attributes:
        folder: Folder of the run.
        siblings: Folder of the study, whose other run folders may hold the same run; None for a single run.
        replaces_changed: Whether another run in the folder is moved aside; else the folder is refused.
        is_of_shard: Whether the run belongs to a shard, whose folder few processes share.
    """

    folder: Path
    siblings: Path | None = None
    replaces_changed: bool = False
    is_of_shard: bool = False


@dataclass(frozen=True)
class Claim:
    """A claim on a run folder.

    Attributes:
        folder: Folder of the run.
        lease: Lease that the first process of a run holds; None on the others, which write nothing.
    """

    folder: Path
    lease: SoftFileLease | None

    def check(self) -> None:
        """Raise Busy if another process has taken over the run, because this one did not renew its lease in time."""
        if self.lease is not None and self.lease.compromise:
            raise Busy(
                f"{self.folder} was taken over by another process, because this one was suspended for more than "
                f"{LEASE_SECONDS:.0f} s"
            )


@contextmanager
def claimed(place: Place, *, is_first: bool) -> Iterator[Claim]:
    """Claim a run folder for this process, if it is the first of the run.

    The claim of a killed process is taken over at once if it ran on this machine, else when its lease has expired. In a
    shard, an expired claim is removed instead, because some file systems do not allow taking over a lease. Two
    processes could then remove it at the same time and train the run twice, but only if both run the same shard.

    Args:
        place: Location of the run.
        is_first: Whether this is the only process of the run, or the first of several.

    Raises:
        Busy: Another process holds the folder.
        UserError: The processes of this run were killed too often.
    """
    folder = place.folder
    if not is_first:
        yield Claim(folder, None)
        return
    lock = SoftFileLease(folder / record.LOCK, lease_duration=LEASE_SECONDS)
    try:
        with as_user_errors():
            folder.mkdir(parents=True, exist_ok=True)
            is_expired = _is_expired(folder)
            if is_expired and place.is_of_shard:
                (folder / record.LOCK).unlink(missing_ok=True)
            lock.acquire(timeout=1.5 * LEASE_SECONDS if is_expired else 0)  # long enough to see that it is not renewed
    except Timeout as error:
        raise Busy(f"another process is running {folder}: wait for it, or set hydra.run.dir=FOLDER") from error
    try:
        with as_user_errors():
            record.remove_leftovers(folder)
            _count_deaths(folder)
        yield Claim(folder, lock)
    finally:
        if not lock.compromise:  # else the folder is another process's
            (folder / DEATHS).unlink(missing_ok=True)
        lock.release()


def _is_expired(folder: Path) -> bool:
    """Return whether a folder holds another process's claim that was not renewed in time."""
    try:
        renewed = (folder / record.LOCK).stat().st_mtime
    except FileNotFoundError:
        return False
    with NamedTemporaryFile(dir=folder, prefix=".clock-") as probe:  # the clock of the file system
        now = Path(probe.name).stat().st_mtime
    return now - renewed > LEASE_SECONDS


def _count_deaths(folder: Path) -> None:
    """Count the processes that were killed since the last complete epoch; each leaves the file with the count behind.

    Raises:
        UserError: There were too many. The count starts again at 0.
    """
    history, trace = folder / record.HISTORY, folder / DEATHS
    lines = len(history.read_bytes().splitlines()) if history.exists() else 0
    deaths = 0
    if trace.exists():
        try:
            earlier = json.loads(trace.read_bytes())
            deaths = earlier["deaths"] + 1 if earlier["lines"] == lines else 1
        except (KeyError, TypeError, ValueError):  # damaged
            deaths = 1
    if deaths >= MAX_DEATHS:
        raise UserError(
            f"the process of {folder.name} was killed {deaths} times in one epoch, probably because memory ran out: "
            "lower data.batch_size or data.image_size, or repeat the command to try again"
        )
    files.write_whole(trace, json.dumps({"deaths": deaths, "lines": lines}).encode())


def completed(config: RunConfig, facts: Facts, folder: Path) -> bool:
    """Return whether a folder holds this run, complete; needs no claim."""
    summary = Summary.read(folder)
    if summary is None or summary.status is not Status.COMPLETED:
        return False
    if summary.config_digest != digests(config, facts).config:
        return False
    log.info("%s is complete", folder)
    return True


def finished(config: RunConfig, folder: Path) -> Summary | None:
    """Return the summary of a complete run; its last checkpoint is removed unless `keep_last` is set."""
    if not config.keep_last:
        (folder / record.LAST).unlink(missing_ok=True)
    return Summary.read(folder)


def settle_previous_run(config: RunConfig, facts: Facts, place: Place, claim: Claim) -> None:
    """Make sure, with the claim on a folder, that it holds no other run than this one.

    An unfinished run goes on with another number of devices, unless its BatchNorm layers depend on that number. Another
    run in the folder is moved aside if it failed, because the cause may have been fixed in a file that the
    configuration depends on, or if the place allows it.

    Raises:
        Refused: The folder holds a run of another configuration or of other data.
        Twin: Another folder of `place.siblings` holds this run.
    """
    if claim.lease is None:
        return
    summary, digest = Summary.read(place.folder), digests(config, facts)
    if summary is None or summary.config_digest is None:
        _refuse_twins(digest.config, place)
    elif summary.config_digest != digest.config:
        is_complete = summary.status is Status.COMPLETED
        if summary.resume_digest == digest.resume and not is_complete:
            log.info(
                "continuing a run that was started on other devices: %s", ", ".join(_changed(place.folder, config))
            )
            return
        if summary.status is Status.FAILED or place.replaces_changed:
            _move_aside(place.folder)
            return
        source = ", the source of the network" if config.model.library == "custom" else ""
        changes = (
            "the images (data.root)"
            if summary.data_fingerprint not in (None, facts.data)
            else ", ".join(_changed(place.folder, config)) or f"the weights{source}, the threads or the precision"
        )
        advice = (
            "set another sweep.name, or sweep.redo=changed, which moves the old run aside"
            if place.siblings
            else "set hydra.run.dir=FOLDER, or move the old run away"
        )
        if not is_complete and _is_of_devices(place.folder, config):
            changes += " (BatchNorm normalizes the share of each device, so a run cannot change their number)"
        raise Refused(f"{place.folder} holds a run of another configuration: {changes}; {advice}")


def _is_of_devices(folder: Path, config: RunConfig) -> bool:
    """Return whether a run differs in its devices alone."""
    return {text.split(" ")[0] for text in _changed(folder, config)} <= set(DEVICE_KEYS)


def _changed(folder: Path, config: RunConfig) -> list[str]:
    try:
        recorded_config = of_record(folder)
    except UserError as error:
        raise Refused(str(error)) from error
    differences = files.differences(as_plain(recorded_config), as_plain(config))
    return [text for text in differences if not is_neutral(text.split(" ")[0])]


def _refuse_twins(config_digest: str, place: Place) -> None:
    folder = place.folder
    if place.siblings is None:
        return
    for name in sorted(os.listdir(place.siblings)):
        other = place.siblings / name
        if name == folder.name or not _mentions(other / record.SUMMARY, config_digest):
            continue
        summary = Summary.peek(other)
        if summary is None or summary.config_digest != config_digest:
            continue
        if summary.status is Status.COMPLETED:
            raise Twin(f"{folder.name} is the same run as {name}, which is complete", name)
        if (other / record.LOCK).exists():
            raise Busy(f"{folder.name} is the same run as {name}, which another process is running")


def _mentions(path: Path, text: str) -> bool:
    """Return whether a file holds a text, which is faster than to parse the records of thousands of runs."""
    try:
        return text.encode() in path.read_bytes()
    except OSError:
        return False


def _move_aside(folder: Path) -> None:
    aside = folder.parent / ".replaced" / f"{folder.name}-{files.now().replace(':', '')}"
    aside.mkdir(parents=True)
    for entry in sorted(folder.iterdir()):
        if not entry.name.startswith("."):
            entry.rename(aside / entry.name)
    log.warning("%s held another run, which was moved to %s", folder.name, aside)


def starts_fresh(folder: Path) -> bool:
    """Return whether the run starts from its first epoch, because there is no valid checkpoint to resume from.

    A corrupt checkpoint is moved aside, which needs the claim. The checkpoint of the best epoch is checked as well,
    because the end of the run reads it. Must be called before the record is opened, which removes a checkpoint without
    a record.
    """
    last, best, summary = folder / record.LAST, folder / record.BEST, Summary.read(folder)
    if summary is None or not summary.config_digest or not last.exists():
        return True
    corrupt = [path for path in (last, best) if not is_whole(path)]
    if not corrupt:
        log.info("resuming from %s", last)
        return False
    for path in corrupt:
        aside = path.with_name(f"{path.name}.damaged")
        try:
            path.replace(aside)
        except FileNotFoundError:
            log.warning("%s is missing; the run starts again from its first epoch", path)
        else:
            log.warning("%s is corrupt; moved to %s, and the run starts again from its first epoch", path, aside.name)
    return True


@dataclass
class OpenRecord:
    """Record of a run in progress.

    Attributes:
        summary: Summary of the run, which gets its results before the record is closed.
    """

    summary: Summary


@contextmanager
def recorded(
    config: RunConfig,
    origin: Origin,
    summary: Summary,
    folder: Path,
    claim: Claim,
    ranks: Ranks,
    fitting_batch_size: Callable[[], int | None],
) -> Iterator[OpenRecord]:
    """Open the record of a run, and close it with a status whatever happens inside.

    The record says `interrupted` until it is closed, so the record of a killed run is correct. Of several processes
    only the first one opens a record, and writes the failure of another one into it.

    Args:
        config: The resolved configuration.
        origin: Overrides that were typed and files of `conf/` that were chosen.
        summary: Summary before the first step.
        folder: Folder of the run.
        claim: Claim on the folder.
        ranks: Processes of the run.
        fitting_batch_size: See `as_user_errors`.

    Yields:
        The open record; the block sets its summary to the one with results.

    Raises:
        UserError: The run failed for a reason that the user can fix.
        KeyboardInterrupt: The run was interrupted, also if Lightning turned that into an exit.
        SystemExit: Another process failed, which reports it.
    """
    if claim.lease is None:
        with as_user_errors():
            yield OpenRecord(summary)
        return
    earlier = Summary.read(folder)
    started = (earlier.started if earlier else None) or files.now()
    opened = replace(summary, started=started, status=Status.INTERRUPTED)
    with as_user_errors():
        if earlier is None or earlier.config_digest is None:
            for checkpoint in (record.LAST, record.BEST):  # left without a record
                (folder / checkpoint).unlink(missing_ok=True)
        if earlier is None or earlier.config_digest != summary.config_digest:
            files.write_whole(folder / record.CONFIG, yaml.safe_dump(as_plain(config), sort_keys=False).encode())
            files.write_whole(folder / record.OVERRIDES, yaml.safe_dump(list(origin.overrides)).encode())
        replace(opened, error=CUT_OFF).write(folder)
    try:
        with as_user_errors(fitting_batch_size):
            entry = OpenRecord(opened)
            yield entry
            claim.check()
            replace(entry.summary, status=Status.COMPLETED, ended=files.now()).write(folder)
    except Busy:
        raise
    except (KeyboardInterrupt, Exception) as error:
        if claim.lease.compromise:
            raise
        if ranks.store is not None:
            outlast_launcher()
        failure = ranks.failure()
        with suppress(OSError):  # if the disk is full, the record keeps saying `interrupted`
            _ended_by(error, failure, opened).write(folder)
        if failure:
            sys.exit(1)  # the process that failed reports it
        raise


def _ended_by(error: BaseException, failure: Failure | None, opened: Summary) -> Summary:
    """Return the summary of a run that ended by an error of its own, or by the failure of another process."""
    if failure is None and isinstance(error, KeyboardInterrupt | Lost):
        reason = INTERRUPTED if isinstance(error, KeyboardInterrupt) else str(error)
        return replace(opened, error=reason, ended=files.now())
    sentence, text = failure or (first_line(error), "".join(traceback.format_exception(error)))
    return replace(opened, status=Status.FAILED, error=sentence, traceback=text, ended=files.now())


def _of_full_disk(error: Exception) -> str | None:
    """Return the sentence for an error that means that the disk is full; None for others."""
    if not isinstance(error, OSError) or error.errno not in (ENOSPC, EDQUOT, EFBIG):
        return None
    where = f" for {error.filename}" if error.filename else ""
    return f"no space left{where} ({error.strerror}): free some space, or set hydra.run.dir=FOLDER"


def _out_of_memory(reason: str, batch_size: int | None) -> UserError:
    lower = "lower data.batch_size or data.image_size"
    if batch_size:
        lower = f"set data.batch_size={batch_size}, of which a few steps fit, lower data.image_size"
    return UserError(
        f"out of memory ({reason}): {lower}, or choose another model; dry_run=true says how much a run needs"
    )


@contextmanager
def as_user_errors(fitting_batch_size: Callable[[], int | None] = lambda: None) -> Iterator[None]:
    """Turn errors that a user can fix into a UserError, and Lightning's ways to stop into a KeyboardInterrupt.

    Args:
        fitting_batch_size: Called when memory is full; returns a batch size that fits, or None.
    """
    handler = signal.getsignal(signal.SIGINT)
    try:
        with lost_as_user_error():
            yield
    except SIGTERMException as stop:
        raise KeyboardInterrupt from stop
    except SystemExit as stop:
        if isinstance(stop.__context__, KeyboardInterrupt):
            raise KeyboardInterrupt from stop
        raise RuntimeError(f"something called sys.exit({stop.code})") from stop
    except (OSError, MemoryError, RuntimeError) as error:  # torch's own OutOfMemoryError is a RuntimeError
        if sentence := _of_full_disk(error):
            raise UserError(sentence) from error
        if reason := lack_of_memory(error):
            traceback.clear_frames(error.__traceback__)  # whose variables hold what filled the memory
            raise _out_of_memory(reason, fitting_batch_size()) from error
        raise
    finally:
        if signal.getsignal(signal.SIGINT) is not handler:  # Lightning ignores Ctrl-C after the first one
            signal.signal(signal.SIGINT, handler)
