"""The LightningModule: training step, loss, metrics, optimizer and scheduler."""

import zlib
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, Literal, NamedTuple

import torch
from lightning.pytorch import LightningModule
from lightning.pytorch.core.optimizer import LightningOptimizer
from lightning.pytorch.utilities.types import LRSchedulerConfigType, OptimizerLRScheduler
from torch import Tensor, distributed, nn
from torch.nn import functional
from torch.optim import Optimizer
from torch.optim.lr_scheduler import LRScheduler
from torchmetrics import MeanMetric
from torchmetrics.classification import MulticlassAccuracy, MulticlassConfusionMatrix

from intel_scenes.models.norms import batch_norms
from intel_scenes.models.param_groups import parameter_groups
from intel_scenes.models.weights import kept_beside_state
from intel_scenes.runtime import Runtime

# Weights of the auxiliary losses: Szegedy et al. 2015 for GoogLeNet; torchvision's reference script for Inception v3.
AUXILIARY_WEIGHT = {"GoogLeNetOutputs": 0.3, "InceptionOutputs": 0.4}


class ForwardPass(NamedTuple):
    """Result of a forward pass in training mode.

    Attributes:
        loss: Loss to train on, auxiliary classifiers included.
        head_loss: Loss of the main head alone.
        logits: (B, num_classes) logits of the main head.
    """

    loss: Tensor
    head_loss: Tensor
    logits: Tensor


def forward_pass(
    network: Callable[[Tensor], Any],
    images: Tensor,
    targets: Tensor,
    *,
    label_smoothing: float,
    class_weights: Tensor | None = None,
) -> ForwardPass:
    """Compute the loss of a batch.

    Args:
        network: Network in training mode; it may return auxiliary logits as well.
        images: (B, 3, H, W) float32.
        targets: (B,) classes, or (B, num_classes) shares of mixed images.
        label_smoothing: Share of the target that is spread over all classes.
        class_weights: (num_classes,) float32 weight of each class, as `torch.nn.functional.cross_entropy` takes it: the
            sum over the batch is divided by the sum of the weights for class targets, by B for shares. None weighs all
            classes equally.
    """
    loss_of = partial(functional.cross_entropy, weight=class_weights, label_smoothing=label_smoothing)
    outputs = network(images)
    if isinstance(outputs, Tensor):
        logits, auxiliary = outputs, []
    else:
        logits, *others = outputs
        auxiliary = [extra for extra in others if extra is not None]
    loss = head_loss = loss_of(logits, targets)
    for extra in auxiliary:
        share = AUXILIARY_WEIGHT[type(outputs).__name__]
        loss = loss + share * loss_of(extra, targets)
    return ForwardPass(loss, head_loss, logits)


def forward_backward(
    network: nn.Module, images: Tensor, targets: Tensor, runtime: Runtime, *, label_smoothing: float = 0.0
) -> None:
    """Accumulate the gradients of a batch, as a training step does.

    Args:
        network: As in `forward_pass`.
        images: As in `forward_pass`.
        targets: As in `forward_pass`.
        runtime: Device and precision.
        label_smoothing: As in `forward_pass`.
    """
    with runtime.autocast():
        loss = forward_pass(network, images, targets, label_smoothing=label_smoothing).loss
    loss.backward()  # type: ignore[no-untyped-call]


class SceneClassifier(LightningModule):
    """Train a network on batches of (images (B, 3, H, W) float32, labels (B,) int64).

    At the end of each epoch the module logs `train_loss` and `train_accuracy` (augmented images, running average of the
    epoch) and, in evaluation mode, `val_loss`, `val_accuracy` and `val_balanced_accuracy` of the first validation
    loader and `train_eval_accuracy` of the second. All are exact means over images (balanced accuracy: over classes, of
    the mean over their images). `val_loss` is the cross entropy without label smoothing and class weights.
    """

    def __init__(
        self,
        network: nn.Module,
        heads: Iterable[str],
        optimizer: Callable[[list[dict[str, Any]]], Optimizer],
        scheduler: Callable[[Optimizer], LRScheduler],
        *,
        interval: Literal["step", "epoch", "validation"],
        num_classes: int,
        lr: float,
        head_lr_scale: float,
        first_lr_scale: float = 1.0,
        trains_norms: bool = True,
        label_smoothing: float,
        class_weights: Tensor | None = None,
        seed: int,
    ) -> None:
        """Store the parts of a training.

        Args:
            network: Maps (B, 3, H, W) to (B, num_classes) logits; in training mode it may return auxiliary logits, too.
            heads: Qualified names of the network's head layers, and of its auxiliary classifiers.
            optimizer: Factory that takes parameter groups and returns an optimizer.
            scheduler: Factory that takes an optimizer and returns a scheduler.
            interval: When the scheduler steps: after each step, each epoch, or each validation (with its loss).
            num_classes: Number of classes.
            lr: Learning rate of the backbone.
            head_lr_scale: Learning rate of the heads, relative to `lr`.
            first_lr_scale: Learning rate of the first layers, relative to `lr`, which is that of the last layers.
            trains_norms: Whether BatchNorm uses and updates batch statistics; else it keeps its running statistics.
            label_smoothing: Share of the target that is spread over all classes (Szegedy et al. 2016).
            class_weights: (num_classes,) class weights of the loss, as in `forward_pass`.
            seed: Seed of dropout and stochastic depth.
        """
        super().__init__()
        self.network = network
        self.heads = tuple(heads)
        self.optimizer_factory, self.scheduler_factory, self.interval = optimizer, scheduler, interval
        self.lr, self.head_lr_scale, self.first_lr_scale = lr, head_lr_scale, first_lr_scale
        self.trains_norms = trains_norms
        self.label_smoothing = label_smoothing
        self.class_weights: Tensor | None
        self.register_buffer("class_weights", class_weights, persistent=False)  # moves to the device, is not saved
        self.seed = seed
        self._epoch_batches: list[tuple[Tensor, Tensor, Tensor]] = []  # loss, logits and labels of each batch
        self.train_loss, self.val_loss = (MeanMetric(nan_strategy="disable") for _ in range(2))
        self.train_accuracy, self.val_accuracy, self.train_eval_accuracy = (
            MulticlassAccuracy(num_classes, average="micro", validate_args=False) for _ in range(3)
        )
        self.val_confusion = MulticlassConfusionMatrix(num_classes, validate_args=False)

    def forward(self, images: Tensor) -> Tensor:
        """Map images (B, 3, H, W) to logits (B, num_classes), in evaluation mode."""
        logits: Tensor = self.network(images)
        return logits

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Save the settings that change the output of the network but are not part of its state dict."""
        checkpoint.update(kept_beside_state(self.network))

    def on_train_start(self) -> None:
        """Put BatchNorm layers that are not trained into evaluation mode; Lightning restores this after validation."""
        if not self.trains_norms:
            for module in batch_norms(self.network):
                module.eval()

    def on_train_epoch_start(self) -> None:
        """Discard the batches of an epoch that was interrupted."""
        self._epoch_batches.clear()

    def on_train_batch_start(self, batch: object, batch_idx: int) -> None:
        """Reseed the global generator from seed, epoch, step and rank, so that a resumed run is reproducible."""
        key = f"{self.seed} {self.current_epoch} {batch_idx} {self.global_rank}"
        seed = zlib.crc32(key.encode())
        # torch.manual_seed takes two milliseconds: it walks the stack for each kind of device that is not in use.
        torch.default_generator.manual_seed(seed)
        if self.device.type != "cpu":
            torch.get_device_module(self.device).manual_seed(seed)

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor:
        """Return the loss of a batch; targets are (B,) classes or (B, num_classes) shares of mixed images."""
        images, targets = batch
        result = forward_pass(
            self.network, images, targets, label_smoothing=self.label_smoothing, class_weights=self.class_weights
        )
        loss, head_loss = result.loss, result.head_loss.detach()
        if distributed.is_available() and distributed.is_initialized():
            of_loss, of_images = self._shares(targets)
            loss = loss * of_loss * distributed.get_world_size()  # DDP takes the mean of the gradients over the ranks
            head_loss = head_loss * of_loss / of_images
        # Metrics are updated once per epoch: each update costs a millisecond.
        self._epoch_batches.append((head_loss, result.logits.detach(), targets))
        return loss

    def _shares(self, targets: Tensor) -> tuple[Tensor, Tensor]:
        """Return this rank's share of the divisor of the global batch's loss, and its share of the images.

        Slices of a batch may differ in size, and in the weights of their classes.
        """
        num_images = divisor = torch.tensor(float(len(targets)), device=targets.device)
        if self.class_weights is not None and targets.ndim == 1:
            divisor = self.class_weights[targets].sum()
        own = torch.stack([divisor, num_images])
        of_loss, of_images = own / self.trainer.strategy.reduce(own.clone(), reduce_op="sum")
        return of_loss, of_images

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int, dataloader_idx: int) -> None:
        """Update the metrics with a batch of validation images (loader 0) or of a slice of training images (1)."""
        images, labels = batch
        logits = self(images)
        if dataloader_idx == 1:
            self.train_eval_accuracy.update(logits, labels)
            return
        self.val_loss.update(functional.cross_entropy(logits, labels, reduction="none"))
        self.val_accuracy.update(logits, labels)
        self.val_confusion.update(logits, labels)

    def on_validation_epoch_end(self) -> None:
        """Log the metrics of the epoch; validation comes last, so the training metrics are complete as well."""
        self._count_training()
        metrics = {
            name: getattr(self, name)
            for name in ("train_loss", "train_accuracy", "train_eval_accuracy", "val_loss", "val_accuracy")
        }
        values = {name: metric.compute() for name, metric in metrics.items()}
        confusion = self.val_confusion.compute()
        has_images = confusion.sum(1) > 0  # classes without validation images have no recall
        values["val_balanced_accuracy"] = (confusion.diagonal()[has_images] / confusion.sum(1)[has_images]).mean()
        self.log_dict(values, prog_bar=True, sync_dist=True)
        for metric in (*metrics.values(), self.val_confusion):
            metric.reset()
        if self.interval == "validation":
            self.lr_schedulers().step(values["val_loss"].item())  # type: ignore[union-attr]

    def _count_training(self) -> None:
        """Update the training metrics with the batches since the last validation."""
        losses, logits, labels = zip(*self._epoch_batches, strict=True)
        self._epoch_batches.clear()
        # torchmetrics 1.9 ignores the weights of a MeanMetric with nan_strategy="disable": pass one value per image.
        self.train_loss.update(torch.cat([loss.expand(len(batch)) for loss, batch in zip(losses, labels, strict=True)]))
        classes = torch.cat(labels)
        self.train_accuracy.update(torch.cat(logits), classes if classes.ndim == 1 else classes.argmax(1))

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Optimizer | LightningOptimizer,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Step, and free the gradients so that the next forward pass can use their memory."""
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        optimizer.zero_grad()

    def configure_optimizers(self) -> OptimizerLRScheduler:
        """Build the optimizer on the network's parameter groups, and its scheduler."""
        groups = parameter_groups(
            self.network,
            self.heads,
            lr=self.lr,
            head_lr_scale=self.head_lr_scale,
            first_lr_scale=self.first_lr_scale,
        )
        optimizer = self.optimizer_factory(groups)
        scheduler = self.scheduler_factory(optimizer)
        if self.interval != "validation":
            return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": self.interval}}
        # Lightning saves the checkpoint before it steps a metric-driven scheduler, so a resumed run would lag one epoch
        # (Lightning-AI/pytorch-lightning#8839). Lightning holds and saves the scheduler; we step it after validation.
        never: LRSchedulerConfigType = {"scheduler": scheduler, "frequency": 10**9, "strict": False}
        return {"optimizer": optimizer, "lr_scheduler": {**never, "monitor": "val_loss", "reduce_on_plateau": True}}
