"""What a trained network says about images."""

from collections.abc import Iterable, Sequence

import torch
from torch import Tensor, nn

from intel_scenes.probabilities import Probabilities
from intel_scenes.runtime import Runtime


@torch.inference_mode()
def probabilities(network: nn.Module, batches: Iterable[Iterable[Tensor]], runtime: Runtime) -> Probabilities:
    """Class probabilities of images, in the order of the batches.

    Args:
        network: (B, 3, H, W) to (B, C) logits; it is put into evaluation mode.
        batches: Of each the images on the device, seen in one way or in several, whose probabilities are averaged; an
            iterator is asked for them in the inference mode and the precision that the network computes in.
        runtime: Where and how precisely to compute.

    Returns:
        (N, C) float64, rows sum to 1.
    """
    network.to(runtime.device).eval()
    with runtime.autocast():
        logits = [logits_of(network, views) for views in batches]
    return mean_over_views(logits)


def logits_of(network: nn.Module, views: Iterable[Tensor]) -> Tensor:
    """(V, B, C) logits of B images, each seen in V ways."""
    return torch.stack([network(images) for images in views])


def mean_over_views(logits: Sequence[Tensor]) -> Probabilities:
    """(N, C) probabilities of batches of (V, B, C) logits: the mean over the ways in which an image is seen."""
    result: Probabilities = torch.cat(list(logits), dim=1).cpu().double().softmax(2).mean(0).numpy()
    return result
