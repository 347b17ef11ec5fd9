"""The layers of a network that normalize by statistics of the batches they have seen."""

from collections.abc import Iterator

from torch import nn


def batch_norms(network: nn.Module) -> Iterator[nn.Module]:
    """Batch norms of torch and of timm, whose `EvoNorm` is no subclass of torch's and keeps a variance as they do."""
    return (
        module
        for module in network.modules()
        if isinstance(module, nn.modules.batchnorm._BatchNorm) or "running_var" in module._buffers
    )
