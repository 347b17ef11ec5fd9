"""A search: points that are sampled from the intervals of keys."""

from collections.abc import Sequence

from hydra.core.override_parser.types import IntervalSweep, Override

from intel_scenes.errors import UserError
from intel_scenes.keys import conf_folder
from intel_scenes.record import Interval

SEARCH_SEED = 1  # fixed, so that a search goes on where it ended


def sampled(intervals: Sequence[Override], trials: int) -> list[list[str]]:
    """Points of a search, each as its overrides; one without any where nothing is searched.

    They are those of a Halton sequence with a fixed scramble, spread more evenly than random ones (Bousquet et al.,
    "Critical hyper-parameters", 2017). None depends on a result: so every configuration tries the same ones, in any
    order and side by side, and the first n of them are what a shorter search would have tried.

    Args:
        intervals: Keys with `interval(low,high)`, `tag(log,interval(low,high))` for a logarithmic scale, or
            `int(interval(low,high))`, both ends included.
        trials: How many points.

    Raises:
        UserError: The interval is of no use.
    """
    if not intervals:
        return [[]]
    if groups := [override.input_line for override in intervals if (conf_folder() / override.key_or_group).is_dir()]:
        raise UserError(f"{groups[0]}: an interval is for a number, and this chooses a file")
    intervals = sorted(intervals, key=Override.get_key_element)  # the points depend on no order of typing
    from scipy.stats import qmc

    points = qmc.Halton(len(intervals), rng=SEARCH_SEED).random(trials)
    axes = [_axis(interval_of(one), column) for one, column in zip(intervals, points.T.tolist(), strict=True)]
    keys = [override.get_key_element() for override in intervals]
    return [[f"{key}={value}" for key, value in zip(keys, point, strict=True)] for point in zip(*axes, strict=True)]


def interval_of(override: Override) -> Interval:
    """The interval that a key is set to.

    Raises:
        UserError: The interval is of no use.
    """
    interval = override.value()
    assert isinstance(interval, IntervalSweep)
    assert interval.start is not None
    assert interval.end is not None
    low, high, is_log = interval.start, interval.end, "log" in interval.tags
    if low >= high or (is_log and low <= 0):
        raise UserError(f"{override.input_line}: the interval has to go from low to high{', above 0' * is_log}")
    return Interval(low, high, is_log)


def _axis(interval: Interval, shares: Sequence[float]) -> list[str]:
    """The values at shares of an interval, as texts of four digits."""
    low, high, is_log = interval
    is_whole = isinstance(low, int) and isinstance(high, int)
    if is_whole:
        low, high = low - 0.5 + 1e-9, high + 0.5 - 1e-9  # as large a share for the ends as for the others
    values = [low * (high / low) ** share if is_log else low + (high - low) * share for share in shares]
    return [str(round(value)) if is_whole else f"{value:.4g}" for value in values]
