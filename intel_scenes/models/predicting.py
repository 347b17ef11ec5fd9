"""Class probabilities of a trained network."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from intel_scenes.probabilities import Probabilities
from intel_scenes.runtime import Runtime


@torch.inference_mode()
def probabilities(network: nn.Module, batches: Iterable[Iterable[Tensor]], runtime: Runtime) -> Probabilities:
    """Return class probabilities of images, in the order of the batches.

    Args:
        network: Maps (B, 3, H, W) to (B, C) logits; it is put into evaluation mode.
        batches: For each batch its views, (B, 3, H, W) on the device: one, or several with test-time augmentation,
            whose probabilities are averaged. Lazy iterables run in inference mode and in the precision of the network.
        runtime: Device and precision.

    Returns:
        (N, C) float64, rows sum to 1.
    """
    network.to(runtime.device).eval()
    with runtime.autocast():
        logits = [logits_of(network, views) for views in batches]
    return mean_over_views(logits)


def logits_of(network: nn.Module, views: Iterable[Tensor]) -> Tensor:
    """Return the (V, B, C) logits of B images in V views each."""
    return torch.stack([network(images) for images in views])


def mean_over_views(logits: Sequence[Tensor]) -> Probabilities:
    """Return (N, C) probabilities from batches of (V, B, C) logits, averaged over the views of each image."""
    result: Probabilities = torch.cat(list(logits), dim=1).cpu().double().softmax(2).mean(0).numpy()
    return result
