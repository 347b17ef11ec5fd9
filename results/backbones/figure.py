"""Accuracy of backbones by what they cost: `python -m results.backbones.figure RESULTS_CSV FILE.png`.

Draws each run on the fresh seeds that confirm a choice, or each run where there are none, and the mean over seeds:
validation and test accuracy by parameters or, with `--costs`, test accuracy by minutes, parameters and images a second.
"""

import argparse
import csv
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import fmean
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


def draw(runs: Sequence[Record], panels: Sequence[Panel], path: Path) -> None:
    """Draw each panel side by side."""
    fresh = [run for run in runs if int(run["seed"]) >= FIRST_SEED] or list(runs)
    names = sorted({run["model_name"] for run in fresh})
    figure = plots.figure_of(3.2)
    for number, (axes, panel) in enumerate(zip(figure.subplots(1, len(panels), sharey=True), panels, strict=True)):
        for name, color in zip(names, plots.COLORS, strict=False):
            of_name = [run for run in fresh if run["model_name"] == name]
            accuracies = [100 * float(run[panel.accuracy]) for run in of_name]
            costs = list(map(panel.cost_of, of_name))
            axes.plot(costs, accuracies, "o", color=color, ms=5, mfc="none")
            axes.plot(fmean(costs), fmean(accuracies), "_", color=color, ms=18, mew=2, label=name)
        plots.style(axes, panel.title, panel.cost, "" if number else "% (circles: seeds, bars: means)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    plots.save(figure, path)


def main(arguments: Sequence[str]) -> None:
    """Draw the runs of a `results.csv`."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("table", type=Path, help="results.csv of a study")
    parser.add_argument("picture", type=Path, help="PNG file to write")
    parser.add_argument("--costs", action="store_true", help="test accuracy by minutes, parameters and images a second")
    options = parser.parse_args(arguments)
    with options.table.open(newline="") as file:
        runs = [run for run in csv.DictReader(file) if run["status"] == "completed"]
    draw(runs, BY_COSTS if options.costs else BY_PARAMETERS, options.picture)


if __name__ == "__main__":
    analysis.run(main)
