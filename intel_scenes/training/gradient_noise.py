"""Gradient noise scale: how noisy the gradient of a mini-batch is, measured at the end of each epoch."""

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor

from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.splits import Indices
from intel_scenes.models.classifier import SceneClassifier, forward_pass
from intel_scenes.record import EpochNoise, GradientNoise

SMALL_BATCH, LARGE_BATCH = 16, 1024  # images; fewer where the training set is smaller
STREAM = 1  # keeps the draws apart from the order of the images, which has the same seed and epoch

LossAndShare = Callable[[Indices], tuple[Tensor, Tensor]]  # of a small batch: its loss, and its share in a large one


@dataclass(frozen=True)
class NoiseScale:
    """Signal and noise of the gradient.

    Attributes:
        signal: Squared norm of the gradient over all images; unbiased, so it may be negative.
        noise: Trace of the covariance of the gradients of single images.
        scale: Their ratio noise / signal, in images; None where the signal is not positive.
    """

    signal: float
    noise: float
    scale: float | None


def noise_scale(small_norm: float, large_norm: float, small_batch: int, large_batch: int) -> NoiseScale:
    """Estimate the gradient noise scale from batches of two sizes.

    The squared norm of the mean gradient of B images is signal + noise / B on average, so two sizes determine both
    (McCandlish et al., "An Empirical Model of Large-Batch Training", 2018, appendix A.1). Signal and noise are linear
    in the norms, and unbiased; their ratio is not. Average the norms of several measurements, or their signals and
    their noises apart, and divide last.

    Args:
        small_norm: Mean squared norm of the gradient of small batches.
        large_norm: Mean squared norm of the gradient of large batches.
        small_batch: Images of a small batch.
        large_batch: Images of a large batch.
    """
    signal = (large_batch * large_norm - small_batch * small_norm) / (large_batch - small_batch)
    noise = (small_norm - large_norm) / (1 / small_batch - 1 / large_batch)
    return NoiseScale(signal, noise, noise / signal if signal > 0 else None)


def mean_squared_norms(
    loss_and_share: LossAndShare, parameters: Sequence[Tensor], batches: Indices
) -> tuple[float, float]:
    """Return the mean squared norms of the gradient of small and of large batches.

    Args:
        loss_and_share: Returns the mean loss of the images of a small batch, and the weight of that mean in the loss of
            a large batch: the number of its images, or the sum of their class weights; both stay on the device.
        parameters: Parameters of the gradient; their `.grad` is not touched.
        batches: (K, M, B) positions of the images: K large batches, each of M small ones of B images.
    """
    small_norms, large_norms = [], []
    for large in batches:
        sums, shares = [torch.zeros_like(parameter) for parameter in parameters], []
        for small in large:
            loss, share = loss_and_share(small)
            # Auxiliary heads have no part in the loss of evaluation mode.
            gradients = torch.autograd.grad(loss, parameters, allow_unused=True, materialize_grads=True)
            small_norms.append(_squared_norm(gradients))
            torch._foreach_add_(sums, torch._foreach_mul(gradients, share))
            shares.append(share)
        large_norms.append(_squared_norm(sums) / torch.stack(shares).sum().square())
    small_norm, large_norm = (torch.stack(norms).mean().item() for norms in (small_norms, large_norms))
    return small_norm, large_norm


def _squared_norm(gradients: Sequence[Tensor]) -> Tensor:
    return torch.stack(torch._foreach_norm(list(gradients))).double().square().sum()


def draw_batches(seed: int, epoch: int, num_large: int, num_images: int) -> Indices:
    """Draw images with replacement, for which the noise of a batch is that of one image divided by its size.

    Returns:
        (num_large, M, B) positions below `num_images`: large batches, each of M small ones of B images.
    """
    small = max(1, min(SMALL_BATCH, num_images // 4))
    num_small = max(2, min(LARGE_BATCH, num_images) // small)
    return np.random.default_rng([seed, epoch, STREAM]).integers(num_images, size=(num_large, num_small, small))


class NoiseRecorder(Callback):
    """Callback that measures the gradient noise scale at the end of each epoch, and writes `gradient_noise.csv`.

    The gradient is that of the training loss on training images as this epoch augments them, without weight decay, of
    all parameters. The network is in evaluation mode and computes in 32 bits: its statistics, the random generators and
    the gradients of the training stay as they are. The rows are part of `last.ckpt`.

    Attributes:
        measured: The epochs so far.
    """

    def __init__(self, folder: Path, num_large: int, before_writing: Callable[[], None] = lambda: None) -> None:
        """Measure on `num_large` large batches; `before_writing` raises if the claim on the folder was lost."""
        self.folder, self.num_large, self.before_writing = folder, num_large, before_writing
        self.measured = GradientNoise()

    def on_train_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Measure, and write the file."""
        data = trainer.datamodule  # type: ignore[attr-defined]
        assert isinstance(pl_module, SceneClassifier)
        batches = draw_batches(data.seed, trainer.current_epoch, self.num_large, len(data.splits.train))
        _, num_small, small_batch = batches.shape
        large_batch = num_small * small_batch
        modes = [(module, module.training) for module in pl_module.network.modules()]
        pl_module.network.eval()
        parameters = [parameter for parameter in pl_module.network.parameters() if parameter.requires_grad]
        small_norm, large_norm = mean_squared_norms(_loss_and_share(pl_module, data), parameters, batches)
        for module, was_training in modes:  # batch norms may have been in evaluation mode alone
            module.training = was_training
        measured = noise_scale(small_norm, large_norm, small_batch, large_batch)
        row = EpochNoise(
            epoch=trainer.current_epoch,
            step=trainer.global_step,
            small_batch=small_batch,
            large_batch=large_batch,
            num_large=self.num_large,
            small_norm=small_norm,
            large_norm=large_norm,
            signal=measured.signal,
            noise=measured.noise,
            noise_scale=measured.scale,
        )
        self.measured = replace(self.measured, epochs=(*self.measured.epochs, row))
        self.before_writing()
        self.measured.write(self.folder)

    def state_dict(self) -> dict[str, Any]:
        """Return plain values for `last.ckpt`, which loads with `weights_only=True`."""
        return {"rows": [asdict(row) for row in self.measured.epochs]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Restore the epochs of `last.ckpt`."""
        self.measured = GradientNoise(tuple(EpochNoise(**row) for row in state_dict["rows"]))


def _loss_and_share(classifier: SceneClassifier, data: SceneDataModule) -> LossAndShare:
    """Return the training loss of a classifier on training images, and the share of a batch in a larger one."""
    class_weights, train = classifier.class_weights, data.splits.train
    network = classifier.network.forward  # not compiled: a compiled network would be compiled again for these batches

    def loss_and_share(positions: Indices) -> tuple[Tensor, Tensor]:
        stored = data.transfer_batch_to_device(data.images.batch(train[positions]), classifier.device, 0)
        images, targets = data.on_after_batch_transfer(stored, 0)
        loss = forward_pass(
            network, images, targets, label_smoothing=classifier.label_smoothing, class_weights=class_weights
        ).loss
        if class_weights is None or targets.ndim == 2:
            return loss, torch.full_like(loss, len(positions))
        return loss, class_weights[targets].sum()

    return loss_and_share
