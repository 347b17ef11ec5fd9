"""Moving averages with warm-up: of the weights over the training, and of the statistics in batch norms."""

from itertools import chain

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback, WeightAveraging
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _BatchNorm


def newest_weight(step: int, final: float) -> float:
    """Return the weight of the newest value in an average at a step, counted from 1.

    It is 1 at the first step, then 9 / (9 + step), and at least `final`. As in timm and TensorFlow: in a short training
    the first values do not dominate the average.
    """
    return 1.0 if step == 1 else max(final, 9 / (9 + step))


class WarmedEMA(WeightAveraging):
    """Exponential moving average of all weights and buffers, which is evaluated instead of them.

    It starts with the weights after the first step, and warms up by `newest_weight`. Lightning's `EMAWeightAveraging`
    has one decay for all steps, loops over the weights, and reads the number of steps from the device, which makes the
    host wait.
    """

    def __init__(self, decay: float) -> None:
        """Average over about the last 1 / (1 - `decay`) steps."""
        super().__init__()
        self.decay = decay

    def on_train_batch_end(self, trainer: Trainer, pl_module: LightningModule, *_: object) -> None:
        """Update the average after each optimizer step."""
        step = trainer.global_step
        if step > self._latest_update_step:
            assert self._average_model is not None
            move(self._average_model.module, pl_module, newest_weight(step, 1 - self.decay))
            self._latest_update_step = step


@torch.no_grad()
def move(average: nn.Module, current: nn.Module, weight: float) -> None:
    """Update an average of weights and buffers in place, with a weight of the current ones; integers are copied."""
    averaged, newest = (chain(module.parameters(), module.buffers()) for module in (average, current))
    pairs = list(zip(averaged, newest, strict=True))
    averages, values = zip(*(pair for pair in pairs if pair[0].is_floating_point()), strict=True)
    torch._foreach_lerp_(averages, values, weight)
    for averaged_count, count in (pair for pair in pairs if not pair[0].is_floating_point()):
        averaged_count.copy_(count)


class WarmedNorms(Callback):
    """Running statistics of batch norms with warm-up, for random initial weights.

    A batch norm updates its running statistics with a weight of `momentum`, usually 0.1, per batch. Random weights
    change so fast that after a few dozen steps these are still the statistics of earlier weights, and evaluation is
    near chance: 25 % validation accuracy where 84 % of the training images were classified correctly (resnet9_x0_5, 216
    images, 30 steps). Here the weight of a batch is `newest_weight`. The momentum itself is not changed, because each
    new value would compile a compiled network again.
    """

    def __init__(self) -> None:
        """Start without statistics."""
        self._statistics: dict[float, list[Tensor]] = {}  # by momentum
        self._before: list[tuple[list[Tensor], list[Tensor], float]] = []

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Collect the statistics once, because looping over the modules of a large network takes milliseconds."""
        self._statistics = _statistics(pl_module)

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        """Copy the statistics that the batch will change."""
        step = trainer.fit_loop.total_batch_idx + 1  # over all epochs, which may differ in their number of batches
        self._before = [
            (statistics, [statistic.clone() for statistic in statistics], newest_weight(step, momentum) / momentum)
            for momentum, statistics in self._statistics.items()
            if newest_weight(step, momentum) > momentum
        ]

    @torch.no_grad()
    def on_train_batch_end(self, *_: object) -> None:
        """Extend the update of the statistics by the batch; norms in evaluation mode had none."""
        for statistics, before, factor in self._before:
            torch._foreach_lerp_(before, statistics, factor)
            torch._foreach_copy_(statistics, before)
        self._before = []


def _statistics(module: nn.Module) -> dict[float, list[Tensor]]:
    """Return running means and variances of all batch norms, by momentum."""
    statistics: dict[float, list[Tensor]] = {}
    for norm in module.modules():
        if isinstance(norm, _BatchNorm) and norm.momentum and norm.running_mean is not None:
            assert norm.running_var is not None
            statistics.setdefault(norm.momentum, []).extend((norm.running_mean, norm.running_var))
    return statistics
