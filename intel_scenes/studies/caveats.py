"""What a reader must know beside the verdicts: what is missing, failed, unequal or suspect, a sentence for each."""

import itertools
from collections.abc import Mapping, Sequence, Set

from intel_scenes.record import Interval, StudyPlan
from intel_scenes.studies.arms import Arm
from intel_scenes.studies.collect import Run
from intel_scenes.studies.naming import few
from intel_scenes.studies.pairs import Pair
from intel_scenes.studies.statistics.selection import at_edge, beyond, crossing

RATES = ("lr_scale", "optim.lr")  # keys that set the learning rate


def judge_tuning(arms: Sequence[Arm], tuned: Sequence[str], searched: Mapping[str, Interval]) -> list[str]:
    """Notes for each arm, in it and in sentences, why its tuning is not equal to that of the others.

    A single arm has notes alone: there is nothing that it is not comparable with.
    """
    most = max((_budget(arm) for arm in arms), default=(0, 0))
    for arm in arms if tuned else ():
        for key in tuned:
            if advice := at_edge_of_grid(arm, key, searched.get(key)):
                arm.unequal.append(f"its best {key}={arm.chosen.values[key]} is {advice}")
        if _budget(arm) < most:
            arm.unequal.append("it had {} trials in {} runs, others {} in {}".format(*_budget(arm), *most))
    compared = arms if len(arms) > 1 else ()
    return [f"{arm.label} is not comparable, because {reason}" for arm in compared for reason in arm.unequal]


def at_edge_of_grid(arm: Arm, key: str, searched: Interval | None) -> str:
    """That the best value of a tuned factor lies at the edge of what was tried, and what to add; else empty."""
    best, tried = arm.chosen.values[key], [one.values[key] for one in arm.tried]
    if not at_edge(best, tried, searched):
        return ""
    if searched:
        return f"at the edge of the interval searched, {searched.low:g} to {searched.high:g}: widen it"
    number = beyond(best, tried) if key in RATES else None
    return f"at the edge of the grid{f': add {key}={number}' if number else ''}"


def _budget(arm: Arm) -> tuple[int, int]:
    """Number of trials, and of the runs that were spent on them."""
    return len(arm.tried), sum(len(one.runs) + one.num_failed for one in arm.tried)


def missing(planned: Sequence[str], there: Set[str]) -> list[str]:
    """What was planned and is not there, by name."""
    absent = [name for name in planned if name not in there]
    return [f"planned and not there: {len(absent)} of {len(planned)}, {few(absent)}"] if absent else []


def twins_of(plan: StudyPlan, runs: Sequence[Run]) -> dict[str, str]:
    """Runs that came to the same as others, by name; a run that has a record of its own by now is none of them."""
    there = {run.name for run in runs}
    return {name: other for name, other in plan.twins.items() if name not in there and other in there}


def same_runs(twins: Mapping[str, str]) -> list[str]:
    """That what was typed changes nothing in runs that came to the same as others."""
    if not twins:
        return []
    same = few([f"{name} is {other}" for name, other in twins.items()])
    return [f"planned runs that are the same as others, because what was typed changes nothing: {same}"]


def failures(arms: Sequence[Arm]) -> list[str]:
    """How many runs of each arm failed."""
    counts = [(arm.label, sum(one.num_failed for one in arm.tried), _budget(arm)[1]) for arm in arms]
    return [f"{label}: failed {failed} of {all_runs}" for label, failed, all_runs in counts if failed]


def guessing(arms: Sequence[Arm]) -> list[str]:
    """Arms that learned nothing: a verdict on them says nothing of what they were meant to show."""
    labels = []
    for arm in arms:
        if arm.predicted is None:
            continue
        is_one_class = bool((arm.predicted == arm.predicted[:, :1]).all())
        if is_one_class or arm.chosen.val_accuracy <= arm.share_of_guess:
            labels.append(arm.label)
    return [f"no better than guessing, or one class for all images: {few(labels)}"] if labels else []


def unpaired(pairs: Sequence[Pair]) -> list[str]:
    """That the seeds of pairs are no pairs, which widens their intervals."""
    named = [f"{pair.a} and {pair.b}" for pair in pairs if pair.estimate and not pair.is_paired]
    if not named:
        return []
    return [f"seeds are not paired (other seeds, split, order or start), so each side counts its own: {few(named)}"]


def crossings(arms: Sequence[Arm]) -> list[str]:
    """At which number of trials the order of two arms turns."""
    sentences = []
    for one, other in itertools.combinations(arms[:6], 2):
        first, second = one.best_of, other.best_of
        if size := crossing(first, second):
            ahead, behind = (one, other) if first[0] > second[0] else (other, one)
            sentences.append(
                f"by the expected best validation accuracy {ahead.label} is ahead of {behind.label} at one trial, and "
                f"{behind.label} at {size}"
            )
    return sentences


def suspects(arms: Sequence[Arm], compared: Sequence[str], tuned: Sequence[str]) -> list[str]:
    """General methods below their own special case at equal grids, which a search space that suits them would not give.

    Momentum below none, any schedule below a constant rate (Choi et al., "On Empirical Comparisons of Optimizers for
    Deep Learning", 2019).
    """
    below = []
    for key, special in (("scheduler", "constant"), ("optim.momentum", "0")):
        for one, other in itertools.permutations(arms, 2) if key in compared and tuned else ():
            mine, theirs = one.chosen.values, other.chosen.values
            alike = all(mine[name] == theirs[name] for name in compared if name != key)
            grids = [sorted(tuple(tried.values[name] for name in tuned) for tried in arm.tried) for arm in (one, other)]
            is_below = one.chosen.val_accuracy < other.chosen.val_accuracy
            if alike and grids[0] == grids[1] and theirs[key] == special != mine[key] and is_below:
                below.append(f"{one.label} below {other.label}")
    if not below:
        return []
    return [f"search space suspect: a method is below its own special case on validation ({few(below)})"]


def not_finished(runs: Sequence[Run]) -> list[str]:
    """Runs that were cut off or are still going on, by name."""
    return [f"not finished: {few([run.name for run in runs])}"] if runs else []


def several_versions(runs: Sequence[Run]) -> list[str]:
    """What the runs were made with, where that differs: it may explain a difference between them."""
    made_with = [
        {
            "package": run.summary.package_version,  # the same digests may come to other results in another
            "commit": run.summary.git_commit,  # of a checkout
            **(run.summary.versions or {}),
        }
        for run in runs
    ]
    found = {
        key: sorted({str(one.get(key)) for one in made_with}) for key in dict.fromkeys(k for o in made_with for k in o)
    }
    differing = "; ".join(f"{key} {', '.join(values)}" for key, values in found.items() if len(values) > 1)
    return [f"the runs are of several versions: {differing}"] if differing else []
