"""What a study can show, in words."""

from functools import cache

from intel_scenes.studies.statistics.estimates import Components
from intel_scenes.studies.statistics.verdicts import Design

SMALLER = (0.005, 0.01, 0.02)  # differences that a study may want to show, as fractions
# Of two configurations at about 90 %, in the simulations of the tests.
ASSUMED = {"seed": 2 * 0.003**2, "image": 0.0064, "rest": 0.12}
ASSUMED_IN_WORDS = "0.3 points from seed to seed, and two runs that differ on 13 % of the images"


def would_show(
    earlier: Design | None, num_arms: int, num_seeds: int, *, num_images: int, has_baseline: bool
) -> list[str]:
    """What a study of so many arms and seeds would show, by the variances of earlier runs, or some that are assumed.

    Args:
        earlier: Of the runs that are there; None where none can be tested.
        num_arms: Two or more.
        num_seeds: Of each arm.
        num_images: Of the test split.
        has_baseline: All are compared with one of them alone.
    """
    if num_seeds < 2:
        return ["one seed an arm: no difference between arms can be tested, seed=1,2,3 asks for three"]
    design = assumed(num_arms, num_images=num_images, has_baseline=has_baseline)
    source = f"assuming {num_images:,} test images, {ASSUMED_IN_WORDS}"
    if earlier:
        known = (earlier.is_paired, earlier.accuracy, earlier.degrees)
        design = Design(earlier.components, num_arms, has_baseline, *known)
        source = "by the variances of the runs that are there"
    chances = [f"{100 * size:g}: {100 * design.power_of_leader(size, num_seeds):.0f} %" for size in SMALLER]
    return [
        f"{num_arms} arms with {num_seeds} seeds: {detectable(design, num_seeds)} ({source})",
        f"power for a pair of an arm that is better than all others by so many points: {', '.join(chances)}",
        needed(design),
    ]


def assumed(num_arms: int, *, num_images: int, has_baseline: bool = False) -> Design:
    """The design of a study before its first run, by the variances of `ASSUMED`; arguments as of `would_show`."""
    return Design(Components(**ASSUMED, num_images=num_images), num_arms, has_baseline, accuracy=0.9)


@cache  # the terminal and the page ask the same
def detectable(design: Design, num_seeds: int) -> str:
    """The smallest difference that has 80 % power."""
    smallest = design.smallest_shown(num_seeds)
    if smallest is None:
        return "no difference has 80 % power with so few seeds"
    return f"smallest detectable difference {100 * smallest:.1f} points at 80 % power"


@cache
def needed(design: Design) -> str:
    """The seeds that smaller differences need, as a range where the variance over seeds is an estimate."""
    found = {size: design.seeds_needed(size) for size in SMALLER}
    known = [f"{_range(*seeds)} for {_points(size)}" for size, seeds in found.items() if seeds]
    limited = [f"{100 * size:g}" for size, seeds in found.items() if seeds is None]
    parts = [f"seeds needed: {', '.join(known)}"] if known else []
    if limited:
        sizes = f"{' or '.join(limited)} point{'s' if limited != ['1'] else ''}"
        parts.append(f"more seeds cannot help for {sizes}, because the test set is too small")
    return "; ".join(parts)


def _points(size: float) -> str:
    return f"{100 * size:g} point{'s' if size != 0.01 else ''}"


def _range(fewest: int, most: int | None) -> str:
    if fewest > 100:
        return "more than 100"
    if most is None or most > 100:
        return f"{fewest} or more"
    return f"{fewest}" if fewest == most else f"{fewest} to {most}"
