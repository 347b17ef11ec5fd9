"""The notices of a study in words: a sentence for each kind, and the section of the report that shows it."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from intel_scenes.errors import counted, few, percentage
from intel_scenes.studies.choose import Edge
from intel_scenes.studies.notices import Kind, Notice

Values = Mapping[str, Any]


def edge_advice(edge: Edge) -> str:
    """Return where at the edge of the search space a best value lies, and how to extend the space."""
    if edge.searched:
        return f"at the edge of the searched interval {edge.searched.low:g} to {edge.searched.high:g}: widen it"
    if edge.cut:
        return f"at the edge of the grid, where study_minutes left out {_cut(edge)}: raise study_minutes"
    return f"at the edge of the grid{f': add {edge.key}={edge.beyond}' if edge.beyond else ''}"


def edge_step(edge: Edge) -> str:
    """Return the same as an instruction with its reason."""
    if edge.searched:
        return f"widen the interval {edge.searched.low:g} to {edge.searched.high:g}: the best value is at its edge"
    if edge.cut:
        return f"raise study_minutes, which left out {_cut(edge)}: the best value is at the edge of the grid"
    add = f"add {edge.key}={edge.beyond}" if edge.beyond else f"add a value beyond {edge.key}={edge.best}"
    return f"{add}: the best value is at the edge of the grid"


def _cut(edge: Edge) -> str:
    return few([f"{edge.key}={value}" for value in edge.cut])


def _by_value(arms: Mapping[str, Sequence[str]]) -> str:
    return ", ".join(f"{value} ({few(labels, 3)})" for value, labels in arms.items())


def _rates(optimizers: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{few(names, 3)}: {rate}" for rate, names in optimizers.items())


def _equal_runs(pairs: Sequence[tuple[str, str]]) -> str:
    return few([f"{run} and {other}" for run, other in pairs])


def _are(num: int) -> str:
    return "is" if num == 1 else "are"


def _runs_are(num: int) -> str:
    return f"{counted(num, 'run')} {_are(num)}"


def _recipes(recipes: Mapping[str, Sequence[str]]) -> str:
    return "; ".join(f"{recipe} with {', '.join(values) or 'its own values'}" for recipe, values in recipes.items())


# Each takes the names of the runs (shortened), the values of the notice, and the number of runs.
WORDS: dict[Kind, Callable[[str, Values, int], str]] = {
    Kind.UNREADABLE: lambda runs, v, _: f"{runs} is left out: {v['reason']}",
    Kind.DUPLICATE: lambda runs, v, _: f"{runs} is the same run as {v['other']} and counted once",
    Kind.OTHER_IMAGES: lambda runs, v, num: (
        f"{num} of {v['num_all']} runs {_are(num)} left out, because the images differ from those of most runs or are "
        f"unknown: {runs}"
    ),
    Kind.OTHER_METRIC: lambda runs, v, num: (
        f"{num} of {v['num_all']} runs {_are(num)} left out, because the best epoch was not chosen by "
        f"primary_metric={v['most']}, as in most runs: {runs}"
    ),
    Kind.OTHER_SETTINGS: lambda runs, v, num: (
        f"{_runs_are(num)} left out, because of a difference from the other runs of {v['configuration']} in more "
        f"than the overrides (a weights file, threads, precision or a configuration file): {runs}"
    ),
    Kind.NO_PREDICTIONS: lambda runs, v, _: f"predictions left out ({v['reason']}): {runs}",
    Kind.EQUAL_PREDICTIONS: lambda _, v, __: (
        f"predictions identical to those of another seed are counted once: {_equal_runs(v['pairs'])}"
    ),
    Kind.MISSING: lambda runs, v, num: f"{num} of {v['num_all']} planned runs have no record: {runs}",
    Kind.LOST: lambda _, v, __: f"no run of {v['configuration']} completed; {v['num_failed']} failed",
    Kind.FAILED: lambda _, v, __: f"{v['arm']}: {v['num_failed']} of {v['num_all']} runs failed",
    Kind.FAILED_CONFIRMING: lambda runs, v, num: f"{v['arm']}: {num} of {v['num_all']} confirming runs failed: {runs}",
    Kind.UNFINISHED: lambda runs, _, num: f"{_runs_are(num)} not finished: {runs}",
    Kind.GUESSING: lambda _, v, __: (
        f"some arms are no better than chance on validation, or predict one class for all test images: {few(v['arms'])}"
    ),
    Kind.WITHOUT_TTA: lambda runs, _, __: (
        "arms are ranked by validation accuracy without test-time augmentation, because the records of "
        f"{runs} lack val_accuracy_tta: delete these folders and run the sweep again to rank with it"
    ),
    Kind.FEWER_SEEDS: lambda _, v, __: (
        f"{v['arm']}: a configuration with fewer than {v['most']} completed runs was not chosen"
    ),
    Kind.AT_EDGE: lambda _, v, __: (
        f"{few(v['arms'])}: not comparable, because the best {v['edge'].key}={v['edge'].best} is "
        f"{edge_advice(v['edge'])}"
    ),
    Kind.FEWER_TRIALS: lambda _, v, __: (
        f"{v['arm']} is not comparable, because it had fewer trials than others: {v['trials']} in {v['runs']} runs, "
        f"not {v['most_trials']} in {v['most_runs']}"
    ),
    Kind.NOT_ON_VALIDATION: lambda _, v, __: f"{v['arm']} is not compared on validation: {v['reason']}",
    Kind.DIFFERENT: lambda _, v, __: f"{v['setting']}: {_by_value(v['arms'])}",
    Kind.CONFOUNDED: lambda _, v, __: (
        f"{v['one']} and {v['other']} change together, so their effects cannot be separated"
    ),
    Kind.UNTUNED_RATES: lambda _, v, __: (
        "the order of the optimizers may come from learning rates that were not tuned "
        f"({_rates(v['optimizers'])}): study=optimizers tunes them"
    ),
    Kind.UNCOMMITTED: lambda runs, v, num: f"{num} of {v['num_all']} runs had uncommitted changes in the code: {runs}",
    Kind.EFFECTS_OF_TEST_ALONE: lambda _, v, __: (
        f"effects on {'losses and on ' if 'test_loss_calibrated' in v['metrics'] else ''}validation are not shown: "
        f"{v['reason']}"
    ),
    Kind.CROSS_FITTED: lambda _, v, __: (
        f"exploratory, without verdicts: {'balanced ' * v['is_balanced']}test accuracy with the choice made on the "
        "other seeds (cross-validated over seeds; it estimates tuning with one seed fewer): "
        f"{few([f'{arm} {percentage(value)}' for arm, value in v['accuracies'].items()], 6)}"
    ),
    Kind.NO_EFFECTS: lambda _, v, __: f"with more than {v['most']} arms, the effects of factors are not estimated",
    Kind.NOT_BRACKETED: lambda _, v, __: (
        f"{v['arm']}: of two values the best is always at the edge of the grid; add a third on the far side of "
        f"{v['key']}={v['best']}"
    ),
    Kind.NEARLY_EQUAL_IMAGES: lambda *_: (
        "test images count as independent, which makes intervals too narrow if many are near-duplicates: audit the "
        "images, then set compare.audit=audit/audit.csv, which counts each group of near-duplicates once"
    ),
    Kind.BASELINE_NAMED_LATE: lambda _, v, __: (
        f"the baseline {v['baseline']} was first named {'on ' + v['date'][:10] if v['date'] else 'now'}, when "
        f"{counted(v['num_completed'], 'run')} had completed: choosing a baseline by its results raises the rate of "
        "false verdicts above 5 %"
    ),
    Kind.NOT_COMPARED: lambda _, v, __: (
        f"{v['arm']} was not confirmed, so nothing is compared with it: sweep.confirm=N confirms it"
        if v["is_unconfirmed"]
        else f"{v['arm']} has no predictions, so nothing is compared with it: train it again"
    ),
    Kind.NO_EFFECT: lambda _, v, __: (
        f"predictions are identical, so the setting in which these runs differ has no effect: {_equal_runs(v['pairs'])}"
    ),
    Kind.TWINS: lambda _, v, __: (
        "some planned runs repeat others, because the override in which they differ has no effect: "
        f"{few([f'{name} repeats {other}' for name, other in v['twins'].items()])}"
    ),
    Kind.ONLY_LEADER: lambda _, v, __: f"more than {v['most']} arms: each is compared with {v['leader']} only",
    Kind.NAMED_BY_RECIPE: lambda _, v, __: f"arms are named after their recipe alone: {_recipes(v['recipes'])}",
    Kind.SUSPECT: lambda _, v, __: (
        "the search space may be too small, because a method is below its own special case on validation "
        f"({few([f'{arm} below {other}' for arm, other in v['arms']])})"
    ),
    Kind.UNPAIRED: lambda _, v, __: (
        "arms are compared as independent, because their seeds are not paired (other seeds, split, image order or "
        "initial weights): "
        f"{few([f'{arm} and {other}' for arm, other in v['pairs']])}"
    ),
    Kind.CROSSING: lambda _, v, __: (
        f"the order by the expected best {'balanced ' * v['is_balanced']}validation accuracy depends on the number of "
        "trials: "
        f"{few([f'{behind} passes {ahead} at {trials} trials' for ahead, behind, trials in v['crossings']])}"
    ),
    Kind.PARTLY_PAIRED: lambda _, v, __: (
        "compared on the seeds that both arms have: "
        f"{few([f'{arm} and {other} ({num})' for arm, other, num in v['pairs']])}"
    ),
    Kind.REPEATED_SEED: lambda runs, v, num: (
        f"{_runs_are(num)} left out, because {v['other']} has seed {v['seed']} too, and a seed counts once: {runs}"
    ),
    Kind.CONTRADICTORY: lambda runs, v, num: (
        f"{_runs_are(num)} left out, because the record says {v['key']}={v['recorded']:.4f} and the predictions give "
        f"{v['predicted']:.4f}: {runs}"
    ),
    Kind.CHOICE_CHANGED: lambda _, v, __: (
        f"{v['arm']}: {v['confirmed']} was confirmed and is compared; validation would now choose {v['chosen']}"
    ),
    Kind.SAME_SEEDS_CHOSE: lambda _, v, __: (
        f"the seeds that are tested also chose {' and '.join(v['tuned'])}, which favours noisy arms (a false verdict "
        "in up to 13 % of simulated studies): sweep.confirm=5 tests the chosen configurations on fresh seeds"
    ),
    Kind.IF_FAILED_GUESSED: lambda _, v, __: (
        f"if the failed runs had predicted at chance, {v['a']} against {v['b']} would be: {v['worst']}, "
        f"instead of: {v['verdict']}"
    ),
}
GAPS = (Kind.LOST, Kind.MISSING, Kind.GUESSING, Kind.UNTUNED_RATES)  # shown in the answer too
UNPLANNED = (  # differences of runs or arms that no factor explains
    *(Kind.DIFFERENT, Kind.CONFOUNDED, Kind.UNCOMMITTED, Kind.OTHER_IMAGES, Kind.OTHER_SETTINGS, Kind.CONTRADICTORY),
    *(Kind.NO_PREDICTIONS, Kind.EQUAL_PREDICTIONS, Kind.REPEATED_SEED, Kind.WITHOUT_TTA, Kind.UNPAIRED),
    *(Kind.PARTLY_PAIRED, Kind.OTHER_METRIC),
)
NOTES = (
    *(Kind.ONLY_LEADER, Kind.NAMED_BY_RECIPE, Kind.TWINS, Kind.SUSPECT, Kind.CROSSING, Kind.IF_FAILED_GUESSED),
    *(Kind.EFFECTS_OF_TEST_ALONE, Kind.NO_EFFECTS, Kind.CROSS_FITTED, Kind.NOT_BRACKETED, Kind.NEARLY_EQUAL_IMAGES),
)


def sentence(notice: Notice) -> str:
    """Return a notice in words."""
    return WORDS[notice.kind](few(notice.runs), notice.values, len(notice.runs))


def gaps(notices: Iterable[Notice]) -> list[str]:
    """Return the notices that belong to the answer: missing runs, arms that learned nothing, untuned rates."""
    return _sentences(notices, lambda kind: kind in GAPS)


def unplanned(notices: Iterable[Notice]) -> list[str]:
    """Return the unplanned differences, which may explain a difference between arms instead of the factors."""
    return _sentences(notices, lambda kind: kind in UNPLANNED)


def problems(notices: Iterable[Notice]) -> list[str]:
    """Return all problems that are neither unplanned differences nor notes, the gaps first."""
    listed = list(notices)
    return gaps(listed) + _sentences(listed, lambda kind: kind not in (*GAPS, *UNPLANNED, *NOTES))


def notes(notices: Iterable[Notice]) -> list[str]:
    """Return remarks that call for no action."""
    return _sentences(notices, lambda kind: kind in NOTES)


def _sentences(notices: Iterable[Notice], is_wanted: Callable[[Kind], bool]) -> list[str]:
    """Return a sentence per notice of the wanted kinds; notices that differ in their runs alone are merged."""
    merged: dict[str, Notice] = {}
    for notice in notices:
        if is_wanted(notice.kind):
            key = f"{notice.kind} {notice.values!r}"
            runs = merged[key].runs if key in merged else ()
            merged[key] = Notice(notice.kind, (*runs, *notice.runs), notice.values)
    return [sentence(notice) for notice in merged.values()]
