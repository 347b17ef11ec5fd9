"""Effects of the factors of a study: level differences over matched cells, interactions, shares of the variance.

A cell is a configuration: one level of each factor, with a row of images for each run. Levels are fixed effects; seeds
and images are crossed random effects. Every estimate is a contrast, a weighted sum of the runs, and its variance has
two parts:

- Images: the variance over images of the contrast's image vector, divided by their number.
- Seeds: the variance of the contrast over seeds, without the part due to the finite test set. A contrast averages over
  units (matched cells, which differ only in the levels compared). Runs of a unit with the same seed are paired, so
  their common effects cancel. The seeds of all units are pooled, unless they agree more than independent runs would:
  runs of one level can share effects of their seed (one backbone starts them all from the same weights), which no
  number of other factors averages out. Then the seed means over the units are the error term, like level x seed in an
  analysis of variance with seeds as blocks. A preliminary F test decides (Bozivich, Bancroft and Hartley, Annals of
  Mathematical Statistics 27, 1956).
"""

import itertools
import math
from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import numpy.typing as npt
from scipy import linalg, special

from intel_scenes.studies.statistics.crossed import Runs
from intel_scenes.studies.statistics.verdicts import EQUAL, NONE_SHOWN, by_holm, holm

Array = npt.NDArray[np.float64]
LEVEL = 0.05
# Level of the preliminary test. With 0.1, a true difference of 1 point between two of three optimizers is detected in
# 6 to 7 % more studies with three seeds, but a false main effect appears in 9 % of studies with two seeds in which the
# runs of a backbone share seed effects.
POOLING_LEVEL = 0.25
RULE_OF_THREE = 3.0 / 1.96  # where no run and no image differs, a 95 % interval reaches to 3 / n (see estimates.py)


@dataclass(frozen=True)
class Cell:
    """A configuration and its runs.

    Attributes:
        levels: Level of each factor; the same factors in every cell of a study, and no two cells with equal levels.
        runs: (runs, images) 1 where correct and 0 where misclassified, or losses; equal images in every cell.
        seeds: A label of each run. Runs with equal labels in two cells are paired: they may share effects of the seed.
    """

    levels: Mapping[str, str]
    runs: npt.NDArray[np.floating]
    seeds: Sequence[Hashable]


@dataclass(frozen=True)
class LevelDifference:
    """Difference of two levels of a factor, over matched cells with equal weights.

    Attributes:
        factor: The factor.
        level: The first level.
        against: The second level.
        within: `all` for a main effect, `factor=level` for a simple effect within that level of another factor.
        difference: Mean of `level` minus mean of `against`, a fraction or in units of the loss.
        variance: Variance of the difference.
        degrees: Degrees of freedom of Student's t.
        p: Two-sided p-value of this difference, unadjusted.
        p_equal: p-value of the two one-sided tests against the margin; 1 without a margin.
        p_holm: `p` adjusted for its family: all main effects, or all simple effects.
        level_holm: Level at which Holm's procedure tested the difference.
        level_equal: Level at which Holm's procedure tested equivalence.
        verdict: Verdict on `level` compared with `against`, by `p_holm`, else by `p_equal` after Holm's adjustment.
        matched: Indices of the cells (level, against) that agree in all other factors.
        num_runs: Number of runs used, on both sides.
    """

    factor: str
    level: str
    against: str
    within: str
    difference: float
    variance: float
    degrees: float
    p: float
    p_equal: float
    p_holm: float
    level_holm: float
    level_equal: float
    verdict: str
    matched: tuple[tuple[int, int], ...]
    num_runs: int

    @property
    def num_cells(self) -> int:
        """Number of matched cells, on both sides."""
        return 2 * len(self.matched)

    @property
    def standard_error(self) -> float:
        """Standard error of the difference."""
        return math.sqrt(self.variance)

    @property
    def low(self) -> float:
        """Lower end of the unadjusted 95 % interval."""
        return self.interval()[0]

    @property
    def high(self) -> float:
        """Upper end of the unadjusted 95 % interval."""
        return self.interval()[1]

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the Student t interval around the difference."""
        return _interval(self.difference, self.variance, self.degrees, level)

    def holm_interval(self) -> tuple[float, float]:
        """Return the interval that excludes 0 exactly where `p_holm` is significant; not simultaneous."""
        return self.interval(1 - self.level_holm)

    def verdict_interval(self) -> tuple[float, float]:
        """Return the interval that agrees with the verdict: `practically equal` rests on two one-sided tests."""
        return self.interval(1 - 2 * self.level_equal) if self.verdict == EQUAL else self.holm_interval()


@dataclass(frozen=True)
class MarginalMean:
    """Mean of a level over the cells of the other factors, with equal weights.

    Attributes:
        factor: The factor.
        level: The level.
        mean: Marginal mean, a fraction or in units of the loss.
        variance: Variance of the mean.
        degrees: Degrees of freedom of Student's t.
        cells: Indices of the cells.
        is_matched: The cells are those combinations of the other factors that have every level of this one, so that the
            means of the levels are comparable; False where there is no such combination and all cells of the level are
            used.
    """

    factor: str
    level: str
    mean: float
    variance: float
    degrees: float
    cells: tuple[int, ...]
    is_matched: bool

    @property
    def low(self) -> float:
        """Lower end of the 95 % interval."""
        return _interval(self.mean, self.variance, self.degrees)[0]

    @property
    def high(self) -> float:
        """Upper end of the 95 % interval."""
        return _interval(self.mean, self.variance, self.degrees)[1]


@dataclass(frozen=True)
class Interaction:
    """Whether the differences of one factor's levels depend on the level of another.

    Attributes:
        factors: The two factors.
        levels: Their levels in the complete sub-design that is tested.
        cells: Indices of the cells of the sub-design.
        statistic: F statistic of the analysis-of-variance type.
        df: Degrees of freedom of the numerator; fractional where contrasts are correlated or have unequal variances.
        df_denominator: Degrees of freedom of the denominator.
        p: p-value of this interaction, unadjusted.
        p_holm: `p` adjusted for all interactions.
    """

    factors: tuple[str, str]
    levels: tuple[tuple[str, ...], tuple[str, ...]]
    cells: tuple[int, ...]
    statistic: float
    df: float
    df_denominator: float
    p: float
    p_holm: float

    @property
    def is_shown(self) -> bool:
        """Whether Holm's procedure rejects the absence of an interaction at 5 %."""
        return self.p_holm <= LEVEL


@dataclass(frozen=True)
class Share:
    """Share of the variance of the cell means that a source explains.

    Attributes:
        source: Name of a factor, `interactions`, `seeds` or `images`.
        fraction: Bias-corrected eta squared (epsilon squared, Kelley, PNAS 21, 1935); the shares of a study sum to 1.
    """

    source: str
    fraction: float


@dataclass(frozen=True)
class Effects:
    """Effects of the factors of a study on one metric.

    Attributes:
        main: Level differences over all matched cells, one Holm family.
        simple: Level differences within one level of another factor, a second Holm family.
        interactions: Of every two factors with a complete sub-design of at least 2 x 2, a third Holm family.
        means: Marginal mean of each level of each factor.
        shares: Shares of the variance of the cell means; empty where all cell means are equal.
        left_out: Indices of cells with fewer than two runs, whose variance is unknown.
    """

    main: list[LevelDifference]
    simple: list[LevelDifference]
    interactions: list[Interaction]
    means: list[MarginalMean]
    shares: list[Share]
    left_out: tuple[int, ...]


def effects(
    cells: Sequence[Cell],
    rope: float | None,
    *,
    lower_is_better: bool = False,
    groups: npt.NDArray[np.integer] | None = None,
    strata: npt.NDArray[np.integer] | None = None,
) -> Effects:
    """Estimate the effects of factors, each over matched cells; designs may be incomplete and unbalanced.

    Args:
        cells: Cells of the study. Factors and levels keep the order in which they first appear.
        rope: Region of practical equivalence: the largest difference without practical meaning, in units of the runs;
            None tests no equivalence.
        lower_is_better: True for a loss.
        groups: (images,) cluster index of each image, see `Runs.of`.
        strata: (images,) class of each image for balanced accuracy, see `Runs.of`.

    Raises:
        ValueError: Cells differ in their factors or images, or two have equal levels.
    """
    design = FactorialDesign.of([cell.levels for cell in cells], [cell.seeds for cell in cells])
    if not design.indices:
        return Effects([], [], [], [], [], design.left_out)
    runs = Runs.of(np.concatenate([cells[index].runs for index in design.indices]), groups=groups, strata=strata)
    return analyse(design, runs, rope, lower_is_better=lower_is_better)


@dataclass(frozen=True)
class FactorialDesign:
    """The cells of a study, and which of their runs are paired.

    Attributes:
        factors: Factors with at least two levels, and their levels.
        levels: Levels of each analysed cell.
        indices: Indices of the analysed cells among all cells.
        rows: For each analysed cell, the row of each seed among the runs of all analysed cells.
        left_out: Indices of cells with fewer than two runs.
    """

    factors: dict[str, list[str]]
    levels: list[dict[str, str]]
    indices: tuple[int, ...]
    rows: list[dict[Hashable, int]]
    left_out: tuple[int, ...]

    @staticmethod
    def of(levels: Sequence[Mapping[str, str]], seeds: Sequence[Sequence[Hashable]]) -> "FactorialDesign":
        """Build the design from the levels of each cell and the seeds of its runs.

        Raises:
            ValueError: Cells differ in their factors, two have equal levels, or a cell has a seed twice.
        """
        if len({frozenset(one) for one in levels}) > 1 or len({frozenset(one.items()) for one in levels}) < len(levels):
            raise ValueError("all cells must have the same factors, and no two the same levels")
        if any(len(set(of_cell)) < len(of_cell) for of_cell in seeds):
            raise ValueError("the runs of a cell must have different seed labels")
        indices = tuple(index for index, of_cell in enumerate(seeds) if len(of_cell) > 1)
        kept = [dict(levels[index]) for index in indices]
        count = itertools.count()
        rows = [{seed: next(count) for seed in seeds[index]} for index in indices]
        factors = {
            factor: list(dict.fromkeys(of_cell[factor] for of_cell in kept)) for factor in (kept[0] if kept else ())
        }
        varied = {factor: of_factor for factor, of_factor in factors.items() if len(of_factor) > 1}
        left_out = tuple(index for index in range(len(seeds)) if index not in indices)
        return FactorialDesign(varied, kept, indices, rows, left_out)

    @property
    def num_runs(self) -> int:
        """Number of runs of all analysed cells."""
        return sum(map(len, self.rows))

    def find(self, levels: Mapping[str, str]) -> int | None:
        """Return the index of the cell with these levels, or None."""
        return self._cells.get(frozenset(levels.items()))

    @cached_property
    def _cells(self) -> dict[frozenset[tuple[str, str]], int]:
        return {frozenset(levels.items()): index for index, levels in enumerate(self.levels)}

    def matched(self, factor: str, of_factor: Sequence[str], within: Mapping[str, str]) -> list[tuple[int, ...]]:
        """Return the cells of several levels, for each combination of the other factors that has them all."""
        units = []
        for index, levels in enumerate(self.levels):
            if levels[factor] != of_factor[0] or any(levels[other] != level for other, level in within.items()):
                continue
            cells = [index, *(self.find({**levels, factor: level}) for level in of_factor[1:])]
            if None not in cells:
                units.append(tuple(cell for cell in cells if cell is not None))
        return units

    def complete(self, factor: str, other: str) -> "_Crossed | None":
        """Return a complete sub-design of two factors: the largest met while levels are left out one by one."""
        kept = {factor: self.factors[factor], other: self.factors[other]}
        candidates = [self._crossed(kept)]
        while smaller := [
            {**kept, reduced: [level for level in levels if level != left_out]}
            for reduced, levels in kept.items()
            if len(levels) > 2
            for left_out in levels
        ]:
            crossed = max(map(self._crossed, smaller), key=lambda crossed: (crossed.num_cells, crossed.num_present))
            kept = crossed.levels
            candidates.append(crossed)
        largest = max(candidates, key=lambda crossed: crossed.num_cells)
        return largest if largest.units else None

    def _crossed(self, kept: dict[str, list[str]]) -> "_Crossed":
        """Return the combinations of the other factors that have all combinations of these levels."""
        present = [cell for cell in self.levels if all(cell[factor] in levels for factor, levels in kept.items())]
        rests = {frozenset(cell.items() - {(factor, cell[factor]) for factor in kept}): cell for cell in present}
        units = []
        for rest in rests.values():
            combinations = itertools.product(*kept.values())
            cells = [self.find({**rest, **dict(zip(kept, levels, strict=True))}) for levels in combinations]
            if None not in cells:
                units.append(tuple(cell for cell in cells if cell is not None))
        return _Crossed(kept, units, len(present))

    @cached_property
    def pairs(self) -> list["_Pair"]:
        """Every two levels of a factor with matched cells, over all of these and within each level of the others."""
        pairs = []
        for factor, levels in self.factors.items():
            others = [(other, level) for other in self.factors if other != factor for level in self.factors[other]]
            for within in [{}, *({other: level} for other, level in others)]:
                for level, against in itertools.combinations(levels, 2):
                    if matched := self.matched(factor, (level, against), within):
                        contrast = _contrast(self, matched, np.array([[1.0, -1.0]]))
                        pairs.append(_Pair(factor, level, against, within, matched, contrast))
        return pairs

    @cached_property
    def interactions(self) -> list[tuple["_Crossed", "_Contrast"]]:
        """Orthonormal interaction contrasts of every two factors over a complete sub-design."""
        contrasts = []
        for factor, other in itertools.combinations(self.factors, 2):
            if crossed := self.complete(factor, other):
                sizes = [len(levels) for levels in crossed.levels.values()]
                weights = np.kron(linalg.helmert(sizes[0]), linalg.helmert(sizes[1]))
                contrasts.append((crossed, _contrast(self, crossed.units, weights)))
        return contrasts

    @cached_property
    def margins(self) -> list[tuple[str, str, list[int], bool, "_Contrast"]]:
        """Factor, level, cells, whether these are matched, and their mean, of each level of each factor."""
        margins = []
        for factor, levels in self.factors.items():
            matched = self.matched(factor, levels, {})
            for number, level in enumerate(levels):
                cells = [unit[number] for unit in matched]
                cells = cells or [index for index, of_cell in enumerate(self.levels) if of_cell[factor] == level]
                contrast = _contrast(self, [(cell,) for cell in cells], np.ones((1, 1)))
                margins.append((factor, level, cells, bool(matched), contrast))
        return margins


@dataclass(frozen=True)
class _Crossed:
    """Levels of two factors, the cells of all their combinations for each unit, and the number of existing cells."""

    levels: dict[str, list[str]]
    units: list[tuple[int, ...]]
    num_present: int

    @property
    def num_cells(self) -> int:
        return sum(map(len, self.units))


@dataclass(frozen=True)
class _Pair:
    """Two levels of a factor, the levels they are compared within, their matched cells and the contrast."""

    factor: str
    level: str
    against: str
    within: dict[str, str]
    matched: list[tuple[int, ...]]
    contrast: "_Contrast"


@dataclass(frozen=True)
class _QuadraticForm:
    """Rows of weights, for each group of runs, whose sum of outer products estimates a covariance.

    Attributes:
        runs: (groups, runs) indices of the runs; a smaller group is padded with runs of weight 0.
        weights: (groups, rows, contrasts, runs).
    """

    runs: npt.NDArray[np.intp]
    weights: Array

    @staticmethod
    def of(groups: Sequence[tuple[Sequence[int], Array]]) -> "_QuadraticForm":
        """Build the form from the runs of each group and its weights (rows, contrasts, runs)."""
        shape = np.max([weights.shape for _, weights in groups], axis=0)
        weights = np.zeros((len(groups), *shape))
        indices = np.zeros((len(groups), shape[2]), np.intp)
        for number, (runs, of_group) in enumerate(groups):
            rows, _, size = of_group.shape
            weights[number, :rows, :, :size] = of_group
            indices[number, : len(runs)] = runs
        return _QuadraticForm(indices, weights)

    def square(self, runs: Runs) -> tuple[Array, Array]:
        """Return the estimates and their expected part due to the finite test set: (groups, contrasts, contrasts)."""
        num_groups, num_rows, num, size = self.weights.shape
        flat = self.weights.reshape(num_groups, num_rows * num, size)
        values = (flat @ runs.means[self.runs][..., None]).reshape(num_groups, num_rows, num)
        noisy = flat @ (runs.covariances[self.runs[:, :, None], self.runs[:, None, :]] / runs.num_images)
        if num == 1:
            return np.swapaxes(values, 1, 2) @ values, (noisy * flat).sum(axis=(1, 2))[:, None, None]
        noise = np.einsum("gekr,gelr->gkl", noisy.reshape(self.weights.shape), self.weights)
        return np.swapaxes(values, 1, 2) @ values, noise


@dataclass(frozen=True)
class _Contrast:
    """Mean over units (matched cells) of one or several contrasts of the cells of a unit.

    Attributes:
        value: One row with the weights of the runs.
        within: Rows of the seed variance within each group of paired runs (or of the runs of one cell).
        degrees: Degrees of freedom of each group, for one contrast.
        ranks: Number of contrasts that vary independently in each group: all for paired runs, one for runs of one cell.
        across: Rows of the seed means over all units; None where no two groups share a seed.
        across_degrees: Degrees of freedom of `across`, for one contrast.
        is_paired: The cells of every unit are paired by seed.
    """

    value: _QuadraticForm
    within: _QuadraticForm
    degrees: Array
    ranks: Array
    across: _QuadraticForm | None
    across_degrees: int
    is_paired: bool

    @property
    def num_runs(self) -> int:
        return self.value.runs.size


_Group = dict[Hashable, tuple[list[int], Array]]  # seed to its runs and their weights (contrasts, runs)


def _groups(design: FactorialDesign, units: Sequence[Sequence[int]], weights: Array) -> tuple[list[_Group], bool]:
    """Return the groups of runs whose seed variance is estimated together, and whether every unit is paired.

    Runs with a seed that all cells of a unit have are paired, so that common effects of the seed cancel; the other runs
    are left out. With fewer than two such seeds, the seeds of each cell are treated as independent.
    """
    groups: list[_Group] = []
    is_paired = True
    for unit in units:
        rows = [design.rows[cell] for cell in unit]
        common = [seed for seed in rows[0] if all(seed in of_cell for of_cell in rows)]
        if len(common) > 1:
            groups.append({seed: ([of_cell[seed] for of_cell in rows], weights) for seed in common})
        else:
            is_paired = False
            columns = np.split(weights, len(unit), axis=1)
            groups += [
                {seed: ([row], column) for seed, row in of_cell.items()}
                for of_cell, column in zip(rows, columns, strict=True)
            ]
    return groups, is_paired


def _contrast(design: FactorialDesign, units: Sequence[Sequence[int]], weights: Array) -> _Contrast:
    """Return the mean over units of `weights` (contrasts, cells of a unit) times the cell means."""
    groups, is_paired = _groups(design, units, weights)
    num = len(weights)
    parts: list[tuple[list[int], Array]] = []
    values: list[tuple[list[int], Array]] = []
    seeds: dict[Hashable, list[tuple[list[int], Array]]] = {}
    for group in groups:
        runs = sorted(run for members, _ in group.values() for run in members)
        index = {run: number for number, run in enumerate(runs)}
        table = np.stack([_sum([of_seed], index, num) for of_seed in group.values()]) / len(units)
        size, mean = len(group), table.mean(axis=0)
        centred = table - mean
        parts.append((runs, centred / math.sqrt(size * (size - 1))))
        values.append((runs, mean))
        for seed, row in zip(group, centred / size, strict=True):
            seeds.setdefault(seed, []).append((runs, row))
    used = sorted({run for runs, _ in values for run in runs})
    index = {run: number for number, run in enumerate(used)}
    sizes = np.array([len(group) for group in groups], np.float64)
    across, across_degrees = None, 0
    if len(seeds) < sizes.sum():
        # Bessel's correction (S / (S - 1) for equal numbers of seeds): each group is centred on its own mean.
        unbiased = math.sqrt((1 / sizes).sum() / ((sizes - 1) / sizes**2).sum())
        across = _QuadraticForm.of([(used, unbiased * np.stack([_sum(rows, index, num) for rows in seeds.values()]))])
        across_degrees = _rank(groups, list(seeds)) - len(groups)
    return _Contrast(
        value=_QuadraticForm.of([(used, _sum(values, index, num)[None])]),
        within=_QuadraticForm.of(parts),
        degrees=sizes - 1,
        ranks=np.array([min(next(iter(group.values()))[1].shape) for group in groups]),
        across=across,
        across_degrees=across_degrees,
        is_paired=is_paired,
    )


def _sum(rows: Iterable[tuple[list[int], Array]], index: Mapping[int, int], num_contrasts: int) -> Array:
    """Return the weights (contrasts, runs) of several groups of runs, summed in one array."""
    total = np.zeros((num_contrasts, len(index)))
    for runs, weights in rows:
        total[:, [index[run] for run in runs]] += weights
    return total


def _rank(groups: Sequence[Iterable[Hashable]], seeds: Sequence[Hashable]) -> int:
    """Return the rank of the indicators of groups and seeds: that of groups plus the degrees of freedom of seeds."""
    index = {seed: number for number, seed in enumerate(seeds)}
    rows = []
    for number, group in enumerate(groups):
        for seed in group:
            row = np.zeros(len(groups) + len(seeds))
            row[[number, len(groups) + index[seed]]] = 1
            rows.append(row)
    return int(np.linalg.matrix_rank(np.array(rows)))


@dataclass(frozen=True)
class _Moments:
    """Values of contrasts and their estimated covariances.

    Attributes:
        value: (contrasts,) values.
        images: (contrasts, contrasts) covariance over test sets, given the runs.
        within: (contrasts, contrasts) covariance over seeds, pooled over the groups of runs.
        within_noise: Part of `within` due to the finite test set.
        traces: Trace of each group's part of `within`.
        across: Trace over seeds of their means over all units; None where no two groups share a seed.
        contrast: The contrasts.
    """

    value: Array
    images: Array
    within: Array
    within_noise: Array
    traces: Array
    across: float | None
    contrast: _Contrast

    @staticmethod
    def of(contrast: _Contrast, runs: Runs) -> "_Moments":
        within, noise = contrast.within.square(runs)
        images = contrast.value.square(runs)[1][0]
        across = float(np.trace(contrast.across.square(runs)[0][0])) if contrast.across else None
        value = contrast.value.weights[0, 0] @ runs.means[contrast.value.runs[0]]
        traces = np.trace(within, axis1=1, axis2=2)
        return _Moments(value, images, within.sum(axis=0), noise.sum(axis=0), traces, across, contrast)


@dataclass(frozen=True)
class _Shared:
    """Variance of the seed means that units share, beyond what independent units would give.

    Attributes:
        excess: Trace over the contrasts, averaged over the family.
        degrees: Degrees of freedom of the seed means.
        units: Number of independent units by which `_Moments.within` would have to be divided.
    """

    excess: float
    degrees: float
    units: float

    def of(self, moments: _Moments) -> float:
        """Return the trace over seeds of these contrasts: that of their own units plus the excess of the family."""
        assert moments.across is not None
        return self.excess + self.alone(moments)

    def alone(self, moments: _Moments) -> float:
        """Return the trace that the units of the contrasts would give the seed means if they were independent."""
        assert moments.across is not None
        return max(0.0, (self.units * float(moments.traces.sum()) - moments.across) / (self.units - 1))


def _shared(family: Sequence[_Moments], pooling_level: float = POOLING_LEVEL) -> _Shared | None:
    """Test whether the units of a family of contrasts share effects of their seeds (F test); None where not."""
    several = [moments for moments in family if moments.across is not None]
    if not several:
        return None
    # All pairs of L levels have L - 1 independent differences, or L where seeds are not paired.
    levels = (1 + math.sqrt(1 + 8 * len(several))) / 2
    share = 2 / levels if all(moments.contrast.is_paired for moments in several) else 1 / (levels - 1)
    sizes = [share * len(moments.value) for moments in several]
    degrees = sum(size * moments.contrast.across_degrees for size, moments in zip(sizes, several, strict=True))
    in_all = share * sum(float(moments.contrast.degrees @ moments.contrast.ranks) for moments in several)
    across, within = (
        sum(moments.across or 0.0 for moments in several),
        sum(float(moments.traces.sum()) for moments in several),
    )
    if not in_all > degrees > 0 or within <= 0:
        return None
    units = in_all / degrees
    alone = (units * within - across) / (units - 1)
    if alone > 0 and float(special.fdtrc(degrees, in_all - degrees, across / alone)) >= pooling_level:
        return None
    return _Shared((across - max(0.0, alone)) / len(several), degrees, units)


@dataclass(frozen=True)
class _Variance:
    """Trace of the covariance of contrasts, its degrees of freedom, and their effective number."""

    total: float
    degrees: float
    size: float


def _variance(moments: _Moments, shared: _Shared | None, runs: Runs) -> _Variance:
    """Return the trace of the covariance of contrasts, with Satterthwaite's degrees of freedom.

    The seed term is never dropped: a seed mean square below the residual one is replaced by the residual one.
    """
    shared = None if moments.across is None else shared
    noise, pooled, images = (float(np.trace(part)) for part in (moments.within_noise, moments.within, moments.images))
    seeds = max(shared.of(moments) if shared else pooled, noise)
    total = images + seeds - noise
    num, of_groups = len(moments.value), moments.contrast.degrees
    of_images = runs.degrees_of_images or runs.num_images - 1.0
    if total <= 1e-15:
        return _Variance(num * (RULE_OF_THREE * runs.heaviest / runs.num_images) ** 2, of_images, num)
    all_degrees = float(of_groups.sum())
    size = 1.0 if num == 1 else _size(pooled, _square(moments.within, all_degrees), num)
    ranks = np.minimum(moments.contrast.ranks, size)
    degrees = shared.degrees * size / num if shared else _welch(moments.traces, of_groups * ranks)
    terms = [(images, of_images), (seeds, degrees), (-noise, degrees * of_images)]
    if num == 1:
        return _Variance(total, _satterthwaite(terms), 1.0)
    # tr(V V) of V = images + seeds - noise, with an unbiased square of the seed part.
    square = float(np.sum(moments.images**2))
    if seeds > noise and pooled > 0:
        factor = seeds / pooled
        net = factor * moments.within - moments.within_noise
        square += float(2 * np.sum(moments.images * net) + np.sum(net**2))
        square += factor**2 * (_square(moments.within, all_degrees) - float(np.sum(moments.within**2)))
    return _Variance(total, _satterthwaite(terms), _size(total, square, num))


def _square(covariance: Array, degrees: float) -> float:
    """Return an unbiased tr(C C) of a sample covariance C (Bai and Saranadasa, Statistica Sinica 6, 1996)."""
    square, trace = float(np.sum(covariance**2)), float(np.trace(covariance))
    if degrees <= 1:
        return square
    return degrees**2 / ((degrees - 1) * (degrees + 2)) * (square - trace**2 / degrees)


def _size(trace: float, square: float, num: int) -> float:
    """Return Box's degrees of freedom of a sum of squares, between 1 and the number of contrasts."""
    return min(float(num), max(1.0, trace**2 / square)) if square > 0 else float(num)


def _welch(squares: Array, degrees: Array) -> float:
    """Return the degrees of freedom of a sum of mean squares, bias-corrected (Welch, Biometrika 34, 1947)."""
    spread = float(np.sum(squares**2 / (degrees + 2)))
    if spread == 0:
        return float(degrees.sum())
    return float(np.clip(squares.sum() ** 2 / spread - 2, degrees.min(), degrees.sum()))


def _satterthwaite(terms: Sequence[tuple[float, float]]) -> float:
    """Return the degrees of freedom of a sum of signed terms (Satterthwaite, Biometrics Bulletin 2, 1946)."""
    spread = sum(square**2 / degrees for square, degrees in terms)
    fewest = min(degrees for square, degrees in terms if square)
    return max(fewest, sum(square for square, _ in terms) ** 2 / spread)


def _interval(value: float, variance: float, degrees: float, level: float = 0.95) -> tuple[float, float]:
    half = float(special.stdtrit(degrees, (1 + level) / 2)) * math.sqrt(variance)
    return value - half, value + half


def analyse(design: FactorialDesign, runs: Runs, rope: float | None, *, lower_is_better: bool = False) -> Effects:
    """Estimate the effects of the factors of a design; see `effects`.

    Args:
        design: The cells.
        runs: Runs of all cells, in the order of the rows of `design`.
        rope: Region of practical equivalence, in units of the runs; None tests no equivalence.
        lower_is_better: True for a loss.
    """
    differences = _differences(design, runs, rope)
    main = [difference for difference in differences if difference.within == "all"]
    simple = [difference for difference in differences if difference.within != "all"]
    return Effects(
        main=_judged(main, lower_is_better=lower_is_better),
        simple=_judged(simple, lower_is_better=lower_is_better),
        interactions=_interactions(design, runs),
        means=_means(design, runs),
        shares=_shares(design, runs, main),
        left_out=design.left_out,
    )


def _differences(design: FactorialDesign, runs: Runs, rope: float | None) -> list[LevelDifference]:
    """Return the differences of all pairs of levels, without verdicts; `_judged` adds them."""
    families: dict[tuple[str, str], list[_Moments]] = {}
    names = ["".join(f"{factor}={level}" for factor, level in pair.within.items()) or "all" for pair in design.pairs]
    moments = [_Moments.of(pair.contrast, runs) for pair in design.pairs]
    for pair, within, of_pair in zip(design.pairs, names, moments, strict=True):
        families.setdefault((pair.factor, within), []).append(of_pair)
    shared = {name: _shared(family) for name, family in families.items()}
    differences = []
    for pair, within, of_pair in zip(design.pairs, names, moments, strict=True):
        variance = _variance(of_pair, shared[pair.factor, within], runs)
        value, error = float(of_pair.value[0]), math.sqrt(variance.total)
        p = 2 * float(special.stdtr(variance.degrees, -abs(value) / error))
        p_equal = 1.0 if rope is None else float(special.stdtr(variance.degrees, (abs(value) - rope) / error))
        differences.append(
            LevelDifference(
                factor=pair.factor,
                level=pair.level,
                against=pair.against,
                within=within,
                difference=value,
                variance=variance.total,
                degrees=variance.degrees,
                p=p,
                p_equal=p_equal,
                p_holm=1.0,
                level_holm=LEVEL,
                level_equal=LEVEL,
                verdict=NONE_SHOWN,
                matched=tuple((design.indices[a], design.indices[b]) for a, b in pair.matched),
                num_runs=pair.contrast.num_runs,
            )
        )
    return differences


def _judged(family: Sequence[LevelDifference], *, lower_is_better: bool) -> list[LevelDifference]:
    """Return a family with verdicts: Holm's procedure on differences, then on equivalence where none is significant."""
    is_better = [(effect.difference > 0) is not lower_is_better for effect in family]
    verdicts = by_holm(is_better, [effect.p for effect in family], [effect.p_equal for effect in family])
    return [
        replace(effect, p_holm=of.p_holm, level_holm=of.level_holm, level_equal=of.level_equal, verdict=of.text)
        for effect, of in zip(family, verdicts, strict=True)
    ]


def _interactions(design: FactorialDesign, runs: Runs) -> list[Interaction]:
    """Test interactions by F tests of the analysis-of-variance type (Brunner, Dette and Munk, JASA 92, 1997).

    The statistic is the sum of squares of the contrasts over the trace of their covariance: unlike Wald's statistic it
    needs no inverse of a covariance that a few seeds estimate poorly, and the variances of cells may differ. Its
    numerator has Box's degrees of freedom (Annals of Mathematical Statistics 25, 1954).
    """
    interactions = []
    for crossed, contrast in design.interactions:
        moments = _Moments.of(contrast, runs)
        variance = _variance(moments, _shared([moments]), runs)
        statistic = float(moments.value @ moments.value) / variance.total
        df, df_denominator = variance.size, variance.degrees
        (first, levels), (second, others) = crossed.levels.items()
        interactions.append(
            Interaction(
                factors=(first, second),
                levels=(tuple(levels), tuple(others)),
                cells=tuple(design.indices[cell] for unit in crossed.units for cell in unit),
                statistic=statistic,
                df=df,
                df_denominator=df_denominator,
                p=float(special.fdtrc(df, df_denominator, statistic)),
                p_holm=1.0,
            )
        )
    adjusted = holm([interaction.p for interaction in interactions])[0]
    return [replace(interaction, p_holm=p_holm) for interaction, p_holm in zip(interactions, adjusted, strict=True)]


def _means(design: FactorialDesign, runs: Runs) -> list[MarginalMean]:
    means = []
    for factor, level, cells, is_matched, contrast in design.margins:
        moments = _Moments.of(contrast, runs)
        # A seed effect common to all cells does not cancel in a mean, and the image variance is large: never pooled.
        variance = _variance(moments, _shared([moments], pooling_level=1.0), runs)
        indices = tuple(design.indices[cell] for cell in cells)
        means.append(
            MarginalMean(factor, level, float(moments.value[0]), variance.total, variance.degrees, indices, is_matched)
        )
    return means


def _shares(design: FactorialDesign, runs: Runs, main: Sequence[LevelDifference]) -> list[Share]:
    """Return the shares of the variance of the cell means, with separate shares for seeds and images."""
    rows = [list(by_seed.values()) for by_seed in design.rows]
    mean = np.zeros((len(rows), design.num_runs))
    for number, of_cell in enumerate(rows):
        mean[number, of_cell] = 1 / len(of_cell)
    mean -= mean.mean(axis=0)  # deviations from the grand mean
    parts = {}
    for factor in design.factors:
        pairs = [pair for pair in main if pair.factor == factor]
        levels = len({level for pair in pairs for level in (pair.level, pair.against)})
        parts[factor] = sum(pair.difference**2 - pair.variance for pair in pairs) / max(levels, 1) ** 2
    total = float(np.mean((mean @ runs.means) ** 2))
    images = float(np.sum((mean @ runs.covariances) * mean)) / runs.num_images / len(rows)
    seeds = _seed_variance(design, runs) * float(np.sum(mean**2)) / len(rows)
    parts = {factor: max(0.0, part) for factor, part in parts.items()}
    parts["interactions"] = max(0.0, total - images - seeds - sum(parts.values()))
    parts |= {"seeds": seeds, "images": images}
    whole = sum(parts.values())
    return [Share(source, part / whole) for source, part in parts.items()] if whole > 0 else []


def _seed_variance(design: FactorialDesign, runs: Runs) -> float:
    """Return the seed variance of a run, without that of its cell, the test set, and the effect common to its seed."""
    seeds = {seed: number for number, seed in enumerate(dict.fromkeys(itertools.chain(*design.rows)))}
    of_cells = np.zeros((design.num_runs, len(design.rows)))
    of_seeds = np.zeros((design.num_runs, len(seeds)))
    for number, rows in enumerate(design.rows):
        for seed, row in rows.items():
            of_cells[row, number] = of_seeds[row, seeds[seed]] = 1
    for indicators in (np.hstack([of_cells, of_seeds]), of_cells):
        basis = linalg.orth(indicators)
        degrees = design.num_runs - basis.shape[1]
        if degrees > 0:  # else every run has a different seed
            break
    squares = float(runs.means @ runs.means - np.sum((basis.T @ runs.means) ** 2))
    noise = float(np.trace(runs.covariances) - np.sum((runs.covariances @ basis) * basis)) / runs.num_images
    return max(0.0, squares - noise) / float(degrees)
