"""Simulated factorial studies with known effects: coverage, false effects and power of `statistics/effects.py`.

`python -m tests.studies.effects_grid --studies 1000 output.csv` runs the whole grid (15 minutes on a free core);
`--cells NAME ...` runs some of it. Each figure is a share of studies (of intervals for coverage) with a Monte Carlo
standard error of sqrt(share (1 - share) / studies).
"""

import argparse
import csv
import itertools
import zlib
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import numpy as np
from scipy import special, stats
from scipy.optimize import brentq
from tqdm import tqdm

from intel_scenes.studies.statistics.crossed import Runs
from intel_scenes.studies.statistics.effects import Effects, FactorialDesign, analyse
from tests.studies import simulated

ROPE = 0.005
LOGIT = 3.6  # mean over images, of which about 90 % are classified correctly
NODES, WEIGHTS = np.polynomial.hermite_e.hermegauss(80)
WEIGHTS = WEIGHTS / WEIGHTS.sum()


def accuracy(by: float, spread: float = np.hypot(simulated.IMAGE_SD, simulated.OWN_SD)) -> float:
    """Return the accuracy over all images and seeds of a configuration with shifted logits."""
    return float(special.expit(LOGIT + by + spread * NODES) @ WEIGHTS)


SLOPE = (accuracy(0.05) - accuracy(-0.05)) / 0.1  # derivative of the accuracy with respect to the logit


@dataclass(frozen=True)
class Scenario:
    """A kind of factorial study; standard deviations (SD) and effects in percentage points.

    Attributes:
        sizes: Number of levels of each factor.
        num_seeds: Number of seeds of each cell.
        num_images: Number of test images.
        seed_sd: SD of seed effects of single runs.
        shared_sd: SD of seed effects common to all cells.
        level_sd: SD of seed effects common to all cells of one level of the first factor.
        noisy: Factor whose first level has `noisy_sd` instead of `seed_sd`.
        noisy_sd: See `noisy`.
        absent: Levels (first factor, second factor) without cells.
        lost: Every `lost`-th cell lacks its last seed; 0 for none.
        is_paired: Cells have the same seeds.
        main: Main effect by (factor, level).
        crossed: Interaction by (level of the first factor, level of the second).
        level_image_sd: SD in logits of the interaction of levels of the first factor with images.
    """

    sizes: tuple[int, ...] = (4, 3, 3)
    num_seeds: int = 3
    num_images: int = 1500
    seed_sd: float = 0.3
    shared_sd: float = 0.0
    level_sd: float = 0.0
    noisy: int | None = None
    noisy_sd: float = 2.0
    absent: tuple[tuple[int, int], ...] = ()
    lost: int = 0
    is_paired: bool = True
    main: dict[tuple[int, int], float] = field(default_factory=dict)
    crossed: dict[tuple[int, int], float] = field(default_factory=dict)
    level_image_sd: float = 0.0

    @property
    def cells(self) -> list[tuple[int, ...]]:
        return [one for one in itertools.product(*map(range, self.sizes)) if one[:2] not in self.absent]

    def design(self) -> FactorialDesign:
        levels = [{f"f{factor}": str(level) for factor, level in enumerate(cell)} for cell in self.cells]
        seeds = []
        for number in range(len(levels)):
            num = self.num_seeds - (self.lost > 0 and number % self.lost == 0)
            seeds.append([seed if self.is_paired else (number, seed) for seed in range(num)])
        return FactorialDesign.of(levels, seeds)

    def truth(self, cell: tuple[int, ...]) -> float:
        """Return the true accuracy minus the base accuracy, in points."""
        return sum(self.main.get(one, 0.0) for one in enumerate(cell)) + self.crossed.get(cell[:2], 0.0)

    def own_sd(self, cell: tuple[int, ...]) -> float:
        return self.noisy_sd if self.noisy is not None and cell[self.noisy] == 0 else self.seed_sd

    def shifts(self) -> np.ndarray:
        """Return the shift of the logits of each cell that gives its true accuracy over all images and seeds."""
        sds = [np.hypot(np.hypot(self.own_sd(cell), self.shared_sd), self.level_sd) for cell in self.cells]
        return np.array(
            [shift(self.truth(cell), float(sd), self.level_image_sd) for cell, sd in zip(self.cells, sds, strict=True)],
            np.float32,
        )


@cache
def shift(points: float, seed_sd: float, level_image_sd: float) -> float:
    spread = np.sqrt(simulated.IMAGE_SD**2 + simulated.OWN_SD**2 + level_image_sd**2 + logits(seed_sd) ** 2)
    target = accuracy(0.0) + points / 100
    return brentq(lambda by: accuracy(by, spread) - target, -6.0, 6.0)


def logits(points: float) -> float:
    return points / 100 / SLOPE


def runs_of(rng: np.random.Generator, scenario: Scenario, design: FactorialDesign, shifts: np.ndarray) -> Runs:
    """Simulate the runs of one study."""
    images, cells, sizes = scenario.num_images, scenario.cells, [len(rows) for rows in design.rows]
    shared = rng.normal(0, logits(scenario.shared_sd), scenario.num_seeds)
    of_level = rng.normal(0, logits(scenario.level_sd), (scenario.sizes[0], scenario.num_seeds))
    own = rng.standard_normal((len(cells), images), dtype=np.float32) * np.float32(simulated.OWN_SD)
    own += rng.normal(LOGIT, simulated.IMAGE_SD, images).astype(np.float32) + shifts[:, None]
    if scenario.level_image_sd:
        by_level = rng.normal(0, scenario.level_image_sd, (scenario.sizes[0], images)).astype(np.float32)
        own += by_level[[cell[0] for cell in cells]]
    seeds = [
        rng.normal(0, logits(scenario.own_sd(cell)), size) + shared[:size] + of_level[cell[0], :size]
        for cell, size in zip(cells, sizes, strict=True)
    ]
    chances = special.expit(np.repeat(own, sizes, axis=0) + np.concatenate(seeds).astype(np.float32)[:, None])
    return Runs.of((rng.random(chances.shape, dtype=np.float32) < chances).astype(np.float32))


SHOWN = ("better", "worse")
HALF = ((2, 2), (3, 2))
EFFECTS = {(0, 1): 1.0, (0, 2): 2.0, (1, 1): 1.0, (2, 2): -0.5}
SCENARIOS = {
    "base, seed sd 0.3": Scenario(),
    "seed sd 0": Scenario(seed_sd=0.0),
    "seed sd 0.8": Scenario(seed_sd=0.8),
    "shared by all, sd 0.8": Scenario(shared_sd=0.8),
    "shared by a level, sd 0.15": Scenario(level_sd=0.15),
    "shared by a level, sd 0.3": Scenario(level_sd=0.3),
    "shared by a level, sd 0.5": Scenario(level_sd=0.5),
    "shared by a level, sd 0.8": Scenario(level_sd=0.8),
    "shared by a level, sd 0.8, 2 seeds": Scenario(level_sd=0.8, num_seeds=2),
    "shared by a level, sd 0.3, 5 seeds": Scenario(level_sd=0.3, num_seeds=5),
    "shared by a level, sd 0.8, 2x3x3": Scenario(level_sd=0.8, sizes=(2, 3, 3)),
    "weights by 3 optimizers, sd 1 shared by the weights": Scenario(level_sd=1.0, sizes=(2, 3)),
    # Not what the package does: runs that share seed effects have different labels here, to show what that costs.
    "weights by 3 optimizers, taken for unpaired": Scenario(level_sd=1.0, sizes=(2, 3), is_paired=False),
    "4x3, sd 0.8 shared by a level": Scenario(level_sd=0.8, sizes=(4, 3)),
    "4x3, taken for unpaired": Scenario(level_sd=0.8, sizes=(4, 3), is_paired=False),
    "shared by a level, sd 0.8, a lost seed": Scenario(level_sd=0.8, lost=12),
    "noisy level of 3": Scenario(noisy=1, seed_sd=0.4),
    "noisy level of 4": Scenario(noisy=0, seed_sd=0.4),
    "noisy level, 5 seeds": Scenario(noisy=1, seed_sd=0.4, num_seeds=5),
    "incomplete: a level on half": Scenario(absent=HALF, seed_sd=0.8),
    "a lost seed": Scenario(lost=36, seed_sd=0.8),
    "every fourth cell lost a seed": Scenario(lost=4, seed_sd=0.8),
    "unpaired": Scenario(is_paired=False, seed_sd=0.8),
    "2 seeds": Scenario(num_seeds=2, seed_sd=0.8),
    "2 seeds, unpaired": Scenario(num_seeds=2, seed_sd=0.8, is_paired=False),
    "5 seeds": Scenario(num_seeds=5, seed_sd=0.8),
    "10 seeds": Scenario(num_seeds=10, seed_sd=0.8),
    "2x2": Scenario(sizes=(2, 2), seed_sd=0.8),
    "6x6": Scenario(sizes=(6, 6), seed_sd=0.8),
    "2x2x2x2": Scenario(sizes=(2, 2, 2, 2), seed_sd=0.8),
    "5 levels of one factor": Scenario(sizes=(5,), seed_sd=0.8),
    "150 images": Scenario(num_images=150, seed_sd=0.8),
    "10,000 images": Scenario(num_images=10_000, seed_sd=0.8, sizes=(3, 2, 2)),
    "images by level": Scenario(level_image_sd=0.8),
    "main effects": Scenario(main=EFFECTS),
    "main effects, incomplete": Scenario(main=EFFECTS, absent=HALF),
    "main effects and an interaction": Scenario(main=EFFECTS, crossed={(0, 0): 3.0}),
    "power: 1 point, seed sd 0.3": Scenario(main={(1, 0): 1.0}),
    "power: 1 point, seed sd 0.8": Scenario(main={(1, 0): 1.0}, seed_sd=0.8),
    "power: 1 point, shared by a level, sd 0.8": Scenario(main={(1, 0): 1.0}, level_sd=0.8),
    "power: interaction of 2 points": Scenario(crossed={(0, 0): 2.0}),
    "power: interaction of 4 points": Scenario(crossed={(0, 0): 4.0}),
}


@dataclass
class Tally:
    """Counts over the studies of a scenario."""

    studies: int = 0
    false_main: int = 0
    false_simple: int = 0
    false_interaction: int = 0
    false_equal: int = 0
    main_shown: int = 0
    main_true: int = 0
    interaction_shown: int = 0
    interaction_true: int = 0

    def count(self, scenario: Scenario, effects: Effects, intervals: dict[tuple[str, ...], list[bool]]) -> None:
        cells = scenario.cells
        self.studies += 1
        wrong = {"main": False, "simple": False, "equal": False}
        for one in [*effects.main, *effects.simple]:
            truth = np.mean([scenario.truth(cells[a]) - scenario.truth(cells[b]) for a, b in one.matched]) / 100
            truth = 0.0 if abs(truth) < 1e-9 else float(truth)
            kind = "main" if one.within == "all" else "simple"
            intervals.setdefault((kind, one.factor, one.level, one.against), []).append(one.low <= truth <= one.high)
            is_correct = one.verdict == ("better" if truth > 0 else "worse") and truth != 0
            wrong[kind] |= one.verdict in SHOWN and not is_correct
            wrong["equal"] |= one.verdict == "practically equal" and abs(truth) >= ROPE - 1e-9
            if kind == "main" and truth:
                self.main_true += 1
                self.main_shown += is_correct
        for mean in effects.means:
            truth = accuracy(0.0) + np.mean([scenario.truth(cells[cell]) for cell in mean.cells]) / 100
            intervals.setdefault(("mean", mean.factor, mean.level), []).append(mean.low <= truth <= mean.high)
        is_crossed = {("f0", "f1")} if scenario.crossed else set()
        self.false_main += wrong["main"]
        self.false_simple += wrong["simple"]
        self.false_equal += wrong["equal"]
        self.false_interaction += any(one.is_shown and one.factors not in is_crossed for one in effects.interactions)
        self.interaction_true += len(is_crossed)
        self.interaction_shown += any(one.is_shown and one.factors in is_crossed for one in effects.interactions)


def simulate(name: str, num_studies: int) -> dict[str, float | str | int]:
    """Simulate one scenario, seeded by its name, and return its figures."""
    scenario = SCENARIOS[name]
    rng = np.random.default_rng(zlib.crc32(name.encode()))
    design, shifts = scenario.design(), scenario.shifts()
    tally, intervals, errors, widths = Tally(), {}, [], []
    for _ in range(num_studies):
        effects = analyse(design, runs_of(rng, scenario, design, shifts), ROPE)
        tally.count(scenario, effects, intervals)
        errors.append([100 * one.standard_error for one in effects.main])
        widths.append([100 * (one.high - one.low) for one in effects.main])
    coverage = {
        kind: [np.mean(covered) for key, covered in intervals.items() if key[0] == kind]
        for kind in ("main", "simple", "mean")
    }
    return {
        "scenario": name,
        "studies": tally.studies,
        **{f"coverage_{kind}": round(float(np.mean(values)), 4) if values else "" for kind, values in coverage.items()},
        **{f"worst_{kind}": round(float(min(values)), 4) if values else "" for kind, values in coverage.items()},
        **{
            key: round(getattr(tally, key) / tally.studies, 4)
            for key in ("false_main", "false_interaction", "false_simple", "false_equal")
        },
        "power_main": round(tally.main_shown / tally.main_true, 4) if tally.main_true else "",
        "power_interaction": round(tally.interaction_shown / tally.interaction_true, 4) if scenario.crossed else "",
        "standard_error": round(float(np.median(errors)), 4),
        "width": round(float(np.median(widths)), 4),
    }


def lower_bound(share: float, num: int) -> float:
    """Return the 99 % lower bound of a share (Clopper and Pearson)."""
    return float(stats.binomtest(round(share * num), num, alternative="greater").proportion_ci(0.99).low)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--studies", type=int, default=1000)
    parser.add_argument("--cells", nargs="*", default=list(SCENARIOS))
    parser.add_argument("output", type=Path)
    arguments = parser.parse_args()
    with arguments.output.open("w", newline="") as file:
        writer = None
        for name in (progress := tqdm(arguments.cells)):
            progress.set_description(name)
            row = simulate(name, arguments.studies)
            writer = writer or csv.DictWriter(file, list(row))
            if file.tell() == 0:
                writer.writeheader()
            writer.writerow(row)
            file.flush()


if __name__ == "__main__":
    main()
