"""What a person sees of a training: how it begins, a line for each epoch, in a terminal a bar for the current one."""

import logging
import sys
from typing import NoReturn

import numpy as np
import numpy.typing as npt
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from tqdm import tqdm

from intel_scenes import record
from intel_scenes.data.splits import Splits
from intel_scenes.errors import counted
from intel_scenes.record import Epoch, History, Summary

log = logging.getLogger(__name__)

RARE = 10  # times as many images as the rarest class, beyond which a sentence says so
FEW_STEPS = 100  # fewer of them hardly move the weights, whatever the rate
LEAST_BATCH = 8  # images; smaller batches are no advice
HEADER = " epoch  train loss  val loss  train acc   (eval)  val acc       lr  img/s   left"


def beginning(known: Summary, splits: Splits, *, steps_per_epoch: int) -> list[str]:
    """Device, images, network, recipe and length of a run, a line for each.

    Args:
        known: What is known before the first step.
        splits: Which images.
        steps_per_epoch: Batches of training.
    """
    of_class = np.bincount(splits.scenes.labels[splits.train], minlength=len(splits.classes))
    counts = ", ".join(f"{name} {count:,}" for name, count in zip(splits.classes, of_class, strict=True))
    chosen = {"recipe": known.recipe, "optim": known.optim, "scheduler": known.scheduler}
    groups = ", ".join(f"{group} {name}" for group, name in chosen.items() if name)
    part = f" of {splits.num_whole:,} (data.train_fraction={known.train_fraction:g})" if splits.num_whole else ""
    return [
        f"device:  {known.device}, precision {known.precision}, CPU threads {known.threads}",
        f"images:  train {known.num_train:,}{part}, val {known.num_val:,}, test {known.num_test:,}",
        f"classes: {counts} (train)",
        *_imbalance(known, splits, of_class),
        f"network: {known.architecture}, {known.parameters:,} parameters, {known.image_size} px, "
        f"{known.weights or 'random'} weights",
        f"recipe:  {groups}{', ' if groups else ''}lr {known.lr:g}, batch size {known.batch_size}, seed {known.seed}",
        f"epochs:  {known.epochs}, of {counted(steps_per_epoch, 'batch', 'batches')} each",
        *_few_steps(known, steps_per_epoch),
    ]


def _imbalance(known: Summary, splits: Splits, counts: npt.NDArray[np.intp]) -> list[str]:
    """What to know and to consider where a class is rare."""
    if RARE * counts.min() >= counts.max():
        return []
    recipe = (known.recipe_resolved or {}).get("recipe", {})
    is_minded = recipe.get("class_weight") or known.metric == record.BALANCED
    label = int(counts.argmin())
    rarest, commonest = splits.classes[label], splits.classes[int(counts.argmax())]
    of_val, of_test = splits.scenes.labels[splits.val], splits.test_scenes.labels[splits.test]
    advice = "" if is_minded else ": consider recipe.class_weight=1 or primary_metric=balanced_accuracy"
    others = f"{(of_val == label).sum()} for validation and {(of_test == label).sum()} for test"
    return [f"         {rarest} has less than a tenth of the images of {commonest}, {others}{advice}"]


def _few_steps(known: Summary, steps_per_epoch: int) -> list[str]:
    """What to change where a training is over before it has begun."""
    num_steps = (known.epochs or 0) * steps_per_epoch
    if num_steps >= FEW_STEPS or not known.batch_size or not known.num_train:
        return []
    smaller = min(known.num_train * (known.epochs or 0) // FEW_STEPS, known.batch_size // 2)
    lower = f", or lower data.batch_size to {smaller}" if smaller >= LEAST_BATCH else ""
    return [f"         these are {counted(num_steps, 'step')} in all, few to learn from: raise epochs{lower}"]


class TrainingProgress(Callback):
    """Writes a line for each epoch to the log; with a bar, also shows the batches of the current one on stderr.

    Lightning's own bars fill a file with carriage returns, and wrap in 80 columns.
    """

    def __init__(self, *, has_bar: bool) -> None:
        """Shows a bar where asked and where stderr is a terminal."""
        self._has_bar = has_bar and sys.stderr.isatty()
        self._bar: tqdm[NoReturn] | None = None
        self._has_header = False

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Begins a bar."""
        if self._has_bar and trainer.is_global_zero:
            what = f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}"
            total = int(trainer.num_training_batches)
            self._bar = tqdm(total=total, desc=what, unit="batch", leave=False, dynamic_ncols=True)

    def on_train_batch_end(self, *_: object) -> None:
        """Counts a batch."""
        if self._bar is not None:
            self._bar.update()

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Says what the wait after the last batch is for."""
        if self._bar is not None:
            self._bar.set_description(f"epoch {trainer.current_epoch + 1} of {trainer.max_epochs}, validating")

    def on_exception(self, *_: object) -> None:
        """Ends the bar, so that what comes next has a line of its own."""
        self.close()

    def epoch(self, history: History, num_epochs: int, seconds: float) -> None:
        """Writes the line of an epoch that has ended.

        Args:
            history: So far.
            num_epochs: Of the whole training.
            seconds: Spent in those of the history.
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
        """Removes the bar."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


def _line(row: Epoch, val: float, num_epochs: int, seconds_left: float) -> str:
    """One epoch under `HEADER`, with the primary metric on validation; epochs count from 1."""
    accuracies = "".join(
        f"{100 * accuracy:{width}.1f} %"
        for accuracy, width in ((row.train_accuracy, 9), (row.train_eval_accuracy, 7), (val, 7))
    )
    left = f"{seconds_left:.0f} s" if seconds_left < 100 else f"{seconds_left / 60:.0f} min"
    return (
        f"{row.epoch + 1:>3}/{num_epochs:<3}{row.train_loss:11.4f}{row.val_loss:10.4f}{accuracies}"
        f"{row.lr:9.2g}{row.images_per_second:7.0f}{left:>7}"
    )
