"""Normalization layers with running statistics."""

from collections.abc import Iterator

from torch import nn


def batch_norms(network: nn.Module) -> Iterator[nn.Module]:
    """Yield the BatchNorm layers, and timm's `EvoNorm`, which keeps a running variance but is no subclass of them."""
    return (
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or "running_var" in module._buffers
    )
