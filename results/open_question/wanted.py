"""Runs that a study lacks: rates beyond an end of the grid, and seeds that confirm what was chosen."""

import math
from collections.abc import Iterator
from functools import partial
from typing import NamedTuple

from results.open_question.cells import OUTCOMES, SCREENING_SEED, Study, Tuned, windows
from results.open_question.runs import AVERAGING, CONSTANT, GROWING, Cell

CONFIRMING_SEEDS = (2, 3, 4, 5, 6)


class Wanted(NamedTuple):
    """A run that is missing: its cell (an average is one of a run at a constant rate), rate and seed, and why."""

    cell: Cell
    lr: float
    seed: int
    reason: str


def wanted(study: Study) -> list[Wanted]:
    """Return the missing runs, each once. A cell at an end of its grid is extended first and confirmed afterwards.

    Of the averages of a cell only the window that the screening seed found best is confirmed, which decides the rows.
    """
    missing: dict[tuple[Cell, float, int], Wanted] = {}
    for outcome in OUTCOMES:
        for tuned in filter(partial(_decides, study), study.tuned[outcome].values()):
            for run in _extension(study, tuned) if tuned.edge else _confirmation(study, tuned):
                missing.setdefault((run.cell, run.lr, run.seed), run)
    return sorted(missing.values())


def _decides(study: Study, tuned: Tuned) -> bool:
    constant = study.tuned[tuned.outcome].get(_trained(tuned.cell))
    averages = windows(study, constant) if constant else []
    return tuned not in averages or tuned is min(averages, key=lambda average: average.screened)


def _trained(cell: Cell) -> Cell:
    return cell.with_schedule(CONSTANT) if cell.schedule.startswith(AVERAGING) else cell


def _extension(study: Study, tuned: Tuned) -> Iterator[Wanted]:
    rates = sorted({trial.lr for trial in study.trials if trial.cell == tuned.cell and trial.seed == SCREENING_SEED})
    factor = rates[1] / rates[0] if len(rates) > 1 else math.sqrt(10)
    lr = rates[0] / factor if tuned.edge == "lowest" else rates[-1] * factor
    yield Wanted(
        _trained(tuned.cell), float(f"{lr:.12g}"), SCREENING_SEED, f"best rate is the {tuned.edge} for {tuned.outcome}"
    )


def _confirmation(study: Study, tuned: Tuned) -> Iterator[Wanted]:
    """Yield the seeds at the chosen rate; a growing batch is needed at the rate of the linear decay as well."""
    yield from _seeds(study, tuned.cell, tuned.lr, f"confirms the rate for {tuned.outcome}")
    grown = tuned.cell.with_schedule(GROWING)
    if tuned.cell.schedule == "linear" and tuned.outcome == "training" and grown in study.tuned["training"]:
        yield from _seeds(study, grown, tuned.lr, "is compared with the linear decay")


def _seeds(study: Study, cell: Cell, lr: float, reason: str) -> Iterator[Wanted]:
    present = {trial.seed for trial in study.trials if (trial.cell, trial.lr) == (cell, lr)}
    yield from (Wanted(_trained(cell), lr, seed, reason) for seed in CONFIRMING_SEEDS if seed not in present)
