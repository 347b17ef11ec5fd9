"""Rates tuned on one seed, and what they reach on the others.

Seed `SCREENING_SEED` chooses the rate of a cell, separately for each outcome: the lowest objective at the last step for
the training loss, the lowest validation loss for the test accuracy. The values and their intervals rest on the other
seeds alone, since the results of the seed that chose are optimistic. A cell without other seeds has no interval.

One seed chooses less well where the last step is noisy, as at a constant rate, so D is somewhat too large.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from results.open_question.intervals import UNKNOWN, Estimate, mean, paired
from results.open_question.optimum import Optimum
from results.open_question.runs import AVERAGING, CONSTANT, FROZEN, Cell, Problem, Trial

SCREENING_SEED = 1
DECAYED = ("linear", "wsd")  # the schedules that stand for decay in the rows of the table

Outcome = Literal["training", "test"]
OUTCOMES: tuple[Outcome, ...] = ("training", "test")


@dataclass(frozen=True)
class Tuned:
    """A cell at the rate that the screening seed chose for one outcome.

    Attributes:
        cell: The cell.
        outcome: `training` (objective, lower is better) or `test` (accuracy, higher is better).
        lr: Chosen rate.
        edge: `lowest` or `highest` where the rate is at an end of the grid, else empty.
        screened: Criterion of the screening seed at this rate.
        trials: Trials at this rate by seed, the screening seed excluded.
        first: The trial of the screening seed.
    """

    cell: Cell
    outcome: Outcome
    lr: float
    edge: str
    screened: float
    trials: Mapping[int, Trial]
    first: Trial

    @cached_property
    def values(self) -> dict[int, float]:
        """Outcome by seed, the screening seed excluded."""
        return {seed: value_of(trial, self.outcome) for seed, trial in self.trials.items()}

    @property
    def estimate(self) -> Estimate:
        """Mean of the outcome over fresh seeds; the screening seed's value, without bounds, where there are none."""
        return mean(list(self.values.values()) or [value_of(self.first, self.outcome)])

    @property
    def noise_scale(self) -> float | None:
        """Gradient noise scale: mean noise over mean signal of the seeds; None where it was not measured."""
        measured = [trial.noise for trial in (self.first, *self.trials.values()) if trial.noise]
        if not measured:
            return None
        signal = sum(of_seed.signal for of_seed in measured)
        return sum(of_seed.noise for of_seed in measured) / signal if signal > 0 else math.inf


def criterion(trial: Trial, outcome: Outcome) -> float:
    """Return what chooses a rate, lower is better."""
    value = trial.objective if outcome == "training" else trial.val_loss
    return math.inf if math.isnan(value) else value


def value_of(trial: Trial, outcome: Outcome) -> float:
    """Return the outcome of a trial."""
    return trial.objective if outcome == "training" else trial.test_accuracy


def tune(trials: Collection[Trial], outcome: Outcome) -> dict[Cell, Tuned]:
    """Choose the rate of each cell; cells without the screening seed, or where every rate diverged, are left out."""
    by_cell: dict[Cell, list[Trial]] = defaultdict(list)
    for trial in trials:
        by_cell[trial.cell].append(trial)
    tuned = {}
    for cell, of_cell in sorted(by_cell.items()):
        screened = [trial for trial in of_cell if trial.seed == SCREENING_SEED]
        best = min(screened, key=lambda trial: criterion(trial, outcome), default=None)
        if best is None or criterion(best, outcome) == math.inf:
            continue
        rates = sorted(trial.lr for trial in screened)
        edge = "lowest" if best.lr == rates[0] else "highest" if best.lr == rates[-1] else ""
        fresh = {trial.seed: trial for trial in of_cell if trial.lr == best.lr and trial.seed != SCREENING_SEED}
        tuned[cell] = Tuned(cell, outcome, best.lr, edge, criterion(best, outcome), dict(sorted(fresh.items())), best)
    return tuned


@dataclass(frozen=True)
class Study:
    """All cells of a study, tuned, with the optima of its problems.

    Attributes:
        trials: All trials.
        optima: Optimum of each problem on frozen features.
    """

    trials: Sequence[Trial]
    optima: Mapping[Problem, Optimum]

    @cached_property
    def tuned(self) -> dict[Outcome, dict[Cell, Tuned]]:
        """Tuned cells by outcome."""
        return {outcome: tune(self.trials, outcome) for outcome in OUTCOMES}

    @cached_property
    def main(self) -> Problem | None:
        """The problem of the main study: frozen features of all images with the most trials; None without any."""
        counts: dict[Problem, int] = defaultdict(int)
        for trial in self.trials:
            if trial.cell.problem.trained == FROZEN and trial.cell.problem.images == "all":
                counts[trial.cell.problem] += 1
        return max(counts, key=lambda problem: counts[problem], default=None)

    def cells(self, outcome: Outcome, problem: Problem | None, **fixed: object) -> list[Tuned]:
        """Return the tuned cells of a problem whose attributes have given values."""
        return [
            tuned
            for cell, tuned in self.tuned[outcome].items()
            if cell.problem == problem and all(getattr(cell, key) == value for key, value in fixed.items())
        ]

    def under(self, tuned: Tuned, *schedules: str) -> Tuned | None:
        """Return the same cell under the one of these schedules that the screening seed found best; None if not run."""
        cells = [tuned.cell.with_schedule(schedule) for schedule in schedules]
        present = [self.tuned[tuned.outcome][cell] for cell in cells if cell in self.tuned[tuned.outcome]]
        return min(present, key=lambda candidate: candidate.screened, default=None)

    def constant(self, outcome: Outcome, problem: Problem | None, **fixed: object) -> list[Tuned]:
        """Return the tuned cells at a constant rate."""
        return self.cells(outcome, problem, schedule=CONSTANT, **fixed)

    def excess(self, tuned: Tuned) -> dict[int, float]:
        """Return by fresh seed the objective minus the optimum; empty where there is no optimum."""
        optimum = self.optima.get(tuned.cell.problem)
        return (
            {} if optimum is None else {seed: trial.objective - optimum.value for seed, trial in tuned.trials.items()}
        )

    def log_excess(self, tuned: Tuned) -> dict[int, float]:
        """Return by fresh seed the logarithm of the excess, where it is positive and finite."""
        return {seed: math.log(excess) for seed, excess in self.excess(tuned).items() if 0 < excess < math.inf}

    def decay_gain(self, constant: Tuned) -> dict[int, float]:
        """Return D of the better decayed schedule by fresh seed; empty where none was run."""
        decayed = self.under(constant, *DECAYED)
        return gain(constant, decayed) if decayed else {}

    def screened_excess(self, tuned: Tuned) -> float | None:
        """Return the objective of the screening seed minus the optimum; None without an optimum."""
        optimum = self.optima.get(tuned.cell.problem)
        return None if optimum is None else tuned.first.objective - optimum.value


def gain(constant: Tuned, other: Tuned) -> dict[int, float]:
    """Return by fresh seed what a schedule gains over a constant rate: D, positive where it helps."""
    better, worse = (other, constant) if constant.outcome == "test" else (constant, other)
    return paired(better.values, worse.values)


def gain_estimate(constant: Tuned, other: Tuned) -> Estimate:
    """Return D with its interval over fresh seeds; without bounds where only the screening seed was run."""
    if by_seed := gain(constant, other):
        return mean(by_seed.values())
    first, second = (value_of(tuned.first, tuned.outcome) for tuned in (constant, other))
    value = second - first if constant.outcome == "test" else first - second
    return Estimate(value, -math.inf, math.inf, 0) if math.isfinite(value) else UNKNOWN


def windows(study: Study, constant: Tuned) -> list[Tuned]:
    """Return the averages of a cell at a constant rate, each at its own rate, in ascending order of windows."""
    averaged = [
        tuned
        for cell, tuned in study.tuned[constant.outcome].items()
        if cell.schedule.startswith(f"{AVERAGING} ") and cell.with_schedule(CONSTANT) == constant.cell
    ]
    return sorted(averaged, key=lambda tuned: window_of(tuned.cell))


def window_of(cell: Cell) -> float:
    """Return the window of an average."""
    return float(cell.schedule.removeprefix(AVERAGING))
