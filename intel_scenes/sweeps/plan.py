"""The plan of a study, `study.yaml`: what its runs share, what each sweep adds, and what runs tell each other by it."""

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
from intel_scenes.errors import UserError
from intel_scenes.record import (
    Addition,
    Asked,
    Baseline,
    Interval,
    Status,
    StudyBudget,
    StudyPlan,
    Summary,
    read_study,
    said,
    write_study,
)
from intel_scenes.sections import as_plain
from intel_scenes.studies.naming import as_written, is_named
from intel_scenes.sweeps.jobs import Compose
from intel_scenes.sweeps.names import as_typed
from intel_scenes.sweeps.overrides import Overrides, of_command, shared_and_swept


def other_choices(
    named: Mapping[str, Overrides], folder: Path, factors: Collection[str], compose: Compose
) -> dict[str, tuple[str, str]]:
    """What a sweep fixes to another value than the runs of its folder have; as it was typed there and here, by key.

    Args:
        named: The overrides of each run, by its name.
        folder: Of the study.
        factors: Keys that the study varies; what varies there or here is not fixed either.
        compose: Overrides to the configuration of a job.
    """
    plan = read_study(folder)
    known = _choices(plan) if plan else None
    if plan is None or known is None:
        return {}
    here, swept = shared_and_swept(list(named.values()))
    there, varies = known
    varying = {*swept, *varies, *factors}
    unlike = [key for key in sorted(there.keys() | here.keys()) if there.get(key) != here.get(key)]
    job = next(iter(named.values()))
    return {
        key: (there.get(key, ""), here.get(key, ""))
        for key in unlike
        if key not in varying and not _has_no_effect(key, there.get(key), job, plan.threads, compose)
    }


def _choices(plan: StudyPlan) -> tuple[dict[str, str], set[str]] | None:
    """What all runs of a study share, as overrides by key, and the keys that vary; None where nothing says so.

    Plans of earlier versions say it by their commands.
    """
    if plan.fixed is not None:
        return shared_and_swept([plan.fixed])[0], set(plan.swept)
    commands = [plan.command, *(one.command for one in plan.added)]
    readable = [typed for command in commands if command is not None and (typed := of_command(command)) is not None]
    return shared_and_swept(readable) if readable else None


def _has_no_effect(key: str, before: str | None, job: Overrides, threads: int | None, compose: Compose) -> bool:
    """Whether a job would come to the same with a key as it was before, because one of the two is the default."""
    others = [text for text in job if key not in shared_and_swept([[text]])[0]]
    try:
        old, new = compose([*others, *([before] if before else [])]), compose(job)
    except (HydraException, UserError):  # no such key in the files that are chosen now
        return False
    plain = [as_plain(replace(one, threads=one.threads or threads)) for one in (old, new)]  # as each run there takes it
    return all(is_neutral(text.split(" ")[0]) for text in files.differences(*plain))


def ask_for_name(others: Mapping[str, tuple[str, str]], folder: Path, name: str) -> str:
    """The sentence that asks for a name, because a sweep differs from the runs of its folder in what it fixes."""
    there, here = (", ".join(texts[place] or f"the default {key}" for key, texts in others.items()) for place in (0, 1))
    return (
        f"{folder} holds runs with {there}, and this sweep has {here}: add sweep.name=NAME for a study of its own, or "
        f"sweep.name={name} to compare them"
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
) -> bool:
    """Writes the plan before the first run; what later invocations add or change is appended with its date.

    Args:
        folder: Of the study.
        named: The overrides of each run, by its name.
        study: What the sweep is for.
        searched: Keys whose values were sampled, with their intervals: they are tuned, beside those that the study
            names.
        threads: Of each run.
        joined: Keys that the runs there have fixed to another value.
        primary_metric: Of the runs.
        budget: What `study_minutes` came to, where the sweep has it.

    Returns:
        Whether it is written; not where another process has resolved the same budget otherwise meanwhile.
    """
    folder.mkdir(parents=True, exist_ok=True)
    now = _plan_of(named, study, searched, threads, primary_metric)
    with FileLock(folder / record.STUDY_LOCK):
        before = read_study(folder)
        plan = _amended(before, now, joined) if before else now
        if budget is not None and budget not in plan.budgets:
            if any((one.minutes, one.of) == (budget.minutes, budget.of) for one in plan.budgets):
                return False
            plan = replace(plan, budgets=(*plan.budgets, budget))
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
    """The plan that a sweep would write into a folder without one, but for what is tuned because it is searched."""
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
    """What was typed to start this sweep."""
    return shlex.join(["python", "-m", "intel_scenes.train", *as_typed(sys.argv[1:])])


def _amended(before: StudyPlan, now: StudyPlan, joined: Iterable[str]) -> StudyPlan:
    """An earlier plan with what a sweep asks and fixes now; `now` says nothing where it is empty."""
    plan = replace(
        before,
        question=now.question or before.question,
        compared=now.compared or before.compared,
        tuned=now.tuned or before.tuned,
        searched={**before.searched, **now.searched},
    )
    if known := _choices(before):
        shared, varies = known
        swept = {*varies, *now.swept, *joined}
        fixed = sorted(text for key, text in shared.items() if key not in swept)
        plan = replace(plan, fixed=tuple(fixed), swept=tuple(sorted(swept)))
    return plan


def _with_addition(folder: Path, before: StudyPlan, plan: StudyPlan, now: StudyPlan) -> StudyPlan:
    """An amended plan that names the runs added and the questions changed; both are told on stderr."""
    asked: dict[str, tuple[Asked, Asked]] = {
        "question": (before.question, plan.question),
        "compared": (before.compared, plan.compared),
        "tuned": (before.tuned, plan.tuned),
    }
    changed = {key: (old, new) for key, (old, new) in asked.items() if (old or None) != (new or None)}
    names = tuple(name for name in now.planned if name not in before.all_planned)
    if names:
        print(
            f"{len(names)} runs are added to the {len(before.all_planned)} of {folder}, and compared with them: "
            "sweep.name=NAME starts another study",
            file=sys.stderr,
        )
    if changed:
        was = ", ".join(f"{key} was {said(old)} and is {said(new)}" for key, (old, new) in changed.items())
        print(f"what {folder} asks has changed, and its report says so: {was}", file=sys.stderr)
    if not names and not changed:
        return plan
    return replace(plan, added=(*before.added, Addition(now.date, now.command, names, changed)))


def note_baseline(folder: Path, label: str) -> Baseline:
    """When an arm was first named to compare all others with: written into `study.yaml` where it is not there yet.

    A plan that cannot be written is left as it is.

    Args:
        folder: Of the study.
        label: Of the arm, as it was typed.
    """
    parts = [part.rpartition("=") for part in label.split("/")]
    label = "/".join(f"{key}{sign}{as_written(value)}" for key, sign, value in parts)
    if known := _named_before(read_study(folder), label):
        return known
    try:
        if not (folder / record.STUDY).exists():
            return _named_now(folder, StudyPlan(), label)
        with FileLock(folder / record.STUDY_LOCK):
            plan = read_study(folder) or StudyPlan()
            known = _named_before(plan, label)
            if known is None:
                known = _named_now(folder, plan, label)
                write_study(folder, replace(plan, baselines=(*plan.baselines, known)))
    except OSError:  # a folder of someone else
        return _named_now(folder, read_study(folder) or StudyPlan(), label)
    return known


def _named_before(plan: StudyPlan | None, label: str) -> Baseline | None:
    named = plan.baselines if plan else ()
    return next((one for one in named if is_named(one.label, label) or is_named(label, one.label)), None)


def _named_now(folder: Path, plan: StudyPlan, label: str) -> Baseline:
    summaries = {path.parent.name: Summary.peek(path.parent) for path in folder.glob(f"*/{record.SUMMARY}")}
    completed = {name for name, one in summaries.items() if one is not None and one.status is Status.COMPLETED}
    return Baseline(label, files.now(), len(completed), len(completed.intersection(plan.confirming_runs)))


def note_twin(folder: Path, name: str, twin: str) -> None:
    """Writes into `study.yaml` that a planned run is the same as another, of which it leaves no record of its own."""
    with FileLock(folder / record.STUDY_LOCK):
        plan = read_study(folder)
        if plan and plan.twins.get(name) != twin:
            write_study(folder, replace(plan, twins={**plan.twins, name: twin}))


def shared_epochs(folder: Path, digest: str, measure: Callable[[], int]) -> int:
    """How many epochs fit into the budget of a configuration: measured by its first run, then read from `study.yaml`.

    Args:
        folder: Of the study.
        digest: Of the configuration, without what changes nothing in the cost of an epoch.
        measure: Finds the number.
    """
    with FileLock(folder / record.STUDY_LOCK):  # held while measuring: two at once would slow each other
        plan = read_study(folder)
        if plan is None:
            return measure()
        if digest not in plan.fitted_epochs:
            plan = replace(plan, fitted_epochs={**plan.fitted_epochs, digest: measure()})
            write_study(folder, plan)
        return plan.fitted_epochs[digest]
