"""History and checkpoints that a run writes while it trains; a resumed run equals an uninterrupted one."""

import math
import time
import zipfile
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from errno import EINVAL
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
import torch.distributed as dist
from lightning.fabric.plugins.io.torch_io import TorchCheckpointIO
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, Checkpoint
from lightning_utilities.core.apply_func import apply_to_collection
from torch import Tensor

from intel_scenes import files, record
from intel_scenes.errors import UserError
from intel_scenes.record import Epoch, History
from intel_scenes.training.console import TrainingProgress

WEIGHTS_KEYS = ("state_dict", "epoch", "global_step", "pytorch-lightning_version", "transform_input")


class WholeCheckpointIO(TorchCheckpointIO):
    """Plugin that writes checkpoints atomically and in the background, and the best weights to a file of their own.

    Lightning's own writes through a temporary file that may be on another file system
    (Lightning-AI/pytorch-lightning#21431), and omits the averaged weights from weights-only files. Training continues
    during the write: a checkpoint is copied in memory first, because the next step changes the weights in place, and it
    waits for the one before, so that only one copy is held.
    """

    def __init__(self) -> None:
        """Start the thread that writes."""
        super().__init__()
        self._disk = ThreadPoolExecutor(1, "checkpoints")
        self._written: Future[None] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ANN401
        """Write a checkpoint.

        Args:
            checkpoint: Lightning's checkpoint.
            path: File of the whole checkpoint.
            storage_options: `{"weights": path}` also writes the weights to that file, before the checkpoint, whose
                history refers to them.
        """
        self.wait()
        kept = apply_to_collection(checkpoint, Tensor, lambda tensor: tensor.to("cpu", copy=True))
        checkpoints = {Path(path): kept}
        if storage_options:
            weights = {key: kept[key] for key in WEIGHTS_KEYS if key in kept}  # transform_input exists for few networks
            checkpoints = {Path(storage_options["weights"]): weights} | checkpoints
        self._written = self._disk.submit(_write_all, checkpoints)

    def load_checkpoint(self, path: Any, *arguments: Any, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """Read a checkpoint; of several processes the first one reads it for all."""
        if not dist.is_initialized():
            return super().load_checkpoint(path, *arguments, **options)
        is_first = dist.get_rank() == 0
        shared: list[Any] = [super().load_checkpoint(path, *arguments, **options) if is_first else None]
        dist.broadcast_object_list(shared)
        checkpoint: dict[str, Any] = shared[0]
        return checkpoint

    def wait(self) -> None:
        """Wait until the last checkpoint is on the disk.

        Raises:
            OSError: It could not be written.
        """
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def teardown(self) -> None:
        """Wait for the last checkpoint at the end of a fit."""
        try:
            self.wait()
        finally:
            self._disk.shutdown()


def _write_all(checkpoints: dict[Path, dict[str, Any]]) -> None:
    for path, checkpoint in checkpoints.items():
        files.write_whole(path, partial(save, checkpoint))


def save(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    """Write a checkpoint to an open file by `torch.save`, without a copy of its bytes in memory.

    Raises:
        OSError: It cannot be written.
    """
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch hides it behind the error of closing the file
            raise error.__context__ from None
        raise


def is_whole(path: Path) -> bool:
    """Return whether a file is a complete checkpoint whose parts have the checksums that they were written with.

    Raises:
        OSError: The file exists but cannot be opened, or the disk fails.
    """
    try:
        _check_sums(path)
        return "state_dict" in torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        return False
    except OSError:
        raise
    except Exception:  # a corrupt file raises many kinds of errors
        return False


def _check_sums(path: Path) -> None:
    """Raise an error if the checksum of a part of a checkpoint is wrong, which torch does not look at.

    Raises:
        BadZipFile: A part is corrupt, or the file is no archive.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            corrupt = archive.testzip()
    except OSError as error:
        if error.errno != EINVAL:
            raise
        raise zipfile.BadZipFile("a part begins before the file") from error
    if corrupt:
        raise zipfile.BadZipFile(f"the checksum of {corrupt} is wrong")


def read_best(folder: Path) -> dict[str, Any]:
    """Read the checkpoint of a run's best epoch to the CPU: a full accelerator would look like a corrupt file.

    Raises:
        UserError: It is missing or corrupt.
        OSError: It cannot be opened, or the disk fails.
    """
    path = folder / record.BEST
    try:
        _check_sums(path)
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["state_dict"]
    except Exception as error:  # a corrupt file raises many kinds of errors
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise
        raise UserError(
            f"{path} is missing or corrupt ({type(error).__name__}): remove the folder {folder} and train again"
        ) from error
    return checkpoint


class EpochRecorder(Checkpoint):
    """Callback that writes `history.csv`, `last.ckpt`, and `best.ckpt` if the validation metric improved, per epoch.

    The rows and the time spent are part of `last.ckpt`. A kill between the files, or during a write, loses the epochs
    since the last complete `last.ckpt`: two at most.

    Attributes:
        before_writing: Called before each write; raises if this process has lost its claim on the folder.
        history: The epochs so far.
        fit_seconds: Time spent in epochs, over all resumes.
    """

    def __init__(
        self,
        folder: Path,
        progress: TrainingProgress | None = None,
        before_writing: Callable[[], None] = lambda: None,
        primary_metric: str = record.ACCURACY,
    ) -> None:
        """Record into a run folder; `progress` shows each epoch after it is recorded."""
        self.folder = folder
        self.progress = progress
        self.before_writing = before_writing
        self.history = History(primary_metric=primary_metric)
        self.fit_seconds = 0.0
        self._lr = math.nan
        self._started = self._train_seconds = 0.0
        self._num_images = 0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start the clock."""
        self._started, self._num_images = time.perf_counter(), 0

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Note the learning rate of the step, before a scheduler changes it."""
        self._lr = float(optimizer.param_groups[0]["lr"])

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: tuple[Tensor, Tensor],
        batch_idx: int,
    ) -> None:
        """Count the images of a batch, over all devices, whose slices may differ in size."""
        is_alone = trainer.world_size == 1
        self._num_images += len(batch[1]) if is_alone else trainer.datamodule.batch_size  # type: ignore[attr-defined]

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stop the clock of the training part."""
        self._train_seconds = time.perf_counter() - self._started

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Write the files of the epoch."""
        self.before_writing()
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        epoch = Epoch(
            epoch=trainer.current_epoch,
            step=trainer.global_step,
            lr=self._lr,
            train_loss=metrics["train_loss"],
            train_accuracy=metrics["train_accuracy"],
            train_eval_accuracy=metrics["train_eval_accuracy"],
            val_loss=metrics["val_loss"],
            val_accuracy=metrics["val_accuracy"],
            images_per_second=self._num_images / self._train_seconds,
            val_balanced_accuracy=metrics.get("val_balanced_accuracy"),
        )
        self.history = replace(self.history, epochs=(*self.history.epochs, epoch))
        self.fit_seconds += time.perf_counter() - self._started
        options = {"weights": self.folder / record.BEST} if self.history.best is epoch else None
        if trainer.is_global_zero:
            self.history.write(self.folder)
            if self.progress is not None:
                num_epochs = trainer.max_epochs or len(self.history.epochs)
                self.progress.epoch(self.history, num_epochs, self.fit_seconds)
        trainer.save_checkpoint(self.folder / record.LAST, storage_options=options)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for `last.ckpt`, which loads with `weights_only=True`."""
        return {"rows": [asdict(epoch) for epoch in self.history.epochs], "fit_seconds": self.fit_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the epochs of `last.ckpt`."""
        self.history = replace(self.history, epochs=tuple(Epoch(**row) for row in state_dict["rows"]))
        self.fit_seconds = state_dict["fit_seconds"]


class FiniteLoss(Callback):
    """Callback that stops a run whose loss is not finite, and reports the first such step.

    The step is stored on the device and read only now and then, because reading it waits for the accelerator.
    """

    def __init__(self) -> None:
        """Check after every step on a CPU, else after every 50 steps and at the end of an epoch."""
        self._first: Tensor | None = None
        self._step = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Note the step, which spans several batches with accumulated gradients."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: object,
        batch_idx: int,
    ) -> None:
        """Note a loss that is not finite.

        Raises:
            UserError: A loss so far was not finite.
        """
        loss: Tensor = outputs["loss"]
        if self._first is None:
            self._first = torch.full((), -1, device=loss.device)
        fresh = (self._first < 0) & ~torch.isfinite(loss)
        self._first = torch.where(fresh, self._step, self._first)
        if loss.device.type == "cpu" or (batch_idx + 1) % 50 == 0 or trainer.is_last_batch:
            step = int(self._first.item())
            if step >= 0:
                raise UserError(
                    f"the loss is not finite at step {step} (epoch {trainer.current_epoch + 1}): lower optim.lr or "
                    "lr_scale, choose a scheduler with warm-up, or set ++trainer.gradient_clip_val=1"
                )
