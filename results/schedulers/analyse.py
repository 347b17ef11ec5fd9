"""Which scheduler beats a constant learning rate, by how much, and does it matter more for one optimizer?

`python -m results.schedulers.analyse STUDY OUTPUT` reads a study of `optim` and `scheduler`, each pair at its own best
rate, and writes `gains.csv` and `gains.png` into OUTPUT. The estimates are those of the report (docs/statistics.md):
over seeds and test images, on fresh seeds where the choice was confirmed on such.

- The gain of a scheduler is its test accuracy minus that of `constant` with the same optimizer. `pairwise.csv` adjusts
  for all pairs of arms; here the family is what the question asks, each scheduler against `constant` within each
  optimizer, so that Holm's adjustment is less strict.
- The difference in gains is the gain of a scheduler for one optimizer minus that for another: the interaction,
  scheduler by scheduler. Its family is all of these differences. `interactions.csv` has the F test of all schedulers,
  which estimates the seed variance from other cells, so that the two can disagree near 5 %.
- A gain is `not tuned` where the best rate of one of its arms lies at an edge of the grid, or had fewer trials.
"""

import argparse
import itertools
from collections.abc import Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes

from intel_scenes import files
from intel_scenes.errors import UserError
from intel_scenes.studies.choose import Arm, comparable
from intel_scenes.studies.comparison import Comparison, compare
from intel_scenes.studies.pairs import paired_rows
from intel_scenes.studies.statistics.crossed import Runs
from intel_scenes.studies.statistics.estimates import Estimate
from intel_scenes.studies.statistics.verdicts import NOT_TUNED, UNTESTABLE, judge
from results import analysis, plots

CONSTANT = "constant"
GAIN, DIFFERENCE = "gain", "difference in gains"
FACTORS = {"optim", "scheduler"}


@dataclass(frozen=True, kw_only=True)
class Row:
    """Row of `gains.csv`: fractions of the test images; empty where unknown.

    Attributes:
        what: `gain` of the scheduler over `constant`, or `difference in gains` between two optimizers.
        optim: The optimizer; for a difference the first one.
        against: For a difference the optimizer whose gain is subtracted.
        scheduler: The scheduler.
        lr_scale: Best rates of the scheduler and of `constant`, as multiples of the optimizer's own.
        accuracy: Test accuracy with the scheduler, mean over seeds.
        constant_accuracy: Test accuracy with `constant`.
        value: The gain, or the difference in gains.
        low: Lower end of its 95 % interval, unadjusted.
        high: Its upper end.
        low_holm: Lower end of the Holm-adjusted interval, which excludes 0 exactly where the verdict says so.
        high_holm: Its upper end.
        p_value: Two-sided p-value of no gain or no difference, unadjusted.
        p_holm: Adjusted by Holm's procedure within the rows of this kind.
        num_seeds: Number of seeds.
        verdict: `better`, `worse`, `practically equal`, `no difference shown`, `untestable` or `not tuned`.
    """

    what: str
    optim: str
    against: str = ""
    scheduler: str
    lr_scale: str = ""
    accuracy: float | None = None
    constant_accuracy: float | None = None
    value: float
    low: float | None = None
    high: float | None = None
    low_holm: float | None = None
    high_holm: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    num_seeds: int
    verdict: str = ""


def rows_of(comparison: Comparison) -> list[Row]:
    """Return the gains of the schedulers, then the differences in gains between the optimizers.

    Raises:
        UserError: The study compares other factors, or has no constant rate.
    """
    arms = arms_of(comparison)
    gains = [
        _gain(comparison, arms, optim, scheduler)
        for (optim, scheduler) in arms
        if scheduler != CONSTANT and (optim, CONSTANT) in arms
    ]
    optims = list(dict.fromkeys(optim for optim, _ in arms))
    schedulers = sorted({scheduler for _, scheduler in arms} - {CONSTANT})
    differences = [
        _difference(arms, one, other, scheduler)
        for (one, other), scheduler in itertools.product(itertools.combinations(optims, 2), schedulers)
        if {(optim, name) for optim in (one, other) for name in (scheduler, CONSTANT)} <= arms.keys()
    ]
    return [*_judged(gains, comparison.rope), *_judged(differences, comparison.rope)]


def arms_of(comparison: Comparison) -> dict[tuple[str, str], Arm]:
    """Return the arms by optimizer and scheduler.

    Raises:
        UserError: The study compares other factors, or has no constant rate.
    """
    if set(comparison.compared) != FACTORS:
        compared = ", ".join(comparison.compared) or "nothing"
        raise UserError(f"{comparison.folder} compares {compared}: sweep optim and scheduler, and fix or tune all else")
    arms = {(arm.tested.values["optim"], arm.tested.values["scheduler"]): arm for arm in comparable(comparison.arms)}
    if not any(scheduler == CONSTANT for _, scheduler in arms):
        raise UserError(f"{comparison.folder} has no run with scheduler={CONSTANT}: add it")
    return dict(sorted(arms.items(), key=lambda item: (not item[0][0].startswith("sgd"), item[0])))  # SGD first


def _gain(
    comparison: Comparison, arms: Mapping[tuple[str, str], Arm], optim: str, scheduler: str
) -> tuple[Row, Estimate | None]:
    """Return the gain of a scheduler as the report estimates it, not yet judged."""
    one, constant = arms[optim, scheduler], arms[optim, CONSTANT]
    pairs = [pair.turned() if pair.a == constant.label else pair for pair in comparison.pairs]
    pair = next(pair for pair in pairs if (pair.a, pair.b) == (one.label, constant.label))
    row = Row(
        what=GAIN,
        optim=optim,
        scheduler=scheduler,
        lr_scale=" ".join(arm.tested.values.get("lr_scale", "1") for arm in (one, constant)),
        accuracy=one.tested.test_accuracy,
        constant_accuracy=constant.tested.test_accuracy,
        value=pair.difference,
        num_seeds=min(pair.num_seeds),
        verdict=NOT_TUNED if one.is_unequal or constant.is_unequal else "",
    )
    return row, pair.estimate


def _difference(
    arms: Mapping[tuple[str, str], Arm], optim: str, against: str, scheduler: str
) -> tuple[Row, Estimate | None]:
    """Return the gain of a scheduler for one optimizer minus that for another, not yet judged."""
    of_difference = [arms[key] for key in itertools.product((optim, against), (scheduler, CONSTANT))]
    tables = [
        _gains_by_seed(with_scheduler, constant) for with_scheduler, constant in (of_difference[:2], of_difference[2:])
    ]
    common = sorted(tables[0].keys() & tables[1].keys())
    estimate = None
    if len(common) > 1:
        images = of_difference[0].tested.images
        stacked = np.stack([table[seed] for table in tables for seed in common])
        runs = Runs.of(stacked, groups=images.groups, strata=images.strata, largest=2.0)
        estimate = runs.paired_difference(range(len(common)), range(len(common), 2 * len(common)))
    value = float(np.mean([tables[0][seed] - tables[1][seed] for seed in common])) if common else float("nan")
    row = Row(
        what=DIFFERENCE,
        optim=optim,
        against=against,
        scheduler=scheduler,
        value=estimate.value if estimate else value,
        num_seeds=len(common),
        verdict=NOT_TUNED if any(arm.is_unequal for arm in of_difference) else "",
    )
    return row, estimate


def _gains_by_seed(with_scheduler: Arm, constant: Arm) -> dict[int, np.ndarray[tuple[int], np.dtype[np.float32]]]:
    """Return by seed (N,) of the test images 1 where only the scheduler is correct, -1 where only `constant` is."""
    mine, theirs = with_scheduler.tested, constant.tested
    return {
        mine.evaluated[row].summary.seed or 0: mine.table[row] - theirs.table[match]
        for row, match in paired_rows(mine.evaluated, theirs.evaluated)
    }


def _judged(family: Sequence[tuple[Row, Estimate | None]], rope: float) -> list[Row]:
    """Add intervals, p-values and verdicts to the rows of a family."""
    verdicts = iter(judge([estimate for _, estimate in family if estimate is not None], rope))
    rows = []
    for row, estimate in family:
        if estimate is None:
            rows.append(replace(row, verdict=UNTESTABLE))
            continue
        verdict = next(verdicts)
        fields_of_test = analysis.adjusted(estimate, verdict.p_holm, verdict.level_holm)
        rows.append(replace(row, **fields_of_test, verdict=row.verdict or verdict.text))
    return rows


def sentences(comparison: Comparison, rows: Sequence[Row]) -> list[str]:
    """Return the gains in words, and the F test of the interaction."""
    texts = []
    for row in rows:
        subject = f"{row.optim}, {row.scheduler} minus {CONSTANT}"
        if row.what == DIFFERENCE:
            subject = f"{row.scheduler}: gain for {row.optim} minus gain for {row.against}"
        between = ""
        if row.low_holm is not None and row.high_holm is not None:
            between = f"{100 * row.low_holm:+.2f} to {100 * row.high_holm:+.2f}; "
        texts.append(f"{subject}: {100 * row.value:+.2f} points ({between}{row.verdict})")
    for metric, effects in comparison.effects.items():
        for test in effects.interactions:
            degrees = f"{test.df:.3g}, {test.df_denominator:.3g}"
            texts.append(f"{' x '.join(test.factors)}, {metric}: F({degrees}) = {test.statistic:.2f}, p = {test.p:.2g}")
    return texts


def plot(rows: Sequence[Row], path: Path) -> None:
    """Draw the gain of each scheduler for each optimizer, and the differences in gains."""
    gains, differences = ([row for row in rows if row.what == what] for what in (GAIN, DIFFERENCE))
    order = sorted({row.scheduler for row in gains}, key=lambda name: _mean_gain(gains, name))
    figure = plots.figure_of(1.7 + 0.45 * len(order))
    left, right = figure.subplots(1, 2, sharey=True)
    unit = "points of test accuracy, 95 % interval"
    _plot_values(left, [(row.optim, row) for row in gains], order, 0)
    plots.style(left, f"gain over {CONSTANT}", unit, "")
    _plot_values(right, [(f"{row.optim} minus {row.against}", row) for row in differences], order, 2)
    plots.style(right, "difference in gains", unit, "")
    left.set_yticks(range(len(order)), order)
    left.set_ylim(-0.6, len(order) - 0.4)
    if any(row.verdict == NOT_TUNED for row in rows):
        right.plot([], [], "o", color="black", ms=5, mfc="white", label="hollow: a rate at an edge")
    figure.legend(loc="outside lower center", ncols=4, fontsize=8, frameon=False)
    plots.save(figure, path)


def _mean_gain(gains: Sequence[Row], scheduler: str) -> float:
    return float(np.mean([row.value for row in gains if row.scheduler == scheduler]))


def _plot_values(axes: Axes, labelled: Sequence[tuple[str, Row]], order: Sequence[str], first_color: int) -> None:
    labels = list(dict.fromkeys(label for label, _ in labelled))
    for label, row in labelled:
        number = labels.index(label)
        color = plots.COLORS[(first_color + number) % len(plots.COLORS)]
        error = None
        if row.low_holm is not None and row.high_holm is not None:
            error = [[100 * (row.value - row.low_holm)], [100 * (row.high_holm - row.value)]]
        fill = "white" if row.verdict == NOT_TUNED else color
        y = order.index(row.scheduler) + 0.2 * (number - (len(labels) - 1) / 2)
        axes.errorbar(100 * row.value, y, xerr=error, fmt="os^Dv"[number % 5], color=color, ms=5, mfc=fill)
    for number, label in enumerate(labels):
        color = plots.COLORS[(first_color + number) % len(plots.COLORS)]
        axes.plot([], [], "os^Dv"[number % 5], color=color, label=label)
    axes.axvline(0, color="black", lw=0.8)
    axes.locator_params(axis="x", nbins=6)


def main(arguments: Sequence[str]) -> None:
    """Compare the schedulers of a study with a constant rate, and write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="study folder with the factors optim and scheduler")
    parser.add_argument("output", type=Path, help="folder for gains.csv and gains.png")
    options = parser.parse_args(arguments)
    comparison = compare(options.study)
    rows = rows_of(comparison)
    files.write_csv(options.output / "gains.csv", [field.name for field in fields(Row)], map(astuple, rows))
    plot(rows, options.output / "gains.png")
    print("\n".join(sentences(comparison, rows)))


if __name__ == "__main__":
    analysis.run(main)
