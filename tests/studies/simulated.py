"""Made studies with a known truth: logits of images, shifted by configuration and seed."""

import numpy as np
from scipy import special
from scipy.optimize import brentq

LOGIT, IMAGE_SD, OWN_SD = 3.6, 2.2, 0.6
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)


def accuracy(shift: float) -> float:
    """Of a configuration whose logits are shifted, over all images of the world and the configuration's own spread."""
    spread = np.hypot(IMAGE_SD, OWN_SD)
    return float(special.expit(LOGIT + shift + spread * NODES) @ WEIGHTS / WEIGHTS.sum())


def shift_for(points: float) -> float:
    """The shift of the logits that raises the accuracy by so many percentage points."""
    return brentq(lambda shift: accuracy(shift) - accuracy(0) - points / 100, -4, 4)


SLOPE = (accuracy(0.05) - accuracy(-0.05)) / 0.1  # of the accuracy, per unit of shift


def world(rng: np.random.Generator, num_images: int) -> np.ndarray:
    """Logits of the images of a test split."""
    return rng.normal(LOGIT, IMAGE_SD, num_images).astype(np.float32)


def table(rng: np.random.Generator, images: np.ndarray, num_seeds: int, seed_sd: float, shift: float = 0.0):
    """(seeds, images) right or wrong, of one configuration.

    Args:
        rng: Of everything but the images.
        images: Their logits.
        num_seeds: Rows.
        seed_sd: Standard deviation of the accuracy from seed to seed on endless images, in percentage points.
        shift: Of the configuration's logits.
    """
    own = rng.normal(0, OWN_SD, len(images)).astype(np.float32)
    seeds = rng.normal(0, seed_sd / 100 / SLOPE, num_seeds).astype(np.float32)
    chances = special.expit(images + own + np.float32(shift) + seeds[:, None])
    return (rng.random((num_seeds, len(images)), dtype=np.float32) < chances).astype(np.float32)
