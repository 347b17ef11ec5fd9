"""Class weights of the loss."""

import numpy as np
import torch
from torch import Tensor

from intel_scenes.probabilities import Labels


def class_weights(labels: Labels, num_classes: int, power: float) -> Tensor | None:
    """Return inverse-frequency class weights, scaled so that their mean over images is 1.

    The weight of a class with n images is proportional to n ** -power. A power of 1 gives every class the same total
    weight (inverse class frequency: King and Zeng, "Logistic Regression in Rare Events Data", 2001); a power of 0.5 is
    square-root weighting (Mahajan et al. 2018).

    Args:
        labels: (N,) classes of the training images.
        num_classes: C of the result.
        power: From 0 to 1.

    Returns:
        (C,) float32, or None for a power of 0 (no weighting). A class without images is weighted like a class with one.
    """
    if not power:
        return None
    counts = np.bincount(labels, minlength=num_classes)
    weights = np.maximum(counts, 1) ** -float(power)
    return torch.from_numpy((weights * counts.sum() / (weights * counts).sum()).astype(np.float32))
