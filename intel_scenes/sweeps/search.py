"""Search: points that are sampled from the intervals of keys."""

from collections.abc import Sequence

from hydra.core.override_parser.types import IntervalSweep, Override

from intel_scenes.errors import UserError
from intel_scenes.keys import conf_folder
from intel_scenes.record import Interval

SEARCH_SEED = 1  # fixed, so that a longer search continues a shorter one


def sampled(intervals: Sequence[Override], trials: int) -> list[list[str]]:
    """Return the points of a search, each as a list of overrides; one empty list where nothing is searched.

    They form a scrambled Halton sequence with a fixed seed, which covers the space more evenly than random points
    (Bousquet et al., "Critical hyper-parameters", 2017). No point depends on a result, so every configuration tries the
    same ones, in any order and in parallel, and the first n points are those of a shorter search.

    Args:
        intervals: Keys with `interval(low,high)`, `tag(log,interval(low,high))` for a logarithmic scale, or
            `int(interval(low,high))`, both ends included.
        trials: Number of points.

    Raises:
        UserError: An interval is empty, or set to a group.
    """
    if not intervals:
        return [[]]
    if groups := [override.input_line for override in intervals if (conf_folder() / override.key_or_group).is_dir()]:
        raise UserError(
            f"{groups[0]} sets an interval, but this key chooses a file: list names instead, separated by commas"
        )
    intervals = sorted(intervals, key=Override.get_key_element)  # the points must not depend on the order of typing
    from scipy.stats import qmc

    points = qmc.Halton(len(intervals), rng=SEARCH_SEED).random(trials)
    axes = [_axis(interval_of(override), column) for override, column in zip(intervals, points.T.tolist(), strict=True)]
    keys = [override.get_key_element() for override in intervals]
    return [[f"{key}={value}" for key, value in zip(keys, point, strict=True)] for point in zip(*axes, strict=True)]


def interval_of(override: Override) -> Interval:
    """Return the interval that a key is set to.

    Raises:
        UserError: The interval is empty, or logarithmic and not positive.
    """
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    assert interval.start is not None
    assert interval.end is not None
    low, high, is_log = interval.start, interval.end, "log" in interval.tags
    if low >= high or (is_log and low <= 0):
        raise UserError(f"{override.input_line} must be an interval from low to high{', above 0' * is_log}")
    return Interval(low, high, is_log)


def _axis(interval: Interval, shares: Sequence[float]) -> list[str]:
    """Return the values at shares of an interval, as texts of four digits."""
    low, high, is_log = interval
    is_whole = isinstance(low, int) and isinstance(high, int)
    if is_whole:
        low, high = low - 0.5 + 1e-9, high + 0.5 - 1e-9  # both ends are as likely as the other integers
    values = [low * (high / low) ** share if is_log else low + (high - low) * share for share in shares]
    return [str(round(value)) if is_whole else f"{value:.4g}" for value in values]
