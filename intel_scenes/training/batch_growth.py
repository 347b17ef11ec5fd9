"""A batch that grows where the schedule would lower the learning rate."""

import itertools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Literal

import torch
from torch.optim import SGD, Optimizer
from torch.optim.lr_scheduler import LambdaLR, LRScheduler


@dataclass(frozen=True)
class Growth:
    """Steps of a training whose batch grows.

    Attributes:
        sizes: Number of images in each batch, by pass over the training images.
        factors: Learning rate of each step, relative to that of its parameter group.
    """

    sizes: tuple[tuple[int, ...], ...]
    factors: tuple[float, ...]

    @property
    def num_steps(self) -> int:
        """Number of steps of the training."""
        return len(self.factors)

    def scheduler(self, optimizer: Optimizer) -> LambdaLR:
        """Return the schedule of the rates, which is stepped after each batch."""
        return LambdaLR(optimizer, partial(_factor, factors=self.factors))


def _factor(step: int, *, factors: Sequence[float]) -> float:
    return factors[min(step, len(factors) - 1)]  # the scheduler is stepped after the last step, too


def rates_of(
    factory: Callable[[Optimizer], LRScheduler],
    *,
    lr: float,
    interval: Literal["step", "epoch"],
    num_steps: int,
    steps_per_epoch: int,
) -> list[float]:
    """Return the learning rate of each step of a training, as a scheduler sets it.

    Args:
        factory: Takes an optimizer and returns the scheduler.
        lr: Learning rate of the optimizer.
        interval: When the scheduler steps.
        num_steps: Number of steps of the training.
        steps_per_epoch: Number of steps of an epoch.
    """
    optimizer = SGD([torch.zeros(1)], lr=lr)
    scheduler, rates = factory(optimizer), []
    optimizer.step()  # else the scheduler warns that it is stepped first
    for step in range(1, num_steps + 1):
        rates.append(float(optimizer.param_groups[0]["lr"]))
        if interval == "step" or step % steps_per_epoch == 0:
            scheduler.step()
    return rates


def grown(
    rates: Sequence[float], *, lr: float, batch_size: int, num_images: int, num_passes: int, exponent: float
) -> Growth:
    """Return the batches that take the place of a falling learning rate (Smith et al. 2018; Malladi et al. 2022).

    Where the schedule has fallen to a fraction f of its largest rate so far, the batch is `batch_size` / f^`exponent`
    images, and the rate stays at that maximum. A batch holds at most all images: where it would be larger, the rate
    falls by the rest of the factor f. A step takes the rate that the schedule has after the same number of images
    without growth. Each pass uses every image once: the images that remain at its end form a batch or, if they are
    less than half of one, join the previous batch.

    Args:
        rates: Learning rate of each step without growth, for which an incomplete last batch of a pass is dropped.
        lr: Learning rate of the optimizer, to which the factors are relative.
        batch_size: Number of images in a step without growth, at most `num_images`.
        num_images: Number of training images.
        num_passes: Number of passes over them.
        exponent: 1 for SGD: half the rate is twice the batch; 2 for optimizers that normalize the gradient by its
            recent size, such as Adam.
    """
    steps_per_pass, most = num_images // batch_size, num_images / batch_size
    highest = list(itertools.accumulate(rates, max))
    falls = [(rate / top if top else 1.0) ** exponent for rate, top in zip(rates, highest, strict=True)]
    growths = [1 / fall if fall * most > 1 else most for fall in falls]
    kept = [
        top if growth < most else rate * most ** (1 / exponent)
        for rate, top, growth in zip(rates, highest, growths, strict=True)
    ]
    sizes: list[tuple[int, ...]] = []
    factors: list[float] = []
    for start in range(0, num_passes * steps_per_pass, steps_per_pass):
        of_pass: list[int] = []
        rest = num_images
        while rest:
            step = start + min((num_images - rest) // batch_size, steps_per_pass - 1)
            size = round(batch_size * growths[step])
            if of_pass and 2 * rest < size:
                of_pass[-1] += rest
                break
            of_pass.append(min(size, rest))
            factors.append(kept[step] / lr)
            rest -= of_pass[-1]
        sizes.append(tuple(of_pass))
    return Growth(tuple(sizes), tuple(factors))
