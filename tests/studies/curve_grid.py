"""Coverage of the interval of the gain from twice the images: `python -m tests.studies.curve_grid 400`."""

import sys
from dataclasses import dataclass

import numpy as np

from intel_scenes.studies.statistics.learning_curve import learning_curve
from tests.studies.simulated import Cell, right

SIZES = (631, 1263, 3158, 6316, 12632)  # of Intel scenes at data.train_fraction=0.05, 0.1, 0.25, 0.5 and 1
SEED_SDS = (0.8, 0.6, 0.4, 0.3, 0.2)  # SD over seeds at each size on infinitely many images, in points
SHARED_SD = 0.2  # SD of seed effects common to all sizes, since the subsets of a seed are nested


@dataclass(frozen=True)
class Truth:
    """A true learning curve, error(n) = a n^-exponent + floor, and the study that estimates it.

    Attributes:
        name: Name of the varied properties.
        exponent: Exponent of the power law.
        error: Error with all training images, a fraction.
        floor: Error that remains with infinitely many training images, a fraction.
        num_seeds: Number of seeds at each size.
        num_images: Number of test images.
        noise: Factor of the seed effects.
        places: Indices of the sizes used.
        tails: Distribution of the seed effects.
    """

    name: str
    exponent: float = 0.25
    error: float = 0.08
    floor: float = 0.0
    num_seeds: int = 3
    num_images: int = 3000
    noise: float = 1.0
    places: tuple[int, ...] = (0, 1, 2, 3, 4)
    tails: str = "normal"

    def at(self, size: float) -> float:
        """Return the true error at a size."""
        return (self.error - self.floor) * (size / SIZES[-1]) ** -self.exponent + self.floor

    @property
    def gain(self) -> float:
        """True gain in accuracy from twice the images."""
        return self.at(SIZES[-1]) - self.at(2 * SIZES[-1])


TRUTHS = (
    Truth("3 seeds, 3,000 test images"),
    Truth("1,500 test images", num_images=1500),
    Truth("no seed effect", noise=0),
    Truth("seed effects x 3", noise=3),
    Truth("seed effects of t3", tails="t3"),
    Truth("2 seeds", num_seeds=2),
    Truth("5 seeds", num_seeds=5),
    Truth("10 seeds", num_seeds=10),
    Truth("b 0.5, error 4 %", exponent=0.5, error=0.04),
    Truth("4 sizes", places=(1, 2, 3, 4)),
    Truth("3 sizes", places=(0, 2, 4)),
    Truth("floor 2 %, b 0.35", exponent=0.35, floor=0.02),
    Truth("floor 4 %, b 0.5", exponent=0.5, floor=0.04),
    Truth("floor 4 %, b 0.5, 5 seeds", exponent=0.5, floor=0.04, num_seeds=5),
    Truth("floor 6 %, b 1", exponent=1.0, floor=0.06),
    Truth("floor 4 %, b 0.5, 3 sizes", exponent=0.5, floor=0.04, places=(0, 2, 4)),
)


def simulated(truth, num_studies, seed=1):
    """Return (studies, 3, 3): value, low and high of the gain, of the gain by the power law, and of the exponent."""
    rng, rows = np.random.default_rng(seed), []
    sizes = [SIZES[place] for place in truth.places]
    errors = np.array([truth.at(size) for size in sizes])
    cell = Cell(
        truth.name,
        tuple(truth.noise * SEED_SDS[place] for place in truth.places),
        tuple(100 * (errors[0] - errors)),
        num_seeds=truth.num_seeds,
        num_images=truth.num_images,
        accuracy=1 - errors[0],
        tails=truth.tails,
        shared_sd=truth.noise * SHARED_SD,
    )
    for _ in range(num_studies):
        curve = learning_curve(sizes, 1 - right(cell, rng))
        more = (SIZES[-1], 2 * SIZES[-1])
        estimates = curve.gain(*more), curve.gain(*more, is_straight=True), curve.exponent()
        rows.append([(one.value, *one.interval()) for one in estimates])
    return np.array(rows)


def covered(intervals, truth):
    """Return the share of intervals that cover the truth."""
    return ((intervals[:, 1] <= truth) & (truth <= intervals[:, 2])).mean()


def main(num_studies):
    by_law = "by the power law: mean | coverage | width | exponent: coverage"
    print(f"| study | true gain | mean | coverage | width | {by_law} |")
    print("| --- | --- | --- | --- | --- | --- | --- | --- | --- |")
    for truth in TRUTHS:
        estimates = simulated(truth, num_studies)
        cells = [f"{100 * truth.gain:.2f}"]
        for place in (0, 1):
            widths = estimates[:, place, 2] - estimates[:, place, 1]
            cells.append(f"{100 * estimates[:, place, 0].mean():.2f}")
            cells.append(f"{100 * covered(estimates[:, place], truth.gain):.1f} %")
            cells.append(f"{100 * np.median(widths):.2f}")
        cells.append("" if truth.floor else f"{100 * covered(estimates[:, 2], truth.exponent):.1f} %")
        print(f"| {truth.name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]))
