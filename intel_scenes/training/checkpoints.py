"""What a run writes while it trains: its history, and checkpoints from which it goes on as if never interrupted."""

import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import torch
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
    """Writes a checkpoint whole or not at all, and beside it, first, the weights alone where they are the best so far.

    Lightning's own goes through a temporary file that may lie in another file system
    (Lightning-AI/pytorch-lightning#21431), and leaves the averaged weights out of its weights-only files. The training
    goes on while the disk is at work: a checkpoint is a copy in memory before it is written, and one waits for the
    other, so that no more than one is held. It is a copy because the next step changes the weights in place.
    """

    def __init__(self) -> None:
        """Nothing is being written yet."""
        super().__init__()
        self._disk = ThreadPoolExecutor(1, "checkpoints")
        self._written: Future[None] | None = None

    def save_checkpoint(self, checkpoint: dict[str, Any], path: Any, storage_options: Any | None = None) -> None:  # noqa: ANN401
        """Writes a checkpoint.

        Args:
            checkpoint: What Lightning dumped.
            path: Of the whole checkpoint.
            storage_options: `{"weights": path}` writes the weights there as well, before the checkpoint that counts
                on them.
        """
        self.wait()
        kept = apply_to_collection(checkpoint, Tensor, lambda tensor: tensor.to("cpu", copy=True))
        checkpoints = {Path(path): kept}
        if storage_options:
            weights = {key: kept[key] for key in WEIGHTS_KEYS if key in kept}  # the last is of few networks
            checkpoints = {Path(storage_options["weights"]): weights} | checkpoints
        self._written = self._disk.submit(_write_all, checkpoints)

    def wait(self) -> None:
        """Waits until the last checkpoint is on the disk.

        Raises:
            OSError: It could not be written.
        """
        written, self._written = self._written, None
        if written is not None:
            written.result()

    def teardown(self) -> None:
        """Waits, at the end of a fit."""
        try:
            self.wait()
        finally:
            self._disk.shutdown()


def _write_all(checkpoints: dict[Path, dict[str, Any]]) -> None:
    for path, checkpoint in checkpoints.items():
        files.write_whole(path, partial(save, checkpoint))


def save(checkpoint: dict[str, Any], file: BinaryIO) -> None:
    """Writes a checkpoint to an open file by `torch.save`, without its bytes in memory beside it.

    Raises:
        OSError: It cannot be written.
    """
    try:
        torch.save(checkpoint, file)
    except RuntimeError as error:
        if isinstance(error.__context__, OSError):  # torch goes on to end the file, and complains of that
            raise error.__context__ from None
        raise


def is_whole(path: Path) -> bool:
    """Whether a file is a checkpoint that is there to its end; its tensors are not read.

    Raises:
        OSError: It is there and may not be read, or the disk fails.
    """
    try:
        return "state_dict" in torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except FileNotFoundError:
        return False
    except OSError:
        raise
    except Exception:  # the readers of a damaged file fail in many ways
        return False


def read_best(folder: Path) -> dict[str, Any]:
    """The checkpoint of a run's best epoch, on the CPU: an accelerator that is full would look like a damaged file.

    Raises:
        UserError: It is missing or damaged.
        OSError: It may not be read, or the disk fails.
    """
    path = folder / record.BEST
    try:
        checkpoint: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
        checkpoint["state_dict"]
    except Exception as error:  # the readers of a damaged file fail in many ways
        if isinstance(error, OSError) and not isinstance(error, FileNotFoundError):
            raise
        raise UserError(
            f"{path} is missing or damaged ({type(error).__name__}): remove the folder {folder} and run it again"
        ) from error
    return checkpoint


class EpochRecorder(Checkpoint):
    """After each epoch: a row of `history.csv`, `best.ckpt` if the primary metric rose on validation, `last.ckpt`.

    The rows and the time spent travel in `last.ckpt`; a kill between the files, or while it is being written, costs
    the epochs since: two at most.

    Attributes:
        before_writing: Raises where the folder is no longer this process's to write to.
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
        """Records into a run folder; `progress` shows each epoch once it is recorded."""
        self.folder = folder
        self.progress = progress
        self.before_writing = before_writing
        self.history = History(primary_metric=primary_metric)
        self.fit_seconds = 0.0
        self._lr = math.nan
        self._started = self._train_seconds = 0.0

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock."""
        self._started = time.perf_counter()

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Notes the rate that is used, before a scheduler changes it."""
        self._lr = float(optimizer.param_groups[0]["lr"])

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock of the training part."""
        self._train_seconds = time.perf_counter() - self._started

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the epoch down."""
        self.before_writing()
        metrics = {name: float(value) for name, value in trainer.callback_metrics.items()}
        num_images = trainer.num_training_batches * trainer.datamodule.batch_size  # type: ignore[attr-defined]
        epoch = Epoch(
            epoch=trainer.current_epoch,
            step=trainer.global_step,
            lr=self._lr,
            train_loss=metrics["train_loss"],
            train_accuracy=metrics["train_accuracy"],
            train_eval_accuracy=metrics["train_eval_accuracy"],
            val_loss=metrics["val_loss"],
            val_accuracy=metrics["val_accuracy"],
            images_per_second=num_images / self._train_seconds,
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
        """Plain values for `last.ckpt`, which loads with `weights_only=True`."""
        return {"rows": [asdict(epoch) for epoch in self.history.epochs], "fit_seconds": self.fit_seconds}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on from `last.ckpt`."""
        self.history = replace(self.history, epochs=tuple(Epoch(**row) for row in state_dict["rows"]))
        self.fit_seconds = state_dict["fit_seconds"]


class FiniteLoss(Callback):
    """Ends a run whose loss is not finite, and says at which step that began.

    The step is noted on the device and looked at now and then: a look waits for the accelerator.
    """

    def __init__(self) -> None:
        """Looks after every step on a CPU, elsewhere after every 50 and at the end of the epoch."""
        self._first: Tensor | None = None
        self._step = 0

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Notes the step: with accumulated gradients it is not over after each batch."""
        self._step = trainer.global_step

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: Any,  # noqa: ANN401
        batch: object,
        batch_idx: int,
    ) -> None:
        """Notes a loss that is not finite.

        Raises:
            UserError: There was one.
        """
        loss: Tensor = outputs["loss"]
        if self._first is None:
            self._first = torch.full((), -1, device=loss.device)
        fresh = (self._first < 0) & ~torch.isfinite(loss)
        self._first = torch.where(fresh, self._step, self._first)
        looks = loss.device.type == "cpu" or (batch_idx + 1) % 50 == 0 or trainer.is_last_batch
        if looks:
            step = int(self._first.item())
            if step >= 0:
                raise UserError(
                    f"the loss is not finite at step {step} (epoch {trainer.current_epoch + 1}): lower optim.lr or "
                    "lr_scale, use a scheduler with warm-up, or set ++trainer.gradient_clip_val=1"
                )
