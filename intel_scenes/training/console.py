"""Terminal output of a training: a description at the start, a line for each epoch, and a bar for the current one."""

import logging
import sys
from pathlib import Path
from typing import NamedTuple, NoReturn

import numpy as np
import numpy.typing as npt
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from intel_scenes import record
from intel_scenes.data.splits import Splits
from intel_scenes.errors import counted, percentage
from intel_scenes.record import Epoch, History, Summary
from intel_scenes.runtime import Runtime, emulates

log = logging.getLogger(__name__)

IMBALANCED = 10  # ratio of the largest to the smallest class beyond which a line says so
FEW_STEPS = 100  # fewer than these hardly move the weights, whatever the learning rate
FEW_VAL = 100  # validation images; of fewer each is worth more than a point of accuracy
SMALLEST_BATCH = 8  # images; smaller batches are not recommended
HEADER = "  epoch    train loss  val loss  train acc  (eval) val acc      lr  img/s   left"


class RunSeries(NamedTuple):
    """Runs of which a process describes the first one in full.

    Attributes:
        folder: Folder of the study; None for a single run.
        data: Fingerprint of the images.
    """

    folder: Path | None
    data: str


_described: set[RunSeries] = set()  # by this process; a worker of a launcher describes its own first run


def is_described(series: RunSeries) -> bool:
    """Return whether this process has described an earlier run of the study in full; never for a single run."""
    return series in _described


def describe(
    summary: Summary,
    splits: Splits,
    runtime: Runtime,
    series: RunSeries,
    *,
    batches_per_epoch: int,
    num_steps: int,
    is_growing: bool = False,
) -> None:
    """Log device, images, network, recipe and length of a run, one line each; of later runs of a study only one line.

    Args:
        summary: The summary before the results.
        splits: The images.
        runtime: Device and precision of the training.
        series: Series of the run.
        batches_per_epoch: Batches per epoch, without growth.
        num_steps: Steps of the whole training.
        is_growing: Whether the batch grows.
    """
    is_first = not is_described(series)
    batches = counted(batches_per_epoch, "batch", "batches")
    grown = f", {num_steps:,} steps with a growing batch" if is_growing else ""
    if is_first:
        length = f"{grown} in total" if grown else f", of {batches} each"
        log.info("\n".join(_description(summary, splits, num_steps, length)))
    else:  # what is constant in a study stands in the full description, and what differs in the run's name
        epochs = counted(summary.epochs or 0, "epoch")
        log.info(f"  {summary.architecture}, {_settings(summary)}, {epochs}{grown or f' of {batches}'}")
    if is_first and emulates(runtime.precision, runtime.device):
        log.warning("this processor emulates %s in software; trainer.precision=32 is faster", runtime.precision)
    if series.folder is not None:
        _described.add(series)


def _settings(summary: Summary) -> str:
    choices = {"optim": summary.optim, "scheduler": summary.scheduler}
    chosen = [f"{group} {name}" for group, name in choices.items() if name]
    return ", ".join([*chosen, f"lr {summary.lr:g}", f"batch size {summary.batch_size}"])


def _description(summary: Summary, splits: Splits, num_steps: int, length: str) -> list[str]:
    of_class = np.bincount(splits.scenes.labels[splits.train], minlength=len(splits.classes))
    counts = ", ".join(f"{name} {count:,}" for name, count in zip(splits.classes, of_class, strict=True))
    whole = f" of {splits.num_whole:,} (data.train_fraction={summary.train_fraction:g})" if splits.num_whole else ""
    return [
        f"device:  {summary.device}, precision {summary.precision}, CPU threads {summary.threads}",
        f"images:  train {summary.num_train:,}{whole}, val {summary.num_val:,}, test {summary.num_test:,}",
        *_few_to_choose_by(summary.num_val),
        f"classes: {counts} (train)",
        *_imbalance(summary, splits, of_class),
        f"network: {summary.architecture}, {summary.parameters:,} parameters, {summary.image_size} px, "
        f"{summary.weights or 'random'} weights",
        f"recipe:  {f'{summary.recipe}, ' if summary.recipe else ''}{_settings(summary)}, seed {summary.seed}",
        f"epochs:  {summary.epochs}{length}; numbered from 1 here, from 0 in history.csv",
        *_few_steps(summary, num_steps),
    ]


def _few_to_choose_by(num_val: int | None) -> list[str]:
    """Return a line with advice if validation has too few images to choose an epoch or a run by."""
    if not num_val or num_val >= FEW_VAL:
        return []
    images = f"{counted(num_val, 'validation image')}, each worth {100 / num_val:.1f} points of accuracy"
    return [f"         only {images}: add images or raise data.val_fraction"]


def _imbalance(summary: Summary, splits: Splits, counts: npt.NDArray[np.intp]) -> list[str]:
    """Return a line with advice if a class is rare."""
    if IMBALANCED * counts.min() >= counts.max():
        return []
    recipe = (summary.recipe_resolved or {}).get("recipe", {})
    is_handled = recipe.get("class_weight") or summary.metric == record.BALANCED
    label = int(counts.argmin())
    rarest, commonest = splits.classes[label], splits.classes[int(counts.argmax())]
    of_val, of_test = splits.scenes.labels[splits.val], splits.test_scenes.labels[splits.test]
    advice = "" if is_handled else ": consider recipe.class_weight=1 or primary_metric=balanced_accuracy"
    others = f"{(of_val == label).sum()} for validation and {(of_test == label).sum()} for test"
    return [f"         {rarest} has less than a tenth of the images of {commonest}, {others}{advice}"]


def _few_steps(summary: Summary, num_steps: int) -> list[str]:
    """Return a line with advice if a training has too few steps to learn much."""
    if num_steps >= FEW_STEPS or not summary.batch_size:
        return []
    smaller = min(num_steps * summary.batch_size // FEW_STEPS, summary.batch_size // 2)
    lower = f", or lower data.batch_size to {smaller}" if smaller >= SMALLEST_BATCH else ""
    return [f"         only {counted(num_steps, 'step')} in all, too few to learn much: raise epochs{lower}"]


class TrainingProgress(Callback):
    """Callback that logs a line for each epoch and, with a bar, shows the batches of the current one on stderr.

    Lightning's own bars fill a log file with carriage returns and wrap at 80 columns.
    """

    def __init__(self, *, has_bar: bool) -> None:
        """Show a bar if asked for and if stderr is a terminal."""
        self._has_bar = has_bar and sys.stderr.isatty()
        self._bar: tqdm[NoReturn] | None = None
        self._has_header = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Open a bar for the epoch."""
        if self._has_bar and trainer.is_global_zero:
            label = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
            total = int(trainer.num_training_batches)
            self._bar = tqdm(total=total, desc=label, unit="batch", leave=False, dynamic_ncols=True)

    def on_train_batch_end(self, *_: object) -> None:
        """Count a batch."""
        if self._bar is not None:
            self._bar.update()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Show that the wait after the last batch is the validation."""
        if self._bar is not None:
            self._bar.set_description(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}, validating")

    def on_exception(self, *_: object) -> None:
        """Close the bar, so that the next output starts on its own line."""
        self.close()

    def epoch(self, history: History, num_epochs: int, seconds: float) -> None:
        """Log the line of the epoch that has ended.

        Args:
            history: Epochs so far.
            num_epochs: Number of epochs of the training.
            seconds: Time spent in the epochs so far.
        """
        self.close()
        if not self._has_header:
            log.info(HEADER if history.primary_metric == record.ACCURACY else HEADER.replace("val acc", "val bal"))
            self._has_header = True
        done = len(history.epochs)
        row = history.epochs[-1]
        val = getattr(row, f"val_{history.primary_metric}")
        log.info(_line(row, val, num_epochs, seconds / done * (num_epochs - done)))

    def close(self) -> None:
        """Remove the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _line(row: Epoch, val: float, num_epochs: int, seconds_left: float) -> str:
    """Return the line of an epoch under `HEADER`, with the primary metric on validation; epochs count from 1."""
    accuracies = "".join(
        f"{percentage(accuracy):>{width + 2}}"
        for accuracy, width in ((row.train_accuracy, 9), (row.train_eval_accuracy, 6), (val, 6))
    )
    minutes = seconds_left / 60
    left = f"{seconds_left:.0f} s" if seconds_left < 100 else f"{minutes:.0f} min"
    left = left if minutes < 100 else f"{minutes / 60:.3g} h"
    return (
        f"{row.epoch + 1:>3} of {num_epochs:<3}{row.train_loss:11.4f}{row.val_loss:10.4f}{accuracies}"
        f"{row.lr:8.2g}{row.images_per_second:7.0f}{left:>7}"
    )
