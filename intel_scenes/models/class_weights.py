"""Weights of classes in the loss."""

import numpy as np
import torch
from torch import Tensor

from intel_scenes.probabilities import Labels


def class_weights(labels: Labels, num_classes: int, power: float) -> Tensor | None:
    """Weights of classes by their inverse frequency, so that the mean of the images' weights is 1.

    The weight of a class with n images is proportional to n ** -power: with a power of 1 all classes have the same
    weight in all (the inverse class frequency of King and Zeng, "Logistic Regression in Rare Events Data", 2001), with
    one half that of the square root (Mahajan et al. 2018).

    Args:
        labels: (N,) classes of the training images.
        num_classes: C of the result.
        power: From 0 to 1.

    Returns:
        (C,) float32; None for a power of 0, which weighs nothing. A class without images has the weight of one with a
        single image.
    """
    if not power:
        return None
    counts = np.bincount(labels, minlength=num_classes)
    weights = np.maximum(counts, 1) ** -float(power)
    return torch.from_numpy((weights * counts.sum() / (weights * counts).sum()).astype(np.float32))
