"""The plan of a study, `study.yaml`: what its runs share, what each sweep adds, and what runs learn from each other."""

import shlex
import sys
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import replace
from pathlib import Path

from filelock import FileLock
from hydra.errors import HydraException

from intel_scenes import files, record
from intel_scenes.config import StudyConfig
from intel_scenes.digests import is_neutral
from intel_scenes.errors import UserError, counted
from intel_scenes.record import (
    Addition,
    Asked,
    Baseline,
    Interval,
    Status,
    StudyBudget,
    StudyPlan,
    Summary,
    SweepPlan,
    read_study,
    said,
    write_study,
)
from intel_scenes.sections import as_plain
from intel_scenes.studies.naming import is_named, label_as_written
from intel_scenes.sweeps.jobs import Compose
from intel_scenes.sweeps.names import as_typed
from intel_scenes.sweeps.overrides import Overrides, of_command, shared_and_swept


def other_choices(
    named: Mapping[str, Overrides], folder: Path, factors: Collection[str], compose: Compose
) -> dict[str, tuple[str, str]]:
    """Return what a sweep fixes to another value than the runs of its folder, as typed there and here, by key.

    Args:
        named: Overrides of each run, by its name.
        folder: Folder of the study.
        factors: Keys that the study varies; keys that vary there or here are not fixed either.
        compose: Makes the configuration of a job from its overrides.
    """
    plan = read_study(folder)
    choices = _choices(plan) if plan else None
    if plan is None or choices is None:
        return {}
    here, swept = shared_and_swept(list(named.values()))
    there, varies = choices
    varying = {*swept, *varies, *factors}
    different = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    job = next(iter(named.values()))
    return {
        key: (there.get(key, ""), here.get(key, ""))
        for key in different
        if key not in varying and not _has_no_effect(key, there.get(key), job, plan.threads, compose)
    }


def _choices(plan: StudyPlan) -> tuple[dict[str, str], set[str]] | None:
    """Return what all runs of a study share, as overrides by key, and the keys that vary; None where it is unknown.

    Plans of earlier versions tell it only by their commands.
    """
    if plan.fixed is not None:
        return shared_and_swept([plan.fixed])[0], set(plan.swept)
    commands = [plan.command, *(addition.command for addition in plan.added)]
    readable = [typed for command in commands if command is not None and (typed := of_command(command)) is not None]
    return shared_and_swept(readable) if readable else None


def _has_no_effect(key: str, before: str | None, job: Overrides, threads: int | None, compose: Compose) -> bool:
    """Return whether a job has the same configuration with the earlier setting of a key: one of them is the default."""
    others = [text for text in job if key not in shared_and_swept([[text]])[0]]
    try:
        old, new = compose([*others, *([before] if before else [])]), compose(job)
    except (HydraException, UserError):  # the files chosen now have no such key
        return False
    plain = [as_plain(replace(one, threads=one.threads or threads)) for one in (old, new)]  # as runs of the study do
    return all(is_neutral(text.split(" ")[0]) for text in files.differences(*plain))


def ask_for_name(others: Mapping[str, tuple[str, str]], folder: Path, name: str) -> str:
    """Return the sentence that asks for a name, because a sweep fixes other values than the runs of its folder."""
    there, here = (", ".join(texts[place] or f"the default {key}" for key, texts in others.items()) for place in (0, 1))
    return (
        f"{folder} holds runs with {there}, but this sweep has {here}: add sweep.name=NAME to start another study, or "
        f"sweep.name={name} to compare its runs with those"
    )


def write(
    folder: Path,
    named: Mapping[str, Overrides],
    study: StudyConfig,
    searched: Mapping[str, Interval],
    threads: int,
    *,
    joined: Iterable[str] = (),
    primary_metric: str = record.ACCURACY,
    budget: StudyBudget | None = None,
    shared: SweepPlan | None = None,
) -> bool:
    """Write the plan before the first run; what later invocations add or change is appended with its date.

    Args:
        folder: Folder of the study.
        named: Overrides of each run, by its name.
        study: Section `study` of the configuration.
        searched: Keys whose values were sampled, with their intervals: they are tuned, like those that the study names.
        threads: CPU threads of each run.
        joined: Keys that earlier runs of the folder fix to another value.
        primary_metric: Primary metric of the runs.
        budget: Resolved `study_minutes`, where the sweep has it.
        shared: Plan that the shards of the sweep share, where there is one.

    Returns:
        Whether the plan was written; False where another process has meanwhile resolved the same budget differently.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = _plan_of(named, study, searched, threads, primary_metric)
    with FileLock(folder / record.STUDY_LOCK):
        before = read_study(folder)
        plan = _amended(before, now, joined) if before else now
        if budget is not None and budget not in plan.budgets:
            if any((planned.minutes, planned.of) == (budget.minutes, budget.of) for planned in plan.budgets):
                return False
            plan = replace(plan, budgets=(*plan.budgets, budget))
        if shared is not None:
            plan = replace(plan, plan_file=shared.digest, fitted_epochs={**plan.fitted_epochs, **shared.fitted_epochs})
        plan = replace(plan, tuned=tuple(dict.fromkeys([*plan.tuned, *plan.searched])))
        if before:
            plan = _with_addition(folder, before, plan, now)
        if plan != before:
            write_study(folder, plan)
    return True


def _plan_of(
    named: Mapping[str, Overrides],
    study: StudyConfig,
    searched: Mapping[str, Interval],
    threads: int,
    primary_metric: str,
) -> StudyPlan:
    """Return the plan that a sweep writes into an empty folder; searched keys are not among the tuned ones yet."""
    from intel_scenes.training import identity

    fixed, swept = shared_and_swept(list(named.values()))
    return StudyPlan(
        question=study.question,
        compared=study.compared or (),
        tuned=study.tuned or (),
        searched=searched,
        seeds=tuple(sorted({text[5:] for job in named.values() for text in job if text.startswith("seed=")})),
        primary_metric=f"val_{primary_metric}_tta chooses, test_{primary_metric} of what was chosen is compared",
        threads=threads,
        fixed=tuple(sorted(fixed.values())),
        swept=tuple(sorted(swept)),
        date=files.now(),
        command=typed_command(),
        commit=identity.git_state().commit,
        planned=tuple(named),
    )


def typed_command() -> str:
    """Return the command that started this sweep, as typed."""
    return shlex.join(["python", "-m", "intel_scenes.train", *as_typed(sys.argv[1:])])


def _amended(before: StudyPlan, now: StudyPlan, joined: Iterable[str]) -> StudyPlan:
    """Return an earlier plan with what a sweep asks and fixes now; empty values of `now` change nothing."""
    plan = replace(
        before,
        question=now.question or before.question,
        compared=now.compared or before.compared,
        tuned=now.tuned or before.tuned,
        searched={**before.searched, **now.searched},
    )
    if choices := _choices(before):
        shared, varies = choices
        swept = {*varies, *now.swept, *joined}
        fixed = sorted(text for key, text in shared.items() if key not in swept)
        plan = replace(plan, fixed=tuple(fixed), swept=tuple(sorted(swept)))
    return plan


def _with_addition(folder: Path, before: StudyPlan, plan: StudyPlan, now: StudyPlan) -> StudyPlan:
    """Return an amended plan that lists the added runs and the changed questions; print both on stderr."""
    asked: dict[str, tuple[Asked, Asked]] = {
        "question": (before.question, plan.question),
        "compared": (before.compared, plan.compared),
        "tuned": (before.tuned, plan.tuned),
    }
    changed = {key: (old, new) for key, (old, new) in asked.items() if (old or None) != (new or None)}
    names = tuple(name for name in now.planned if name not in before.all_planned)
    if names:
        print(
            f"adding {counted(len(names), 'run')} to the {len(before.all_planned)} of {folder}, to be compared with "
            "them; sweep.name=NAME starts another study",
            file=sys.stderr,
        )
    if changed:
        was = ", ".join(f"{key} was {said(old)} and is {said(new)}" for key, (old, new) in changed.items())
        print(f"the question of {folder} has changed, which its report mentions: {was}", file=sys.stderr)
    if not names and not changed:
        return plan
    return replace(plan, added=(*before.added, Addition(now.date, now.command, names, changed)))


def note_baseline(folder: Path, label: str) -> Baseline:
    """Return when an arm was first named as the baseline; write it into `study.yaml` if it is new.

    A plan that cannot be written is left unchanged.

    Args:
        folder: Folder of the study.
        label: Label of the arm, as typed.
    """
    label = label_as_written(label)
    if baseline := _named_before(read_study(folder), label):
        return baseline
    try:
        if not (folder / record.STUDY).exists():
            return _named_now(folder, StudyPlan(), label)
        with FileLock(folder / record.STUDY_LOCK):
            plan = read_study(folder) or StudyPlan()
            baseline = _named_before(plan, label)
            if baseline is None:
                baseline = _named_now(folder, plan, label)
                write_study(folder, replace(plan, baselines=(*plan.baselines, baseline)))
    except OSError:  # the folder may belong to someone else
        return _named_now(folder, read_study(folder) or StudyPlan(), label)
    return baseline


def _named_before(plan: StudyPlan | None, label: str) -> Baseline | None:
    named = plan.baselines if plan else ()
    return next((one for one in named if is_named(one.label, label) or is_named(label, one.label)), None)


def _named_now(folder: Path, plan: StudyPlan, label: str) -> Baseline:
    summaries = {path.parent.name: Summary.peek(path.parent) for path in folder.glob(f"*/{record.SUMMARY}")}
    completed = {name for name, one in summaries.items() if one is not None and one.status is Status.COMPLETED}
    return Baseline(label, files.now(), len(completed), len(completed.intersection(plan.confirming_runs)))


def note_twin(folder: Path, name: str, twin: str) -> None:
    """Write into `study.yaml` that a planned run is the same as another, and so has no record of its own."""
    with FileLock(folder / record.STUDY_LOCK):
        plan = read_study(folder)
        if plan and plan.twins.get(name) != twin:
            write_study(folder, replace(plan, twins={**plan.twins, name: twin}))


def shared_epochs(folder: Path, digest: str, measure: Callable[[], int]) -> int:
    """Return how many epochs fit into the budget of a configuration: its first run measures it, the others read it.

    Args:
        folder: Folder of the study.
        digest: Digest of what the cost of an epoch depends on.
        measure: Measures the number of epochs.

    Raises:
        UserError: The plan file of the sweep, which measured it for all shards, does not have this configuration.
    """
    with FileLock(folder / record.STUDY_LOCK):  # held while measuring: two measurements would slow each other down
        plan = read_study(folder)
        if plan is None:
            return measure()
        if digest not in plan.fitted_epochs and plan.plan_file is not None:
            raise UserError(
                "sweep.plan_file has no epochs for this run, because its precision or weights differ from those on the "
                "machine that made the plan: make the plan on a machine like those of the shards"
            )
        if digest not in plan.fitted_epochs:
            plan = replace(plan, fitted_epochs={**plan.fitted_epochs, digest: measure()})
            write_study(folder, plan)
        return plan.fitted_epochs[digest]
