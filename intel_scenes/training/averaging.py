"""Averages that begin warm: of the weights over the training, and of the statistics in batch norms."""

from itertools import chain

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def share(step: int, least: float) -> float:
    """What the newest value gives to an average at a step, from 1: all, then 9 / (9 + step), and `least` in the end.

    As in timm and TensorFlow: a training too short for its average is not held back by the first values.
    """
    return 1.0 if step == 1 else max(least, 9 / (9 + step))


class WarmedEMA(WeightAveraging):
    """Exponential moving average of all weights and buffers, evaluated in their place.

    It begins with the weights of the first step, and warms up as `share` says. Lightning's `EMAWeightAveraging` has one
    decay for all steps, goes through the weights one by one, and reads the number of steps from the device, for which
    the host has to wait.
    """

    def __init__(self, decay: float) -> None:
        """Averages over about the last 1 / (1 - `decay`) steps."""
        super().__init__()
        self.decay = decay

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """After each optimizer step."""
        step = trainer.global_step
        if step > self._latest_update_step:
            assert self._average_model is not None
            move(self._average_model.module, pl_module, share(step, 1 - self.decay))
            self._latest_update_step = step


@torch.no_grad()
def move(average: nn.Module, current: nn.Module, share: float) -> None:
    """Moves an average of weights and buffers to those of this step by a share of the way; counts are copied."""
    ours, theirs = (chain(part.parameters(), part.buffers()) for part in (average, current))
    pairs = list(zip(ours, theirs, strict=True))
    averages, weights = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
    torch._foreach_lerp_(averages, weights, share)
    for ours_of_count, theirs_of_count in (pair for pair in pairs if not pair[0].is_floating_point()):
        ours_of_count.copy_(theirs_of_count)


class WarmedNorms(Callback):
    """Running statistics of batch norms that follow the weights from the first step on, for random weights.

    By itself a batch norm takes `momentum`, mostly a tenth, of each batch into the statistics that it has in evaluation
    mode. Weights that began at random change so fast that after a few dozen steps these are still the statistics of
    other weights, and the network guesses: 25 % of the validation images where 84 % of the training images were right
    (resnet9_x0_5, 216 images, 30 steps). Here each batch gives `share` of them. The momentum itself stays, because each
    other value would have a compiled network compiled anew.
    """

    def __init__(self) -> None:
        """Nothing is kept yet."""
        self._statistics: dict[float, list[Tensor]] = {}  # by momentum
        self._before: list[tuple[list[Tensor], list[Tensor], float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Finds the statistics once: to go through all modules of a large network at each step takes milliseconds."""
        self._statistics = _statistics(pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Keeps the statistics that the batch will change."""
        step = trainer.current_epoch * int(trainer.num_training_batches) + batch_idx + 1
        self._before = [
            (statistics, [statistic.clone() for statistic in statistics], share(step, momentum) / momentum)
            for momentum, statistics in self._statistics.items()
            if share(step, momentum) > momentum
        ]

    @torch.no_grad()
    def on_train_batch_end(self, *_: object) -> None:
        """Moves them further in the direction in which the batch moved them; norms in evaluation mode did not move."""
        for statistics, before, factor in self._before:
            torch._foreach_lerp_(before, statistics, factor)
            torch._foreach_copy_(statistics, before)
        self._before = []


def _statistics(module: nn.Module) -> dict[float, list[Tensor]]:
    """Running means and variances of all batch norms, by the share that these take of a batch."""
    found: dict[float, list[Tensor]] = {}
    for norm in module.modules():
        if isinstance(norm, _BatchNorm) and norm.momentum and norm.running_mean is not None:
            assert norm.running_var is not None
            found.setdefault(norm.momentum, []).extend((norm.running_mean, norm.running_var))
    return found
