"""What decay in the last fifth leaves of linear decay: `python -m results.open_question.cooldown FOLDER_OF_TRIALS_CSV`.

Prints for each cell that trained both, each at its own best rate, what `wsd` gains over the best constant rate, its
share of what linear decay gains (none where it gains nothing), and how much better linear decay ends; over fresh
seeds, in thousandths of the training loss or points of test accuracy.
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

from intel_scenes.errors import UserError
from results import analysis
from results.open_question import trials_table
from results.open_question.cells import OUTCOMES, Study, gain, gain_estimate
from results.open_question.intervals import mean


def rows(study: Study) -> list[str]:
    """Return a line for each cell of the main problem."""
    lines = []
    for outcome in OUTCOMES:
        for constant in study.constant(outcome, study.main):
            linear, late = study.under(constant, "linear"), study.under(constant, "wsd")
            if linear is None or late is None or not gain(late, linear):
                continue
            of_late, of_linear = gain_estimate(constant, late), gain_estimate(constant, linear)
            left = mean(gain(late, linear).values())
            scale = 1000 if outcome == "training" else 100
            shown = [
                f"{scale * estimate.value:.2f} ({scale * estimate.low:.2f} to {scale * estimate.high:.2f})"
                for estimate in (of_late, left)
            ]
            share = f"{of_late.value / of_linear.value:.0%}" if of_linear.value > 0 else "no share"
            cell = f"{outcome}, {constant.cell.optimizer}, {constant.cell.batch_size}, {constant.cell.regime}"
            lines.append(f"{cell}: wsd gains {shown[0]}, {share} of linear decay, which ends {shown[1]} better")
    return lines


def main(arguments: Sequence[str]) -> None:
    """Print the lines."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path, help="folder with the trials.csv of an analysis")
    folder = parser.parse_args(arguments).folder
    lines = rows(Study(trials_table.read(folder), {}))
    if not lines:
        raise UserError(
            f"{folder} has no trials.csv of cells that trained both linear decay and wsd: name that of an analysis"
        )
    print("\n".join(lines))


if __name__ == "__main__":
    analysis.run(main)
