"""Simulated studies with known truth: logits of images, shifted by arm and seed."""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy import special, stats
from scipy.optimize import brentq

IMAGE_SD, OWN_SD = 2.2, 0.6  # SD of the logits over images: common to all arms, and specific to an arm
CONCENTRATION = 1.2  # of the beta distribution of an image's probability of being classified correctly
T_DEGREES = 3


@dataclass(frozen=True)
class Cell:
    """A kind of study, of which many are simulated.

    Attributes:
        name: Name of the varied properties and their values. It seeds the random numbers, so it must not change.
        seed_sds: Standard deviation over seeds on infinitely many images of each arm, in percentage points.
        differences: True test accuracy of each arm minus that of the first, in percentage points.
        num_seeds: Number of seeds of each arm.
        pairing: `paired`; `partly`, where each arm in turn lacks one seed; `lost`, where the first arm lost a run; or
            `unpaired`.
        num_images: Number of test images.
        accuracy: Accuracy of the first arm, a fraction.
        tails: Distribution of the seed effects: `normal` or `t3`.
        difficulty: Distribution of the images: `normal` logits or `beta` probabilities.
        shared_sd: Standard deviation of seed effects common to all arms, in percentage points.
        trials: Number of equally good trials of each arm, of which the best on as many validation images is chosen.
        reading: Seeds on which a tuned arm is tested: `fresh` ones, the `same` that were used for tuning, or `crossed`,
            where the choice for each seed is made on the other seeds.
        num_choosing: Number of tuning seeds where the tested ones are fresh.
        classes: Number of test images of each class, and its accuracy minus the mean over classes, in percentage
            points: accuracies and `differences` are then balanced. Empty for plain accuracy.
        tilts: What each arm gains on the rarest class and loses on the most common one, in percentage points, with
            proportional values in between, so that the balanced accuracy stays equal. Empty for none.
    """

    name: str
    seed_sds: tuple[float, ...]
    differences: tuple[float, ...] = ()
    num_seeds: int = 3
    pairing: str = "paired"
    num_images: int = 1500
    accuracy: float = 0.9
    tails: str = "normal"
    difficulty: str = "normal"
    shared_sd: float = 0.0
    trials: int = 1
    reading: str = "fresh"
    num_choosing: int = 2
    classes: tuple[tuple[int, float], ...] = ()
    tilts: tuple[float, ...] = ()

    @property
    def truth(self) -> np.ndarray:
        """(arms,) true accuracies minus that of the first arm, as fractions."""
        return np.array(self.differences or (0.0,) * len(self.seed_sds)) / 100

    @property
    def strata(self) -> np.ndarray | None:
        """(images,) class of each test image for balanced accuracy; None for plain accuracy."""
        return np.repeat(np.arange(len(self.classes)), [num for num, _ in self.classes]) if self.classes else None


@lru_cache
def _logits(difficulty: str, accuracy: float) -> np.ndarray:
    """Return a fine grid of the logits of images for an arm without seed effects."""
    chances = (np.arange(2000) + 0.5) / 2000
    own = OWN_SD * special.ndtri((np.arange(9) + 0.5) / 9)
    if difficulty == "beta":
        base = special.logit(
            np.clip(stats.beta.ppf(chances, CONCENTRATION * accuracy, CONCENTRATION * (1 - accuracy)), 1e-12, 1 - 1e-12)
        )
        return (base[:, None] + own).ravel()
    base = np.hypot(IMAGE_SD, OWN_SD) * special.ndtri(chances)
    return base + brentq(lambda mean: special.expit(base + mean).mean() - accuracy, -20, 30)


@lru_cache
def _effects(tails: str) -> np.ndarray:
    """Return a grid of seed effects with standard deviation 1."""
    chances = (np.arange(200) + 0.5) / 200
    effects = stats.t.ppf(chances, T_DEGREES) if tails == "t3" else special.ndtri(chances)
    return effects / (np.sqrt(T_DEGREES / (T_DEGREES - 2)) if tails == "t3" else 1.0)


@lru_cache
def _slope(difficulty: str, accuracy: float) -> float:
    """Return the derivative of the accuracy with respect to the logit, at the first arm."""
    chances = special.expit(_logits(difficulty, accuracy) + _centre(difficulty, accuracy))
    return float((chances * (1 - chances)).mean())


@lru_cache
def _centre(difficulty: str, accuracy: float) -> float:
    logits = _logits(difficulty, accuracy)
    return float(brentq(lambda shift: special.expit(logits + shift).mean() - accuracy, -10, 10))


@lru_cache
def _shift(difficulty: str, accuracy: float, tails: str, seed_sd: float, difference: float) -> float:
    """Return the shift of the logits that gives an arm its true mean accuracy over images and seeds."""
    logits = _logits(difficulty, accuracy)
    effects = seed_sd / 100 / _slope(difficulty, accuracy) * _effects(tails) if seed_sd else np.zeros(1)
    grid = np.quantile(logits, (np.arange(1000) + 0.5) / 1000) if len(logits) > 2000 else logits

    def mean(shift: float) -> float:
        return float(special.expit(grid[:, None] + effects + shift).mean())

    target = accuracy + difference / 100
    centre = _centre(difficulty, accuracy)
    return float(brentq(lambda shift: mean(shift) - target, centre - 20, centre + 20, xtol=1e-5))


def right(cell: Cell, rng: np.random.Generator) -> np.ndarray:
    """Return (arms, seeds, images) float32 of one study, 1 where an image is classified correctly."""
    if cell.classes:
        return _by_class(cell, rng)
    if cell.trials == 1:
        return _drawn(cell, rng, np.array(cell.seed_sds), cell.truth, cell.num_seeds, cell.num_images)
    num_choosing = cell.num_choosing if cell.reading == "fresh" else 0
    sds, truth = (np.repeat(one, cell.trials) for one in (cell.seed_sds, cell.truth))
    table = _drawn(cell, rng, sds, truth, num_choosing + cell.num_seeds, 2 * cell.num_images)
    table = table.reshape(len(cell.seed_sds), cell.trials, -1, 2 * cell.num_images)
    validation, test = table[..., : cell.num_images].mean(axis=3), table[..., cell.num_images :]
    arms = np.arange(len(test))
    if cell.reading == "fresh":
        return test[arms, validation[..., :num_choosing].mean(axis=2).argmax(axis=1), num_choosing:]
    if cell.reading == "same":
        return test[arms, validation.mean(axis=2).argmax(axis=1)]
    others = validation.sum(axis=2, keepdims=True) - validation
    chosen = others.argmax(axis=1)  # (arms, seeds)
    return test[arms[:, None], chosen, np.arange(cell.num_seeds)]


def rows_of(cell: Cell) -> list[list[int]]:
    """Return the seeds of each arm that have a run."""
    seeds = list(range(cell.num_seeds))
    lacks = {"partly": lambda arm: arm % cell.num_seeds, "lost": lambda arm: 0 if arm == 0 else None}
    lacking = lacks.get(cell.pairing, lambda arm: None)
    return [[seed for seed in seeds if seed != lacking(arm)] for arm in range(len(cell.seed_sds))]


def _by_class(cell: Cell, rng: np.random.Generator) -> np.ndarray:
    """Simulate classes of different accuracies that share half of the variance of the seed effects."""
    num_classes, num_arms = len(cell.classes), len(cell.seed_sds)
    along = np.linspace(-1, 1, num_classes)  # from the most common class to the rarest
    shared = rng.standard_normal((num_arms, cell.num_seeds))
    # SD within a class: the average over classes of common and own parts then has the SD of the cell.
    sds = np.array(cell.seed_sds) * np.sqrt(2 / (1 + 1 / num_classes))
    tables = []
    for place, (num_images, offset) in enumerate(cell.classes):
        of_class = replace(cell, accuracy=round(cell.accuracy + offset / 100, 6))
        truth = cell.truth + along[place] * np.array(cell.tilts or (0.0,) * num_arms) / 100
        effects = (shared + rng.standard_normal(shared.shape)) / np.sqrt(2)
        tables.append(_drawn(of_class, rng, sds, truth, cell.num_seeds, num_images, effects))
    return np.concatenate(tables, axis=2)


def _drawn(
    cell: Cell,
    rng: np.random.Generator,
    seed_sds: np.ndarray,
    truth: np.ndarray,
    num_seeds: int,
    num_images: int,
    effects: np.ndarray | None = None,
) -> np.ndarray:
    """Simulate (arms, seeds, images); seed effects (arms, seeds) of variance 1 are drawn where none are given."""
    slope = _slope(cell.difficulty, cell.accuracy)
    if cell.difficulty == "beta":
        chances = rng.beta(CONCENTRATION * cell.accuracy, CONCENTRATION * (1 - cell.accuracy), num_images)
        images = special.logit(np.clip(chances, 1e-12, 1 - 1e-12))
    else:
        images = rng.normal(_logits("normal", cell.accuracy).mean(), IMAGE_SD, num_images)
    shifts = [
        _shift(cell.difficulty, cell.accuracy, cell.tails, float(sd), round(float(100 * difference), 9))
        for sd, difference in zip(np.hypot(seed_sds, cell.shared_sd), truth, strict=True)
    ]
    draw = (len(seed_sds), num_seeds)
    if effects is not None:
        pass
    elif cell.tails == "t3":
        effects = rng.standard_t(T_DEGREES, draw) / np.sqrt(T_DEGREES / (T_DEGREES - 2))
    else:
        effects = rng.standard_normal(draw)
    effects = effects * seed_sds[:, None] + cell.shared_sd * rng.standard_normal(num_seeds)
    logits = rng.standard_normal((len(seed_sds), 1, num_images), dtype=np.float32) * np.float32(OWN_SD)
    logits = logits + images.astype(np.float32)
    logits = logits + (effects / 100 / slope + np.array(shifts)[:, None]).astype(np.float32)[..., None]
    return (rng.random(logits.shape, dtype=np.float32) < special.expit(logits)).astype(np.float32)


def world(rng: np.random.Generator, num_images: int) -> np.ndarray:
    """Return the logits of test images, of which about 90 % are classified correctly."""
    return rng.normal(_logits("normal", 0.9).mean(), IMAGE_SD, num_images).astype(np.float32)


def table(rng: np.random.Generator, images: np.ndarray, num_seeds: int, seed_sd: float, shift: float = 0.0):
    """Return (seeds, images) float32 of one arm, 1 where an image is classified correctly.

    Args:
        rng: Generator of everything but the images.
        images: Logits of the images.
        num_seeds: Number of rows.
        seed_sd: Standard deviation of the accuracy over seeds on infinitely many images, in percentage points.
        shift: Shift of the arm's logits.
    """
    own = rng.normal(0, OWN_SD, len(images)).astype(np.float32)
    seeds = rng.normal(0, seed_sd / 100 / _slope("normal", 0.9), num_seeds).astype(np.float32)
    chances = special.expit(images + own + np.float32(shift) + seeds[:, None])
    return (rng.random((num_seeds, len(images)), dtype=np.float32) < chances).astype(np.float32)
