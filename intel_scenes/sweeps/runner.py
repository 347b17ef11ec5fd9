"""A sweep: what is there, what is left to do, the runs one by one, and the table at the end."""

import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import yaml
from hydra.core.utils import JobReturn

from intel_scenes import files, record
from intel_scenes.config import CompareConfig, RunConfig, StudyConfig, SweepConfig
from intel_scenes.errors import Busy, Refused, Twin, UserError, first_line
from intel_scenes.record import Interval, Origin, Status, Summary
from intel_scenes.sections import as_plain
from intel_scenes.sweeps import plan, preview, progress
from intel_scenes.sweeps.jobs import Compose, check, finished_jobs, named_jobs
from intel_scenes.sweeps.overrides import Overrides

STOPPED = ".stopped"  # left by a run that failed, where `sweep.fail_fast` holds
FAILED, OPEN = 1, 3


@dataclass(frozen=True)
class Job:
    """What Hydra knows of one job beside its configuration: its folder, and what was typed and chosen."""

    folder: Path
    origin: Origin


@dataclass(frozen=True)
class Sweep:
    """What a sweep is asked to do with its jobs.

    Attributes:
        folder: Of the study.
        options: How to run them.
        study: What they are for.
        compare: How to compare them.
        searched: Keys whose values were sampled, with their intervals.
        params: Keys that the chosen study sweeps by itself.
        is_named: Whether sweep.name was typed.
        is_covered: Whether all files are of `conf/`: no digest covers other folders of configuration files.
        threads: Of each run; None shares out the cores.
        num_parallel: Runs that share the cores.
    """

    folder: Path
    options: SweepConfig
    study: StudyConfig
    compare: CompareConfig
    searched: Mapping[str, Interval]
    params: frozenset[str]
    is_named: bool
    is_covered: bool
    threads: int | None
    num_parallel: int

    @property
    def tuned(self) -> set[str]:
        """Keys whose best value is taken within an arm."""
        return {*(self.study.tuned or ()), *self.searched}


class Ending(StrEnum):
    """How a run of a sweep ended."""

    COMPLETED = "completed"
    TWIN = "twin"  # another folder of the study holds the very same run
    FAILED = "failed"
    REFUSED = "refused"  # its folder holds another run
    BUSY = "busy"  # another process is at work on it
    STOPPED = "stopped"  # an earlier run failed, and `sweep.fail_fast` holds
    LOST = "lost"  # its process did not come back


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended, and why; workers of a launcher return it to the process of the sweep.

    Attributes:
        ending: How it ended.
        reason: Of a failure or a refusal, a sentence.
    """

    ending: Ending
    reason: str = ""

    @property
    def is_failure(self) -> bool:
        """Whether the run failed or was refused."""
        return self.ending in (Ending.FAILED, Ending.REFUSED)

    @property
    def is_done(self) -> bool:
        """Whether nothing of the run is left to do."""
        return self.ending in (Ending.COMPLETED, Ending.TWIN)


def run(
    jobs: Sequence[Overrides],
    sweep: Sweep,
    compose: Compose,
    launch: Callable[[Sequence[Overrides]], Sequence[JobReturn]],
) -> int:
    """Runs every job that is not finished, and shows what is there at the end.

    Args:
        jobs: The overrides of each.
        sweep: What to do with them.
        compose: Overrides to the configuration of a job.
        launch: Runs jobs; each returns how it ended.

    Returns:
        The exit status: 0 all complete, 1 some failed or refused, 3 some open.

    Raises:
        UserError: Something is misspelt or does not go together: nothing has run.
        KeyboardInterrupt: Ctrl-C; what is there has been shown.
    """
    folder, options = sweep.folder, sweep.options
    named = named_jobs(jobs, folder)
    finished = finished_jobs(named, folder, compose) if sweep.is_covered else set()
    left = {name: job for name, job in named.items() if name not in finished}
    check(left.values(), compose)
    factors = {*(sweep.study.compared or ()), *(sweep.study.tuned or ()), *sweep.params}
    others = plan.other_choices(named, folder, factors, compose)
    if others and not sweep.is_named:
        raise UserError(plan.ask_for_name(others, folder, str(options.name)))
    if options.plan:
        has_baseline = sweep.compare.baseline is not None
        preview.show(named, finished, folder, compose, tuned=sweep.tuned, has_baseline=has_baseline)
        return 0
    if left:
        plan.write(folder, named, sweep.study, sweep.searched, _threads(sweep), joined=others)
    if options.fail_fast:
        (folder / STOPPED).unlink(missing_ok=True)
    outcomes = {name: Outcome(Ending.COMPLETED if name in finished else Ending.LOST) for name in named}
    try:
        with progress.begun(len(named), len(finished)) as begun:
            outcomes |= _launched(left, launch)
            if busy := {name: left[name] for name in left if outcomes[name].ending == Ending.BUSY}:
                begun.number = len(named) - len(busy)
                outcomes |= _launched(busy, launch)
    finally:
        status = _conclude(folder, outcomes, sweep.compare, anything_ran=bool(left))
    return status


def _threads(sweep: Sweep) -> int:
    """What each run of a sweep may use."""
    from intel_scenes.runtime import resolve_threads  # imports torch, as each run does

    return sweep.threads or max(1, resolve_threads(None) // sweep.num_parallel)


def run_one(train: Callable[[RunConfig, Job], None], configure: Callable[[], RunConfig], job: Job) -> Outcome:
    """Runs one job of a sweep; no exception but Ctrl-C leaves it.

    Args:
        train: Trains a configuration.
        configure: Makes the configuration, which a file that was changed since it was checked may prevent.
        job: What is known of the job beside that.
    """
    study, begun = job.folder.parent, progress.current()
    if begun:
        begun.number += 1
    try:
        config = configure()
        if config.threads is None and (planned := record.read_study(study)):
            config = replace(config, threads=planned.threads)
    except Exception as error:
        if begun:
            begun.failed += 1
        return _failed(job, None, error)
    if config.sweep.fail_fast and (study / STOPPED).exists():
        remove_empty(job.folder)
        return Outcome(Ending.STOPPED)
    if begun and _failed_since(job.folder, begun.started):
        return Outcome(Ending.FAILED, "in another invocation of this sweep")
    print(f"\n{begun.line() if begun else 'run'}: {job.folder.name}", file=sys.stderr)
    start = time.monotonic()
    outcome = _outcome(train, config, job)
    if outcome.ending == Ending.FAILED and config.sweep.fail_fast:
        (study / STOPPED).touch()
    if begun:
        begun.failed += outcome.is_failure
        if outcome.ending not in (Ending.BUSY, Ending.TWIN):
            begun.seconds.append(time.monotonic() - start)
    return outcome


def _outcome(train: Callable[[RunConfig, Job], None], config: RunConfig, job: Job) -> Outcome:
    try:
        train(config, job)
    except Busy:
        print("  left to the process that holds it", file=sys.stderr)
        remove_empty(job.folder)
        return Outcome(Ending.BUSY)
    except Twin as error:
        print(error, file=sys.stderr)
        remove_empty(job.folder)
        plan.note_twin(job.folder.parent, job.folder.name, error.of)
        return Outcome(Ending.TWIN)
    except Refused as error:
        print(f"{job.folder.name} is refused: {error}", file=sys.stderr)
        return Outcome(Ending.REFUSED, str(error))
    except (Exception, SystemExit) as error:
        return _failed(job, config, error)
    return Outcome(Ending.COMPLETED)


def _failed(job: Job, config: RunConfig | None, error: BaseException) -> Outcome:
    """Tells of a failure and records it."""
    reason = first_line(error)
    print(f"{job.folder.name} failed: {reason}\n  {' '.join(job.origin.overrides)}", file=sys.stderr)
    _record_failure(job, config, reason)
    return Outcome(Ending.FAILED, reason)


def _launched(
    jobs: Mapping[str, Overrides], launch: Callable[[Sequence[Overrides]], Sequence[JobReturn]]
) -> dict[str, Outcome]:
    """How each run ended."""
    outcomes = dict.fromkeys(jobs, Outcome(Ending.LOST))
    if not jobs:
        return outcomes
    try:
        returned = launch(list(jobs.values()))
    except Exception as error:  # a worker's end, in the words of the launcher
        print(f"the launcher broke off: {first_line(error)}", file=sys.stderr)
        return outcomes
    for name, result in zip(jobs, returned, strict=True):
        try:
            outcomes[name] = result.return_value
        except Exception as error:
            outcomes[name] = Outcome(Ending.FAILED, first_line(error))
    return outcomes


def _conclude(folder: Path, outcomes: Mapping[str, Outcome], compare: CompareConfig, *, anything_ran: bool) -> int:
    """Writes and shows what is there; returns the exit status."""
    if any(folder.glob(f"*/{record.SUMMARY}")):
        _compare(folder, compare, anything_ran=anything_ran)
    by_record = {name: _by_record(folder / name, outcome) for name, outcome in outcomes.items()}
    failed = {name: outcome for name, outcome in by_record.items() if outcome.is_failure}
    left = [name for name, outcome in by_record.items() if not (outcome.is_done or outcome.is_failure)]
    complete = len(outcomes) - len(failed) - len(left)
    print(f"{complete} of {len(outcomes)} runs complete, {len(failed)} failed or refused, {len(left)} open: {folder}")
    for name, outcome in failed.items():
        print(f"  {name} {outcome.ending}: {outcome.reason}")
    for name in left:
        print(f"  {name} open: the same command goes on with it")
    return FAILED if failed else OPEN if left else 0


def _by_record(folder: Path, outcome: Outcome) -> Outcome:
    """The outcome of a run, from its record where this sweep does not know how the run ended."""
    summary = Summary.peek(folder) if outcome.ending in (Ending.BUSY, Ending.STOPPED, Ending.LOST) else None
    if summary is None:
        return outcome
    if summary.status is Status.COMPLETED:
        return Outcome(Ending.COMPLETED)
    if summary.status is Status.FAILED and outcome.ending == Ending.LOST:
        return Outcome(Ending.FAILED, summary.error or "")
    return outcome


def _compare(folder: Path, options: CompareConfig, *, anything_ran: bool) -> None:
    """Shows what the runs of the folder show, and writes it where it may have changed."""
    from intel_scenes.studies import publish, report  # imports scipy, for which --help need not wait

    if not anything_ran and (folder / report.PAIRWISE).exists():
        print(f"nothing has run; python -m intel_scenes.compare folder={folder} shows the table again")
        return
    try:
        print(f"\n{publish.compare_and_write(folder, options)}\n")
    except Exception as error:  # the runs are done, and their own end is still to be told
        print(f"no comparison: {first_line(error)}", file=sys.stderr)


def remove_empty(folder: Path) -> None:
    """Removes the folder that Hydra made for a job, where nothing came of it."""
    with suppress(OSError):
        folder.rmdir()


def _record_failure(job: Job, config: RunConfig | None, reason: str) -> None:
    """Leaves a record of a run that failed, whose earlier one is kept in it where there is one."""
    overrides, choices = job.origin.overrides, job.origin.choices
    earlier = Summary.peek(job.folder)
    is_strange = earlier is None and (job.folder / record.SUMMARY).exists()
    is_complete = earlier is not None and earlier.status is Status.COMPLETED
    if is_strange or is_complete or (job.folder / record.LOCK).exists():  # not ours to write
        return
    if earlier is None:
        job.folder.mkdir(parents=True, exist_ok=True)
        if config is not None:
            files.write_whole(job.folder / record.CONFIG, yaml.safe_dump(as_plain(config), sort_keys=False).encode())
        files.write_whole(job.folder / record.OVERRIDES, yaml.safe_dump(list(overrides)).encode())
    known = earlier or Summary(status=Status.FAILED)
    replace(
        known,
        status=Status.FAILED,
        error=reason,
        traceback=traceback.format_exc(),
        ended=files.now(),
        study=known.study or choices.get("study"),
        model=known.model or choices.get("model"),
        optim=known.optim or choices.get("optim"),
        scheduler=known.scheduler or choices.get("scheduler"),
        recipe=known.recipe or choices.get("recipe"),
        seed=config.seed if config is not None and known.seed is None else known.seed,
    ).write(job.folder)


def _failed_since(folder: Path, moment: str) -> bool:
    summary = Summary.peek(folder)
    if summary is None or summary.status is not Status.FAILED or summary.ended is None:
        return False
    return summary.ended >= moment
