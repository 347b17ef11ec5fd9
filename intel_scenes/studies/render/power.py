"""Sentences on the power of a study: the smallest difference it can detect, and the seeds that smaller ones need."""

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

from intel_scenes.errors import percentage
from intel_scenes.studies.statistics.estimates import Components
from intel_scenes.studies.statistics.verdicts import Design

SMALLER = (0.005, 0.01, 0.02)  # differences that a study may want to detect, as fractions
# Variances of two configurations at about 90 % accuracy, as in the simulated studies of the tests.
ASSUMED = {"seed": 2 * 0.003**2, "image": 0.0064, "rest": 0.12}
ASSUMED_IN_WORDS = "a seed SD of 0.3 points, and runs that differ on 13 % of the images"


def would_show(
    earlier: Design | None, num_arms: int, num_seeds: int, *, num_images: int, has_baseline: bool
) -> list[str]:
    """Return what a planned study could detect, by the variances of earlier runs or by assumed ones.

    Args:
        earlier: Design with the variances of the runs in the folder; None if no pair of them can be tested.
        num_arms: Number of arms, at least two.
        num_seeds: Seeds per arm.
        num_images: Number of test images.
        has_baseline: Whether all arms are compared with one of them alone.
    """
    if num_seeds < 2:
        return ["one seed per arm: no difference between arms can be tested; seed=1,2,3 runs three"]
    design = assumed(num_arms, num_images=num_images, has_baseline=has_baseline)
    source = f"assuming {num_images:,} test images, {ASSUMED_IN_WORDS}"
    if earlier:
        design = replace(earlier, num_arms=num_arms, has_baseline=has_baseline)
        source = "by the variances of the completed runs"
    chances = [f"{100 * size:g}: {percentage(design.power_of_leader(size, num_seeds), 0)}" for size in SMALLER]
    return [
        f"{num_arms} arms with {num_seeds} seeds: {detectable(design, num_seeds)} ({source})",
        f"power for an arm that is better than all others by this many points: {', '.join(chances)}",
        needed(design),
    ]


def assumed(num_arms: int, *, num_images: int, has_baseline: bool = False) -> Design:
    """Return the design of a study before its first run, with the variances `ASSUMED`; arguments as in `would_show`."""
    return Design(Components(**ASSUMED, num_images=num_images), num_arms, has_baseline, accuracy=0.9)


@cache  # the terminal and the page need the same sentence
def detectable(design: Design, num_seeds: int) -> str:
    """Return the smallest difference that the study has 80 % power to detect."""
    smallest = design.smallest_shown(num_seeds)
    if smallest is None:
        return "no difference has 80 % power with so few seeds"
    return f"the smallest detectable difference is {100 * smallest:.1f} points at 80 % power"


@cache
def needed(design: Design) -> str:
    """Return the seeds that smaller differences need, as a range because the seed variance is an estimate."""
    seeds_by_size = {size: design.seeds_needed(size) for size in SMALLER}
    reachable = [f"{_range(*seeds)} to detect {_points([size])}" for size, seeds in seeds_by_size.items() if seeds]
    limited = [size for size, seeds in seeds_by_size.items() if seeds is None]
    parts = [f"seeds needed per arm: {', '.join(reachable)}"] if reachable else []
    if limited:
        parts.append(f"more seeds cannot help to detect {_points(limited)}, because the test set is too small")
    return "; ".join(parts)


def _points(sizes: Sequence[float]) -> str:
    *others, last = (f"{100 * size:g}" for size in sizes)
    return f"{', '.join(others)}{' or ' * bool(others)}{last} point{'' if sizes == [0.01] else 's'}"


def _range(fewest: int, most: int | None) -> str:
    if fewest > 100:
        return "more than 100"
    if most is None or most > 100:
        return f"at least {fewest}"
    return f"{fewest}" if fewest == most else f"{fewest} to {most}"
