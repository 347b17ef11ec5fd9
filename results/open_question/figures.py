"""Two figures: what a schedule leaves above the optimum at each batch size, and what decay gains."""

import math
from collections.abc import Iterable, Sequence
from pathlib import Path

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator

from results.open_question.cells import DECAYED, Study, Tuned, gain_estimate, windows
from results.open_question.intervals import Estimate, mean
from results.open_question.optimum import RESOLUTION
from results.open_question.runs import CONSTANT, GROWING

NAMES = {"sgd_plain": "SGD", "sgd": "SGD with momentum", "adam": "Adam", "sign": "sign of the momentum"}
LINES = {
    CONSTANT: ("constant rate", "#444444", "o"),
    "linear": ("linear to 0", "#0072b2", "s"),
    "wsd": ("20 % cooldown", "#56b4e9", "^"),
    "averaging": ("constant, averaged weights", "#009e73", "D"),
    GROWING: ("growing batch", "#d55e00", "v"),
}


def excess_figure(study: Study, path: Path) -> None:
    """Draw the excess loss against the batch size, one panel for each optimizer; white marks have one seed only."""
    figure = Figure(figsize=(8, 6.5), layout="constrained")
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, (optimizer, name) in zip(panels, NAMES.items(), strict=True):
        for schedule, (label, color, marker) in LINES.items():
            _draw_excess(axes, study, _line(study, optimizer, schedule), label, color, marker)
        axes.set(title=name, xscale="log", yscale="log")
        axes.set_ylabel("training loss above the optimum")
        _mark_batches(axes, study)
        axes.label_outer()
    _finish(figure, 3, path)


def decay_figure(study: Study, path: Path) -> None:
    """Draw D of the better decayed schedule against the batch size, and against the batch over the noise scale."""
    figure = Figure(figsize=(8, 3.6), layout="constrained")
    by_batch, by_scale = figure.subplots(1, 2, sharey=True)
    by_batch.set_yscale("symlog", linthresh=1e-4)
    for number, (optimizer, name) in enumerate(NAMES.items()):
        cells = [(one, gain_estimate(one, decayed)) for one, decayed in _decayed(study, optimizer)]
        batches = [(float(one.cell.batch_size), value) for one, value in cells]
        scales = [(one.cell.batch_size / one.noise_scale, value) for one, value in cells if one.noise_scale]
        for axes, points in ((by_batch, batches), (by_scale, sorted(scales, key=lambda point: point[0]))):
            _draw(axes, points, f"C{number}", "o", name)
    for axes in (by_batch, by_scale):
        axes.set_xscale("log" if axes.lines else "linear")  # the noise scale may not have been measured
        axes.axhline(0, color="#999999", linewidth=0.8)
    _mark_batches(by_batch, study)
    by_scale.set_xlabel("images per batch / gradient noise scale")
    by_batch.set_ylabel("D: training loss that decay saves")
    _finish(figure, 4, path)


def _mark_batches(axes: Axes, study: Study) -> None:
    cells = {one.cell.batch_size: one.cell for one in study.constant("training", study.main, regime="samples")}
    labels = ["all" if cell.is_full else f"{size:,}" for size, cell in cells.items()]
    axes.set_xticks(list(cells), labels=labels)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.set_xlabel("images per batch")


def _finish(figure: Figure, ncols: int, path: Path) -> None:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        shown, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, shown, strict=True))
    figure.legend(list(handles.values()), list(handles), loc="outside lower center", ncols=ncols, frameon=False)
    figure.savefig(path, dpi=150, metadata={"Software": None})  # no version, so that equal figures are equal files


def _line(study: Study, optimizer: str, schedule: str) -> list[Tuned]:
    constants = study.constant("training", study.main, optimizer=optimizer, regime="samples")
    if schedule == "averaging":
        averages = [windows(study, one) for one in constants]
        return [min(one, key=lambda averaged: averaged.screened) for one in averages if one]
    return [found for one in constants if (found := study.under(one, schedule))]


def _decayed(study: Study, optimizer: str) -> list[tuple[Tuned, Tuned]]:
    constants = study.constant("training", study.main, optimizer=optimizer, regime="samples")
    return [(one, decayed) for one in constants if (decayed := study.under(one, *DECAYED))]


def _draw_excess(axes: Axes, study: Study, cells: Iterable[Tuned], label: str, color: str, marker: str) -> None:
    """Draw means and intervals of the logarithm, so that no interval reaches below 0."""
    points, open_points = [], []
    for tuned in cells:
        optimum = study.optima[tuned.cell.problem].value
        excesses = study.excess(tuned)
        logs = [math.log(max(one, RESOLUTION)) for one in excesses.values()]
        screened = max(tuned.first.objective - optimum, RESOLUTION)
        log = mean(logs or [math.log(screened)])
        points.append((float(tuned.cell.batch_size), _exponential(log)))
        if not logs:
            open_points.append((float(tuned.cell.batch_size), screened))
    _draw(axes, points, color, marker, label)
    if open_points:
        axes.plot(*zip(*open_points, strict=True), marker, color=color, markerfacecolor="white")


def _exponential(log: Estimate) -> Estimate:
    return Estimate(math.exp(log.value), math.exp(log.low), math.exp(min(log.high, 700.0)), log.num)


def _draw(axes: Axes, points: Sequence[tuple[float, Estimate]], color: str, marker: str, label: str) -> None:
    """Draw estimates with their intervals where they have one."""
    if not points:
        return
    places, estimates = [place for place, _ in points], [estimate for _, estimate in points]
    values = [one.value for one in estimates]
    axes.plot(places, values, marker=marker, color=color, label=label, linewidth=1.2, markersize=4.5)
    for place, one in points:
        if one.num > 1:
            axes.plot([place, place], [one.low, one.high], color=color, linewidth=1)
