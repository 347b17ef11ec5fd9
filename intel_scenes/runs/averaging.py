"""An average of the weights over the training."""

from itertools import chain

import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import WeightAveraging
from torch import nn


class WarmedEMA(WeightAveraging):
    """Exponential moving average of all weights and buffers, evaluated in their place.

    It begins with the weights of the first step; after step n it keeps min(`decay`, n / (9 + n)) of itself, as in timm
    and TensorFlow: a training too short for its decay is not held back by its first weights. Lightning's
    `EMAWeightAveraging` has one decay for all steps, goes through the weights one by one, and reads the number of steps
    from the device, for which the host has to wait.
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
            move(self._average_model.module, pl_module, 1.0 if step == 1 else max(1 - self.decay, 9 / (9 + step)))
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
