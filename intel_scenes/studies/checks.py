"""Notices that a reader needs beside the verdicts: missing, failed and suspect runs or arms."""

import itertools
from collections.abc import Sequence

from intel_scenes.record import StudyPlan, Summary
from intel_scenes.studies.arms import Candidates, Grouped
from intel_scenes.studies.choose import RATES, Arm
from intel_scenes.studies.load import Run, StudyRecords
from intel_scenes.studies.naming import value_of
from intel_scenes.studies.notices import Kind, Notice
from intel_scenes.studies.statistics.selection import crossing


def check(study: StudyRecords, grouped: Grouped, arms: Sequence[Arm]) -> list[Notice]:
    """Return all notices that do not depend on the verdicts."""
    return [
        *_missing(study.plan, study.all_runs),
        *_at_chance(arms),
        *_failures(grouped.candidates),
        *([Notice(Kind.UNFINISHED, _names(study.unfinished))] if study.unfinished else []),
        *_different(grouped, arms),
        *_untuned_rates(grouped, arms),
        *_confounded(arms, [key for key in grouped.compared if key not in grouped.bundled]),
        *_named_by_recipe(study.runs, grouped.bundled),
        *_suspects(arms, grouped.compared, grouped.tuned),
        *_crossings(arms),
    ]


def _names(runs: Sequence[Run]) -> tuple[str, ...]:
    return tuple(run.name for run in runs)


def _missing(plan: StudyPlan, runs: Sequence[Run]) -> list[Notice]:
    """Return notices about planned runs without a record; runs identical to others need none."""
    recorded = set(_names(runs))
    twins = {name: other for name, other in plan.twins.items() if name not in recorded and other in recorded}
    absent = tuple(name for name in plan.all_planned if name not in recorded | twins.keys())
    notices = [Notice(Kind.MISSING, absent, {"num_all": len(plan.all_planned)})] if absent else []
    return [*notices, Notice(Kind.TWINS, tuple(twins), {"twins": twins})] if twins else notices


def _failures(candidates: Sequence[Candidates]) -> list[Notice]:
    notices = []
    for arm in candidates:
        tried = (*arm.configurations, *arm.lost)
        num_failed = sum(configuration.num_failed for configuration in tried)
        num_all = num_failed + sum(len(configuration.runs) for configuration in tried)
        if num_failed:
            counts = {"num_failed": num_failed, "num_all": num_all}
            notices.append(Notice(Kind.FAILED, (), {"arm": arm.label, **counts}))
    return notices


def _at_chance(arms: Sequence[Arm]) -> list[Notice]:
    """Return a notice about arms that learned nothing: verdicts on them are meaningless."""
    labels = []
    for arm in arms:
        predicted = arm.tested.predicted
        if not arm.tested.evaluated:
            continue
        if bool((predicted == predicted[:, :1]).all()) or arm.chosen.val_accuracy <= arm.tested.chance_level:
            labels.append(arm.label)
    return [Notice(Kind.GUESSING, (), {"arms": tuple(labels)})] if labels else []


# Key of the summary, its name in words, and the factors of which one must vary for it to differ legitimately.
SETTINGS = (
    ("image_size", "image size", ("data.image_size", "data", "recipe")),
    ("epochs", "epochs", ("epochs", "budget_minutes", "recipe", "equal_steps")),
    ("batch_size", "batch size", ("data.batch_size", "data", "recipe")),
    (
        "num_train",
        "training images",
        ("data", "data.val_fraction", "data.num_train", "data.exclude", "data.train_fraction"),
    ),
    ("precision", "precision", ("trainer", "trainer.precision")),
    ("threads", "threads", ("threads",)),
    ("device", "device", ("trainer", "trainer.accelerator")),
    ("package_version", "package version", ()),
    ("git_commit", "commit", ()),
)


def _different(grouped: Grouped, arms: Sequence[Arm]) -> list[Notice]:
    """Return notices about settings that differ but are no factor: they may explain a difference between arms."""
    factors = {*grouped.compared, *grouped.tuned}
    runs = [(arm.label, run.summary) for arm in arms for run in arm.tested.runs]
    notices = []
    for key, name, explained_by in SETTINGS:
        if not factors & set(explained_by):
            notices += _by_value(name, [(label, getattr(summary, key)) for label, summary in runs])
    packages = dict.fromkeys(package for _, summary in runs for package in summary.versions or {})
    for package in packages:
        notices += _by_value(package, [(label, (summary.versions or {}).get(package)) for label, summary in runs])
    if not factors & {"model.weights", "recipe"}:
        for model in dict.fromkeys(summary.architecture for _, summary in runs):
            of_model = [(label, _weights(summary)) for label, summary in runs if summary.architecture == model]
            notices += _by_value(f"initial weights of {model}", of_model)
    dirty = tuple(run.name for arm in arms for run in arm.tested.runs if run.summary.git_dirty)
    return [*notices, Notice(Kind.UNCOMMITTED, dirty, {"num_all": len(runs)})] if dirty else notices


def _untuned_rates(grouped: Grouped, arms: Sequence[Arm]) -> list[Notice]:
    """Return a notice about optimizers whose rate did not vary: their order may be that of their rates."""
    if "optim" not in grouped.compared or {*grouped.compared, *grouped.tuned} & set(RATES):
        return []
    rates = _labels_by_value(
        [
            (arm.tested.values["optim"], f"{run.summary.lr:g}")
            for arm in arms
            for run in arm.tested.runs
            if run.summary.lr is not None
        ]
    )
    return [Notice(Kind.UNTUNED_RATES, (), {"optimizers": rates})] if rates else []


def _confounded(arms: Sequence[Arm], factors: Sequence[str]) -> list[Notice]:
    """Return notices about factors that vary together in all arms, so that their effects cannot be separated."""
    notices = []
    for factor, other in itertools.combinations(factors, 2):
        levels = {(arm.tested.values[factor], arm.tested.values[other]) for arm in arms}
        nums = len({first for first, _ in levels}), len({second for _, second in levels})
        if nums == (len(levels), len(levels)) and len(levels) > 1:
            notices.append(Notice(Kind.CONFOUNDED, (), {"one": factor, "other": other}))
    return notices


def _weights(summary: Summary) -> str:
    """Return a readable name of the initial weights."""
    digest = f" ({summary.weights_digest[:8]})" if summary.weights_digest else ""
    return f"{summary.weights or 'random'}{digest}"


def _by_value(setting: str, values: Sequence[tuple[str, object]]) -> list[Notice]:
    """Return a notice where the recorded values of a setting differ."""
    arms = _labels_by_value(values)
    return [Notice(Kind.DIFFERENT, (), {"setting": setting, "arms": arms})] if len(arms) > 1 else []


def _labels_by_value(values: Sequence[tuple[str, object]]) -> dict[str, tuple[str, ...]]:
    """Return the arms or levels with each recorded value, each once."""
    arms: dict[str, list[str]] = {}
    for label, value in values:
        if value is not None:
            arms.setdefault(str(value), []).append(label)
    return {value: tuple(dict.fromkeys(labels)) for value, labels in arms.items()}


def _named_by_recipe(runs: Sequence[Run], bundled: Sequence[str]) -> list[Notice]:
    """Return a notice about the values that each recipe comes with, where arms are named after their recipe."""
    if not bundled:
        return []
    recipes = {
        value_of(run, "recipe"): tuple(f"{key}={value_of(run, key)}" for key in bundled if key in run.overrides)
        for run in runs
    }
    return [Notice(Kind.NAMED_BY_RECIPE, (), {"recipes": dict(sorted(recipes.items()))})]


def _suspects(arms: Sequence[Arm], compared: Sequence[str], tuned: Sequence[str]) -> list[Notice]:
    """Return a notice about general methods that are worse than their own special case with equal grids.

    Momentum worse than none, or a schedule worse than a constant rate, indicates an unsuitable search space (Choi et
    al., "On Empirical Comparisons of Optimizers for Deep Learning", 2019).
    """
    below = []
    for key, special in (("scheduler", "constant"), ("optim.momentum", "0")):
        for first, second in itertools.permutations(arms, 2) if key in compared and tuned else ():
            mine, theirs = first.chosen.values, second.chosen.values
            is_matched = all(mine[name] == theirs[name] for name in compared if name != key)
            grids = [
                sorted(tuple(tried.values[name] for name in tuned) for tried in arm.tried) for arm in (first, second)
            ]
            is_below = first.chosen.val_accuracy < second.chosen.val_accuracy
            if is_matched and grids[0] == grids[1] and theirs[key] == special != mine[key] and is_below:
                below.append((first.label, second.label))
    return [Notice(Kind.SUSPECT, (), {"arms": tuple(below)})] if below else []


def _crossings(arms: Sequence[Arm]) -> list[Notice]:
    """Return a notice about the numbers of trials at which the order of two arms reverses."""
    crossings = []
    for arm, other in itertools.combinations(arms[:6], 2):
        first, second = arm.best_of, other.best_of
        if size := crossing(first, second):
            ahead, behind = (arm, other) if first[0] > second[0] else (other, arm)
            crossings.append((ahead.label, behind.label, size))
    if not crossings:
        return []
    is_balanced = arms[0].tested.images.is_balanced
    return [Notice(Kind.CROSSING, (), {"crossings": tuple(crossings), "is_balanced": is_balanced})]
