"""Two figures from the tables of an analysis: `python -m results.open_question.figures FOLDER`.

Reads `cells.csv` and `decay.csv` of a folder and writes into it `excess.png`, what each schedule leaves above the
minimum of the training loss by batch size, and `decay.png`, the share of it that linear decay removes.
"""

import argparse
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from results import analysis, plots
from results.open_question.runs import AVERAGING, CONSTANT, GROWING, LEAST_STEPS, MOST_STEPS, SAMPLES_PASSES

NAMES = {"sgd_plain": "SGD", "sgd": "SGD with momentum", "adam": "Adam", "sign": "sign of the momentum"}
LINES = {
    CONSTANT: ("constant rate", "#444444", "o"),
    "linear": ("linear to 0", "#0072b2", "s"),
    "wsd": ("20 % cooldown", "#56b4e9", "^"),
    AVERAGING: ("constant, averaged weights", "#009e73", "D"),
    GROWING: ("growing batch", "#d55e00", "v"),
}
REGIMES = (f"{SAMPLES_PASSES} passes over the images", "about 2,000 steps")
GAP = 0.7  # between the regimes, in distances of batch sizes
SHIFT = 0.07  # between the lines, so that their intervals stand beside each other
LOWEST_EXCESS = 5e-5
LOWEST_SHARE = -1.5  # decay can do any harm to a training that still descends

Row = Mapping[str, str]
Place = tuple[str, str]  # regime, batch size in words
Axis = Mapping[Place, tuple[float, str]]  # position and label


class Mark(NamedTuple):
    """A value, its interval (None without one), and whether fresh seeds gave it."""

    value: float
    interval: tuple[float, float] | None
    is_confirmed: bool


def draw(folder: Path) -> None:
    """Draw both figures; none where no cell has a minimum to compare with."""
    cells = [row for row in analysis.read_table(folder / "cells.csv") if row["screened_excess"]]
    if not cells:
        return
    ((main, _),) = Counter(row["problem"] for row in cells).most_common(1)
    cells = [row for row in cells if row["problem"] == main]
    decay = [
        row
        for row in analysis.read_table(folder / "decay.csv")
        if row["problem"] == main and row["outcome"] == "training"
    ]
    axis = _axis(cells)
    _draw_excess(cells, axis, folder / "excess.png")
    _draw_shares([row for row in decay if row["schedule"] == "linear"], axis, folder / "decay.png")


def _places(row: Row) -> list[Place]:
    """Return the places of a cell: one of 20 passes and 2,000 steps has two."""
    are_met = int(row["passes"]) == SAMPLES_PASSES, LEAST_STEPS <= int(row["steps"]) <= MOST_STEPS
    return [(regime, row["batch"]) for regime, is_met in zip(REGIMES, are_met, strict=True) if is_met]


def _axis(cells: Iterable[Row]) -> Axis:
    """Return the position of each place on the axis, and its label: the batch size, below it the steps."""
    steps = {place: int(row["steps"]) for row in cells if row["schedule"] == CONSTANT for place in _places(row)}
    axis: dict[Place, tuple[float, str]] = {}
    start = 0.0
    for regime in REGIMES:
        of_regime = sorted((place for place in steps if place[0] == regime), key=lambda place: _size(place[1]))
        for number, place in enumerate(of_regime):
            axis[place] = start + number, f"{place[1]}\n{steps[place]:,}"
        start += len(of_regime) + GAP
    return axis


def _size(batch: str) -> float:
    return math.inf if batch == "full" else int(batch)


def _draw_excess(cells: Sequence[Row], axis: Axis, path: Path) -> None:
    """Draw the excess loss by batch size under each schedule, one panel for each optimizer."""
    figure = plots.figure_of(6.0)
    panels = figure.subplots(2, 2, sharex=True, sharey=True).flat
    for axes, (optimizer, name) in zip(panels, NAMES.items(), strict=True):
        axes.set_yscale("log")
        for number, (schedule, look) in enumerate(LINES.items()):
            own = [row for row in cells if row["optimizer"] == optimizer]
            _draw_line(axes, marks_of(own, schedule), axis, look, SHIFT * (number - 2))
        plots.style(axes, "", "", "training loss\nabove its minimum")
        axes.set_title(name, fontsize=10, loc="left", pad=16)  # above the names of the regimes
        axes.set_ylim(bottom=LOWEST_EXCESS)
        _mark_batches(axes, axis)
        axes.label_outer()
    _finish(figure, 3, path)


def _draw_shares(decay: Sequence[Row], axis: Axis, path: Path) -> None:
    """Draw D of linear decay as a share of the excess at the best constant rate, by batch size."""
    figure = plots.figure_of(3.6)
    axes = figure.subplots()
    axes.axhline(0, color="#999999", linewidth=0.8)
    for number, (optimizer, name) in enumerate(NAMES.items()):
        marks = {
            place: _mark(row["share_of_excess"], row["share_low"], row["share_high"])
            for row in decay
            if row["optimizer"] == optimizer and row["share_of_excess"]
            for place in _places(row)
        }
        _draw_line(axes, marks, axis, (name, plots.COLORS[number], "osD^"[number]), SHIFT * (number - 1.5))
    plots.style(axes, "", "", "excess loss that decay removes (%)")
    axes.set_ylim(max(axes.get_ylim()[0], LOWEST_SHARE), 1.05)
    axes.yaxis.set_major_formatter(PercentFormatter(1, symbol=""))
    _mark_batches(axes, axis)
    _finish(figure, 4, path)


def marks_of(cells: Sequence[Row], schedule: str) -> dict[Place, Mark]:
    """Return the excess of the cells of one optimizer under a schedule; of averages, the best window by screening."""
    of_line = [row for row in cells if schedule in (row["schedule"], row["schedule"].rpartition(" ")[0])]
    of_line.sort(key=lambda row: float(row["screened_excess"]), reverse=True)
    return {place: _excess(row) for row in of_line for place in _places(row)}


def _excess(row: Row) -> Mark:
    value, is_confirmed = row["excess"] or row["screened_excess"], bool(row["excess"])
    return _mark(value, row["excess_low"], row["excess_high"], is_confirmed)


def _mark(value: str, low: str, high: str, is_confirmed: bool = True) -> Mark:
    return Mark(float(value), (float(low), float(high)) if low and high else None, is_confirmed)


def _draw_line(axes: Axes, marks: Mapping[Place, Mark], axis: Axis, look: tuple[str, str, str], shift: float) -> None:
    """Draw the marks of a line, joined within each regime; hollow marks rest on the seed that chose the rate."""
    label, color, marker = look
    for regime in REGIMES:
        of_regime = sorted((axis[place][0] + shift, mark) for place, mark in marks.items() if place[0] == regime)
        axes.plot([x for x, _ in of_regime], [mark.value for _, mark in of_regime], color=color, lw=1.2)
        for x, mark in of_regime:
            axes.plot(x, mark.value, marker, color=color, mfc=color if mark.is_confirmed else "white", ms=4.5)
            if mark.interval:
                axes.vlines(x, *mark.interval, color=color, lw=1)
    if marks:
        axes.plot([], [], marker, color=color, ls="-", lw=1.2, ms=4.5, label=label)


def _mark_batches(axes: Axes, axis: Axis) -> None:
    axes.set_xticks([x for x, _ in axis.values()], labels=[label for _, label in axis.values()], fontsize=8)
    for regime in REGIMES:
        if positions := [x for place, (x, _) in axis.items() if place[0] == regime]:
            middle, above = sum(positions) / len(positions), axes.get_xaxis_transform()
            axes.text(middle, 1.0, regime, transform=above, ha="center", va="bottom", fontsize=8, color="#666666")
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


def main(arguments: Sequence[str]) -> None:
    """Draw the figures of a folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with cells.csv and decay.csv")
    draw(parser.parse_args(arguments).folder)


if __name__ == "__main__":
    analysis.run(main)
