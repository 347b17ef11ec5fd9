"""What validation chooses within each arm, and whether all arms had the same chances."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from intel_scenes.record import Interval
from intel_scenes.studies.arms import Candidates, Configuration
from intel_scenes.studies.notices import Kind, Notice
from intel_scenes.studies.statistics.selection import at_edge, best_of, beyond, choice_paid_for

RATES = ("lr_scale", "optim.lr")  # keys that set the learning rate


@dataclass(frozen=True)
class Edge:
    """A best value of a tuned factor that lies at the edge of what was tried.

    Attributes:
        key: Of the factor.
        best: The value.
        searched: The interval that the values were sampled from; None for a grid.
        beyond: What the grid would go on with, for a learning rate; None where nothing can be said.
    """

    key: str
    best: str
    searched: Interval | None
    beyond: str | None


@dataclass(frozen=True, eq=False)
class Arm:
    """What a study compares, at the values of its tuned factors that validation chose.

    Attributes:
        label: Its values of the compared factors.
        configurations: Best validation accuracy first, of those with most seeds; the first is chosen.
        lost: Configurations without a completed run.
        edges: Of its best values.
        is_unequal: Its tuning is not that of the others, so that verdicts on it would not be fair.
        confirmed: What was chosen, on fresh seeds; None where it was not confirmed.
    """

    label: str
    configurations: tuple[Configuration, ...]
    lost: tuple[Configuration, ...]
    edges: tuple[Edge, ...]
    is_unequal: bool
    confirmed: Configuration | None = None

    @property
    def chosen(self) -> Configuration:
        """The configuration that validation chose, on the seeds that chose it."""
        return self.configurations[0]

    @property
    def tested(self) -> Configuration:
        """What verdicts rest on: the confirming runs, else those that chose."""
        return self.confirmed or self.chosen

    @property
    def tried(self) -> tuple[Configuration, ...]:
        """All configurations, those that failed too."""
        return (*self.configurations, *self.lost)

    @property
    def budget(self) -> tuple[int, int]:
        """Number of trials, and of the runs that were spent on them."""
        return _budget(self.tried)

    @property
    def best_of(self) -> list[float]:
        """Expected best validation accuracy of 1, 2, ... of its trials."""
        return best_of([configuration.val_accuracy for configuration in self.configurations])


def comparable(arms: Sequence[Arm]) -> list[Arm]:
    """The arms with predictions; where some were confirmed on fresh seeds, these alone."""
    is_confirmed = any(arm.confirmed for arm in arms)
    return [arm for arm in arms if arm.tested.evaluated and (arm.confirmed or not is_confirmed)]


@dataclass(frozen=True)
class Choice:
    """The arms of a study.

    Attributes:
        arms: Best validation accuracy of the chosen configuration first; labels settle a tie.
        corrected: Validation accuracy of the leader, read on seeds that did not choose it; None where seeds lack or
            differ, or nothing was chosen.
        notices: What is odd.
    """

    arms: tuple[Arm, ...]
    corrected: float | None
    notices: tuple[Notice, ...]


def choose(
    candidates: Sequence[Candidates],
    tuned: Sequence[str],
    searched: Mapping[str, Interval],
    bounds: Mapping[str, Sequence[float]],
) -> Choice:
    """Chooses by mean validation accuracy within each arm, and orders the arms by it.

    Args:
        candidates: Of each arm.
        tuned: Factors whose values are chosen.
        searched: Those whose values were sampled, with their intervals.
        bounds: Natural bounds of keys, such as a weight decay of 0: at one of these a best value is at no edge.
    """
    notices: list[Notice] = []
    most = max((_budget([*one.configurations, *one.lost]) for one in candidates), default=(0, 0))
    arms = []
    for one in candidates:
        ordered, odd = _ordered(one)
        tried = [*ordered, *one.lost]
        found = (_edge_of(key, ordered[0], tried, searched.get(key), bounds.get(key, ())) for key in tuned)
        edges = tuple(edge for edge in found if edge)
        odd += [
            Notice(Kind.NOT_BRACKETED, (), {"arm": one.label, "key": key, "best": ordered[0].values[key]})
            for key in tuned
            if key not in searched and _is_one_of_two(ordered[0].values[key], [each.values[key] for each in tried])
        ]
        has_less = bool(tuned) and _budget(tried) < most
        is_outdated = any(notice.kind is Kind.CHOICE_CHANGED for notice in odd)
        arms.append(Arm(one.label, ordered, one.lost, edges, bool(edges) or has_less or is_outdated, one.confirmed))
        notices += odd
    arms.sort(key=lambda arm: (-arm.chosen.val_accuracy, arm.label))
    at_edge: dict[Edge, list[str]] = {}
    for arm in arms if len(arms) > 1 else ():  # a single arm is comparable with nothing anyway
        for edge in arm.edges:
            at_edge.setdefault(edge, []).append(arm.label)
        if tuned and arm.budget < most:
            counts = dict(zip(("trials", "runs", "most_trials", "most_runs"), (*arm.budget, *most), strict=True))
            notices.append(Notice(Kind.FEWER_TRIALS, (), {"arm": arm.label, **counts}))
    notices += [Notice(Kind.AT_EDGE, (), {"arms": tuple(labels), "edge": edge}) for edge, labels in at_edge.items()]
    if tuned and len(arms) > 1 and not any(arm.confirmed for arm in arms):
        notices.append(Notice(Kind.SAME_SEEDS_CHOSE, (), {"tuned": tuple(tuned)}))
        fitted = {arm.label: accuracy for arm in arms if (accuracy := _cross_fitted(arm)) is not None}
        if len(fitted) > 1:
            is_balanced = arms[0].tested.images.is_balanced
            notices.append(Notice(Kind.CROSS_FITTED, (), {"accuracies": fitted, "is_balanced": is_balanced}))
    return Choice(tuple(arms), _corrected(arms), tuple(notices))


def _ordered(one: Candidates) -> tuple[tuple[Configuration, ...], list[Notice]]:
    """The configurations of an arm, that with the best validation accuracy among those with most seeds first."""
    most = max(len(configuration.runs) for configuration in one.configurations)
    ordered = sorted(
        one.configurations,
        key=lambda configuration: (len(configuration.runs) < most, -configuration.val_accuracy, configuration.label),
    )
    is_passed_over = any(configuration.val_accuracy > ordered[0].val_accuracy for configuration in ordered)
    notices = [Notice(Kind.FEWER_SEEDS, (), {"arm": one.label, "most": most})] if is_passed_over else []
    confirmed = one.confirmed
    if confirmed and confirmed.values != ordered[0].values:  # the choice that was confirmed holds
        labels = {"confirmed": confirmed.label, "chosen": ordered[0].label}
        notices.append(Notice(Kind.CHOICE_CHANGED, (), {"arm": one.label, **labels}))
        ordered.sort(key=lambda configuration: configuration.values != confirmed.values)
    return tuple(ordered), notices


def _edge_of(
    key: str,
    chosen: Configuration,
    tried: Sequence[Configuration],
    searched: Interval | None,
    bounds: Sequence[float],
) -> Edge | None:
    """The edge at which the best value of a tuned factor lies; None where it lies within what was tried."""
    best, values = chosen.values[key], [one.values[key] for one in tried]
    if not at_edge(best, values, searched) or float(best) in bounds:
        return None
    return Edge(key, best, searched, beyond(best, values) if key in RATES and not searched else None)


def _is_one_of_two(best: str, tried: Sequence[str]) -> bool:
    """Whether a number is the best of two, so that nothing tells what lies beyond it."""
    try:
        return len({float(best), *map(float, tried)}) == 2
    except ValueError:
        return False


def _budget(tried: Sequence[Configuration]) -> tuple[int, int]:
    return len(tried), sum(len(one.runs) + one.num_failed for one in tried)


def _cross_fitted(arm: Arm) -> float | None:
    """Mean test accuracy of what all seeds but one choose, read on that one; None where configurations differ in seeds.

    It estimates the accuracy of tuning with one seed less, not that of the configuration chosen. It has no verdict,
    because in simulations more than 5 % of them are wrong.
    """
    by_seed = [{run.summary.seed: run for run in one.runs} for one in arm.configurations]
    seeds = by_seed[0].keys()
    if len(seeds) < 2 or any(one.keys() != seeds for one in by_seed):
        return None
    read = []
    for left_out in seeds:
        means = [fmean(run.val_accuracy for seed, run in one.items() if seed != left_out) for one in by_seed]
        read.append(by_seed[means.index(max(means))][left_out].test_accuracy)
    return fmean(read)


def _corrected(arms: Sequence[Arm]) -> float | None:
    """The leader's validation accuracy read on seeds that did not choose it; None where that cannot be had."""
    configurations = [one for arm in arms for one in arm.configurations]
    by_seed = [{run.summary.seed: run.val_accuracy for run in one.runs} for one in configurations]
    if len(configurations) < 2 or any(one.keys() != by_seed[0].keys() for one in by_seed):
        return None
    return choice_paid_for(np.array([[one[seed] for seed in sorted(one, key=str)] for one in by_seed]))
