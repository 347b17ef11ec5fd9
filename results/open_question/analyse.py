"""Question 5: why do schedules help, and whom? `python -m results.open_question.analyse STUDY_FOLDER... OUTPUT`.

Reads the records of runs in one or more study folders, and the `trials.csv` that an earlier analysis left in them, and
writes into the output folder:

- `trials.csv`: each run at its rate and seed, with what it reached;
- `optimum.json`, `spectrum.csv`: the optimum on frozen features by L-BFGS, and the eigenvalues of their covariance;
- `cells.csv`: each cell with its tuned rates and what they reach;
- `decay.csv`: D of each schedule, what it gains over a constant rate;
- `averaging.csv`: the share of D that averaging recovers, by window;
- `predictions.csv`: each row of the question's table: source, prediction, rule, what was measured, the value that
  decides with its interval and the number of seeds (or cells of a regression) it rests on, verdict;
- `wanted.csv`: runs that are missing: the next rate where the best is at an end of the grid, seeds that confirm;
- `excess.png`, `decay.png`.

Intervals are Student's over seeds, paired where two cells are compared. Those of the test accuracy are for these test
images: others are not part of them. They are not adjusted for the number of cells and rows: where the truth lies at the
bound of a rule, one interval in forty refutes it by chance, and a row that is refuted by one of seven cells more often.

All optimizers minimize the same function: the penalty is part of the gradient (adam, not adamw; without decay the two
are the same). Rates are tuned on seed 1 and measured on the others: see `cells`.
"""

import argparse
import logging
import math
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

from intel_scenes import files
from results import analysis
from results.open_question import figures, noise_claims, problem_claims, schedule_claims, trials_table
from results.open_question.cells import (
    DECAYED,
    OUTCOMES,
    Outcome,
    Study,
    Tuned,
    gain,
    gain_estimate,
    window_of,
    windows,
)
from results.open_question.claims import Answer, batch_label
from results.open_question.intervals import Estimate, mean, ratio
from results.open_question.optimum import optima
from results.open_question.runs import AVERAGING, CONSTANT, Cell, read_trials
from results.open_question.wanted import wanted

CELL_COLUMNS = ("problem", "optimizer", "batch", "schedule", "regime", "passes", "steps")
INTERVAL = ("low", "high")


def main(arguments: Sequence[str]) -> None:
    """Analyse study folders, and print the answers."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("studies", nargs="+", type=Path, metavar="STUDY_FOLDER")
    parser.add_argument("output", type=Path, metavar="OUTPUT")
    parsed = parser.parse_args(arguments)
    logging.basicConfig(format="%(message)s")
    for answer in answers(analyse(parsed.studies, parsed.output)):
        print(f"{answer.verdict:9}  {answer.claim.source}: {answer.claim.prediction}; {answer.scope} {answer.measured}")


def analyse(studies: Sequence[Path], output: Path) -> Study:
    """Write tables and figures of study folders, and return what they are made of.

    Raises:
        UserError: There are no runs, or the optimum cannot be computed.
    """
    trials = read_trials(studies, known=[trial for study in studies for trial in trials_table.read(study)])
    output.mkdir(parents=True, exist_ok=True)
    trials_table.write(trials, output)
    study = Study(trials, optima(trials, output))
    write_tables(study, output)
    figures.draw(output)
    return study


def answers(study: Study) -> list[Answer]:
    """Return the answer to each row of the table."""
    return [*noise_claims.answers(study), *schedule_claims.answers(study), *problem_claims.answers(study)]


def write_tables(study: Study, output: Path) -> None:
    """Write the tables of cells, decay, averages, predictions and missing runs."""
    for name, (columns, rows) in _tables(study).items():
        files.write_csv(output / name, (*CELL_COLUMNS, *columns), rows)
    columns = ("source", "prediction", "rule", "scope", "measured", "value", *INTERVAL, "num", "verdict")
    judged = (
        (
            *(answer.claim.source, answer.claim.prediction, answer.claim.rule, answer.scope, answer.measured),
            *(*_written(answer.estimate), answer.estimate.num, answer.verdict),
        )
        for answer in answers(study)
    )
    files.write_csv(output / "predictions.csv", columns, judged)


def _tables(study: Study) -> dict[str, tuple[tuple[str, ...], Iterable[tuple[object, ...]]]]:
    """Return by file name the columns after those of the cell, and the rows."""
    of_outcomes = [f"{outcome}_{name}" for outcome in OUTCOMES for name in ("lr", "edge", "value", *INTERVAL, "seeds")]
    excess = ("excess", "excess_low", "excess_high", "screened_excess", "noise_scale")
    share_of_excess = ("share_of_excess", "share_low", "share_high", "seeds")
    missing = ((*_named(run.cell), run.lr, run.seed, run.reason) for run in wanted(study))
    return {
        "cells.csv": ((*of_outcomes, *excess), _cell_rows(study)),
        "decay.csv": (("outcome", "D", *INTERVAL, *share_of_excess), _decay_rows(study)),
        "averaging.csv": (
            ("outcome", "window", "lr", "share_of_D", *INTERVAL, "D", "D_low", "D_high", "seeds"),
            _averaging_rows(study),
        ),
        "wanted.csv": (("lr", "seed", "reason"), missing),
    }


def _written(estimate: Estimate) -> tuple[float | None, float | None, float | None]:
    """Return value and bounds; None for what is not known."""
    low, value, high = (one if math.isfinite(one) else None for one in (estimate.low, estimate.value, estimate.high))
    return value, low, high


def _named(cell: Cell) -> tuple[object, ...]:
    batch = batch_label(cell.batch_size, cell.num_train)
    return str(cell.problem), cell.optimizer, batch, cell.schedule, cell.regime, cell.passes, cell.steps


def _seeds(by_seed: dict[int, float]) -> str:
    return " ".join(map(str, by_seed))


def _cell_rows(study: Study) -> Iterator[tuple[object, ...]]:
    by_outcome = study.tuned
    for cell in sorted(set().union(*by_outcome.values())):
        row: list[object] = [*_named(cell)]
        for outcome in OUTCOMES:
            tuned = by_outcome[outcome].get(cell)
            row += _reached(tuned) if tuned else [None] * 6
        training = by_outcome["training"].get(cell)
        excess = mean(study.excess(training).values()) if training else mean([])
        yield (*row, *_written(excess), training and study.screened_excess(training), training and training.noise_scale)


def _reached(tuned: Tuned) -> list[object]:
    return [tuned.lr, tuned.edge, *_written(tuned.estimate), _seeds(tuned.values)]


def _constants(study: Study) -> Iterator[tuple[Outcome, Tuned]]:
    for outcome in OUTCOMES:
        yield from ((outcome, tuned) for cell, tuned in study.tuned[outcome].items() if cell.schedule == CONSTANT)


def _decay_rows(study: Study) -> Iterator[tuple[object, ...]]:
    for outcome, constant in _constants(study):
        for cell, other in study.tuned[outcome].items():
            is_other = cell.schedule != CONSTANT and not cell.schedule.startswith(AVERAGING)
            if is_other and cell.with_schedule(CONSTANT) == constant.cell:
                by_seed = gain(constant, other)
                share = ratio(by_seed, study.excess(constant)) if outcome == "training" else mean([])
                yield (
                    *(*_named(cell), outcome),
                    *(*_written(gain_estimate(constant, other)), *_written(share), _seeds(by_seed)),
                )


def _averaging_rows(study: Study) -> Iterator[tuple[object, ...]]:
    for outcome, constant in _constants(study):
        decayed = study.under(constant, *DECAYED)
        for averaged in windows(study, constant) if decayed else ():
            assert decayed is not None
            recovered, gained = gain(constant, averaged), gain(constant, decayed)
            yield (
                *(*_named(decayed.cell), outcome, window_of(averaged.cell), averaged.lr),
                *(*_written(ratio(recovered, gained)), *_written(gain_estimate(constant, decayed)), _seeds(recovered)),
            )


if __name__ == "__main__":
    analysis.run(main)
