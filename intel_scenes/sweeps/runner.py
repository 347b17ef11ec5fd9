"""A sweep: finds what is done, runs what is left one by one, and shows the comparison at the end."""

import sys
import time
import traceback
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from enum import StrEnum
from pathlib import Path

import yaml
from hydra.core.utils import JobReturn

from intel_scenes import files, record
from intel_scenes.config import CompareConfig, RunConfig, StudyConfig, SweepConfig
from intel_scenes.errors import Busy, Refused, Twin, UserError, did_you_mean, few, first_line
from intel_scenes.record import Interval, Origin, Status, StudyBudget, StudyPlan, Summary, SweepPlan, read_study
from intel_scenes.sections import as_plain
from intel_scenes.studies.naming import as_written, with_file_names
from intel_scenes.sweeps import budget, confirmation, plan, preview, progress, shards
from intel_scenes.sweeps.jobs import Compose, check, finished_jobs, named_jobs
from intel_scenes.sweeps.overrides import Overrides, values_by_key

STOPPED = ".stopped"  # written by a failed run under `sweep.fail_fast`
FAILED, OPEN = 1, 3


@dataclass(frozen=True)
class Job:
    """A job as Hydra describes it beside its configuration: its folder, and what was typed and chosen."""

    folder: Path
    origin: Origin


@dataclass(frozen=True)
class Sweep:
    """What a sweep is asked to do with its jobs.

    Attributes:
        folder: Folder of the study.
        options: Section `sweep` of the configuration.
        study: Section `study` of the configuration.
        compare: Section `compare` of the configuration.
        searched: Keys whose values were sampled, with their intervals.
        params: Keys that the chosen study sweeps by itself.
        is_named: Whether sweep.name was typed.
        is_covered: Whether all configuration files are from `conf/`: the digest does not cover other folders.
        threads: CPU threads of each run; None divides the cores among the runs.
        num_parallel: Number of runs that share the cores.
        primary_metric: Metric that chooses and is compared.
        minutes: Limit for all runs together; None sets no limit.
        num_workers: Number of runs at the same time; None where the launcher does not tell.
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
    primary_metric: str
    minutes: float | None = None
    num_workers: int | None = 1


@dataclass(frozen=True)
class Batch:
    """Jobs of a sweep that are launched together.

    Attributes:
        named: Overrides of each run, by its name.
        finished: Names of the runs that are complete.
    """

    named: Mapping[str, Overrides]
    finished: frozenset[str]

    @property
    def left(self) -> dict[str, Overrides]:
        """Jobs that are not finished, by name."""
        return {name: job for name, job in self.named.items() if name not in self.finished}


@dataclass(frozen=True)
class Checked:
    """A sweep whose jobs can run.

    Attributes:
        sweep: The sweep, with its resolved threads and number of confirming seeds.
        asked: What the sweep confirms, with all its runs.
        tuning: Its runs, or those of its shard.
        others: Keys that earlier runs of the folder fix to another value.
        fitted: Resolution of `study_minutes`; None without it.
        shared: Plan that the shards of the sweep share; None without one.
    """

    sweep: Sweep
    asked: confirmation.Asked
    tuning: Batch
    others: frozenset[str]
    fitted: StudyBudget | None
    shared: SweepPlan | None


class Ending(StrEnum):
    """How a run of a sweep ended."""

    COMPLETED = "completed"
    TWIN = "twin"  # another folder of the study holds the same run
    FAILED = "failed"
    REFUSED = "refused"  # its folder holds another run
    BUSY = "busy"  # another process is running it
    STOPPED = "stopped"  # an earlier run failed under `sweep.fail_fast`
    LOST = "lost"  # its process never reported back


@dataclass(frozen=True)
class Outcome:
    """How a run of a sweep ended, and why; workers of a launcher return it to the process of the sweep.

    Attributes:
        ending: Kind of ending.
        reason: Sentence that explains a failure or a refusal.
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
    """Run every job that is not finished, and show the comparison at the end.

    Args:
        jobs: Overrides of each job.
        sweep: What to do with the jobs.
        compose: Makes the configuration of a job from its overrides.
        launch: Runs jobs; each returns how it ended.

    Returns:
        The exit status: 0 all complete, 1 some failed or refused, 3 some open.

    Raises:
        UserError: A name is misspelled or options contradict each other; nothing has run.
        KeyboardInterrupt: Ctrl-C was pressed; the completed runs have been compared.
    """
    ready = _checked(jobs, sweep, compose)
    if sweep.options.plan:
        _show_plan(ready, compose)
        return 0
    folder, options, asked, tuning, fitted = sweep.folder, ready.sweep.options, ready.asked, ready.tuning, ready.fitted
    if not _planned(ready):
        return run(jobs, sweep, compose, launch)  # with the budget that another process has resolved meanwhile
    if sweep.compare.baseline is not None:
        plan.note_baseline(folder, str(sweep.compare.baseline))
    if options.fail_fast:
        (folder / STOPPED).unlink(missing_ok=True)
    outcomes, waits_for, anything_ran = dict[str, Outcome](), list[str](), bool(tuning.left)
    try:
        _complete(tuning, outcomes, launch)
        if options.confirm and not (waits_for := _unfinished(ready.sweep, outcomes)):
            failed = [name for name, outcome in outcomes.items() if outcome.is_failure]
            confirming = _confirming(asked, failed, ready.sweep, compose, has_tuned=bool(tuning.left))
            anything_ran = anything_ran or bool(confirming.left)
            _complete(confirming, outcomes, launch)
    finally:
        status = _conclude(ready.sweep, outcomes, anything_ran=anything_ran)
    for sentence in [*budget.cut_in_words(fitted), *confirmation.waits_for(waits_for, asked)]:
        print(sentence)
    if options.shard is not None:
        print(shards.what_follows(str(options.shard), folder, confirms=bool(sweep.options.confirm)))
    return status or (OPEN if waits_for else 0)


def _checked(jobs: Sequence[Overrides], sweep: Sweep, compose: Compose) -> Checked:
    """Return a sweep that can run, after checking all its jobs.

    Raises:
        UserError: A name is misspelled, options contradict each other, or the plan of the shards is another.
    """
    folder, before = sweep.folder, read_study(sweep.folder) or StudyPlan()
    tuned = frozenset({*(sweep.study.tuned or before.tuned), *before.searched, *sweep.searched})
    _check_audit(sweep.compare)
    shared = shards.shared_plan(sweep.options, folder, before)
    if shared is not None:
        sweep = replace(sweep, threads=shared.threads)
    jobs, sweep, fitted = _fitted(jobs, sweep, tuned, compose, shared)
    named = named_jobs(jobs, folder)
    tuning = _tuning(named, sweep, shared, compose)
    if sweep.compare.baseline is not None:
        warn_of_misspelt_baseline(str(sweep.compare.baseline), named.values(), before)
    factors = {*(sweep.study.compared or ()), *(sweep.study.tuned or ()), *sweep.params}
    others = plan.other_choices(named, folder, factors, compose)
    if others and not sweep.is_named:
        raise UserError(plan.ask_for_name(others, folder, str(sweep.options.name)))
    confirmation.refuse_confirming_seeds(named.values(), before)
    if sweep.options.shard is not None:  # the choice rests on the runs of all shards
        sweep = replace(sweep, options=replace(sweep.options, confirm=0, confirm_best=None))
    asked = confirmation.Asked(folder, sweep.options.confirm, sweep.options.confirm_best, named, tuned)
    return Checked(sweep, asked, tuning, frozenset(others), fitted, shared)


def _planned(ready: Checked) -> bool:
    """Write `study.yaml`; return False where another process has meanwhile resolved the budget of the sweep."""
    sweep, asked = ready.sweep, ready.asked
    before = read_study(sweep.folder)
    is_empty_shard = sweep.options.shard is not None and before is None  # its folder is merged like the others
    is_decided = not sweep.options.confirm or asked.is_decided(before or StudyPlan())
    if not ready.tuning.left and is_decided and not is_empty_shard:
        return True
    return plan.write(
        sweep.folder,
        asked.named,
        sweep.study,
        sweep.searched,
        _threads(sweep),
        joined=ready.others,
        primary_metric=sweep.primary_metric,
        budget=ready.fitted,
        shared=ready.shared,
    )


def _check_audit(compare: CompareConfig) -> None:
    if compare.audit is not None and not Path(compare.audit).expanduser().is_file():
        raise UserError(f"compare.audit={compare.audit} is not a file: give the audit.csv of these images")


def warn_of_misspelt_baseline(label: str, jobs: Iterable[Overrides], before: StudyPlan) -> None:
    """Print a warning if the baseline names a value that no run has, before the runs instead of after them."""
    typed = [(key, value) for job in jobs for key, value in values_by_key(job).items()]
    values = {as_written(value) for key, value in typed if not key.startswith("compare.")}
    file_names = {value: value.rpartition("/")[2] for value in values if "/" in value}
    for part in (as_written(part.rpartition("=")[2]) for part in with_file_names(label, file_names).split("/")):
        if part in (*values, *file_names.values(), "default") or any(part in name for name in before.all_planned):
            continue
        hint = did_you_mean(part, values)
        print(f"compare.baseline={label}: no run of this sweep has the value {part}{hint}", file=sys.stderr)


def _fitted(
    jobs: Sequence[Overrides], sweep: Sweep, tuned: frozenset[str], compose: Compose, shared: SweepPlan | None
) -> tuple[Sequence[Overrides], Sweep, StudyBudget | None]:
    """Return the part of a sweep that fits into its minutes; all of it without a limit."""
    budget.refuse_idle(jobs, sweep.minutes)
    if sweep.minutes is None:
        return jobs, sweep, None
    if sweep.options.shard is not None and shared is None and not sweep.options.plan:
        raise UserError(shards.own_epochs(budget.KEY))
    before = read_study(sweep.folder)
    threads = (before.threads if before else None) or _threads(sweep)
    request = budget.Request(
        sweep.minutes,
        jobs,
        sweep.folder,
        sweep.study,
        sweep.options,
        tuned,
        threads,
        sweep.num_workers,
        shared.budget if shared else None,
    )
    fitted = budget.resolve(request, compose)
    options = replace(sweep.options, confirm=fitted.confirm)
    return budget.fitted_jobs(jobs, fitted), replace(sweep, options=options), fitted


def _tuning(named: Mapping[str, Overrides], sweep: Sweep, shared: SweepPlan | None, compose: Compose) -> Batch:
    """Return the tuning runs of a sweep, or of its shard, after checking them against the plan that shards share.

    Raises:
        UserError: A job cannot run, or is not that of the plan.
    """
    shard, path = sweep.options.shard, sweep.options.plan_file
    if shared is not None:
        shards.refuse_other_runs(named.values(), shared, path)
    own = {name: job for name, job in named.items() if shard is None or shards.is_of_shard(name, str(shard))}
    batch = _batch(list(own.values()), sweep, compose)
    if shared is not None:
        shards.refuse_other_configurations(batch.left, shared, path, compose)
    elif shard is not None and not sweep.options.plan:
        shards.refuse_own_budget(batch.left.values(), compose)
    return batch


def _confirming(
    asked: confirmation.Asked, failed: Sequence[str], sweep: Sweep, compose: Compose, *, has_tuned: bool
) -> Batch:
    """Return the confirming runs, which `study.yaml` holds from now on."""
    before = read_study(sweep.folder) or StudyPlan()
    decided = confirmation.decide(asked)
    batch = _batch(confirmation.confirming_jobs(asked, decided), sweep, compose)
    if batch.left:
        print(f"\nchosen on validation, now confirming: {confirmation.in_words(asked, decided)}", file=sys.stderr)
    if decided.confirmed != before.confirmed:
        for sentence in confirmation.edges(asked, sweep.compare.bounds):
            print(
                f"  {sentence}; to save these runs, press Ctrl-C and sweep a wider grid under another sweep.name",
                file=sys.stderr,
            )
    if decided.confirmed != before.confirmed and failed:
        runs = "it is" if len(failed) == 1 else "they are"
        print(
            f"{few(failed)} failed and took no part in the choice, which will not change when {runs} run again",
            file=sys.stderr,
        )
    if before.confirmed and (has_tuned or batch.left) and (others := confirmation.chosen_otherwise(asked, decided)):
        print(
            f"validation would now choose another configuration of {few(others)}; the choice in {record.STUDY} is kept",
            file=sys.stderr,
        )
    return batch


def _show_plan(ready: Checked, compose: Compose) -> None:
    """Print what the runs would do and cost, and write the plan file of the shards if it is asked for and missing."""
    sweep = ready.sweep
    _preview(ready.tuning, ready.asked, sweep, compose)
    if sweep.options.plan_file is not None and ready.shared is None:
        path, before = Path(sweep.options.plan_file).expanduser(), read_study(sweep.folder) or StudyPlan()
        shards.make_plan(path, ready.asked.named.values(), before.threads or _threads(sweep), ready.fitted, compose)
        print(f"written to {path}: copy it to the machine of every shard")


def _preview(tuning: Batch, asked: confirmation.Asked, sweep: Sweep, compose: Compose) -> None:
    """Print what the runs would do and cost, and what the study could detect."""
    named, finished, confirming, waiting = dict(tuning.named), tuning.finished, None, list[str]()
    if sweep.options.confirm:
        study = read_study(sweep.folder) or StudyPlan()
        others = confirmation.open_runs(sweep.folder, study, tuning.named)
        can_choose = not (tuning.left or others)
        study = confirmation.proposed(asked, study) if can_choose else study
        batch = _batch(confirmation.confirming_jobs(asked, study), sweep, compose)
        named |= batch.named
        finished |= batch.finished
        num_arms, num_seeds = asked.size(study)
        num_arms = len(asked.confirmed(study)) if can_choose else num_arms
        examples = {confirmation.arm_key(job, asked.tuned): job for job in tuning.named.values()}
        num_unknown = 0 if can_choose else num_arms * num_seeds - len(batch.named)
        confirming = preview.Confirming(num_arms, num_seeds, num_unknown, tuple(examples.values()))
        waiting = confirmation.waits_for(others, asked)
    preview.show(
        named,
        finished,
        sweep.folder,
        compose,
        tuned=asked.tuned,
        has_baseline=sweep.compare.baseline is not None,
        confirming=confirming,
        has_outlook=sweep.options.shard is None,
    )
    for sentence in waiting:
        print(sentence)


def _batch(jobs: Sequence[Overrides], sweep: Sweep, compose: Compose) -> Batch:
    """Return jobs to launch together, after checking those that are left.

    Raises:
        UserError: A job cannot run.
    """
    named = named_jobs(jobs, sweep.folder)
    finished = finished_jobs(named, sweep.folder, compose) if sweep.is_covered else set()
    batch = Batch(named, frozenset(finished))
    check(batch.left.values(), compose)
    return batch


def _complete(
    batch: Batch, outcomes: dict[str, Outcome], launch: Callable[[Sequence[Overrides]], Sequence[JobReturn]]
) -> None:
    """Run what is left, and update `outcomes`, which is also valid where Ctrl-C interrupts."""
    outcomes |= {name: Outcome(Ending.COMPLETED if name in batch.finished else Ending.LOST) for name in batch.named}
    with progress.begun(len(batch.named), len(batch.finished)) as begun:
        outcomes |= _launched(batch.left, launch)
        if busy := {name: job for name, job in batch.left.items() if outcomes[name].ending == Ending.BUSY}:
            begun.number = len(batch.named) - len(busy)
            outcomes |= _launched(busy, launch)


def _unfinished(sweep: Sweep, outcomes: Mapping[str, Outcome]) -> list[str]:
    """Return the runs that must end before a choice; failed ones have ended, except under `sweep.fail_fast`."""
    by_record = {name: _by_record(sweep.folder / name, outcome) for name, outcome in outcomes.items()}
    done = {name for name, outcome in by_record.items() if outcome.is_done or outcome.is_failure}
    failed = [name for name, outcome in by_record.items() if outcome.is_failure]
    left = [name for name in outcomes if name not in done]
    left += confirmation.open_runs(sweep.folder, read_study(sweep.folder) or StudyPlan(), outcomes)
    return left or (failed if sweep.options.fail_fast else [])


def _threads(sweep: Sweep) -> int:
    """Return the CPU threads of each run of a sweep."""
    from intel_scenes.runtime import resolve_threads  # imports torch, as each run does

    return sweep.threads or max(1, resolve_threads(None) // sweep.num_parallel)


def run_one(train: Callable[[RunConfig, Job], None], configure: Callable[[], RunConfig], job: Job) -> Outcome:
    """Run one job of a sweep; no exception but Ctrl-C leaves this function.

    Args:
        train: Trains a configuration.
        configure: Makes the configuration; it may fail where a file has changed since the check.
        job: The job.
    """
    study, begun = job.folder.parent, progress.current()
    if begun:
        begun.number += 1
    try:
        config = configure()
        if config.threads is None and (planned := read_study(study)):
            config = replace(config, threads=planned.threads)
    except Exception as error:
        return _unconfigured(job, error)
    if config.sweep.fail_fast and (study / STOPPED).exists():
        remove_empty(job.folder)
        return Outcome(Ending.STOPPED)
    if begun and _failed_since(job.folder, begun.started):
        return Outcome(Ending.FAILED, "in another invocation of this sweep")
    print(f"\n{begun.line() if begun else 'run'}: {job.folder.name}", file=sys.stderr)
    start = time.monotonic()
    outcome = _trained(train, config, job)
    if outcome.ending == Ending.FAILED and config.sweep.fail_fast:
        _stop(study)
    if begun:
        begun.failed += outcome.is_failure
        if outcome.ending not in (Ending.BUSY, Ending.TWIN):
            begun.seconds.append(time.monotonic() - start)
    return outcome


def _unconfigured(job: Job, error: Exception) -> Outcome:
    """Return the outcome of a job that has no configuration; only its typed keys are known."""
    if begun := progress.current():
        begun.failed += 1
    if values_by_key(job.origin.overrides).get("sweep.fail_fast") == "True":
        _stop(job.folder.parent)
    return _failed(job, None, error)


def _stop(study: Path) -> None:
    """Tell the other processes of a sweep under `sweep.fail_fast` to start no run."""
    with suppress(OSError):
        study.mkdir(parents=True, exist_ok=True)
        (study / STOPPED).touch()


def _trained(train: Callable[[RunConfig, Job], None], config: RunConfig, job: Job) -> Outcome:
    try:
        train(config, job)
    except Busy:
        print("  skipped: another process is running it", file=sys.stderr)
        remove_empty(job.folder)
        return Outcome(Ending.BUSY)
    except Twin as error:
        print(error, file=sys.stderr)
        remove_empty(job.folder)
        with suppress(OSError):
            plan.note_twin(job.folder.parent, job.folder.name, error.of)
        return Outcome(Ending.TWIN)
    except Refused as error:
        print(f"{job.folder.name} is refused: {error}", file=sys.stderr)
        return Outcome(Ending.REFUSED, str(error))
    except (Exception, SystemExit) as error:
        return _failed(job, config, error)
    return Outcome(Ending.COMPLETED)


def _failed(job: Job, config: RunConfig | None, error: BaseException) -> Outcome:
    """Print and record a failure; return it as an outcome."""
    reason = first_line(error)
    print(f"{job.folder.name} failed: {reason}\n  {' '.join(job.origin.overrides)}", file=sys.stderr)
    with suppress(OSError):  # the disk may be full
        _record_failure(job, config, reason)
    return Outcome(Ending.FAILED, reason)


def _launched(
    jobs: Mapping[str, Overrides], launch: Callable[[Sequence[Overrides]], Sequence[JobReturn]]
) -> dict[str, Outcome]:
    """Launch jobs; return how each run ended."""
    outcomes = dict.fromkeys(jobs, Outcome(Ending.LOST))
    if not jobs:
        return outcomes
    try:
        returned = launch(list(jobs.values()))
    except Exception as error:  # a worker died, and each launcher reports that in its own way
        print(f"the launcher stopped: {first_line(error)}", file=sys.stderr)
        return outcomes
    for name, result in zip(jobs, returned, strict=True):
        try:
            outcomes[name] = result.return_value
        except Exception as error:
            outcomes[name] = Outcome(Ending.FAILED, first_line(error))
    return outcomes


def _conclude(sweep: Sweep, outcomes: Mapping[str, Outcome], *, anything_ran: bool) -> int:
    """Write and print the comparison, except of a shard, and the state of the runs; return the exit status."""
    folder = sweep.folder
    is_compared = (
        sweep.options.shard is not None
        or not any(folder.glob(f"*/{record.SUMMARY}"))
        or _compare(folder, sweep.compare, anything_ran=anything_ran)
    )
    by_record = {name: _by_record(folder / name, outcome) for name, outcome in outcomes.items()}
    failed = {name: outcome for name, outcome in by_record.items() if outcome.is_failure}
    left = [name for name, outcome in by_record.items() if not (outcome.is_done or outcome.is_failure)]
    complete = len(outcomes) - len(failed) - len(left)
    print(f"{complete} of {len(outcomes)} runs complete, {len(failed)} failed or refused, {len(left)} open: {folder}")
    for name, outcome in failed.items():
        print(f"  {name} {outcome.ending}: {outcome.reason}")
    for name in left:
        print(f"  {name} open: start the same command again to resume it")
    return FAILED if failed or not is_compared else OPEN if left else 0


def _by_record(folder: Path, outcome: Outcome) -> Outcome:
    """Return the outcome of a run, read from its record where this sweep does not know how it ended."""
    summary = Summary.peek(folder) if outcome.ending in (Ending.BUSY, Ending.STOPPED, Ending.LOST) else None
    if summary is None:
        return outcome
    if summary.status is Status.COMPLETED:
        return Outcome(Ending.COMPLETED)
    if summary.status is Status.FAILED and outcome.ending == Ending.LOST:
        return Outcome(Ending.FAILED, summary.error or "")
    return outcome


def _compare(folder: Path, options: CompareConfig, *, anything_ran: bool) -> bool:
    """Compare the runs of the folder, and write and print the result; return whether that succeeded."""
    from intel_scenes.studies import publish  # imports scipy, which --help need not wait for

    if not anything_ran and (folder / publish.PAIRWISE).exists():
        print(f"all runs were finished before; intel-scenes compare folder={folder} prints the comparison again")
        return True
    try:
        print(f"\n{publish.compare_and_write(folder, options)}\n")
    except Exception as error:  # the state of the runs is still to be printed
        print(f"the runs cannot be compared: {first_line(error)}", file=sys.stderr)
        return False
    return True


def remove_empty(folder: Path) -> None:
    """Remove the folder that Hydra made for a job, if it is empty."""
    with suppress(OSError):
        folder.rmdir()


def _record_failure(job: Job, config: RunConfig | None, reason: str) -> None:
    """Write the record of a failed run, which keeps the values of an earlier record of that run."""
    overrides, choices = job.origin.overrides, job.origin.choices
    earlier = Summary.peek(job.folder)
    is_unreadable = earlier is None and (job.folder / record.SUMMARY).exists()
    is_complete = earlier is not None and earlier.status is Status.COMPLETED
    if is_unreadable or is_complete or (job.folder / record.LOCK).exists():  # must not be overwritten
        return
    if earlier is None:
        job.folder.mkdir(parents=True, exist_ok=True)
        if config is not None:
            files.write_whole(job.folder / record.CONFIG, yaml.safe_dump(as_plain(config), sort_keys=False).encode())
        files.write_whole(job.folder / record.OVERRIDES, yaml.safe_dump(list(overrides)).encode())
    summary = earlier or Summary(status=Status.FAILED)
    replace(
        summary,
        status=Status.FAILED,
        error=reason,
        traceback=traceback.format_exc(),
        ended=files.now(),
        study=summary.study or choices.get("study"),
        model=summary.model or choices.get("model"),
        optim=summary.optim or choices.get("optim"),
        scheduler=summary.scheduler or choices.get("scheduler"),
        recipe=summary.recipe or choices.get("recipe"),
        seed=config.seed if config is not None and summary.seed is None else summary.seed,
    ).write(job.folder)


def _failed_since(folder: Path, moment: str) -> bool:
    summary = Summary.peek(folder)
    if summary is None or summary.status is not Status.FAILED or summary.ended is None:
        return False
    return moment <= summary.ended <= files.now()  # an end in the future is that of a clock that was set back since
