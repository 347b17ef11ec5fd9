"""Do Adam and AdamW widen the gap between training and validation accuracy?

`python -m results.optimizers.analyse STUDY OUTPUT [--default-rates STUDY]` compares the optimizers of a study, each at
its own best rate and at the rate of its file (`lr_scale=1`), and writes `OUTPUT/gaps.csv` and `OUTPUT/gaps.png`.

The gap is `train_eval_accuracy - val_accuracy`: training images without augmentation in evaluation mode. A faster
optimizer is simply further along after the same epochs, so optimizers are compared at the best epoch, at the last
epoch, and at equal training loss: gap and validation accuracy are interpolated along the epochs at losses that every
run reached, and for each pair at the lowest loss that its runs reached: the common losses end where the optimizer that
fits least does. Differences are paired over seeds, with Student's t intervals. These cover other seeds, but not other
images: all runs share the validation images and the slice of training images. A standard deviation over seeds is taken
as that of one validation image at least.
"""

import argparse
import itertools
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import astuple, dataclass, fields, replace
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from scipy import special

from intel_scenes import files
from intel_scenes.errors import UserError
from intel_scenes.record import AVERAGES, Averages, History
from intel_scenes.studies.choose import Arm, comparable
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.load import Run
from intel_scenes.studies.naming import label_of
from intel_scenes.studies.pairs import paired_rows
from intel_scenes.studies.statistics.verdicts import NONE_SHOWN, NOT_TUNED, UNTESTABLE, holm
from results import analysis, plots

Array = npt.NDArray[np.float64]
BEST, DEFAULT = "best", "default"  # rates
BEST_EPOCH, LAST_EPOCH, EQUAL_LOSS, ALL_LOSSES = "best epoch", "last epoch", "equal loss", "mean over equal losses"
LOWEST_LOSS = "lowest equal loss"  # of a pair
MEASURES = ("gap", "val_accuracy")
NUM_LOSSES = 5


@dataclass(frozen=True)
class Curve:
    """A run by epoch.

    Attributes:
        train_loss: (E,) training loss after each epoch, in nats.
        measures: (E,) values of each of `MEASURES`, fractions.
        best_epoch: Epoch with the highest validation accuracy.
    """

    train_loss: Array
    measures: Mapping[str, Array]
    best_epoch: int

    @property
    def lowest(self) -> npt.NDArray[np.intp]:
        """Epochs whose training loss is below that of all epochs before, so that each loss is reached once."""
        before = np.minimum.accumulate(np.concatenate([[np.inf], self.train_loss[:-1]]))
        return np.flatnonzero(self.train_loss < before)

    def at_loss(self, measure: str, loss: float) -> float:
        """Return a measure where the training loss is reached first, linear in the loss between two epochs."""
        epochs = self.lowest[::-1]
        return float(np.interp(loss, self.train_loss[epochs], self.measures[measure][epochs]))


@dataclass(frozen=True)
class Group:
    """Runs of one optimizer at one rate.

    Attributes:
        within: Values of the other compared factors; empty where there are none.
        rate: `best` or `default`.
        optim: Name of the optimizer.
        runs: One for each seed.
        is_tuned: Its rate lies inside the grid and had as many trials as that of the others, or needs no choice.
    """

    within: str
    rate: str
    optim: str
    runs: tuple[Run, ...]
    is_tuned: bool


@dataclass(frozen=True, kw_only=True)
class Row:
    """Row of `gaps.csv`: optimizer a minus optimizer b; fractions, nats for losses, empty where unknown."""

    within: str
    rate: str
    a: str
    b: str
    lr_a: float | None
    lr_b: float | None
    measure: str
    at: str
    train_loss: float | None
    mean_a: float
    mean_b: float
    difference: float
    low: float | None = None
    high: float | None = None
    low_holm: float | None = None
    high_holm: float | None = None
    p_value: float | None = None
    p_holm: float | None = None
    num_seeds: int
    verdict: str
    loss_of: str = ""


@dataclass(frozen=True)
class Difference:
    """Mean of differences paired over seeds, with Student's t.

    Attributes:
        values: Difference at each seed.
        resolution: Smallest standard deviation over seeds that is used, because few seeds may agree by chance.
    """

    values: tuple[float, ...]
    resolution: float

    @property
    def mean(self) -> float:
        """Mean over seeds."""
        return fmean(self.values)

    @property
    def error(self) -> float:
        """Standard error of the mean; NaN with one seed."""
        if len(self.values) < 2:
            return math.nan
        return max(float(np.std(self.values, ddof=1)), self.resolution) / math.sqrt(len(self.values))

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Return the interval with a coverage of `level`."""
        half = float(special.stdtrit(len(self.values) - 1, (1 + level) / 2)) * self.error
        return self.mean - half, self.mean + half

    def p_value(self) -> float:
        """Return the two-sided p-value of no difference."""
        return 2 * float(special.stdtr(len(self.values) - 1, -abs(self.mean) / self.error))


def curve_of(run: Run, *, evaluated: bool) -> Curve:
    """Read a run by epoch.

    Args:
        run: The run.
        evaluated: Take the training loss in evaluation mode from `averages.csv`, else the one seen while training.

    Raises:
        UserError: The record has no epochs, or `averages.csv` has others.
    """
    epochs = History.read(run.folder).epochs
    losses = [epoch.train_loss for epoch in epochs]
    if evaluated:
        losses = [row.train_loss for row in Averages.read(run.folder).rows if row.window == 0]
    if not epochs or len(losses) != len(epochs):
        raise UserError(f"{run.folder} has {len(epochs)} epochs and {len(losses)} training losses: train it again")
    train, val = ([getattr(row, key) for row in epochs] for key in ("train_eval_accuracy", "val_accuracy"))
    best = run.summary.best_epoch
    return Curve(
        np.array(losses),
        {"gap": np.array(train) - np.array(val), "val_accuracy": np.array(val)},
        int(np.argmax(val)) if best is None else best,
    )


def groups_of(study: Path, default_rates: Path | None = None) -> list[Group]:
    """Return the runs of each optimizer at its best rate and at the rate of its file.

    Args:
        study: Study folder with the factors `optim` and `lr_scale`. The best rate is the one that validation chose,
            on the fresh seeds where it was confirmed on such.
        default_rates: Study folder of runs at `lr_scale=1`; None takes those of `study`.

    Raises:
        UserError: The study has no two optimizers, or `default_rates` has other rates.
    """
    comparison = compare(study)
    if "optim" not in comparison.compared:
        raise UserError(f"{study} does not compare optimizers: sweep optim over two at least")
    others = [key for key in comparison.compared if key != "optim"]

    def group(arm: Arm, rate: str, runs: Sequence[Run], *, is_tuned: bool) -> Group:
        values = arm.tested.values
        within = label_of(values, others) if others else ""
        return Group(within, rate, values["optim"], tuple(runs), is_tuned)

    groups = [group(arm, BEST, arm.tested.runs, is_tuned=not arm.is_unequal) for arm in comparable(comparison.arms)]
    arms = compare(default_rates).arms if default_rates else comparison.arms
    for arm in arms:
        at_default = [one for one in arm.configurations if float(one.values.get("lr_scale", 1)) == 1]
        if default_rates and any(float(run.overrides.get("lr_scale", 1)) != 1 for run in arm.chosen.runs):
            raise UserError(f"{default_rates} holds runs whose lr_scale is not 1: name a study of default rates")
        if at_default:
            groups.append(group(arm, DEFAULT, at_default[0].runs, is_tuned=True))
    return sorted(groups, key=lambda one: (one.within, one.rate, one.optim))


def common_losses(curves: Sequence[Curve]) -> list[float]:
    """Return training losses at equal ratios that all runs reached after their first epoch; empty if there are none."""
    lowest = max(float(curve.train_loss.min()) for curve in curves)
    highest = min(float(curve.train_loss[0]) for curve in curves)
    return [float(loss) for loss in np.geomspace(lowest, highest, NUM_LOSSES)] if 0 < lowest < highest else []


def compared(groups: Sequence[Group]) -> list[Row]:
    """Return the differences of all pairs of optimizers, adjusted by Holm over the pairs of each comparison."""
    evaluated = _has_averages(groups)
    rows = []
    for _, members in itertools.groupby(groups, key=lambda group: (group.within, group.rate)):
        of_rate = list(members)
        curves = {run.name: curve_of(run, evaluated=evaluated) for group in of_rate for run in group.runs}
        for measure, (at, loss, values) in itertools.product(MEASURES, _occasions(curves)):
            family = [
                _row(one, other, measure, at, loss, {name: values[name][measure] for name in values})
                for one, other in itertools.combinations(of_rate, 2)
            ]
            rows += _judged([pair for pair in family if pair is not None], evaluated=evaluated)
        for measure in MEASURES:
            rows += _judged(_at_lowest_loss(of_rate, curves, measure), evaluated=evaluated)
    return rows


def _at_lowest_loss(groups: Sequence[Group], curves: Mapping[str, Curve], measure: str) -> list[tuple[Row, Difference]]:
    """Return the differences of pairs at the lowest training loss that all runs of the pair reached, not yet judged."""
    family = []
    for one, other in itertools.combinations(groups, 2):
        of_pair = {run.name: curves[run.name] for run in (*one.runs, *other.runs)}
        for loss in common_losses(list(of_pair.values()))[:1]:
            values = {name: curve.at_loss(measure, loss) for name, curve in of_pair.items()}
            family.append(_row(one, other, measure, LOWEST_LOSS, loss, values))
    return [pair for pair in family if pair is not None]


def _has_averages(groups: Sequence[Group]) -> bool:
    """Return whether the runs have training losses in evaluation mode.

    Raises:
        UserError: Only some have, so that losses would not be comparable.
    """
    has = {run.name: (run.folder / AVERAGES).exists() for group in groups for run in group.runs}
    if len(set(has.values())) > 1:
        without = next(name for name, exists in has.items() if not exists)
        raise UserError(f"{without} has no {AVERAGES}, other runs have one: train all with averages, or none")
    return all(has.values())


def _occasions(curves: Mapping[str, Curve]) -> Iterator[tuple[str, float | None, dict[str, dict[str, float]]]]:
    """Yield when runs are compared, the training loss, and the measures of each run then."""
    for at, epoch_of in ((BEST_EPOCH, lambda curve: curve.best_epoch), (LAST_EPOCH, lambda curve: -1)):
        yield (
            at,
            None,
            {
                name: {measure: float(curve.measures[measure][epoch_of(curve)]) for measure in MEASURES}
                for name, curve in curves.items()
            },
        )
    losses = common_losses(list(curves.values()))
    at_losses = [
        {name: {measure: curve.at_loss(measure, loss) for measure in MEASURES} for name, curve in curves.items()}
        for loss in losses
    ]
    for loss, values in zip(losses, at_losses, strict=True):
        yield EQUAL_LOSS, loss, values
    if losses:
        means = {
            name: {measure: fmean(values[name][measure] for values in at_losses) for measure in MEASURES}
            for name in curves
        }
        yield ALL_LOSSES, None, means


def _row(
    one: Group, other: Group, measure: str, at: str, loss: float | None, values: Mapping[str, float]
) -> tuple[Row, Difference] | None:
    """Return the difference of two optimizers over the seeds of both, not yet judged; None without such seeds."""
    pairs = [
        (values[one.runs[row].name], values[other.runs[match].name]) for row, match in paired_rows(one.runs, other.runs)
    ]
    if not pairs:
        return None
    one_image = 1 / (one.runs[0].summary.num_val or 1000)
    difference = Difference(tuple(a - b for a, b in pairs), one_image)
    mean_a, mean_b = (fmean(side) for side in zip(*pairs, strict=True))
    row = Row(
        within=one.within,
        rate=one.rate,
        a=one.optim,
        b=other.optim,
        lr_a=one.runs[0].summary.lr,
        lr_b=other.runs[0].summary.lr,
        measure=measure,
        at=at,
        train_loss=loss,
        mean_a=mean_a,
        mean_b=mean_b,
        difference=difference.mean,
        num_seeds=len(pairs),
        verdict=NONE_SHOWN if one.is_tuned and other.is_tuned else NOT_TUNED,
    )
    return row, difference


def _judged(family: Sequence[tuple[Row, Difference]], *, evaluated: bool) -> list[Row]:
    """Add intervals, p-values and verdicts to the rows of a family."""
    loss_of = "evaluation mode" if evaluated else "running mean while training"
    tested = [difference.p_value() for _, difference in family if len(difference.values) > 1]
    adjusted = iter(zip(*holm(tested), strict=True))
    rows = []
    for row, difference in family:
        row = replace(row, loss_of=loss_of)
        if len(difference.values) < 2:
            rows.append(replace(row, verdict=UNTESTABLE))
            continue
        p_holm, level = next(adjusted)
        verdict = row.verdict
        if verdict == NONE_SHOWN and p_holm <= 0.05:
            verdict = "higher" if difference.mean > 0 else "lower"
        rows.append(replace(row, **analysis.adjusted(difference, p_holm, level), verdict=verdict))
    return rows


def sentences(rows: Sequence[Row]) -> list[str]:
    """Return the differences in words, without those at single losses."""
    texts = []
    for row in rows:
        if row.at != EQUAL_LOSS:
            interval = "one seed"
            if row.low_holm is not None and row.high_holm is not None:
                interval = f"{100 * row.low_holm:+.2f} to {100 * row.high_holm:+.2f}"
            place = f"{row.within}, " * bool(row.within) + f"{row.rate} rates, {row.at}"
            measure = row.measure.replace("val_", "validation ")
            texts.append(
                f"{place}: {measure} of {row.a} minus that of {row.b} {100 * row.difference:+.2f} points "
                f"({interval}; {row.verdict})"
            )
    return texts


def plot(groups: Sequence[Group], rows: Sequence[Row], path: Path) -> None:
    """Draw the gaps at both rates, and the gap along the training at the best rates."""
    withins = sorted({group.within for group in groups})
    figure = plots.figure_of(3.3 * len(withins))
    evaluated = _has_averages(groups)
    optims = sorted({group.optim for group in groups})
    colors = dict(zip(optims, itertools.cycle(plots.COLORS), strict=False))
    for (left, right), within in zip(figure.subplots(len(withins), 2, squeeze=False), withins, strict=True):
        of_within = [group for group in groups if group.within == within]
        _plot_differences(left, [row for row in rows if row.within == within and row.measure == "gap"])
        for group in of_within:
            if group.rate == BEST:
                _plot_curves(right, group, colors[group.optim], evaluated=evaluated)
        heading = f"{within}: " * bool(within)
        plots.style(left, f"{heading}difference in the gap", "points, 95 % interval; hollow: rate at an edge", "")
        kind = "evaluation mode" if evaluated else "while training"
        plots.style(right, "gap along the training, best rates", f"training loss, {kind} (nats)", "gap (points)")
        right.set_xscale("log")
        losses = [float(loss) for line in right.get_lines() for loss in np.asarray(line.get_xdata())]
        if losses:
            plots.log_ticks(right.xaxis, plots.even_ticks(min(losses), max(losses)))
        right.invert_xaxis()
        right.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)
    plots.save(figure, path)


def _plot_differences(axes: Axes, rows: Sequence[Row]) -> None:
    """Draw the differences in the gap with their intervals, from the first pair at the top."""
    shown = [row for row in rows if row.at in (BEST_EPOCH, ALL_LOSSES)]
    pairs = list(dict.fromkeys((row.a, row.b) for row in shown))
    kinds = {
        (BEST, BEST_EPOCH): "best rate, best epoch",
        (BEST, ALL_LOSSES): "best rate, equal loss",
        (DEFAULT, BEST_EPOCH): "default, best epoch",
        (DEFAULT, ALL_LOSSES): "default, equal loss",
    }
    present = [kind for kind in kinds if any((row.rate, row.at) == kind for row in shown)]
    for row in shown:
        number = present.index((row.rate, row.at))
        y = pairs.index((row.a, row.b)) + 0.16 * (number - (len(present) - 1) / 2)
        fill, error = "white" if row.verdict == NOT_TUNED else None, None
        if row.low_holm is not None and row.high_holm is not None:
            error = [[100 * (row.difference - row.low_holm)], [100 * (row.high_holm - row.difference)]]
        marker, color = "os^D"[number], plots.COLORS[3 + number]
        axes.errorbar(100 * row.difference, y, xerr=error, fmt=marker, color=color, ms=5, mfc=fill or color)
    for number, kind in enumerate(present):
        axes.plot([], [], "os^D"[number], color=plots.COLORS[3 + number], label=kinds[kind])
    axes.axvline(0, color="black", lw=0.8)
    axes.set_yticks(range(len(pairs)), [f"{a}\nminus {b}" for a, b in pairs])
    axes.set_ylim(len(pairs) - 0.4, -0.6)
    axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2), ncols=2)


def _plot_curves(axes: Axes, group: Group, color: str, *, evaluated: bool) -> None:
    """Draw the gap of each seed against the training loss."""
    for number, run in enumerate(group.runs):
        curve = curve_of(run, evaluated=evaluated)
        label = f"{group.optim}, rate {run.summary.lr:.3g}" if number == 0 else None
        axes.plot(curve.train_loss, 100 * curve.measures["gap"], ".-", color=color, lw=1, ms=4, alpha=0.7, label=label)


def main(arguments: Sequence[str]) -> None:
    """Compare the optimizers of a study, and write the table and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="study folder with the factors optim and lr_scale")
    parser.add_argument("output", type=Path, help="folder for gaps.csv and gaps.png")
    parser.add_argument("--default-rates", type=Path, help="study folder of runs at lr_scale=1 on more seeds")
    options = parser.parse_args(arguments)
    groups = groups_of(options.study, options.default_rates)
    rows = compared(groups)
    files.write_csv(options.output / "gaps.csv", [field.name for field in fields(Row)], map(astuple, rows))
    plot(groups, rows, options.output / "gaps.png")
    print("\n".join(sentences(rows)))


if __name__ == "__main__":
    analysis.run(main)
