"""Trials of the open question, read from the records of runs.

A trial is one cell (problem, optimizer, batch, schedule, length) at one rate with one seed. A run at a constant rate
with `averages` is several trials: its own weights, and each average of them as the schedule `averaging WINDOW`.
"""

import itertools
import logging
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import yaml

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.files import flatten
from intel_scenes.record import AVERAGES, AveragedEpoch, Averages, GradientNoise, Status, Summary

log = logging.getLogger(__name__)

CONSTANT, AVERAGING, GROWING = "constant", "averaging", "growing"
SAMPLES_PASSES = 20  # passes over the training images in the regime of equal samples
LEAST_STEPS, MOST_STEPS = 1_900, 2_100  # nominal steps in the regime of equal steps
FROZEN = "head"  # recipe.trained of a frozen backbone
# Models of the record.
WITH_NORMS, WITHOUT_NORMS = "resnet9_x0_5", "results.open_question.networks.resnet9_without_norms"


@dataclass(frozen=True, order=True)
class Problem:
    """What is minimized.

    Attributes:
        model: Name of the backbone.
        trained: `head` or `all`.
        weight_decay: Coefficient of the penalty.
        images: `all`, or the name of the file of excluded images.
    """

    model: str
    trained: str
    weight_decay: float
    images: str

    def __str__(self) -> str:
        """Return the problem in words."""
        part = "frozen" if self.trained == FROZEN else "trained"
        return f"{self.model} {part}, weight decay {self.weight_decay:g}, {self.images} images"


@dataclass(frozen=True, order=True)
class Cell:
    """What a rate is tuned for.

    Attributes:
        problem: What is minimized.
        optimizer: Name of the optimizer's file.
        batch_size: Number of images of a batch, of the first one if the batch grows.
        schedule: Name of the schedule: `constant`, `linear`, `linear to 0.1`, `power 2`, `growing`, `averaging 0.1`.
        passes: Passes over the training images.
        num_train: Number of training images.
    """

    problem: Problem
    optimizer: str
    batch_size: int
    schedule: str
    passes: int
    num_train: int

    @property
    def is_full(self) -> bool:
        """Whether a batch holds all training images."""
        return self.batch_size >= self.num_train

    @property
    def regime(self) -> str:
        """What is held equal: `samples`, `steps`, or the number of passes in words."""
        if self.passes == SAMPLES_PASSES:
            return "samples"
        return "steps" if self.has_equal_steps else f"{self.passes} passes"

    @property
    def steps(self) -> int:
        """Number of steps, of a batch that does not grow."""
        return self.passes * max(1, self.num_train // self.batch_size)

    @property
    def has_equal_steps(self) -> bool:
        """Whether it takes about 2,000 steps, in whatever regime, so that batches compare at equal steps."""
        return LEAST_STEPS <= self.steps <= MOST_STEPS

    def with_schedule(self, schedule: str) -> "Cell":
        """Return the same cell under another schedule."""
        return replace(self, schedule=schedule)


class Noise(NamedTuple):
    """Means of the squared gradient and of its noise over the second half of a training."""

    signal: float
    noise: float


@dataclass(frozen=True)
class Trial:
    """One cell at one rate with one seed.

    Attributes:
        cell: The cell.
        lr: Learning rate.
        seed: Seed of the run.
        folder: Folder of the run.
        images: What the training images and their features follow from.
        curve: Objective at the end of each epoch: training loss, with the penalty on frozen features. Infinite where
            the loss was not finite.
        train_loss: Training loss at the last step, without the penalty.
        val_loss: Validation loss at the last step.
        test_accuracy: Test accuracy at the last step.
        noise: Gradient noise; None where it was not measured.
    """

    cell: Cell
    lr: float
    seed: int
    folder: Path
    images: tuple[object, ...]
    curve: tuple[float, ...]
    train_loss: float
    val_loss: float
    test_accuracy: float
    noise: Noise | None = None

    @property
    def objective(self) -> float:
        """Objective at the last step."""
        return self.curve[-1]


def read_noise(folder: Path) -> Noise | None:
    """Return the gradient noise of a run from `gradient_noise.csv`; None where it was not measured.

    Signal and noise are averaged apart, over the second half of the epochs: a schedule acts at the end, and at the
    start the gradient is large for every batch.
    """
    epochs = GradientNoise.read(folder).epochs
    late = epochs[len(epochs) // 2 :]
    return Noise(fmean(row.signal for row in late), fmean(row.noise for row in late)) if late else None


def has_diverged(summary: Summary) -> bool:
    """Return whether a run failed because its loss was not finite."""
    return summary.status is Status.FAILED and "not finite" in (summary.error or "")


def read_trials(folders: Sequence[Path], known: Iterable[Trial] = ()) -> list[Trial]:
    """Return the trials of all runs in study folders; a run that was made twice, or is in two of them, counts once.

    Args:
        folders: Study folders.
        known: Trials of earlier runs, whose records need not exist any more.

    Raises:
        UserError: There is no run, or two different runs fill the same place.
    """
    trials: dict[tuple[Cell, float, int], Trial] = {}
    for trial in itertools.chain(known, _recorded(folders)):
        place = trial.cell, trial.lr, trial.seed
        other = trials.get(place, trial)
        if other.curve != trial.curve:
            raise UserError(
                f"{trial.folder} and {other.folder} differ in a key that is not a factor here: move one away"
            )
        trials[place] = trial if other.noise is None else other  # `noise_scale` measures, and changes nothing
    if not trials:
        raise UserError(f"{', '.join(map(str, folders))} holds no finished run with {AVERAGES}: run the study first")
    _check_images(trials.values())
    return list(trials.values())


def _recorded(folders: Sequence[Path]) -> Iterator[Trial]:
    seen: set[str] = set()
    for folder in (path.parent for root in folders for path in sorted(root.glob(f"*/{record.SUMMARY}"))):
        summary = Summary.read(folder)
        if summary is None or summary.config_digest in seen:
            continue
        for trial in _trials_of(folder, summary):
            yield trial
            seen.add(summary.config_digest or "")


def _trials_of(folder: Path, summary: Summary) -> Iterator[Trial]:
    diverged = has_diverged(summary)
    if summary.status is not Status.COMPLETED and not diverged:
        log.warning("%s is not complete; skipped", folder)
        return
    settings = flatten(yaml.safe_load((folder / record.CONFIG).read_text()))
    if _has_other_objective(summary, settings):
        log.warning("%s has decoupled weight decay, which minimizes another function; skipped", folder)
        return
    base = Trial(
        cell=_cell(summary, settings),
        lr=summary.lr or 0.0,
        seed=summary.seed or 0,
        folder=folder,
        images=(
            *(summary.data_fingerprint, summary.split_digest, summary.train_fraction),
            0 if summary.train_fraction == 1 else summary.subset_seed,  # without effect on all images
            *(summary.weights_digest, summary.image_size, None if summary.weights_digest else summary.seed),
        ),
        curve=(math.inf,),
        train_loss=math.inf,
        val_loss=math.inf,
        test_accuracy=0.0,
    )
    if diverged:
        windows = [0.0, *(settings.get("averages") or [])]
        yield from (replace(base, cell=_windowed(base.cell, window)) for window in windows if _counts(base, window))
        return
    rows = Averages.read(folder).rows
    if not rows:
        log.warning("%s has no %s; skipped", folder, AVERAGES)
    noise = read_noise(folder)
    for window in dict.fromkeys(row.window for row in rows):
        if _counts(base, window):
            of_window = [row for row in rows if row.window == window]
            yield _measured(replace(base, cell=_windowed(base.cell, window), noise=noise), of_window)


def _has_other_objective(summary: Summary, settings: Mapping[str, Any]) -> bool:
    decoupled = str(settings.get("optim._target_")).endswith("AdamW") or settings.get("optim.decoupled_weight_decay")
    is_penalized = bool(settings.get("optim.weight_decay"))
    return bool(decoupled) and is_penalized and settings.get("recipe.trained") == FROZEN


def _counts(trial: Trial, window: float) -> bool:
    """Return whether a window is a trial: an average counts as a schedule of its own for runs at a constant rate.

    The mean of all weights (window 1) is none where the first ones were random.
    """
    is_kept = window < 1 or trial.cell.problem.trained == FROZEN
    return not window or (trial.cell.schedule == CONSTANT and is_kept)


def _windowed(cell: Cell, window: float) -> Cell:
    return cell.with_schedule(f"{AVERAGING} {window:g}") if window else cell


def _measured(trial: Trial, rows: Sequence[AveragedEpoch]) -> Trial:
    problem, last = trial.cell.problem, rows[-1]
    penalty = problem.weight_decay / 2 if problem.trained == FROZEN else 0.0
    curve = tuple(row.train_loss + penalty * row.weight_norm**2 for row in rows)
    accuracy = math.nan if last.test_accuracy is None else last.test_accuracy
    return replace(trial, curve=curve, train_loss=last.train_loss, val_loss=last.val_loss, test_accuracy=accuracy)


def _cell(summary: Summary, settings: Mapping[str, Any]) -> Cell:
    exclude = settings.get("data.exclude")
    problem = Problem(
        summary.model_name or "",
        settings["recipe.trained"],
        float(settings.get("optim.weight_decay") or 0),
        Path(exclude).stem if exclude else "all",
    )
    return Cell(
        problem,
        summary.optim or "",
        summary.batch_size or 0,
        schedule_of(summary.scheduler or "", settings),
        (summary.epochs or 0) * int(settings.get("data.passes_per_epoch") or 1),
        summary.num_train or 0,
    )


def schedule_of(name: str, settings: Mapping[str, Any]) -> str:
    """Return the name of a schedule with what distinguishes it.

    Args:
        name: Name of the scheduler's file.
        settings: Configuration of the run, with dotted keys.
    """
    if settings.get("batch_growth"):
        return GROWING if name == "linear" else f"{GROWING} {name}"
    if name == "linear" and (floor := settings.get("scheduler.factory.end_factor")):
        return f"linear to {floor:g}"
    if name == "power":
        power = float(settings["scheduler.factory.power"])
        return "linear" if power == 1 else f"power {power:g}"
    return name


def _check_images(trials: Iterable[Trial]) -> None:
    """Refuse runs of one problem on different frozen features, whose objectives have different optima."""
    first: dict[Problem, Trial] = {}
    for trial in trials:
        other = first.setdefault(trial.cell.problem, trial)
        if trial.cell.problem.trained == FROZEN and trial.images != other.images:
            raise UserError(
                f"{trial.folder} and {other.folder} train on different images or features, so their losses have "
                "different optima: fix data.subset_seed, and set model.weights"
            )
