"""A sweep: what is there, what is left to do, the runs one by one, and the table at the end."""

import sys
import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import yaml
from hydra.core.utils import JobReturn
from omegaconf import DictConfig, OmegaConf

from intel_scenes import files, record
from intel_scenes.errors import Busy, Refused, Twin, UserError, first_line
from intel_scenes.studies.collect import read_study
from intel_scenes.sweeps import plan
from intel_scenes.sweeps.plan import Overrides

STOPPED = ".stopped"  # left by a run that failed, where `sweep.fail_fast` holds
FAILED, OPEN = 1, 3


@dataclass(frozen=True)
class Job:
    """What Hydra knows of one job: its folder, the file chosen in each group, what was typed, and a digest of that.

    `composition_digest` covers the whole tree of `conf/` and the overrides: jobs that share it compose alike.
    """

    folder: Path
    choices: Mapping[str, str | None]
    overrides: tuple[str, ...]
    composition_digest: str


@dataclass
class Progress:
    """How far the sweep of this process is.

    Attributes:
        total: Number of runs.
        skipped: Those that were finished before.
        started: When the sweep began, ISO 8601.
        failed: Those that failed.
        number: Of the current run, from 1, after the skipped ones.
        seconds: Of each run so far.
    """

    total: int
    skipped: int
    started: str
    failed: int = 0
    number: int = 0
    seconds: list[float] = field(default_factory=list)

    def line(self) -> str:
        """One line such as `run 7 of 36, 2 skipped, 1 failed, about 12 minutes left`."""
        text = f"run {self.number} of {self.total}, {self.skipped} skipped, {self.failed} failed"
        if not self.seconds:
            return text
        left = sum(self.seconds) / len(self.seconds) * (self.total - self.number + 1) / 60
        return f"{text}, about {left:.0f} minutes left" if left >= 1.5 else f"{text}, about a minute left"


_progress: Progress | None = None  # of the process that started the sweep; a launcher's workers have none


def run(
    jobs: Sequence[Overrides],
    folder: Path,
    config: DictConfig,
    *,
    is_named: bool,
    searched: Mapping[str, Sequence[float]],
    compose: Callable[[Overrides], DictConfig],
    launch: Callable[[Sequence[Overrides]], Sequence[JobReturn]],
) -> int:
    """Runs every job that is not finished, and shows what is there at the end.

    Args:
        jobs: The overrides of each.
        folder: Of the study.
        config: Of the sweep, with `sweep` and `study`, and Hydra's own part.
        is_named: Whether sweep.name was typed.
        searched: Keys whose values were sampled from an interval, with its bounds.
        compose: Overrides to the configuration of a job.
        launch: Runs jobs; each returns how it ended.

    Returns:
        The exit status: 0 all complete, 1 some failed or refused, 3 some open.

    Raises:
        UserError: Something is misspelt or does not go together: nothing has run.
        KeyboardInterrupt: Ctrl-C; what is there has been shown.
    """
    global _progress
    for key in ("plan", "fail_fast"):
        if type(config.sweep[key]) is not bool:
            raise UserError(f"sweep.{key}={config.sweep[key]} must be true or false")
    if config.dry_run:
        raise UserError("dry_run=true is for one run: sweep.plan=true says what a sweep would cost")
    named = plan.named_jobs(jobs, folder)
    sources = [source for source in config.hydra.runtime.config_sources if source.schema == "file"]
    is_covered = len(sources) == 1  # no digest covers other folders of configuration files
    finished = plan.finished_jobs(named, folder, compose) if is_covered else set()
    left = {name: job for name, job in named.items() if name not in finished}
    plan.check(left.values(), compose)
    others = plan.other_choices(named, folder, config, compose)
    if others and not is_named:
        raise UserError(plan.ask_for_name(others, folder, config.sweep.name))
    if config.sweep.plan:
        plan.show(named, finished, folder, config, searched, compose)
        return 0
    if left:
        plan.write_study(folder, named, config, searched, joined=others)
    if config.sweep.fail_fast:
        (folder / STOPPED).unlink(missing_ok=True)
    _progress = Progress(len(named), len(finished), files.now(), number=len(finished))
    outcomes = dict.fromkeys(left, "unknown")
    try:
        outcomes |= _launched(left, launch)
        if busy := {name: left[name] for name, outcome in outcomes.items() if outcome == "busy"}:
            _progress.number = len(named) - len(busy)
            outcomes |= _launched(busy, launch)
    finally:
        status = _conclude(folder, named, outcomes, config, anything_ran=bool(left))
        _progress = None
    return status


def run_one(train: Callable[[], None], cfg: DictConfig, job: Job) -> str:
    """Runs one job of a sweep; no exception but Ctrl-C leaves it.

    Returns:
        "completed", "twin", "busy", "stopped", or "failed" or "refused" with the reason.
    """
    study = job.folder.parent
    if _progress:
        _progress.number += 1
    if cfg.sweep.fail_fast and (study / STOPPED).exists():
        remove_empty(job.folder)
        return "stopped"
    if _progress and _failed_since(job.folder, _progress.started):
        return "failed: in another invocation of this sweep"
    print(f"\n{_progress.line() if _progress else 'run'}: {job.folder.name}", file=sys.stderr)
    begun = time.monotonic()
    if cfg.threads is None:
        cfg.threads = read_study(study).get("threads")
    outcome = _outcome(train, cfg, job)
    if outcome.startswith("failed") and cfg.sweep.fail_fast:
        (study / STOPPED).touch()
    if _progress:
        _progress.failed += outcome.startswith(("failed", "refused"))
        if outcome not in ("busy", "twin"):
            _progress.seconds.append(time.monotonic() - begun)
    return outcome


def _outcome(train: Callable[[], None], cfg: DictConfig, job: Job) -> str:
    try:
        train()
    except (Busy, Twin) as error:
        print("  left to the process that holds it" if isinstance(error, Busy) else error, file=sys.stderr)
        remove_empty(job.folder)
        if isinstance(error, Twin):
            plan.note_twin(job.folder.parent, job.folder.name, error.of)
        return "busy" if isinstance(error, Busy) else "twin"
    except Refused as error:
        print(f"{job.folder.name} is refused: {error}", file=sys.stderr)
        return f"refused: {error}"
    except (Exception, SystemExit) as error:
        reason = first_line(error)
        print(f"{job.folder.name} failed: {reason}\n  {' '.join(job.overrides)}", file=sys.stderr)
        _record_failure(job, cfg, reason)
        return f"failed: {reason}"
    return "completed"


def _launched(
    jobs: Mapping[str, Overrides], launch: Callable[[Sequence[Overrides]], Sequence[JobReturn]]
) -> dict[str, str]:
    """How each run ended; "unknown" where its process did not come back."""
    outcomes = dict.fromkeys(jobs, "unknown")
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
            outcomes[name] = f"failed: {first_line(error)}"
    return outcomes


def _conclude(
    folder: Path,
    named: Mapping[str, Overrides],
    outcomes: Mapping[str, str],
    config: DictConfig,
    *,
    anything_ran: bool,
) -> int:
    """Writes and shows what is there; returns the exit status."""
    if any(folder.glob(f"*/{record.SUMMARY}")):
        _compare(folder, config, anything_ran=anything_ran)
    failed, left = {}, []
    for name in named:
        outcome = outcomes.get(name, "finished")
        if outcome.startswith(("failed", "refused")):
            failed[name] = outcome
            continue
        if outcome in ("twin", "finished", "completed"):
            continue
        summary = record.peek(folder / name) or {}
        if summary.get("status") == "failed" and outcome == "unknown":
            failed[name] = f"failed: {summary['error']}"
        elif summary.get("status") != "completed":
            left.append(name)
    complete = len(named) - len(failed) - len(left)
    print(f"{complete} of {len(named)} runs complete, {len(failed)} failed or refused, {len(left)} open: {folder}")
    for name, why in failed.items():
        print(f"  {name} {why}")
    for name in left:
        print(f"  {name} open: the same command goes on with it")
    return FAILED if failed else OPEN if left else 0


def _compare(folder: Path, config: DictConfig, *, anything_ran: bool) -> None:
    """Shows what the runs of the folder show, and writes it where it may have changed."""
    from intel_scenes.studies import publish, report  # imports scipy, for which --help need not wait

    if not anything_ran and (folder / report.PAIRWISE).exists():
        print(f"nothing has run; python -m intel_scenes.compare folder={folder} shows the table again")
        return
    try:
        print(f"\n{publish.compare_and_write(folder, config.compare)}\n")
    except Exception as error:  # the runs are done, and their own end is still to be told
        print(f"no comparison: {first_line(error)}", file=sys.stderr)


def remove_empty(folder: Path) -> None:
    """Removes the folder that Hydra made for a job, where nothing came of it."""
    with suppress(OSError):
        folder.rmdir()


def _record_failure(job: Job, cfg: DictConfig, reason: str) -> None:
    """Leaves a record of a run that failed, whose earlier one is kept in it where there is one."""
    summary = record.peek(job.folder)
    is_strange = summary is None and (job.folder / record.SUMMARY).exists()
    summary = summary or {}
    if is_strange or summary.get("status") == "completed" or (job.folder / record.LOCK).exists():  # not ours to write
        return
    if not summary:
        job.folder.mkdir(parents=True, exist_ok=True)
        files.write_whole(job.folder / record.CONFIG, OmegaConf.to_yaml(cfg).encode())
        files.write_whole(job.folder / record.OVERRIDES, yaml.safe_dump(list(job.overrides)).encode())
    groups = {group: job.choices.get(group) for group in record.GROUP_KEYS}
    known = {key: value for key, value in summary.items() if value is not None and key in record.SUMMARY_KEYS}
    failure = {"status": "failed", "error": reason, "traceback": traceback.format_exc(), "ended": files.now()}
    record.write_summary(job.folder, {**groups, "seed": cfg.seed, **known, **failure})


def _failed_since(folder: Path, moment: str) -> bool:
    summary = record.peek(folder)
    return bool(summary and summary["status"] == "failed" and summary["ended"] >= moment)
