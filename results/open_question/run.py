"""Train the runs of the open question: `python -m results.open_question.run WEIGHTS STUDY_FOLDER`.

Complete runs are skipped, so a stopped command continues where it was started again. See README.md for the design.
"""

import argparse
import csv
import math
import multiprocessing
import sys
import time
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from itertools import product
from pathlib import Path

from tqdm import tqdm

from intel_scenes import UserError, start_run
from intel_scenes.record import Status, Summary

WEIGHT_DECAY = 0.01
BASE = (
    *("model=mobilenet_v2", "recipe=linear_probe", "recipe.label_smoothing=0", f"optim.weight_decay={WEIGHT_DECAY}"),
    *("data.train_fraction=0.5", "data.subset_seed=1", "averages=[0.02,0.1,0.3,1]", "threads=1", "trainer=cpu"),
)
# The lowest exponent k of the four rates 2**k that each optimizer tries first, by regime and batch size.
LOWEST = {
    "samples": {
        "sgd_plain": {"16": -9, "64": -8, "256": -8, "1024": -8, "full": -7},
        "sgd": {"16": -11, "64": -10, "256": -9, "1024": -9, "full": -8},
        "adam": {"16": -13, "64": -12, "256": -11, "1024": -9, "full": -8},
        "sign": {"16": -17, "64": -16, "256": -15, "1024": -12, "full": -9},
    },
    "steps": {
        "sgd_plain": {"1024": -8, "full": -8},
        "sgd": {"1024": -9, "full": -9},
        "adam": {"1024": -11, "full": -11},
        "sign": {"1024": -15, "full": -15},
    },
}
OPTIMIZERS = tuple(LOWEST["samples"])
GROWTH = {"sgd_plain": 1, "sgd": 1, "adam": 2, "sign": 2}
WSD = ("scheduler=wsd", "scheduler.factory.lr_lambda.warmup_fraction=0")
SCHEDULES = {"constant": ("scheduler=constant",), "linear": ("scheduler=linear",), "cooldown": WSD}
# Validation and averages are evaluated after every epoch, which is several passes over the 6,316 images.
SAMPLES = ("epochs=5", "data.passes_per_epoch=4")  # 126,320 images for every batch size
STEPS = {"1024": ("epochs=6", "data.passes_per_epoch=56"), "full": ("epochs=5", "data.passes_per_epoch=400")}
SCREENING_SEED, FRESH_SEEDS = 1, (2, 3, 4, 5, 6)
NUM_RATES, MOST_RATES = 4, 9
OUTCOMES = ("objective", "val_loss")  # each chooses a rate


@dataclass(frozen=True)
class Cell:
    """One combination of the study, which tunes its own rate.

    Attributes:
        optimizer: File of `conf/optim`.
        batch_size: As in `data.batch_size`.
        schedule: Key of `SCHEDULES`, or "growth".
        regime: "samples" or "steps": what is held equal.
    """

    optimizer: str
    batch_size: str
    schedule: str
    regime: str

    @property
    def overrides(self) -> tuple[str, ...]:
        """Overrides of its runs, without rate and seed."""
        is_growing = self.schedule == "growth"
        schedule = SCHEDULES["linear" if is_growing else self.schedule]
        growth = (f"batch_growth={GROWTH[self.optimizer]}",) if is_growing else ()
        length = SAMPLES if self.regime == "samples" else STEPS[self.batch_size]
        return (*BASE, f"optim={self.optimizer}", f"data.batch_size={self.batch_size}", *schedule, *growth, *length)

    @property
    def first_rates(self) -> range:
        """Exponents of the rates that are tried first."""
        lowest = LOWEST[self.regime][self.optimizer][self.batch_size]
        return range(lowest, lowest + NUM_RATES)

    def folder(self, study: Path, rate: int, seed: int) -> Path:
        """Return the folder of a run."""
        name = f"{self.optimizer},batch={self.batch_size},{self.schedule},{self.regime},lr={rate_of(rate)},seed={seed}"
        return study / name


def rate_of(exponent: int) -> str:
    """Return the rate 2**exponent with three digits."""
    return f"{2.0**exponent:.3g}"


def cells() -> list[Cell]:
    """Return all cells; those of the deciding comparisons come first."""
    schedules = (*SCHEDULES, "growth")
    samples = [
        Cell(optimizer, batch_size, schedule, "samples")
        for schedule, batch_size, optimizer in product(schedules, ("16", "256", "64", "1024", "full"), OPTIMIZERS)
        if not (schedule == "growth" and batch_size == "full")  # nothing is left to grow
    ]
    steps = [
        Cell(optimizer, batch_size, schedule, "steps")
        for batch_size, schedule, optimizer in product(STEPS, SCHEDULES, OPTIMIZERS)
    ]
    return [*steps, *samples]


def outcomes(cell: Cell, study: Path, rate: int, seed: int, weights: Path) -> tuple[float, float]:
    """Train a run unless it is complete, and return the objective and the validation loss of its last weights.

    A run whose loss is not finite has infinite outcomes.
    """
    folder = cell.folder(study, rate, seed)
    summary = Summary.peek(folder)
    if summary is None or summary.status not in (Status.COMPLETED, Status.FAILED):
        overrides = [f"model.weights='{weights}'", *cell.overrides, f"optim.lr={rate_of(rate)}", f"seed={seed}"]
        try:
            start_run(overrides, folder=folder, quiet=True)
        except UserError as error:
            if "not finite" not in str(error):
                raise
        summary = Summary.peek(folder)
    if summary is None or summary.status is Status.FAILED:
        return math.inf, math.inf
    with (folder / "averages.csv").open(newline="") as file:
        last = [row for row in csv.DictReader(file) if float(row["window"]) == 0][-1]
    objective = float(last["train_loss"]) + WEIGHT_DECAY / 2 * float(last["weight_norm"]) ** 2
    return objective, float(last["val_loss"])


def tune(cell: Cell, study: Path, weights: Path) -> set[int]:
    """Screen the rates of a cell, extended while the best of an outcome is at an edge; return the chosen ones."""
    tried: dict[int, tuple[float, float]] = {}
    wanted: Iterable[int] = cell.first_rates
    while True:
        tried |= {rate: outcomes(cell, study, rate, SCREENING_SEED, weights) for rate in wanted}
        chosen = {min(tried, key=lambda rate: tried[rate][place]) for place in range(len(OUTCOMES))}
        beyond = {min(tried) - 1} if min(tried) in chosen else set()
        beyond |= {max(tried) + 1} if max(tried) in chosen else set()
        if not beyond or len(tried) >= MOST_RATES:
            return chosen
        wanted = sorted(beyond)


def confirm(cell: Cell, study: Path, weights: Path) -> None:
    """Train the chosen rates of a cell on the fresh seeds."""
    for rate, seed in product(sorted(tune(cell, study, weights)), FRESH_SEEDS):
        outcomes(cell, study, rate, seed, weights)


def _in_turn(task: tuple[bool, Cell, Path, Path]) -> Cell:
    is_confirming, cell, study, weights = task
    (confirm if is_confirming else tune)(cell, study, weights)
    return cell


def main(arguments: Sequence[str]) -> None:
    """Run all cells: first their screening, then the fresh seeds."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("weights", type=Path, help="file of ImageNet weights of mobilenet_v2")
    parser.add_argument("study", type=Path, help="folder of the runs")
    parser.add_argument("--workers", type=int, default=2, help="number of runs at the same time")
    parser.add_argument("--stages", nargs="+", default=["screen", "confirm"], choices=["screen", "confirm"])
    parser.add_argument("--plan", action="store_true", help="only print the number of runs and the expected hours")
    options = parser.parse_args(arguments)
    if options.plan:
        print("\n".join(_plan()))
        return
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(options.workers, mp_context=context) as pool:
        for stage in options.stages:
            tasks = [(stage == "confirm", cell, options.study, options.weights) for cell in cells()]
            for _ in tqdm(pool.map(_in_turn, tasks), total=len(tasks), desc=f"{stage}: cells", file=sys.stderr):
                pass


SECONDS = {"16": 15.0, "64": 7.0, "256": 5.0, "1024": 4.0, "full": 4.0}  # of one run in the samples regime, measured
SECONDS_OF_STEPS = {"1024": 14.0, "full": 45.0}


def _plan() -> Iterator[str]:
    of_regime = {"samples": SECONDS, "steps": SECONDS_OF_STEPS}
    seconds = [of_regime[cell.regime][cell.batch_size] for cell in cells()]
    screening, confirming = NUM_RATES * sum(seconds), len(FRESH_SEEDS) * sum(seconds)
    least = NUM_RATES * len(seconds)
    yield f"{len(seconds)} cells, {least} runs or more to screen, then {len(FRESH_SEEDS)} seeds of each choice"
    yield f"about {screening / 3600:.1f} hours to screen and {confirming / 3600:.1f} or more to confirm, in one process"


if __name__ == "__main__":
    started = time.monotonic()
    main(sys.argv[1:])
    print(f"{(time.monotonic() - started) / 3600:.2f} hours")
