"""Accuracy of backbones by what they cost: `python -m results.backbones.figure RESULTS_CSV FILE.png`.

Draws each run on the fresh seeds that confirm a choice, or each run where there are none, and the mean over seeds at
the median cost: validation and test accuracy by parameters or, with `--costs MEANS_CSV`, test accuracy with its
interval of that table by minutes, parameters and images a second.
"""

import argparse
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean, median
from typing import NamedTuple

from intel_scenes.sweeps.confirmation import FIRST_SEED
from results import analysis, plots

Record = dict[str, str]


class Panel(NamedTuple):
    """A panel: its title, the column of the accuracy, and what it is drawn by."""

    title: str
    accuracy: str
    cost: str
    cost_of: Callable[[Record], float]


def _millions(run: Record) -> float:
    return float(run["parameters"]) / 1e6


BY_PARAMETERS = (
    Panel("validation accuracy", "val_accuracy", "parameters (millions)", _millions),
    Panel("test accuracy", "test_accuracy", "parameters (millions)", _millions),
)
BY_COSTS = (
    Panel("test accuracy", "test_accuracy", "minutes of training", lambda run: float(run["fit_seconds"]) / 60),
    Panel("", "test_accuracy", "parameters (millions)", _millions),
    Panel("", "test_accuracy", "images a second", lambda run: float(run["images_per_second"])),
)


def draw(runs: Sequence[Record], panels: Sequence[Panel], means: Sequence[Record], path: Path) -> None:
    """Draw each panel side by side, with the intervals of the single backbones among `means`."""
    intervals = {row["members"]: (100 * float(row["low"]), 100 * float(row["high"])) for row in means if row["low"]}
    fresh = [run for run in runs if int(run["seed"]) >= FIRST_SEED] or list(runs)
    names = sorted({run["model_name"] for run in fresh})
    figure = plots.figure_of(3.2)
    for number, (axes, panel) in enumerate(zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True)):
        for name, color in zip(names, plots.COLORS, strict=False):
            of_name = [run for run in fresh if run["model_name"] == name]
            accuracies = [100 * float(run[panel.accuracy]) for run in of_name]
            costs = list(map(panel.cost_of, of_name))
            axes.plot(costs, accuracies, "o", color=color, ms=5, mfc="none")
            axes.plot(median(costs), fmean(accuracies), "_", color=color, ms=18, mew=2, label=name)
            axes.vlines(median(costs), *intervals.get(name, [fmean(accuracies)] * 2), color=color, lw=1)
        axes.margins(x=0.15)
        plots.style(axes, panel.title, panel.cost, "" if number else "% (circles: seeds, bars: means)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    plots.save(figure, path)


def main(arguments: Sequence[str]) -> None:
    """Draw the runs of a `results.csv`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="results.csv of a study")
    parser.add_argument("picture", type=Path, help="PNG file to write")
    parser.add_argument("--costs", type=Path, metavar="MEANS_CSV", help="by minutes, parameters and images a second")
    options = parser.parse_args(arguments)
    runs = [run for run in analysis.read_table(options.table) if run["status"] == "completed"]
    means = analysis.read_table(options.costs) if options.costs else []
    draw(runs, BY_COSTS if options.costs else BY_PARAMETERS, means, options.picture)


if __name__ == "__main__":
    analysis.run(main)
