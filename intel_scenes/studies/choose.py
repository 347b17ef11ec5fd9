"""The choice of a configuration within each arm on validation, and whether the tuning of the arms is comparable."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean

import numpy as np

from intel_scenes.record import Interval
from intel_scenes.studies.arms import Candidates, Configuration
from intel_scenes.studies.notices import Kind, Notice
from intel_scenes.studies.statistics.selection import at_edge, best_of, beyond, cross_validated_choice, cut_beyond

RATES = ("lr_scale", "optim.lr")  # keys that set the learning rate


@dataclass(frozen=True)
class Edge:
    """A best value of a tuned factor that lies at the edge of the grid or of the interval searched.

    Attributes:
        key: Key of the factor.
        best: The best value.
        searched: Interval that the values were sampled from; None for a grid.
        beyond: Next value of the grid beyond the edge, for a learning rate; None where none is suggested.
        cut: Values of the grid beyond the edge that `study_minutes` left out.
    """

    key: str
    best: str
    searched: Interval | None
    beyond: str | None
    cut: tuple[str, ...] = ()


@dataclass(frozen=True, eq=False)
class Arm:
    """What a study compares, with its tuned factors at the values chosen on validation.

    Attributes:
        label: Its values of the compared factors.
        configurations: Those with most seeds first, in order of validation accuracy; the first is chosen.
        lost: Configurations without a completed run.
        edges: Tuned factors whose best value is at the edge.
        is_unequal: Its tuning is not comparable to that of the other arms, so that it gets no verdicts.
        confirmed: Chosen configuration on fresh seeds; None where it was not confirmed.
    """

    label: str
    configurations: tuple[Configuration, ...]
    lost: tuple[Configuration, ...]
    edges: tuple[Edge, ...]
    is_unequal: bool
    confirmed: Configuration | None = None

    @property
    def chosen(self) -> Configuration:
        """Configuration chosen on validation, on the seeds used for tuning."""
        return self.configurations[0]

    @property
    def tested(self) -> Configuration:
        """Configuration that is tested: on fresh seeds where it was confirmed, else on the seeds used for tuning."""
        return self.confirmed or self.chosen

    @property
    def tried(self) -> tuple[Configuration, ...]:
        """All configurations, including those without a completed run."""
        return (*self.configurations, *self.lost)

    @property
    def budget(self) -> tuple[int, int]:
        """Number of trials, and of the runs spent on them."""
        return _budget(self.tried)

    @property
    def best_of(self) -> list[float]:
        """Expected best validation accuracy of 1, 2, ... of its trials."""
        return best_of([configuration.val_accuracy for configuration in self.configurations])


def comparable(arms: Sequence[Arm]) -> list[Arm]:
    """Return the arms with predictions; where some were confirmed on fresh seeds, only these."""
    is_confirmed = any(arm.confirmed for arm in arms)
    return [arm for arm in arms if arm.tested.evaluated and (arm.confirmed or not is_confirmed)]


@dataclass(frozen=True)
class Choice:
    """The arms of a study.

    Attributes:
        arms: In order of the validation accuracy of the chosen configuration, ties by label.
        corrected: Validation accuracy of the leader, cross-validated over seeds; None with one seed, with unequal seeds
            of the configurations, or where nothing was chosen.
        notices: Notices for the reader.
    """

    arms: tuple[Arm, ...]
    corrected: float | None
    notices: tuple[Notice, ...]


def choose(
    candidates: Sequence[Candidates],
    tuned: Sequence[str],
    searched: Mapping[str, Interval],
    bounds: Mapping[str, Sequence[float]],
    cut: Sequence[str] = (),
) -> Choice:
    """Choose by mean validation accuracy within each arm, and order the arms by it.

    Args:
        candidates: Candidates of each arm.
        tuned: Factors whose values are chosen.
        searched: Intervals of the factors whose values were sampled.
        bounds: Natural bounds of keys, such as 0 for weight decay; a best value at such a bound is not at an edge.
        cut: Values that `study_minutes` left out, as `KEY=VALUE`.
    """
    notices: list[Notice] = []
    most = max((_budget([*group.configurations, *group.lost]) for group in candidates), default=(0, 0))
    arms = []
    for group in candidates:
        ordered, of_arm = _ordered(group)
        tried = [*ordered, *group.lost]
        possible = (_edge_of(key, ordered[0], tried, searched.get(key), bounds.get(key, ()), cut) for key in tuned)
        edges = tuple(edge for edge in possible if edge)
        of_arm += [
            Notice(Kind.NOT_BRACKETED, (), {"arm": group.label, "key": key, "best": ordered[0].values[key]})
            for key in tuned
            if key not in searched and _is_one_of_two(ordered[0].values[key], [each.values[key] for each in tried])
        ]
        has_less = bool(tuned) and _budget(tried) < most
        is_outdated = any(notice.kind is Kind.CHOICE_CHANGED for notice in of_arm)
        arms.append(
            Arm(group.label, ordered, group.lost, edges, bool(edges) or has_less or is_outdated, group.confirmed)
        )
        notices += of_arm
    arms.sort(key=lambda arm: (-arm.chosen.val_accuracy, arm.label))
    at_edge: dict[Edge, list[str]] = {}
    for arm in arms if len(arms) > 1 else ():  # a single arm is compared with nothing
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


def _ordered(candidates: Candidates) -> tuple[tuple[Configuration, ...], list[Notice]]:
    """Return the configurations of an arm with the chosen one first, and notices about the choice."""
    most = max(len(configuration.runs) for configuration in candidates.configurations)
    ordered = sorted(
        candidates.configurations,
        key=lambda configuration: (len(configuration.runs) < most, -configuration.val_accuracy, configuration.label),
    )
    is_better_left_out = any(configuration.val_accuracy > ordered[0].val_accuracy for configuration in ordered)
    notices = [Notice(Kind.FEWER_SEEDS, (), {"arm": candidates.label, "most": most})] if is_better_left_out else []
    confirmed = candidates.confirmed
    if confirmed and confirmed.values != ordered[0].values:  # the confirmed choice stands
        labels = {"confirmed": confirmed.label, "chosen": ordered[0].label}
        notices.append(Notice(Kind.CHOICE_CHANGED, (), {"arm": candidates.label, **labels}))
        ordered.sort(key=lambda configuration: configuration.values != confirmed.values)
    return tuple(ordered), notices


def _edge_of(
    key: str,
    chosen: Configuration,
    tried: Sequence[Configuration],
    searched: Interval | None,
    bounds: Sequence[float],
    cut: Sequence[str],
) -> Edge | None:
    """Return the edge at which the best value of a tuned factor lies, or None."""
    best, values = chosen.values[key], [configuration.values[key] for configuration in tried]
    if not at_edge(best, values, searched) or float(best) in bounds:
        return None
    if searched:
        return Edge(key, best, searched, None)
    left_out = cut_beyond(best, values, [text.partition("=")[2] for text in cut if text.startswith(f"{key}=")])
    return Edge(key, best, searched, beyond(best, values) if key in RATES else None, tuple(left_out))


def _is_one_of_two(best: str, tried: Sequence[str]) -> bool:
    """Return whether only two numbers were tried, so that the best one is not bracketed."""
    try:
        return len({float(best), *map(float, tried)}) == 2
    except ValueError:
        return False


def _budget(tried: Sequence[Configuration]) -> tuple[int, int]:
    return len(tried), sum(len(configuration.runs) + configuration.num_failed for configuration in tried)


def _cross_fitted(arm: Arm) -> float | None:
    """Return the mean test accuracy at each seed of the configuration chosen on the other seeds.

    It estimates the accuracy of tuning with one seed less, not that of the chosen configuration. It gets no verdict,
    because in simulations more than 5 % of such verdicts are false. None where configurations differ in their seeds.
    """
    by_seed = [{run.summary.seed: run for run in configuration.runs} for configuration in arm.configurations]
    seeds = by_seed[0].keys()
    if len(seeds) < 2 or any(runs.keys() != seeds for runs in by_seed):
        return None
    accuracies = []
    for left_out in seeds:
        means = [fmean(run.val_accuracy for seed, run in runs.items() if seed != left_out) for runs in by_seed]
        accuracies.append(by_seed[means.index(max(means))][left_out].test_accuracy)
    return fmean(accuracies)


def _corrected(arms: Sequence[Arm]) -> float | None:
    """Return the validation accuracy of the leader, cross-validated over seeds; None where that is impossible."""
    configurations = [configuration for arm in arms for configuration in arm.configurations]
    by_seed = [{run.summary.seed: run.val_accuracy for run in configuration.runs} for configuration in configurations]
    if len(configurations) < 2 or any(accuracies.keys() != by_seed[0].keys() for accuracies in by_seed):
        return None
    return cross_validated_choice(
        np.array([[accuracies[seed] for seed in sorted(accuracies, key=str)] for accuracies in by_seed])
    )
