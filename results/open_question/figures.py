"""Two figures: what each schedule leaves above the optimum, and which share of it decay removes."""

import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from results import plots
from results.open_question.cells import DECAYED, Study, Tuned, gain, gain_estimate, windows
from results.open_question.claims import batch_label
from results.open_question.intervals import Estimate, mean, ratio
from results.open_question.optimum import RESOLUTION
from results.open_question.runs import CONSTANT, GROWING, SAMPLES_PASSES

NAMES = {"sgd_plain": "SGD", "sgd": "SGD with momentum", "adam": "Adam", "sign": "sign of the momentum"}
LINES = {
    CONSTANT: ("constant rate", "#444444", "o"),
    "linear": ("linear to 0", "#0072b2", "s"),
    "wsd": ("20 % cooldown", "#56b4e9", "^"),
    "averaging": ("constant, averaged weights", "#009e73", "D"),
    GROWING: ("growing batch", "#d55e00", "v"),
}
REGIMES: Mapping[str, Mapping[str, object]] = {
    f"{SAMPLES_PASSES} passes over the images": {"regime": "samples"},
    "about 2,000 steps": {"has_equal_steps": True},
}
GAP = 0.7  # between the regimes, in distances of batch sizes
SHIFT = 0.07  # between the lines, so that their intervals stand beside each other
LOWEST_SHARE = -150.0  # percent; decay can do any harm to a training that still descends


class Point(NamedTuple):
    """The value of a cell in a figure, and whether it rests on fresh seeds."""

    value: Estimate
    is_confirmed: bool


def excess_figure(study: Study, path: Path) -> None:
    """Draw the excess loss by batch size under each schedule, one panel for each optimizer."""
    figure = plots.figure_of(6.0)
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, (optimizer, name) in zip(panels, NAMES.items(), strict=True):
        axes.set_yscale("log")
        for number, (schedule, look) in enumerate(LINES.items()):

            def excess(constant: Tuned, schedule: str = schedule) -> Point | None:
                return _excess(study, _under(study, constant, schedule))

            _draw(axes, study, optimizer, excess, look, SHIFT * (number - 2))
        plots.style(axes, "", "", "training loss\nabove its minimum")
        axes.set_title(name, fontsize=10, loc="left", pad=16)  # above the names of the regimes
        _mark_batches(axes, study)
        axes.label_outer()
    _finish(figure, 3, path)


def decay_figure(study: Study, path: Path) -> None:
    """Draw D of the better decayed schedule, as a share of the excess at the best constant rate, by batch size."""
    figure = plots.figure_of(3.6)
    axes = figure.subplots()
    axes.axhline(0, color="#999999", linewidth=0.8)
    for number, (optimizer, name) in enumerate(NAMES.items()):
        look = (name, plots.COLORS[number], "osD^"[number])
        _draw(axes, study, optimizer, lambda constant: _share(study, constant), look, SHIFT * (number - 1.5))
    plots.style(axes, "", "", "excess loss that decay removes (%)")
    if axes.get_ylim()[0] < LOWEST_SHARE:
        axes.set_ylim(bottom=LOWEST_SHARE)
    axes.set_ylim(top=105)
    _mark_batches(axes, study)
    _finish(figure, 4, path)


def _places(study: Study) -> dict[str, dict[int, tuple[float, str]]]:
    """Return by regime and batch size the place on the axis, and its label: the batch size, below it the steps."""
    places: dict[str, dict[int, tuple[float, str]]] = {}
    start = 0.0
    for regime, fixed in REGIMES.items():
        cells = {one.cell.batch_size: one.cell for one in study.constant("training", study.main, **fixed)}
        places[regime] = {
            size: (start + number, f"{batch_label(size, cells[size].num_train)}\n{cells[size].steps:,}")
            for number, size in enumerate(sorted(cells))
        }
        start += len(cells) + GAP
    return places


def _draw(
    axes: Axes,
    study: Study,
    optimizer: str,
    point_of: Callable[[Tuned], Point | None],
    look: tuple[str, str, str],
    shift: float,
) -> None:
    """Draw a line for each regime; hollow marks rest on the seed that chose the rate."""
    label, color, marker = look
    for regime, by_size in _places(study).items():
        cells = study.constant("training", study.main, optimizer=optimizer, **REGIMES[regime])
        points = {by_size[one.cell.batch_size][0] + shift: point for one in cells if (point := point_of(one))}
        places = sorted(points)
        axes.plot(places, [points[place].value.value for place in places], color=color, lw=1.2)
        for place, (value, is_confirmed) in points.items():
            axes.plot(place, value.value, marker, color=color, mfc=color if is_confirmed else "white", ms=4.5)
            if value.num > 1:
                axes.plot([place] * 2, [value.low, value.high], color=color, lw=1)
        if points:
            axes.plot([], [], marker, color=color, ls="-", lw=1.2, ms=4.5, label=label)


def _under(study: Study, constant: Tuned, schedule: str) -> Tuned | None:
    if schedule == "averaging":
        return min(windows(study, constant), key=lambda one: one.screened, default=None)
    return study.under(constant, schedule)


def _excess(study: Study, tuned: Tuned | None) -> Point | None:
    """Return the mean of the excess over seeds with its interval, of the logarithm, so that none reaches below 0."""
    if tuned is None:
        return None
    screened = tuned.first.objective - study.optima[tuned.cell.problem].value
    fresh = list(study.excess(tuned).values())
    log = mean([math.log(max(one, RESOLUTION)) for one in fresh or [screened]])
    low, value, high = (math.exp(min(one, 700.0)) for one in (log.low, log.value, log.high))
    return Point(Estimate(value, low, high, log.num), bool(fresh))


def _share(study: Study, constant: Tuned) -> Point | None:
    """Return D as a share of the excess at the constant rate, in percent."""
    decayed = study.under(constant, *DECAYED)
    if decayed is None:
        return None
    by_seed = gain(constant, decayed)
    if by_seed:
        share = ratio(by_seed, study.excess(constant))
    else:
        screened = constant.first.objective - study.optima[constant.cell.problem].value
        share = Estimate(gain_estimate(constant, decayed).value / screened, -math.inf, math.inf, 0)
    percent = Estimate(100 * share.value, 100 * share.low, 100 * share.high, share.num)
    return Point(percent, bool(by_seed))


def _mark_batches(axes: Axes, study: Study) -> None:
    places = _places(study)
    marks = [mark for by_size in places.values() for mark in by_size.values()]
    axes.set_xticks([place for place, _ in marks], labels=[label for _, label in marks], fontsize=8)
    for regime, by_size in places.items():
        if by_size:
            ends = [place for place, _ in by_size.values()]
            axes.annotate(
                regime,
                (sum(ends) / len(ends), 1.0),
                xycoords=("data", "axes fraction"),
                ha="center",
                va="bottom",
                fontsize=8,
                color="#666666",
            )
    axes.set_xlabel("images per batch, below: steps", fontsize=9)


def _finish(figure: Figure, ncols: int, path: Path) -> None:
    handles: dict[str, Artist] = {}
    for axes in figure.axes:
        shown, labels = axes.get_legend_handles_labels()
        handles |= dict(zip(labels, shown, strict=True))
    figure.legend(
        list(handles.values()), list(handles), loc="outside lower center", ncols=ncols, frameon=False, fontsize=9
    )
    plots.save(figure, path)
