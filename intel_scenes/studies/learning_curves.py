"""Learning curves of a study: arms that differ in `data.train_fraction`."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.choose import Arm, comparable
from intel_scenes.studies.naming import label_of
from intel_scenes.studies.statistics.learning_curve import LEAST_SIZES, LearningCurve, learning_curve

FRACTION, EQUAL_STEPS = "data.train_fraction", "equal_steps"


@dataclass(frozen=True, eq=False)
class Series:
    """Arms that differ only in their number of training images.

    Attributes:
        label: Common settings, such as `equal epochs`; empty where a study has one series.
        configurations: In order of the number of training images.
        sizes: Numbers of training images, means over seeds.
        num_seeds: Number of seeds that all configurations have, from which the curve is estimated.
        curve: Learning curve; None with fewer than two common seeds, or where a test error is 0.
        has_one_subset: All seeds train on the same subset, so that intervals do not include how it was drawn.
    """

    label: str
    configurations: tuple[Configuration, ...]
    sizes: tuple[float, ...]
    num_seeds: int
    curve: LearningCurve | None
    has_one_subset: bool

    @property
    def twice(self) -> float:
        """Twice the largest number of training images."""
        return 2 * self.sizes[-1]


def series_of(arms: Sequence[Arm], factors: Sequence[str]) -> tuple[Series, ...]:
    """Return the learning curves of a study: one for each combination of the other factors with at least three sizes.

    With all training images `equal_steps` makes no difference, so such an arm is the last point of both curves.

    Args:
        arms: Arms of the study.
        factors: Factors that define an arm.
    """
    if FRACTION not in factors:
        return ()
    others = [key for key in factors if key != FRACTION]
    configurations = [arm.tested for arm in comparable(arms)]
    kinds = {
        _values(configuration, others): {key: configuration.values[key] for key in others}
        for configuration in configurations
        if not _is_whole(configuration)
    }
    labels = sorted(kinds, key=lambda kind: (_has_equal_steps(kinds[kind]), kind))
    series = []
    for kind in labels:
        members = [configuration for configuration in configurations if _belongs(configuration, kind, others)]
        by_size = {
            _size(member): member for member in sorted(members, key=lambda member: _values(member, others) == kind)
        }
        if len(by_size) >= LEAST_SIZES and 0 not in by_size:
            label = _label(kinds[kind]) if len(kinds) > 1 else ""
            series.append(_series(label, [by_size[size] for size in sorted(by_size)]))
    return tuple(series)


def _values(configuration: Configuration, keys: Sequence[str]) -> tuple[str, ...]:
    return tuple(configuration.values[key] for key in keys)


def _belongs(configuration: Configuration, kind: tuple[str, ...], others: Sequence[str]) -> bool:
    """Return whether a configuration has the values of a series; with all images `equal_steps` is ignored."""
    pairs = zip(others, _values(configuration, others), kind, strict=True)
    return all(mine == theirs for key, mine, theirs in pairs if not (key == EQUAL_STEPS and _is_whole(configuration)))


def _is_whole(configuration: Configuration) -> bool:
    return configuration.evaluated[0].summary.train_fraction in (None, 1)


def _has_equal_steps(values: Mapping[str, str]) -> bool:
    return values.get(EQUAL_STEPS, "").lower() == "true"


def _label(values: Mapping[str, str]) -> str:
    others = {key: value for key, value in values.items() if key != EQUAL_STEPS}
    regime = ["equal steps" if _has_equal_steps(values) else "equal epochs"] if EQUAL_STEPS in values else []
    return ", ".join([*([label_of(others, list(others))] if others else []), *regime])


def _size(configuration: Configuration) -> float:
    return configuration.mean("num_train") or 0.0


def _series(label: str, configurations: Sequence[Configuration]) -> Series:
    rows = [
        {run.summary.seed: row for row, run in enumerate(configuration.evaluated)} for configuration in configurations
    ]
    common = [seed for seed in rows[0] if seed is not None and all(seed in of_one for of_one in rows)]
    sizes, curve = tuple(map(_size, configurations)), None
    if len(common) > 1:
        tables = [
            configuration.table[[of_one[seed] for seed in common]]
            for configuration, of_one in zip(configurations, rows, strict=True)
        ]
        images = configurations[0].images
        curve = learning_curve(sizes, 1 - np.stack(tables), images.groups, images.strata)
    drawn_by = {
        run.summary.subset_seed
        for configuration in configurations
        if not _is_whole(configuration)
        for run in configuration.evaluated
    }
    return Series(label, tuple(configurations), sizes, len(common), curve, len(common) > 1 and len(drawn_by) == 1)
