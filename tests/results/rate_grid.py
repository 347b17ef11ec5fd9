"""Coverage of the exponent's interval in simulated studies of rates by batches: `python -m tests.results.rate_grid`."""

import sys

import numpy as np

from results.learning_rates import analyse

BATCHES, EXPONENT = (16, 64, 256, 1024), 0.6
NUM_RATES, NUM_SEEDS = 5, 3


def simulated(rng: np.random.Generator, scatter: float, sd: float) -> list[analyse.Batch]:
    """Return a study whose best rates scatter around a power law, with a grid that need not be centred on them.

    Args:
        rng: Random numbers.
        scatter: Standard deviation of the logarithm of a best rate around the law.
        sd: Standard deviation over seeds of a cell's accuracy, beyond what all rates have in common.
    """
    batches = []
    for batch_size in BATCHES:
        law = 0.001 * batch_size**EXPONENT
        rates = law * 3.3 ** (np.arange(NUM_RATES) - NUM_RATES // 2) * np.exp(rng.uniform(-0.6, 0.6))
        heights = 0.93 - 0.01 * np.log(rates / (law * np.exp(scatter * rng.normal()))) ** 2
        values = heights[:, None] + 0.005 * rng.normal(size=NUM_SEEDS) + sd * rng.normal(size=(NUM_RATES, NUM_SEEDS))
        batches.append(analyse.Batch(batch_size, rates, values, ((),) * NUM_RATES))
    return batches


def main(num_studies: int) -> None:
    """Print the coverage and the median width of the interval."""
    for scatter in (0.0, 0.2, 0.4):
        for sd in (0.0005, 0.004):
            rng = np.random.default_rng(1)
            studies = [analyse.analysed("", simulated(rng, scatter, sd)) for _ in range(num_studies)]
            intervals = np.array(
                [(fit.low, fit.high) for study in studies for fit in study.fits if fit.parameter == "exponent"]
            )
            is_covered = (intervals[:, 0] <= EXPONENT) & (intervals[:, 1] >= EXPONENT)
            width = np.median(np.diff(intervals, axis=1))
            print(f"scatter {scatter}, sd {sd}: coverage {is_covered.mean():.1%}, width {width:.2f}", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 300)
