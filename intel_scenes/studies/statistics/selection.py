"""The optimism of a choice on validation, and whether the tuning of arms was comparable."""

import itertools
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt


def cross_validated_choice(accuracies: npt.NDArray[np.float64]) -> float | None:
    """Return the mean validation accuracy of a leader chosen on other seeds than those it is scored on.

    Leave one seed out: take the leader of the other seeds, read its accuracy at the seed left out, and average over
    seeds (cross-validated selection: Varma and Simon, BMC Bioinformatics 7, 2006, with seeds as folds). It estimates
    the result of a choice with one seed fewer. All seeds share the validation images, so their optimism remains.

    Args:
        accuracies: (configurations, seeds) with at least one configuration.

    Returns:
        A fraction; None with a single seed.
    """
    _, num_seeds = accuracies.shape
    if num_seeds < 2:
        return None
    totals = accuracies.sum(axis=1)
    leaders = [int(np.argmax(totals - accuracies[:, seed])) for seed in range(num_seeds)]
    return float(np.mean([accuracies[leader, seed] for seed, leader in enumerate(leaders)]))


def best_of(accuracies: Sequence[float]) -> list[float]:
    """Return the expected best validation accuracy of 1, 2, ... trials drawn without replacement from those run.

    The unbiased estimator of Tang et al. ("Showing Your Work Doesn't Always Work", ACL 2020): for n of N trials, the
    sum over the sorted values of v_(i) C(i - 1, n - 1) / C(N, n).
    """
    values = np.sort(np.asarray(accuracies, dtype=np.float64))[::-1]
    num = len(values)
    ranks = np.arange(1, num)
    expected = []
    for size in range(1, num + 1):
        # C(i - 1, n - 1) / C(N, n) from the largest value down, as a product of ratios that never overflows.
        ratios = np.clip((num - ranks - size + 1) / (num - ranks), 0.0, None)
        weights = size / num * np.concatenate([[1.0], np.cumprod(ratios)])
        expected.append(float(weights @ values))
    return expected


def crossing(curve: Sequence[float], other: Sequence[float]) -> int | None:
    """Return the first number of trials at which two `best_of` curves have another order than at one trial."""
    differences = [a - b for a, b in zip(curve, other, strict=False)]
    for size, difference in enumerate(differences, start=1):
        if difference * differences[0] < 0:
            return size
    return None


def at_edge(chosen: str, tried: Sequence[str], bounds: Sequence[float] | None = None) -> bool:
    """Return whether a chosen number is at the edge of the search space; names have no edge.

    Args:
        chosen: The chosen value.
        tried: All values tried. The edge of a grid is the smallest or largest of at least three.
        bounds: Low and high of the interval that values were sampled from, and 1 for a logarithmic scale. The edge of
            such an interval is the outer twentieth on each side.
    """
    try:
        numbers, number = sorted({float(text) for text in tried}), float(chosen)
    except ValueError:
        return False
    if bounds is None:
        return len(numbers) > 2 and number in (numbers[0], numbers[-1])
    low, high, is_log = bounds
    if is_log:
        low, high, number = math.log(low), math.log(high), math.log(number)
    return min(number - low, high - number) < (high - low) / 20


def cut_beyond(chosen: str, tried: Sequence[str], cut: Sequence[str]) -> list[str]:
    """Return the numbers left out of a grid that lie beyond the edge at which the chosen number lies."""
    number, is_largest = float(chosen), float(chosen) == max(map(float, tried))
    return [text for text in cut if (_number(text) > number if is_largest else _number(text) < number)]


def _number(text: str) -> float:
    try:
        return float(text)
    except ValueError:  # a name among numbers lies beyond none
        return math.nan


def beyond(chosen: str, tried: Sequence[str]) -> str | None:
    """Return the next value of a grid beyond the edge at which the chosen number lies.

    With equal steps this is one more step; otherwise the last ratio is repeated, or the one before it where the last
    two ratios make a decade: 3, 10, 30 continues with 100.

    Args:
        chosen: The smallest or the largest value tried.
        tried: All values tried, at least two.

    Returns:
        The number to three significant digits; None where it would not be positive.
    """
    numbers = sorted({float(text) for text in tried}, key=lambda number: -abs(number - float(chosen)))
    steps = [after - before for before, after in itertools.pairwise(numbers)]
    number = numbers[-1] + steps[-1]
    if len(steps) < 2 or number <= 0 or not all(math.isclose(step, steps[0]) for step in steps):
        if numbers[-1] <= 0 or numbers[-2] <= 0:
            return None
        decade = 10 if steps[-1] > 0 else 0.1
        is_decade = len(steps) > 1 and math.isclose(numbers[-1], decade * numbers[-3])
        number = decade * numbers[-2] if is_decade else numbers[-1] ** 2 / numbers[-2]
    return f"{float(f'{number:.3g}'):.15g}"
