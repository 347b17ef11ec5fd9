"""An average of the weights over the training."""

from collections.abc import Sequence

import torch
from lightning.pytorch.callbacks import WeightAveraging
from torch import Tensor


class WarmedEMA(WeightAveraging):
    """Exponential moving average of all weights and buffers, evaluated in their place.

    It begins with the weights of the first step; at step n it keeps min(`decay`, n / (9 + n)) of itself, as in timm and
    TensorFlow: a training too short for its decay is not held back by its first weights. Lightning's
    `EMAWeightAveraging` has one decay for all steps, and goes through the weights one by one.
    """

    def __init__(self, decay: float) -> None:
        """Averages over about the last 1 / (1 - `decay`) steps."""
        super().__init__(multi_avg_fn=self._towards)
        self.decay = decay
        # Of the weights of this step. Torch counts the steps too, but on the device: to read it there would be to wait.
        self._share = 1.0

    def should_update(self, step_idx: int | None = None, epoch_idx: int | None = None) -> bool:
        """After each optimizer step; `step_idx` counts from 0."""
        if step_idx is not None:
            self._share = max(1 - self.decay, 9 / (10 + step_idx))
        return step_idx is not None

    @torch.no_grad()
    def _towards(self, averages: Sequence[Tensor], weights: Sequence[Tensor], _: Tensor | int) -> None:
        if averages[0].is_floating_point():
            torch._foreach_lerp_(tuple(averages), tuple(weights), self._share)
        else:
            torch._foreach_copy_(tuple(averages), tuple(weights))  # counts
