"""Learning rate schedules that torch does not have: factors as functions of the step, and a one-cycle factory.

The factors are for `torch.optim.lr_scheduler.LambdaLR`, which multiplies the rate of every parameter group by them.
"""

import math
from collections.abc import Sequence

from torch.optim import Optimizer
from torch.optim.lr_scheduler import OneCycleLR


def warmup_cosine(step: int, *, num_steps: int, warmup_fraction: float) -> float:
    """Return the factor of linear warm-up followed by half a cosine down to zero (Loshchilov and Hutter 2017).

    Args:
        step: Step of the training, from 0.
        num_steps: Number of steps of the whole training.
        warmup_fraction: Share of the steps in warm-up, at least 0 and below 1.

    Returns:
        The factor, above 0 at every step of the training.
    """
    warmup = _num_steps_of("warmup_fraction", warmup_fraction, num_steps)
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / (num_steps - warmup)))


def warmup_stable_decay(step: int, *, num_steps: int, warmup_fraction: float, decay_fraction: float) -> float:
    """Return the factor of warm-up, a constant rate and linear decay (Hu et al., "MiniCPM", 2024; Hägele et al. 2024).

    Args:
        step: Step of the training, from 0.
        num_steps: Number of steps of the whole training.
        warmup_fraction: Share of the steps in warm-up.
        decay_fraction: Share of the steps in decay; at most 1 together with `warmup_fraction`.

    Returns:
        The factor, above 0 at every step of the training.
    """
    warmup = _num_steps_of("warmup_fraction", warmup_fraction, num_steps)
    decay = _num_steps_of("decay_fraction", decay_fraction, num_steps)
    if warmup_fraction + decay_fraction > 1 + 1e-9:
        raise ValueError(
            f"warmup_fraction={warmup_fraction} and decay_fraction={decay_fraction} add up to more than 1: lower one"
        )
    return min(1.0, (step + 1) / (warmup + 1), max(0.0, (num_steps - step) / (min(decay, num_steps - warmup) + 1)))


def inverse_sqrt(step: int, *, num_steps: int, warmup_fraction: float) -> float:
    """Return the factor of linear warm-up, then of a fall as one over the root of the step (Vaswani et al. 2017).

    With n steps from 1 and a time scale of w steps it is min(n / w, sqrt(w / n)), which peaks at n = w. The time scale
    is the first step after warm-up, as in Vaswani et al.; in Zhai et al., "Scaling Vision Transformers", 2022, it is a
    number of its own. Without warm-up it is a single step: the factor is 1 / sqrt(n).

    Args:
        step: Step of the training, from 0.
        num_steps: Number of steps of the whole training.
        warmup_fraction: Share of the steps in warm-up, at least 0 and below 1.

    Returns:
        The factor, above 0 at every step of the training.
    """
    warmup = _num_steps_of("warmup_fraction", warmup_fraction, num_steps)
    return min((step + 1) / (warmup + 1), math.sqrt((warmup + 1) / (step + 1)))


def multistep(step: int, *, num_steps: int, milestones: Sequence[float], gamma: float) -> float:
    """Return the factor that is multiplied by `gamma` at each of `milestones`, given as shares of the steps."""
    if not all(0 < milestone < 1 for milestone in milestones):
        raise ValueError(f"scheduler.factory.lr_lambda.milestones={list(milestones)} must lie between 0 and 1")
    return float(gamma ** sum(step >= max(1, round(milestone * num_steps)) for milestone in milestones))


def onecycle(optimizer: Optimizer, *, num_steps: int, pct_start: float, div_factor: float) -> OneCycleLR:
    """Return torch's one-cycle schedule (Smith and Topin 2018); each parameter group peaks at its own learning rate.

    Momentum is not cycled, so that schedules are compared at equal momentum and work with every optimizer.
    """
    return OneCycleLR(
        optimizer,
        max_lr=[group["lr"] for group in optimizer.param_groups],
        total_steps=max(2, num_steps),  # with a single step torch divides by zero
        pct_start=pct_start * (1 - 1e-9),  # a peak at exactly step 1 makes torch divide by zero
        div_factor=div_factor,
        cycle_momentum=False,
    )


def _num_steps_of(name: str, fraction: float, num_steps: int) -> int:
    if not 0 <= fraction < 1:
        raise ValueError(f"scheduler.factory.lr_lambda.{name}={fraction} must be at least 0 and below 1")
    return min(round(fraction * num_steps), num_steps - 1)
