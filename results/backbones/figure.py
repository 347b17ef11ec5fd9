"""Accuracy of backbones by their number of parameters: `python -m results.backbones.figure RESULTS_CSV FILE.png`.

Draws each run on the fresh seeds that confirm a choice, or each run where there are none, and the mean over seeds.
"""

import csv
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean

from intel_scenes.errors import UserError
from intel_scenes.sweeps.confirmation import FIRST_SEED
from results import analysis, plots

SPLITS = {"val_accuracy": "validation accuracy", "test_accuracy": "test accuracy"}


def draw(runs: Sequence[dict[str, str]], path: Path) -> None:
    """Draw accuracy by parameters, a panel for each split."""
    fresh = [run for run in runs if int(run["seed"]) >= FIRST_SEED] or list(runs)
    names = sorted({run["model_name"] for run in fresh})
    figure = plots.figure_of(3.2)
    for axes, (key, words) in zip(figure.subplots(1, 2, sharey=True), SPLITS.items(), strict=True):
        for name, color in zip(names, plots.COLORS, strict=False):
            of_name = [run for run in fresh if run["model_name"] == name]
            accuracies = [100 * float(run[key]) for run in of_name]
            millions = float(of_name[0]["parameters"]) / 1e6
            axes.plot([millions] * len(of_name), accuracies, "o", color=color, ms=5, mfc="none")
            axes.plot(millions, fmean(accuracies), "_", color=color, ms=18, mew=2, label=name)
        plots.style(axes, words, "parameters (millions)", "% (circles: seeds, bars: means)")
    figure.legend(*axes.get_legend_handles_labels(), loc="outside lower center", ncols=2, fontsize=8, frameon=False)
    plots.save(figure, path)


def main(arguments: Sequence[str]) -> None:
    """Draw the runs of a `results.csv`."""
    if len(arguments) != 2:
        raise UserError("name the results.csv of a study and the picture to write")
    table, path = map(Path, arguments)
    with table.open(newline="") as file:
        draw([run for run in csv.DictReader(file) if run["status"] == "completed"], path)


if __name__ == "__main__":
    analysis.run(main)
