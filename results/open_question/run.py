"""Train the runs of the open question: `python -m results.open_question.run WEIGHTS STUDY_FOLDER`.

Each cell (optimizer, batch size, schedule, length) tries four rates on one seed, and more while the best is at an end
of the grid. Then its chosen rates are trained on fresh seeds. Complete runs are skipped, so a stopped command continues
when it is started again.
"""

import argparse
import logging
import math
import multiprocessing
import sys
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import product
from pathlib import Path

from tqdm import tqdm

from intel_scenes import UserError, start_run
from intel_scenes.record import Averages, Status, Summary
from results.open_question.cells import SCREENING_SEED, Study
from results.open_question.runs import AVERAGING, CONSTANT, GROWING, has_diverged, read_trials
from results.open_question.wanted import wanted

WEIGHT_DECAY = 0.01
AVERAGES = (0.02, 0.1, 0.3, 1)  # windows
BASE = (
    *("model=mobilenet_v2", "recipe=linear_probe", "recipe.label_smoothing=0", f"optim.weight_decay={WEIGHT_DECAY}"),
    *(f"averages=[{','.join(map(str, AVERAGES))}]", "threads=1", "trainer=cpu"),
)
HALF = ("data.train_fraction=0.5", "data.subset_seed=1")
# The lowest exponent k of the four rates 2**k that each optimizer tries first, by passes and batch size.
LOWEST = {
    "sgd_plain": {"16": -9, "64": -8, "256": -8, "1024": -8, "full": -7, "1024 long": -8, "full long": -8},
    "sgd": {"16": -11, "64": -10, "256": -9, "1024": -9, "full": -8, "1024 long": -9, "full long": -9},
    "adam": {"16": -13, "64": -12, "256": -11, "1024": -9, "full": -8, "1024 long": -11, "full long": -11},
    "sign": {"16": -17, "64": -16, "256": -15, "1024": -12, "full": -9, "1024 long": -15, "full long": -15},
}
OPTIMIZERS = tuple(LOWEST)
GROWTH = {"sgd_plain": 1, "sgd": 1, "adam": 2, "sign": 2}
SCHEDULES = {
    CONSTANT: ("scheduler=constant",),
    "linear": ("scheduler=linear",),
    "wsd": ("scheduler=wsd", "scheduler.factory.lr_lambda.warmup_fraction=0"),
    "linear to 0.1": ("scheduler=linear", "scheduler.factory.end_factor=0.1"),
    **{f"power {power}": ("scheduler=power", f"scheduler.factory.power={power}") for power in ("0.5", "2", "3")},
}
# Epochs, and passes over the images in each: validation and averages are evaluated after every epoch.
LENGTHS = {5: (5, 1), 20: (5, 4), 80: (5, 16), 336: (6, 56), 2000: (5, 400)}
SAMPLES, STEPS = 20, {"1024": 336, "full": 2000}  # passes at equal samples, and at 2,000 steps or more
NUM_RATES, MOST_RATES = 4, 12
NUM_LARGE = 16  # large batches that measure the gradient noise


@dataclass(frozen=True)
class Place:
    """A cell, and the images that it is trained on.

    Attributes:
        optimizer: File of `conf/optim`.
        batch_size: As in `data.batch_size`.
        schedule: Key of `SCHEDULES`, or `growing`.
        passes: Key of `LENGTHS`.
        exclude: File of excluded images; None trains on half of all images.
    """

    optimizer: str
    batch_size: str
    schedule: str
    passes: int
    exclude: Path | None = None

    @property
    def overrides(self) -> list[str]:
        """Overrides of its runs, without rate and seed."""
        is_growing = self.schedule == GROWING
        growth = (f"batch_growth={GROWTH[self.optimizer]}",) if is_growing else ()
        epochs, passes = LENGTHS[self.passes]
        images = HALF if self.exclude is None else (f"data.exclude='{self.exclude}'",)
        length = (f"epochs={epochs}", f"data.passes_per_epoch={passes}")
        optimizer = (f"optim={self.optimizer}", f"data.batch_size={self.batch_size}")
        schedule = SCHEDULES["linear" if is_growing else self.schedule]
        return [*BASE, *images, *optimizer, *schedule, *growth, *length]

    @property
    def first_rates(self) -> list[float]:
        """The rates that are tried first."""
        is_long = self.passes == STEPS.get(self.batch_size)
        lowest = LOWEST[self.optimizer][f"{self.batch_size} long" if is_long else self.batch_size]
        return [2.0**exponent for exponent in range(lowest, lowest + NUM_RATES)]

    def folder(self, study: Path, lr: float, seed: int) -> Path:
        """Return the folder of a run."""
        images = f",{self.exclude.stem}" if self.exclude else ""
        cell = f"{self.optimizer},batch={self.batch_size},{self.schedule},passes={self.passes}{images}"
        return study / f"{cell},lr={lr:.3g},seed={seed}".replace(" ", "-")


def places(exclude: Path | None) -> list[Place]:
    """Return all cells; what decides most comes first.

    Args:
        exclude: File of excluded images that thins the classes; None leaves out that row.
    """
    batches = ("16", "256", "64", "1024", "full")
    main = [
        *(Place(name, size, how, SAMPLES) for how, size, name in product((CONSTANT, "linear"), batches, OPTIMIZERS)),
        *(Place(name, size, how, STEPS[size]) for size, how, name in product(STEPS, (CONSTANT, "linear"), OPTIMIZERS)),
        *(Place(name, size, GROWING, SAMPLES) for size, name in product(batches[:-1], OPTIMIZERS)),
        *(Place(name, size, "wsd", SAMPLES) for size, name in product(batches, OPTIMIZERS)),
        *(Place(name, size, "wsd", STEPS[size]) for size, name in product(STEPS, OPTIMIZERS)),
    ]
    floors = product((5, 20, 80), ("linear", "linear to 0.1"), ("sgd_plain", "adam"))
    powers = product([name for name in SCHEDULES if name.startswith("power")], ("sgd_plain", "adam"))
    rows = [
        *(Place(name, size, CONSTANT, 80) for size, name in product(("64", "16"), ("sgd_plain", "sgd"))),
        *(Place(name, "64", how, passes) for passes, how, name in floors),
        *(Place(name, "64", how, SAMPLES) for how, name in powers),
    ]
    if exclude is not None:
        thinned = product({"64": SAMPLES, **STEPS}.items(), ("sgd", "adam"))
        rows += [Place(name, size, CONSTANT, passes, exclude) for (size, passes), name in thinned]
    return list(dict.fromkeys([*main, *rows]))


def train(place: Place, lr: float, seed: int, study: Path, weights: Path, further: Iterable[str] = ()) -> None:
    """Train a run unless it is complete, or its loss was not finite."""
    folder = place.folder(study, lr, seed)
    summary = Summary.peek(folder)
    if summary is not None and (summary.status is Status.COMPLETED or has_diverged(summary)):
        return
    overrides = [f"model.weights='{weights}'", *place.overrides, f"optim.lr={lr}", f"seed={seed}", *further]
    try:
        start_run(overrides, folder=folder, quiet=True)
    except UserError as error:
        if "not finite" not in str(error):
            raise


def criteria(place: Place, study: Path, lr: float) -> list[float]:
    """Return what chooses rates: objective and validation loss of the last weights, and of each average of them.

    Averages count at a constant rate alone, where they are schedules of their own. All are infinite for a run whose
    loss was not finite.
    """
    windows = (0.0, *AVERAGES) if place.schedule == CONSTANT else (0.0,)
    folder = place.folder(study, lr, SCREENING_SEED)
    summary = Summary.peek(folder)
    if summary is None or summary.status is not Status.COMPLETED:  # its epochs before it diverged do not count
        return [math.inf] * (2 * len(windows))
    last = {row.window: row for row in Averages.read(folder).rows}
    rows = [last[window] for window in windows]
    return [value for row in rows for value in (row.train_loss + WEIGHT_DECAY / 2 * row.weight_norm**2, row.val_loss)]


def screen(study: Path, weights: Path, place: Place) -> None:
    """Try rates on one seed, and more while the best of a criterion is at an end of the grid."""
    rates, results = place.first_rates, dict[float, list[float]]()
    while rates and len(results) < MOST_RATES:
        for lr in rates:
            train(place, lr, SCREENING_SEED, study, weights)
            results[lr] = criteria(place, study, lr)
        lowest, highest = min(results), max(results)
        best = {min(results, key=lambda lr: results[lr][number]) for number in range(len(results[lowest]))}
        rates = ([lowest / 2] if lowest in best else []) + ([highest * 2] if highest in best else [])


def confirm(study: Path, weights: Path, task: tuple[Place, float, int]) -> None:
    """Train a chosen rate on a fresh seed."""
    place, lr, seed = task
    further = [f"noise_scale={NUM_LARGE}"] if place.schedule == CONSTANT and place.exclude is None else []
    train(place, lr, seed, study, weights, further)


def confirming(study: Path, ordered: Sequence[Place]) -> list[tuple[Place, float, int]]:
    """Return place, rate and seed of the runs that confirm what the screening seed chose."""
    by_key = {
        (place.optimizer, place.batch_size, place.schedule, place.passes, place.exclude is None): place
        for place in ordered
    }
    tasks = []
    for cell, lr, seed, _ in (one for one in wanted(Study(read_trials([study]), {})) if one.seed != SCREENING_SEED):
        batch_size = "full" if cell.is_full else str(cell.batch_size)
        schedule = CONSTANT if cell.schedule.startswith(AVERAGING) else cell.schedule
        key = (cell.optimizer, batch_size, schedule, cell.passes, cell.problem.images == "all")
        if key in by_key:
            tasks.append((by_key[key], lr, seed))
    return sorted(tasks, key=lambda task: ordered.index(task[0]))


def main(arguments: Sequence[str]) -> None:
    """Screen all cells, then train the chosen rates on fresh seeds."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("weights", type=Path, help="file of ImageNet weights of mobilenet_v2")
    parser.add_argument("study", type=Path, help="folder of the runs")
    parser.add_argument("--exclude", type=Path, help="file of excluded images, which adds cells with thinned classes")
    parser.add_argument(
        "--schedules", nargs="+", choices=[*SCHEDULES, GROWING], help="schedules to run, by default all"
    )
    parser.add_argument("--workers", type=int, default=2, help="number of runs at the same time")
    parser.add_argument("--stages", nargs="+", default=["screen", "confirm"], choices=["screen", "confirm"])
    options = parser.parse_args(arguments)
    ordered = [
        place
        for place in places(options.exclude and options.exclude.resolve())
        if place.schedule in (options.schedules or [place.schedule])
    ]
    study, weights = options.study, options.weights.resolve()
    with ProcessPoolExecutor(options.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        if "screen" in options.stages:
            _shown(pool.map(partial(screen, study, weights), ordered), len(ordered), "cells")
        if "confirm" in options.stages:
            tasks = confirming(study, ordered)
            _shown(pool.map(partial(confirm, study, weights), tasks), len(tasks), "fresh seeds")


def _shown(results: Iterable[None], number: int, label: str) -> None:
    for _ in tqdm(results, total=number, desc=label, file=sys.stderr):
        pass


if __name__ == "__main__":
    started = time.monotonic()
    logging.basicConfig(format="%(message)s")
    main(sys.argv[1:])
    print(f"{(time.monotonic() - started) / 3600:.2f} hours")
