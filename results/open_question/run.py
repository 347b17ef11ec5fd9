"""Train the runs of the open question: `python -m results.open_question.run WEIGHTS STUDY_FOLDER`.

Each cell (network, weight decay, optimizer, batch size, schedule, length) tries four rates on one seed, and more while
the best is at an end of the grid. Then its chosen rates are trained on fresh seeds. Complete runs are skipped, so a
stopped command continues when it is started again. With `--known FOLDER` the runs in the `trials.csv` of an analysis
count as complete, though their records do not exist any more.
"""

import argparse
import itertools
import logging
import math
import multiprocessing
import sys
import time
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field, replace
from functools import partial
from itertools import product
from pathlib import Path

from tqdm import tqdm

from intel_scenes import UserError, start_run
from intel_scenes.record import Averages, Status, Summary
from results import analysis
from results.open_question import trials_table
from results.open_question.cells import SCREENING_SEED, Study
from results.open_question.runs import (
    AVERAGING,
    CONSTANT,
    GROWING,
    WITH_NORMS,
    WITHOUT_NORMS,
    Trial,
    has_diverged,
    read_trials,
)
from results.open_question.wanted import CONFIRMING_SEEDS, wanted

FROZEN_MODEL = "mobilenet_v2"
SMALL = ("recipe=plain", "augment=none", "data.image_size=32", "data.store_size=32", "data.val_fraction=0.05")
MODELS = {
    FROZEN_MODEL: ("model=mobilenet_v2", "recipe=linear_probe", "recipe.label_smoothing=0"),
    WITH_NORMS: (f"model={WITH_NORMS}", *SMALL),
    WITHOUT_NORMS: ("model=custom", f"model._target_={WITHOUT_NORMS}", *SMALL),
}
WEIGHT_DECAY = 0.01  # on frozen features
WEAK, STRONG = 0.0001, 0.01  # weight decay of the networks
AVERAGES, AVERAGES_OF_NETWORKS = (0.02, 0.1, 0.3, 1), (0.1, 0.3)  # windows
HALF = ("data.train_fraction=0.5", "data.subset_seed=1")
# The lowest exponent k of the four rates 2**k that each optimizer tries first, by batch size, and length or network.
LOWEST = {
    "sgd_plain": {
        **{"16": -9, "64": -8, "256": -8, "1024": -8, "full": -7, "1024 long": -8, "full long": -8},
        **{"16 level": -8, "64 level": -8, "256 level": -8},
    },
    "sgd": {
        **{"16": -11, "64": -10, "256": -9, "1024": -9, "full": -8, "1024 long": -9, "full long": -9},
        **{"16 level": -11, "64 level": -11, "256 level": -10},
        **{"16 with norms": -8, "64 with norms": -6, "256 with norms": -5, "64 without norms": -7},
    },
    "adam": {
        **{"16": -13, "64": -12, "256": -11, "1024": -9, "full": -8, "1024 long": -11, "full long": -11},
        **{"16 with norms": -12, "256 with norms": -10},
    },
    "sign": {"16": -17, "64": -16, "256": -15, "1024": -12, "full": -9, "1024 long": -15, "full long": -15},
}
OPTIMIZERS = tuple(LOWEST)
BATCHES = ("16", "256", "64", "1024", "full")
GROWTH = {"sgd_plain": 1, "sgd": 1, "adam": 2, "sign": 2}
SCHEDULES = {
    CONSTANT: ("scheduler=constant",),
    "linear": ("scheduler=linear",),
    "wsd": ("scheduler=wsd", "scheduler.factory.lr_lambda.warmup_fraction=0"),
    "linear to 0.1": ("scheduler=linear", "scheduler.factory.end_factor=0.1"),
    **{f"power {power}": ("scheduler=power", f"scheduler.factory.power={power}") for power in ("0.5", "2", "3")},
}
# Epochs, and passes over the images in each: validation and averages are evaluated after every epoch.
LENGTHS = {5: (5, 1), 20: (5, 4), 80: (5, 16), 240: (60, 4), 336: (6, 56), 2000: (5, 400)}
SAMPLES, STEPS = 20, {"1024": 336, "full": 2000}  # passes at equal samples, and at 2,000 steps or more
LEVEL = 240  # passes that let a constant rate level off, in many epochs since each is a noisy instant
PASSES_OF_NETWORKS = 2
NUM_RATES, MOST_RATES = 4, 12
NUM_LARGE = 16  # large batches that measure the gradient noise
# What the estimate of the hours takes a cell to need: rates tried, and of these the ones that fresh seeds train.
USUAL_RATES, USUAL_CHOSEN = 7, 2
NUM_IMAGES = 6_316
# Seconds of a run, and of each step and image of it, on one of two shared virtual cores of an AMD EPYC, November 2026.
SECONDS_OF_HEAD, SECONDS_OF_NETWORK = (3, 1.2e-3, 3e-6), (10, 1.5e-2, 3.3e-3)


@dataclass(frozen=True)
class Place:
    """A cell, and the images that it is trained on.

    Attributes:
        optimizer: File of `conf/optim`.
        batch_size: As in `data.batch_size`.
        schedule: Key of `SCHEDULES`, or `growing`.
        passes: Key of `LENGTHS`.
        exclude: File of excluded images; None trains on half of all images.
        model: Key of `MODELS`.
        weight_decay: Coefficient of the penalty.
    """

    optimizer: str
    batch_size: str
    schedule: str
    passes: int
    exclude: Path | None = None
    model: str = FROZEN_MODEL
    weight_decay: float = WEIGHT_DECAY

    @property
    def is_frozen(self) -> bool:
        """Whether only a head is trained, on frozen features."""
        return self.model == FROZEN_MODEL

    @property
    def windows(self) -> tuple[float, ...]:
        """Windows of the averages that count as schedules of their own."""
        if self.schedule != CONSTANT:
            return ()
        if self.is_frozen:
            return AVERAGES
        return AVERAGES_OF_NETWORKS if (self.model, self.weight_decay) == (WITH_NORMS, WEAK) else ()

    @property
    def overrides(self) -> list[str]:
        """Overrides of its runs, without rate and seed."""
        is_growing = self.schedule == GROWING
        growth = (f"batch_growth={GROWTH[self.optimizer]}",) if is_growing else ()
        epochs, passes = LENGTHS[self.passes] if self.is_frozen else (self.passes, 1)
        averages = AVERAGES if self.is_frozen else self.windows or (1,)
        evaluated = f"averages=[{','.join(map(str, averages))}]"  # also the weights themselves
        images = HALF if self.exclude is None else (f"data.exclude='{self.exclude}'",)
        length = (f"epochs={epochs}", f"data.passes_per_epoch={passes}")
        optimizer = (f"optim={self.optimizer}", f"optim.weight_decay={self.weight_decay}")
        schedule = SCHEDULES["linear" if is_growing else self.schedule]
        where = ("threads=1", "trainer=cpu", f"data.batch_size={self.batch_size}", evaluated)
        return [*MODELS[self.model], *where, *images, *optimizer, *schedule, *growth, *length]

    @property
    def first_rates(self) -> list[float]:
        """The rates that are tried first."""
        kind = {STEPS.get(self.batch_size): " long", LEVEL: " level"}.get(self.passes, "")
        kind = {WITH_NORMS: " with norms", WITHOUT_NORMS: " without norms"}.get(self.model, kind)
        lowest = LOWEST[self.optimizer][self.batch_size + kind]
        return [2.0**exponent for exponent in range(lowest, lowest + NUM_RATES)]

    @property
    def seconds(self) -> float:
        """About how long a run takes."""
        start, of_step, of_image = SECONDS_OF_HEAD if self.is_frozen else SECONDS_OF_NETWORK
        batch_size = NUM_IMAGES if self.batch_size == "full" else int(self.batch_size)
        return start + self.passes * (NUM_IMAGES // batch_size * of_step + NUM_IMAGES * of_image)

    def folder(self, study: Path, lr: float, seed: int) -> Path:
        """Return the folder of a run."""
        images = f",{self.exclude.stem}" if self.exclude else ""
        network = "" if self.is_frozen else f"{self.model.rpartition('.')[2]},wd={self.weight_decay:g},"
        cell = f"{network}{self.optimizer},batch={self.batch_size},{self.schedule},passes={self.passes}{images}"
        return study / f"{cell},lr={lr:.3g},seed={seed}".replace(" ", "-")


def places(exclude: Path | None) -> list[Place]:
    """Return all cells; what decides most comes first.

    Args:
        exclude: File of excluded images that thins the classes; None leaves out that row.
    """
    main = [
        *(Place(name, size, how, SAMPLES) for how, size, name in product((CONSTANT, "linear"), BATCHES, OPTIMIZERS)),
        *(Place(name, size, how, STEPS[size]) for size, how, name in product(STEPS, (CONSTANT, "linear"), OPTIMIZERS)),
        *(Place(name, size, GROWING, SAMPLES) for size, name in product(BATCHES[:-1], OPTIMIZERS)),
        *(Place(name, size, "wsd", SAMPLES) for size, name in product(BATCHES, OPTIMIZERS)),
        *(Place(name, size, "wsd", STEPS[size]) for size, name in product(STEPS, OPTIMIZERS)),
    ]
    floors = product((5, 20, 80), ("linear", "linear to 0.1"), ("sgd_plain", "adam"))
    powers = product([name for name in SCHEDULES if name.startswith("power")], ("sgd_plain", "adam"))
    rows = [
        *(Place(name, size, CONSTANT, 80) for size, name in product(("64", "16"), ("sgd_plain", "sgd"))),
        *(Place(name, size, CONSTANT, LEVEL) for size, name in product(("16", "64", "256"), ("sgd_plain", "sgd"))),
        *(Place(name, "64", how, passes) for passes, how, name in floors),
        *(Place(name, "64", how, SAMPLES) for how, name in powers),
    ]
    if exclude is not None:
        lengths = [*STEPS.items(), *((size, SAMPLES) for size in ("64", "16", "256", "1024"))]
        thinned = product(lengths, ("sgd", "adam"))
        rows += [Place(name, size, CONSTANT, passes, exclude) for (size, passes), name in thinned]
    return list(dict.fromkeys([*main, *rows, *_networks()]))


def _networks() -> Iterator[Place]:
    """Yield the cells of the small networks: weight decay with and without BatchNorm, then a slice of the question."""
    of_network = partial(Place, passes=PASSES_OF_NETWORKS)
    for model, decay, how in product((WITH_NORMS, WITHOUT_NORMS), (WEAK, STRONG), (CONSTANT, "linear")):
        yield of_network("sgd", "64", how, model=model, weight_decay=decay)
    for how, size, name in product((CONSTANT, "linear"), ("16", "256"), ("sgd", "adam")):
        yield of_network(name, size, how, model=WITH_NORMS, weight_decay=WEAK)


@dataclass(frozen=True)
class Made:
    """Runs that exist.

    Attributes:
        folder: Study folder with their records.
        known: Trials of earlier runs by the name of the run's folder, whose records need not exist any more.
    """

    folder: Path
    known: Mapping[str, Sequence[Trial]] = field(default_factory=dict)

    def has(self, place: Place, lr: float, seed: int) -> bool:
        """Return whether a run is complete, or its loss was not finite."""
        folder = place.folder(self.folder, lr, seed)
        if folder.name in self.known:
            return True
        summary = Summary.peek(folder)
        return summary is not None and (summary.status is Status.COMPLETED or has_diverged(summary))


def train(place: Place, lr: float, seed: int, made: Made, weights: Path, further: Iterable[str] = ()) -> None:
    """Train a run unless it is complete."""
    if made.has(place, lr, seed):
        return
    folder = place.folder(made.folder, lr, seed)
    initial = [f"model.weights='{weights}'"] if place.is_frozen else []
    overrides = [*initial, *place.overrides, f"optim.lr={lr}", f"seed={seed}", *further]
    try:
        start_run(overrides, folder=folder, quiet=True)
    except UserError as error:
        if "not finite" not in str(error):
            raise


def criteria(place: Place, made: Made, lr: float) -> list[float]:
    """Return what chooses rates: objective and validation loss of the last weights, and of each average of them.

    Averages count at a constant rate alone, where they are schedules of their own. All are infinite for a run whose
    loss was not finite.
    """
    windows = (0.0, *place.windows)
    penalty = place.weight_decay / 2 if place.is_frozen else 0.0
    folder = place.folder(made.folder, lr, SCREENING_SEED)
    if of_run := made.known.get(folder.name):
        by_schedule = {trial.cell.schedule: trial for trial in of_run}
        ordered = [by_schedule[f"{AVERAGING} {window:g}" if window else place.schedule] for window in windows]
        return [value for trial in ordered for value in (trial.objective, trial.val_loss)]
    summary = Summary.peek(folder)
    if summary is None or summary.status is not Status.COMPLETED:  # its epochs before it diverged do not count
        return [math.inf] * (2 * len(windows))
    last = {row.window: row for row in Averages.read(folder).rows}
    rows = [last[window] for window in windows]
    return [value for row in rows for value in (row.train_loss + penalty * row.weight_norm**2, row.val_loss)]


def screen(made: Made, weights: Path, place: Place) -> None:
    """Try rates on one seed, and more while the best of a criterion is at an end of the grid."""
    rates, results = place.first_rates, dict[float, list[float]]()
    while rates and len(results) < MOST_RATES:
        for lr in rates:
            train(place, lr, SCREENING_SEED, made, weights)
            results[lr] = criteria(place, made, lr)
        lowest, highest = min(results), max(results)
        best = {min(results, key=lambda lr: results[lr][number]) for number in range(len(results[lowest]))}
        rates = ([lowest / 2] if lowest in best else []) + ([highest * 2] if highest in best else [])


def confirm(made: Made, weights: Path, task: tuple[Place, float, int]) -> None:
    """Train a chosen rate on a fresh seed."""
    place, lr, seed = task
    is_measured = place.is_frozen and place.schedule == CONSTANT and place.exclude is None
    further = [f"noise_scale={NUM_LARGE}"] if is_measured else []
    train(place, lr, seed, made, weights, further)


def confirming(made: Made, ordered: Sequence[Place], num_seeds: int) -> list[tuple[Place, float, int]]:
    """Return place, rate and seed of the runs that confirm what the screening seed chose."""
    by_cell = {(replace(place, exclude=None), place.exclude is None): place for place in ordered}
    seeds = range(SCREENING_SEED + 1, SCREENING_SEED + 1 + num_seeds)
    tasks = []
    trials = read_trials([made.folder], known=itertools.chain.from_iterable(made.known.values()))
    for cell, lr, seed, _ in wanted(Study(trials, {})):
        schedule = CONSTANT if cell.schedule.startswith(AVERAGING) else cell.schedule
        batch_size, problem = "full" if cell.is_full else str(cell.batch_size), cell.problem
        place = Place(
            *(cell.optimizer, batch_size, schedule, cell.passes),
            model=problem.model,
            weight_decay=problem.weight_decay,
        )
        if seed in seeds and (place, problem.images == "all") in by_cell:
            tasks.append((by_cell[place, problem.images == "all"], lr, seed))
    return sorted(tasks, key=lambda task: ordered.index(task[0]))


def expected(made: Made, ordered: Sequence[Place], stages: Collection[str], num_seeds: int) -> list[Place]:
    """Return the place of each run that is missing; a guess for cells that have not tried four rates."""
    tried = {place: sum(made.has(place, lr, SCREENING_SEED) for lr in place.first_rates) for place in ordered}
    fresh = num_seeds if "confirm" in stages else 0
    runs = []
    for place, number in tried.items():
        if number < NUM_RATES:
            rates = USUAL_RATES - number if "screen" in stages else 0
            runs += [place] * (rates + USUAL_CHOSEN * fresh)
    screened = [place for place, number in tried.items() if number == NUM_RATES]
    return [*runs, *(place for place, _, _ in (confirming(made, screened, fresh) if screened else []))]


def main(arguments: Sequence[str]) -> None:
    """Screen all cells, then train the chosen rates on fresh seeds."""
    parser = argparse.ArgumentParser(description=str(__doc__).splitlines()[0])
    parser.add_argument("weights", type=Path, help="file of ImageNet weights of mobilenet_v2; networks do not read it")
    parser.add_argument("study", type=Path, help="folder of the runs")
    parser.add_argument(
        "--known", type=Path, help="folder with the trials.csv of an analysis, whose runs are not repeated"
    )
    parser.add_argument("--exclude", type=Path, help="file of excluded images, which adds cells with thinned classes")
    parser.add_argument("--optimizers", nargs="+", default=OPTIMIZERS, choices=OPTIMIZERS, help="by default all")
    parser.add_argument("--batches", nargs="+", default=BATCHES, choices=BATCHES, help="by default all")
    schedules = [*SCHEDULES, GROWING]
    parser.add_argument("--schedules", nargs="+", default=schedules, choices=schedules, help="by default all")
    parser.add_argument("--parts", nargs="+", default=["features", "networks"], choices=["features", "networks"])
    parser.add_argument("--seeds", type=int, default=len(CONFIRMING_SEEDS), help="number of fresh seeds, at most 5")
    parser.add_argument("--workers", type=int, default=2, help="number of runs at the same time")
    parser.add_argument("--stages", nargs="+", default=["screen", "confirm"], choices=["screen", "confirm"])
    parser.add_argument("--plan", action="store_true", help="only estimate how long it takes")
    options = parser.parse_args(arguments)
    ordered = [
        place
        for place in places(options.exclude and options.exclude.resolve())
        if place.optimizer in options.optimizers
        and place.batch_size in options.batches
        and place.schedule in options.schedules
        and ("features" if place.is_frozen else "networks") in options.parts
    ]
    made, weights = Made(options.study, _known(options.known)), options.weights.resolve()
    missing = expected(made, ordered, options.stages, options.seeds)
    hours = sum(place.seconds for place in missing) / 3600
    print(
        f"{len(ordered)} cells, about {len(missing)} runs and {hours:.1f} hours of one core, "
        f"{hours / options.workers:.1f} hours with {options.workers} workers"
    )
    if options.plan:
        return
    with ProcessPoolExecutor(options.workers, mp_context=multiprocessing.get_context("spawn")) as pool:
        if "screen" in options.stages:
            _shown(pool.map(partial(screen, made, weights), ordered), len(ordered), "cells")
        if "confirm" in options.stages:
            tasks = confirming(made, ordered, options.seeds)
            _shown(pool.map(partial(confirm, made, weights), tasks), len(tasks), "fresh seeds")


def _known(folder: Path | None) -> dict[str, list[Trial]]:
    by_run: dict[str, list[Trial]] = {}
    for trial in trials_table.read(folder) if folder else []:
        by_run.setdefault(trial.folder.name, []).append(trial)
    return by_run


def _shown(results: Iterable[None], number: int, label: str) -> None:
    for _ in tqdm(results, total=number, desc=label, file=sys.stderr):
        pass


if __name__ == "__main__":
    started = time.monotonic()
    logging.basicConfig(format="%(message)s")
    analysis.run(main)
    print(f"{(time.monotonic() - started) / 3600:.2f} hours passed")
