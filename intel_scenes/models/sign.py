"""Descent along the sign of the momentum, which torch does not have."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.optim import Optimizer
from torch.optim.optimizer import ParamsT


class SignSGD(Optimizer):
    """Move each weight by the learning rate, against the sign of its momentum.

    This is Signum of Bernstein et al., "signSGD: Compressed Optimisation for Non-Convex Problems", 2018, and with
    `momentum=0` their signSGD. The momentum is that of `torch.optim.SGD`: buffer = momentum * buffer + gradient, where
    weight decay adds `weight_decay * weight` to the gradient. So it minimizes what SGD minimizes, the loss with an L2
    penalty. timm's Lion with two equal betas takes the same steps, but decouples weight decay.

    A weight whose momentum is 0 or not a number stays where it is, as the sign of both is 0.
    """

    def __init__(self, params: ParamsT, lr: float, *, momentum: float = 0.9, weight_decay: float = 0.0) -> None:
        """Check the numbers.

        Args:
            params: Parameters, or groups of them, each with values of its own for the arguments below.
            lr: Learning rate, at least 0.
            momentum: Momentum coefficient, at least 0 and below 1.
            weight_decay: Coefficient of the L2 penalty, at least 0.

        Raises:
            ValueError: A number is out of range.
        """
        if not lr >= 0:
            raise ValueError(f"Invalid learning rate: {lr}")
        if not 0 <= momentum < 1:
            raise ValueError(f"Invalid momentum value: {momentum}")
        if not weight_decay >= 0:
            raise ValueError(f"Invalid weight_decay value: {weight_decay}")
        super().__init__(params, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> float | None:  # type: ignore[override]
        """Take a step; return the loss of `closure`, which computes it and its gradients."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            weights = [weight for weight in group["params"] if weight.grad is not None]
            if not weights:
                continue
            directions: list[Tensor] | tuple[Tensor, ...] = [weight.grad for weight in weights]
            if group["weight_decay"]:
                directions = torch._foreach_add(directions, weights, alpha=group["weight_decay"])
            if group["momentum"]:
                buffers = [self._buffer(weight) for weight in weights]
                torch._foreach_mul_(buffers, group["momentum"])
                torch._foreach_add_(buffers, directions)
                directions = buffers
            torch._foreach_add_(weights, torch._foreach_sign(directions), alpha=-group["lr"])
        return loss

    def _buffer(self, weight: Tensor) -> Tensor:
        state = self.state[weight]
        if "momentum_buffer" not in state:
            state["momentum_buffer"] = torch.zeros_like(weight)
        buffer: Tensor = state["momentum_buffer"]
        return buffer
