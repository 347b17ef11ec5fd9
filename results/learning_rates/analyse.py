"""How does the best learning rate grow with the batch?

`python -m results.learning_rates.analyse STUDY OUTPUT [--outcome val_loss]` reads a study of learning rates by batch
sizes and writes `grid.csv` (accuracy of each cell), `best_rates.csv`, `fits.csv` and `learning_rates.png` into OUTPUT.
Every combination of the other factors (such as the optimizer) is a series of its own.

- The best rate of a batch is the vertex of a parabola in the logarithm of the rate through the highest cell and its two
  neighbours. Where the highest cell is the lowest or the highest rate tried, the optimum lies at an edge: it is named
  and takes no part in the fits. A run that failed because its loss was not finite counts as guessing.
- Two laws are fitted to the logarithms of the best rates by least squares:
  `lr(B) = lr_max / (1 + B_noise / B)` (McCandlish et al. 2018, arXiv 1812.06162), which is linear far below B_noise and
  constant far above it, and `lr ~ B^p` with 0 <= p <= 1.
- Without any law, the best rate at the largest batch over that at the smallest is the growth between the two.
- Intervals (95 %) come from simulated repetitions of the study: noise of the seeds is added to each cell, and
  everything from the choice of the highest cell on is repeated. Its standard deviation is pooled over the three cells
  around the best rate of every batch, without what the seeds have in common within a batch. Where the best rates lie
  further from a law than this noise explains, the excess is added to each of them, with the uncertainty of a variance
  that few batches estimate: with little noise the interval of the exponent is that of a regression.
- Where runs have `gradient_noise.csv`, the noise scale at the best cells is noise / signal, each averaged over epochs
  and runs first, and is compared with B_noise.
"""

import argparse
import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass, fields
from pathlib import Path
from statistics import fmean

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from intel_scenes import files
from intel_scenes.errors import UserError
from intel_scenes.record import GradientNoise
from intel_scenes.studies.load import Run, load
from intel_scenes.studies.naming import label_of, value_of, varying
from results import analysis, plots

Array = npt.NDArray[np.float64]
OUTCOMES = ("val_accuracy", "val_loss", "test_accuracy")
OF_GRID = ("seed", "lr_scale", "optim.lr", "lr_scaling", "data.batch_size")  # keys that make a cell, not a series
NUM_DRAWS = 1000
NOISE_REACH = 100.0  # B_noise is searched from the smallest batch over this to the largest times this


@dataclass(frozen=True)
class Batch:
    """Cells of one batch size.

    Attributes:
        batch_size: Images per step.
        rates: (R,) learning rates in ascending order.
        values: (R, S) outcome of each seed, higher is better.
        cells: Runs of each rate; failed ones too.
    """

    batch_size: int
    rates: Array
    values: Array
    cells: tuple[tuple[Run, ...], ...]

    @property
    def means(self) -> Array:
        """(R,) means over seeds."""
        means: Array = self.values.mean(axis=1)
        return means

    @property
    def best(self) -> int:
        """Index of the highest cell."""
        return int(np.argmax(self.means))

    @property
    def edge(self) -> str:
        """`lowest` or `highest` where the best of the rates is at that edge of the grid, else empty."""
        if self.best == 0:
            return "lowest"
        return "highest" if self.best == len(self.rates) - 1 else ""


@dataclass(frozen=True)
class BestRate:
    """Row of `best_rates.csv`: the best rate of a batch; empty where unknown.

    Attributes:
        series: Values of the other factors.
        batch_size: Images per step.
        best_lr: Vertex of the parabola; the best rate tried where it is at an edge.
        low: Lower end of the 95 % interval.
        high: Its upper end.
        edge: `lowest` or `highest` where the best of the rates tried is at that edge.
        share_at_edge: Share of the simulated repetitions whose best rate is at an edge.
        best_tried: Best rate of the grid.
        outcome: Mean outcome at `best_tried`.
        num_seeds: Number of seeds.
        noise_scale: Gradient noise scale there, in images.
    """

    series: str
    batch_size: int
    best_lr: float
    low: float | None
    high: float | None
    edge: str
    share_at_edge: float | None
    best_tried: float
    outcome: float
    num_seeds: int
    noise_scale: float | None


@dataclass(frozen=True)
class Fit:
    """Row of `fits.csv`: a parameter of a law; empty where unknown.

    Attributes:
        series: Values of the other factors.
        law: `saturating`, `power`, `gradient noise` or `none`.
        parameter: `lr_max`, `B_noise`, `exponent`, `lr_at_1` (rate at a batch of one image), `noise_scale`,
            `B_noise / noise_scale` or `growth` (best rate at the largest batch over that at the smallest).
        value: Estimate.
        low: Lower end of the 95 % interval.
        high: Its upper end.
        at_bound: The estimate is at a bound of what is searched.
        num_batches: Batch sizes that are fitted.
        residual: Root mean square distance of the best rates from the law, as a factor (1 is a perfect fit).
    """

    series: str
    law: str
    parameter: str
    value: float
    low: float | None
    high: float | None
    at_bound: bool
    num_batches: int
    residual: float | None


@dataclass(frozen=True)
class Series:
    """Results of one combination of the other factors.

    Attributes:
        name: Its values; empty where nothing else varies.
        batches: Cells by batch size.
        best: Best rate of each batch.
        fits: Parameters of the laws.
    """

    name: str
    batches: tuple[Batch, ...]
    best: tuple[BestRate, ...]
    fits: tuple[Fit, ...]

    def value(self, parameter: str) -> float | None:
        """Return the estimate of a parameter; None where nothing could be fitted."""
        return next((fit.value for fit in self.fits if fit.parameter == parameter), None)


def vertices(rates: Array, means: Array) -> Array:
    """Return the logarithm of the rate at the vertex of the parabola through the highest mean and its neighbours.

    Args:
        rates: (R,) rates in ascending order.
        means: (D, R) means of D repetitions; where the highest is at an edge, the logarithm of its rate is returned.

    Returns:
        (D,) logarithms of the best rates.
    """
    logs = np.log(rates)
    highest = means.argmax(axis=1)
    around = np.clip(highest, 1, len(rates) - 2)[:, None] + np.arange(-1, 2)
    x, y = logs[around], np.take_along_axis(means, around, axis=1)
    slopes = np.diff(y) / np.diff(x)
    curvature = (slopes[:, 1] - slopes[:, 0]) / (x[:, 2] - x[:, 0])
    is_peak = (around[:, 1] == highest) & (curvature < 0)
    shift = np.divide(slopes[:, 0], 2 * curvature, out=np.zeros(len(means)), where=is_peak)
    best: Array = np.where(is_peak, (x[:, 0] + x[:, 1]) / 2 - shift, logs[highest])
    return best


def power_law(batch_sizes: Array, log_rates: Array) -> tuple[Array, Array]:
    """Fit `log lr = log lr_at_1 + p log B` by least squares under 0 <= p <= 1.

    Args:
        batch_sizes: (n,) batch sizes.
        log_rates: (D, n) logarithms of the best rates of D repetitions.

    Returns:
        (D,) log lr_at_1 and (D,) p.
    """
    x = np.log(batch_sizes)
    centred = x - x.mean()
    p = np.clip(log_rates @ centred / (centred @ centred), 0.0, 1.0)
    return log_rates.mean(axis=1) - p * x.mean(), p


def saturating_law(batch_sizes: Array, log_rates: Array) -> tuple[Array, Array]:
    """Fit `log lr = log lr_max - log(1 + B_noise / B)` by least squares.

    Args:
        batch_sizes: (n,) batch sizes.
        log_rates: (D, n) logarithms of the best rates of D repetitions.

    Returns:
        (D,) log lr_max and (D,) B_noise, from the bounds of `noise_bounds`.
    """
    noises = np.geomspace(*noise_bounds(batch_sizes), 601)  # steps of 2 to 3 %
    shapes = -np.log1p(noises[:, None] / batch_sizes)
    centred = shapes - shapes.mean(axis=1, keepdims=True)
    # The sum of squares, without the part that does not depend on B_noise.
    misfit = np.square(centred).sum(axis=1) - 2 * log_rates @ centred.T
    best = misfit.argmin(axis=1)
    return log_rates.mean(axis=1) - shapes.mean(axis=1)[best], noises[best]


def noise_bounds(batch_sizes: Array) -> tuple[float, float]:
    """Return between which B_noise is searched: at the bounds the law is constant, or linear in the batch."""
    return float(batch_sizes.min()) / NOISE_REACH, float(batch_sizes.max()) * NOISE_REACH


def series_of(study: Path, outcome: str = "val_accuracy", *, seed: int = 0) -> list[Series]:
    """Return the best rates and the fits of each series of a study.

    Args:
        study: Study folder.
        outcome: One of `OUTCOMES`, by which rates are chosen.
        seed: Seed of the simulated repetitions.

    Raises:
        UserError: The study has fewer than three learning rates at a batch size, or cells without a common seed.
    """
    records = load(study)
    runs = [*records.runs, *(run for run in records.failed if "not finite" in (run.summary.error or ""))]
    others = [key for key in varying(runs) if key not in OF_GRID]
    by_name: dict[str, list[Run]] = {}
    for run in runs:
        name = label_of({key: value_of(run, key) for key in others}, others) if others else ""
        by_name.setdefault(name, []).append(run)
    return [analysed(name, _batches(of_name, outcome), seed=seed) for name, of_name in sorted(by_name.items())]


def _batches(runs: Sequence[Run], outcome: str) -> tuple[Batch, ...]:
    """Return the cells by batch size, over the seeds that all cells of a batch have."""
    by_batch: dict[int, dict[float, dict[int, Run]]] = {}
    for run in runs:
        of_batch = by_batch.setdefault(run.summary.batch_size or 0, {})
        of_batch.setdefault(run.summary.lr or 0.0, {})[run.summary.seed or 0] = run
    batches = []
    for batch_size, by_rate in sorted(by_batch.items()):
        rates = sorted(by_rate)
        seeds = sorted(set.intersection(*(set(by_rate[rate]) for rate in rates)))
        if len(rates) < 3 or not seeds:
            raise UserError(
                f"batch size {batch_size} has {len(rates)} learning rates with {len(seeds)} seeds that all have:"
                " train three rates at least, with the same seeds"
            )
        cells = tuple(tuple(by_rate[rate][seed] for seed in seeds) for rate in rates)
        values = np.array([[_outcome(run, outcome) for run in cell] for cell in cells])
        batches.append(Batch(batch_size, np.array(rates), values, cells))
    return tuple(batches)


def _outcome(run: Run, key: str) -> float:
    """Return the outcome of a run, higher is better; that of guessing where it failed."""
    num_classes = len(run.summary.classes or ()) or 6
    if key == "val_loss":
        loss = run.summary.val_loss if run.is_completed else None
        return -(math.log(num_classes) if loss is None else loss)
    return float(getattr(run.summary, key)) if run.is_completed else 1 / num_classes


def analysed(name: str, batches: Sequence[Batch], *, seed: int = 0) -> Series:
    """Return the best rates of the batches of a series, and the laws fitted to those that lie inside the grid.

    Args:
        name: Values of the other factors.
        batches: By batch size.
        seed: Seed of the simulated repetitions.
    """
    rng = np.random.default_rng(seed)
    draws = _repetitions(batches, rng)
    log_best = np.array([vertices(batch.rates, batch.means[None])[0] for batch in batches])
    best, noises = [], []
    for index, batch in enumerate(batches):
        signal_and_noise = gradient_noise(batch.cells[batch.best])
        noises += signal_and_noise
        low, high, share = (None, None, None) if draws is None else _summary(draws[:, index], batch.rates)
        best.append(
            BestRate(
                name,
                batch.batch_size,
                float(np.exp(log_best[index])),
                low,
                high,
                batch.edge,
                share,
                float(batch.rates[batch.best]),
                float(batch.means[batch.best]),
                batch.values.shape[1],
                noise_scale(signal_and_noise),
            )
        )
    inside = [index for index, batch in enumerate(batches) if not batch.edge]
    fits: list[Fit] = []
    if len(inside) > 1:
        sizes = np.array([batches[index].batch_size for index in inside], float)
        of_fits = draws[:, inside] if draws is not None else None
        fits = _fits(name, sizes, log_best[inside], of_fits, noises, rng)
    return Series(name, tuple(batches), tuple(best), tuple(fits))


def _repetitions(batches: Sequence[Batch], rng: np.random.Generator) -> Array | None:
    """Return (D, batches) logarithms of the best rates of simulated repetitions; None with one seed."""
    squares, degrees = 0.0, 0
    for batch in batches:
        middle = min(max(batch.best, 1), len(batch.rates) - 2)
        around = batch.values[middle - 1 : middle + 2]
        residuals = around - around.mean(axis=1, keepdims=True) - around.mean(axis=0) + around.mean()
        squares += float(np.square(residuals).sum())
        degrees += 2 * (around.shape[1] - 1)
    if degrees == 0:
        return None
    # The standard deviation is itself an estimate, from so few degrees of freedom.
    deviations = np.sqrt(squares / rng.chisquare(degrees, NUM_DRAWS))
    columns = []
    for batch in batches:
        scale = deviations[:, None] / math.sqrt(batch.values.shape[1])
        means = batch.means + scale * rng.standard_normal((NUM_DRAWS, len(batch.rates)))
        columns.append(vertices(batch.rates, means))
    return np.stack(columns, axis=1)


def _summary(log_rates: Array, rates: Array) -> tuple[float, float, float]:
    """Return the 95 % interval of the best rate, and the share of repetitions at an edge of the grid."""
    low, high = np.exp(np.quantile(log_rates, (0.025, 0.975)))
    at_edge = np.isclose(log_rates[:, None], np.log(rates[[0, -1]])).any(axis=1)
    return float(low), float(high), float(at_edge.mean())


def _fits(
    name: str,
    sizes: Array,
    log_best: Array,
    draws: Array | None,
    noises: Sequence[tuple[float, float]],
    rng: np.random.Generator,
) -> list[Fit]:
    low, high = (None, None) if draws is None else _interval(np.exp(draws[:, -1] - draws[:, 0]))
    growth = float(np.exp(log_best[-1] - log_best[0]))
    fits = [Fit(name, "none", "growth", growth, low, high, False, len(sizes), None)]
    bounds = noise_bounds(sizes)
    repeated = {}
    for law, fit, names, limits in (
        ("power", power_law, ("lr_at_1", "exponent"), (0.0, 1.0)),
        ("saturating", saturating_law, ("lr_max", "B_noise"), bounds),
    ):
        log_scale, shape = fit(sizes, log_best[None])
        residuals = log_best - _predicted(law, sizes, float(log_scale[0]), float(shape[0]))
        spread = float(np.sqrt(np.square(residuals).mean()))
        intervals: list[tuple[float | None, float | None]] = [(None, None)] * 2
        if draws is not None:
            # Few best rates say little of their scatter, which is an estimate itself: hence the chi-squared numbers.
            scatter = float(np.square(residuals).sum()) / rng.chisquare(max(len(sizes) - 2, 1), len(draws))
            excess = np.maximum(0.0, scatter - draws.var(axis=0).mean())
            moved = draws + np.sqrt(excess)[:, None] * rng.standard_normal(draws.shape)
            log_scales, repeated[law] = fit(sizes, moved)
            intervals = [_interval(np.exp(log_scales)), _interval(repeated[law])]
        is_at_bound = bool(np.isclose(float(shape[0]), limits).any())
        values = float(np.exp(log_scale[0])), float(shape[0])
        fits += [
            Fit(name, law, parameter, value, *interval, is_at_bound, len(sizes), math.exp(spread))
            for parameter, value, interval in zip(names, values, intervals, strict=True)
        ]
    return fits + _noise_fits(name, noises, fits[-1], repeated.get("saturating"), rng)


def _predicted(law: str, sizes: Array, log_scale: float, shape: float) -> Array:
    """Return (n,) logarithms of the rates that a law gives."""
    predicted: Array = log_scale + (shape * np.log(sizes) if law == "power" else -np.log1p(shape / sizes))
    return predicted


def _interval(values: Array) -> tuple[float, float]:
    low, high = np.quantile(values, (0.025, 0.975))
    return float(low), float(high)


def _noise_fits(
    name: str, noises: Sequence[tuple[float, float]], fitted: Fit, repeated: Array | None, rng: np.random.Generator
) -> list[Fit]:
    """Return the measured noise scale, resampled over runs, and the ratio of the fitted B_noise to it."""
    measured = noise_scale(noises)
    if measured is None:
        return []
    table = np.array(noises)
    resampled = table[rng.integers(len(table), size=(NUM_DRAWS, len(table)))].mean(axis=1)
    scales = resampled[:, 1] / np.where(resampled[:, 0] > 0, resampled[:, 0], np.nan)
    of_scale = None if np.isnan(scales).any() else scales
    ratio = None if repeated is None or of_scale is None else repeated / of_scale
    fits = []
    for parameter, value, draws, at_bound in (
        ("noise_scale", measured, of_scale, False),
        ("B_noise / noise_scale", fitted.value / measured, ratio, fitted.at_bound),
    ):
        low, high = (None, None) if draws is None else _interval(draws)
        fits.append(Fit(name, "gradient noise", parameter, value, low, high, at_bound, fitted.num_batches, None))
    return fits


def gradient_noise(runs: Iterable[Run]) -> list[tuple[float, float]]:
    """Return the signal and the noise of each run that has `gradient_noise.csv`, averaged over its epochs."""
    measured = [epochs for run in runs if (epochs := GradientNoise.read(run.folder).epochs)]
    return [(fmean(row.signal for row in epochs), fmean(row.noise for row in epochs)) for epochs in measured]


def noise_scale(values: Sequence[tuple[float, float]]) -> float | None:
    """Return the noise over the signal, averaged first; None without a positive signal."""
    signal, noise = np.mean(values, axis=0) if values else (0.0, 0.0)
    return float(noise / signal) if signal > 0 else None


def sentences(all_series: Sequence[Series]) -> list[str]:
    """Return the best rates and the fits in words."""
    texts = []
    for series in all_series:
        start = f"{series.name}: " * bool(series.name)
        for best in series.best:
            place = f", at the {best.edge} rate tried, so not fitted" if best.edge else ""
            texts.append(f"{start}batch {best.batch_size}: best rate {best.best_lr:.3g}{_between(best)}{place}")
        if not series.fits:
            texts.append(f"{start}nothing is fitted: fewer than two batches have their best rate inside the grid")
        for fit in series.fits:
            bound = ", a bound of what is searched" if fit.at_bound else ""
            texts.append(f"{start}{fit.law}, {fit.parameter}: {plots.three_digits(fit.value)}{_between(fit)}{bound}")
    return texts


def _between(row: BestRate | Fit) -> str:
    if row.low is None or row.high is None:
        return ""
    return f" ({plots.three_digits(row.low)} to {plots.three_digits(row.high)})"


def plot(all_series: Sequence[Series], outcome: str, path: Path) -> None:
    """Draw the outcome by rate for each batch, and the best rate by batch with both laws."""
    figure = plots.figure_of(3.3 * len(all_series))
    for (left, right), series in zip(figure.subplots(len(all_series), 2, squeeze=False), all_series, strict=True):
        _plot_grid(left, series, outcome)
        _plot_best(right, series)
    plots.save(figure, path)


def _plot_grid(axes: Axes, series: Series, outcome: str) -> None:
    scale, unit = (-1, "nats") if outcome == "val_loss" else (100, "%")
    highest = max(batch.means.max() for batch in series.batches)
    lowest = min(np.median(batch.means) for batch in series.batches)
    for number, batch in enumerate(series.batches):
        color = _color(number, len(series.batches))
        axes.plot(batch.rates, scale * batch.means, ".-", color=color, lw=1.2, label=f"{batch.batch_size}")
        fill = "none" if batch.edge else "full"
        axes.plot(batch.rates[batch.best], scale * batch.means[batch.best], "o", color=color, ms=7, fillstyle=fill)
    margin = 0.3 * (highest - lowest)
    axes.set_ylim(*sorted((scale * (lowest - margin), scale * (highest + margin))))
    axes.set_xscale("log")
    words = f"{outcome.replace('val', 'validation').replace('_', ' ')} ({unit})"
    plots.style(axes, f"{series.name}: " * bool(series.name) + "by learning rate", "learning rate", words)
    axes.legend(
        **{"frameon": False, "fontsize": 8, "title": "batch size", "title_fontsize": 8},
        **{"loc": "upper center", "bbox_to_anchor": (0.5, -0.2), "ncols": len(series.batches), "columnspacing": 1},
    )


def _color(number: int, num: int) -> tuple[float, float, float]:
    """Return a shade from light to dark blue, because batch sizes are ordered."""
    share = number / max(num - 1, 1)
    return (0.55 * (1 - share), 0.75 - 0.55 * share, 0.95 - 0.4 * share)


def _plot_best(axes: Axes, series: Series) -> None:
    for best in series.best:
        error = None
        if best.low is not None and best.high is not None:
            error = [[max(0.0, best.best_lr - best.low)], [max(0.0, best.high - best.best_lr)]]
        fill = "none" if best.edge else "full"
        axes.errorbar(best.batch_size, best.best_lr, yerr=error, fmt="o", color="black", ms=5, fillstyle=fill)
    sizes = np.geomspace(series.batches[0].batch_size, series.batches[-1].batch_size, 100)
    for law, scale, shape, color, label in (
        ("saturating", "lr_max", "B_noise", plots.COLORS[0], "lr_max / (1 + B_noise/B), B_noise = {}"),
        ("power", "lr_at_1", "exponent", plots.COLORS[1], "B to the power {}"),
    ):
        values = series.value(scale), series.value(shape)
        if values[0] is not None and values[1] is not None:
            curve = np.exp(_predicted(law, sizes, math.log(values[0]), values[1]))
            axes.plot(sizes, curve, color=color, lw=1.2, label=label.format(plots.three_digits(values[1])))
    if measured := series.value("noise_scale"):
        axes.axvline(
            measured,
            color=plots.COLORS[2],
            ls="--",
            lw=1.2,
            label=f"gradient noise scale {plots.three_digits(measured)}",
        )
    if any(best.edge for best in series.best):
        axes.plot([], [], "o", color="black", ms=5, fillstyle="none", label="at an edge of the grid, not fitted")
    axes.set_xscale("log")
    axes.set_yscale("log")
    plots.log_ticks(axes.xaxis, [batch.batch_size for batch in series.batches])
    plots.style(axes, "best rate by batch", "batch size (images)", "best learning rate, 95 % interval")
    if axes.get_legend_handles_labels()[1]:
        axes.legend(frameon=False, fontsize=8, loc="upper center", bbox_to_anchor=(0.5, -0.2))


GRID_COLUMNS = ("series", "batch_size", "lr", "num_seeds", "mean", "sd", "num_failed")


def grid_rows(all_series: Sequence[Series], outcome: str) -> list[Sequence[object]]:
    """Return the rows of `grid.csv`: mean and standard deviation over seeds of each cell, and how many runs failed."""
    sign = -1 if outcome == "val_loss" else 1
    return [
        (
            *(series.name, batch.batch_size, float(rate), len(values), sign * float(values.mean())),
            float(values.std(ddof=1)) if len(values) > 1 else None,
            sum(not run.is_completed for run in cell),
        )
        for series, batch in itertools.chain(*([(series, batch) for batch in series.batches] for series in all_series))
        for rate, values, cell in zip(batch.rates, batch.values, batch.cells, strict=True)
    ]


def main(arguments: Sequence[str]) -> None:
    """Find the best rates of a study, fit the laws, and write the tables and the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("study", type=Path, help="study folder with learning rates and batch sizes")
    parser.add_argument("output", type=Path, help="folder for the tables and the picture")
    parser.add_argument("--outcome", choices=OUTCOMES, default=OUTCOMES[0], help="what chooses the best rate")
    options = parser.parse_args(arguments)
    all_series = series_of(options.study, options.outcome)
    tables: Mapping[str, tuple[Sequence[str], list[Sequence[object]]]] = {
        "grid": (GRID_COLUMNS, grid_rows(all_series, options.outcome)),
        "best_rates": (_names(BestRate), [astuple(row) for series in all_series for row in series.best]),
        "fits": (_names(Fit), [astuple(row) for series in all_series for row in series.fits]),
    }
    for name, (columns, rows) in tables.items():
        files.write_csv(options.output / f"{name}.csv", columns, rows)
    plot(all_series, options.outcome, options.output / "learning_rates.png")
    print("\n".join(sentences(all_series)))


def _names(row: type[BestRate] | type[Fit]) -> list[str]:
    return [field.name for field in fields(row)]


if __name__ == "__main__":
    analysis.run(main)
