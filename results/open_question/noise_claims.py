"""Rows of the table on the noise of mini-batches: the slope in lr/B, full batches, the noise scale, small batches."""

import math
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

from results.open_question.cells import DECAYED, Study, Tuned
from results.open_question.claims import MARGIN, Answer, Claim, or_not_run
from results.open_question.intervals import (
    UNKNOWN,
    Estimate,
    Verdict,
    above,
    all_of,
    mean,
    paired,
    slopes,
    within,
)
from results.open_question.optimum import RESOLUTION
from results.open_question.runs import CONSTANT, Trial

MOMENTUM = {"sgd_plain": 0.0, "sgd": 0.9}
SGD = tuple(MOMENTUM)
NORMALIZED = ("adam", "sign")
STEADY, PART = 0.1, 0.4  # largest change of the mean excess between the last two such parts of a stationary training
FEWEST_EPOCHS, FEWEST_CELLS, FEWEST_BATCHES = 4, 4, 2
LOWEST_SLOPE, HIGHEST_SLOPE = 0.75, 1.25
RESHUFFLED = 2.0  # slope in the rate that passes without replacement may reach: see sources.md
SMALL, LARGE = 16, 1024
NUM_SHUFFLES, LARGEST_P = 9_999, 0.05
FEWEST_RANKED = 12  # cells that a missing relation to the noise scale must rest on

SLOPE = Claim(
    "Robbins and Monro 1951; Bottou, Curtis and Nocedal 2018",
    "at a constant rate the excess loss is linear in lr/B",
    f"held if the interval of the slope of log excess on log(lr/B) lies within {LOWEST_SLOPE} to {HIGHEST_SLOPE}, "
    f"refuted if it lies below {LOWEST_SLOPE} or above {RESHUFFLED:g}, which reshuffled passes can reach; over cells "
    "below the full batch and below half of the largest stable rate, 2 (1 + momentum) / curvature, whose mean excess "
    f"over seeds and the last {PART:.0%} of the epochs is within {STEADY:.0%} of that of the {PART:.0%} before",
)
VANISHING = Claim(
    SLOPE.source,
    "D vanishes at full batch",
    f"at about 2,000 full-batch steps; held if D(full) lies within {MARGIN:.0%} of D({SMALL}), refuted if D({SMALL}) - "
    "D(full) does not reach above 0; far below 0 is undecided: that training has not converged",
)
NORMALIZED_STEPS = Claim(
    "step size of normalized methods (derived here)",
    "at full batch D of SGD goes to 0, D of Adam and sign stays positive",
    f"at about 2,000 steps; held if D and D - D(sgd_plain) lie above 0 and D(sgd_plain) below {MARGIN:.0%} of D, "
    "refuted if D or D - D(sgd_plain) does not reach above 0",
)
NOISE_SCALE = Claim(
    "McCandlish et al. 2018",
    "D is large where B is far below the noise scale, small above",
    "over cells at equal samples, the full batch left out: Spearman correlation of D with B / noise scale within each "
    f"optimizer, averaged; held if its interval over seeds lies below 0 and p < {LARGEST_P} (permutations within "
    f"optimizers), refuted if at least {FEWEST_RANKED} cells leave p >= {LARGEST_P} or the interval lies above 0. "
    "Larger batches take fewer steps there, so D of the smallest batch minus that of the largest at about 2,000 steps "
    "must lie above 0 too, for each optimizer; refuted if one does not reach above 0",
)
SMALL_BATCHES = Claim(
    "Marek 2025 (2507.07101); Sreckovic 2025 (2506.12543)",
    "the lead of Adam over SGD shrinks at small batches",
    f"lead: objective of SGD minus that of Adam, each at its best rate and schedule; held if lead({LARGE}) - "
    f"lead({SMALL}) and lead({LARGE}) lie above 0, refuted if the difference does not reach above 0",
)


def answers(study: Study) -> list[Answer]:
    """Return the answers to these rows."""
    return [
        *or_not_run(SLOPE, [answer for name in SGD if (answer := _slope(study, name))]),
        *or_not_run(VANISHING, [answer for name in SGD for answer in _vanishing(study, name)]),
        *or_not_run(NORMALIZED_STEPS, [answer for name in NORMALIZED for answer in _normalized(study, name)]),
        *or_not_run(NOISE_SCALE, _noise_scale(study)),
        *or_not_run(SMALL_BATCHES, [answer for name in SGD if (answer := _small_batches(study, name))]),
    ]


def stationary_cells(study: Study, optimizer: str) -> dict[tuple[float, int], float]:
    """Return the log of the mean late excess by (rate, batch), of the longest training that is stationary."""
    if study.main is None or study.main not in study.optima:
        return {}
    lowest = study.optima[study.main].value
    highest_rate = (1 + MOMENTUM[optimizer]) / study.optima[study.main].curvature
    by_place: dict[tuple[int, float, int], list[Trial]] = defaultdict(list)
    for trial in study.trials:
        cell = trial.cell
        is_meant = (cell.problem, cell.optimizer, cell.schedule) == (study.main, optimizer, CONSTANT)
        if is_meant and not cell.is_full and trial.lr <= highest_rate:
            by_place[cell.passes, trial.lr, cell.batch_size].append(trial)
    return {
        (lr, batch_size): math.log(late)
        for (_, lr, batch_size), trials in sorted(by_place.items(), key=lambda item: item[0])
        if (late := _stationary_excess(trials, lowest)) is not None
    }


def _stationary_excess(trials: Sequence[Trial], lowest: float) -> float | None:
    """Return the mean excess of one cell over seeds and late epochs; None if it still falls or cannot be resolved."""
    num_epochs = min(len(trial.curve) for trial in trials)  # one where a seed diverged
    excess = np.array([trial.curve[:num_epochs] for trial in trials]) - lowest
    length = int(PART * num_epochs)
    if num_epochs < FEWEST_EPOCHS or not RESOLUTION < excess.min() <= excess.max() < math.inf:
        return None
    late, before = excess[:, -length:].mean(), excess[:, -2 * length : -length].mean()
    return float(late) if abs(late / before - 1) < STEADY else None


def _slope(study: Study, optimizer: str) -> Answer | None:
    if not study.constant("training", study.main, optimizer=optimizer):
        return None
    cells = stationary_cells(study, optimizer)
    rates, batches = (np.log([place[part] for place in cells]) for part in (0, 1))
    if len(cells) < FEWEST_CELLS or len(set(batches)) < FEWEST_BATCHES:
        text = f"{len(cells)} stationary cells, too few for a slope"
        return Answer(SLOPE, optimizer, text, UNKNOWN, Verdict.UNDECIDED)
    logs = list(cells.values())
    (slope,), (in_rate, in_batch) = slopes(logs, list(rates - batches)), slopes(logs, list(rates), list(batches))
    text = (
        f"slope {slope} over {len(cells)} cells; apart: {in_rate} in lr, {in_batch} in B (reshuffled passes may raise "
        "the first towards 2)"
    )
    verdict = within(slope, LOWEST_SLOPE, HIGHEST_SLOPE)
    if verdict is Verdict.REFUTED and HIGHEST_SLOPE < slope.low <= RESHUFFLED:
        verdict = Verdict.UNDECIDED
    return Answer(SLOPE, optimizer, text, slope, verdict)


def _held_only(verdict: Verdict, condition: bool) -> Verdict:
    """Return a verdict that is undecided instead of held where a further condition is not met."""
    return Verdict.UNDECIDED if verdict is Verdict.HELD and not condition else verdict


def _full(study: Study, optimizer: str) -> list[Tuned]:
    """Return the full-batch cell at equal steps: at equal samples, its few steps converge nowhere."""
    return study.constant("training", study.main, optimizer=optimizer, is_full=True, regime="steps")


def _vanishing(study: Study, optimizer: str) -> list[Answer]:
    answers = []
    for small in study.constant("training", study.main, optimizer=optimizer, batch_size=SMALL, regime="samples"):
        at_small = study.decay_gain(small)
        for full in _full(study, optimizer):
            at_full = study.decay_gain(full)
            difference = mean(paired(at_small, at_full).values())
            is_near_0 = (
                mean(paired(at_full, at_small, MARGIN).values()).high <= 0
                and mean(paired(at_full, at_small, -MARGIN).values()).low > 0
            )
            verdict = _held_only(above(difference), is_near_0)
            text = f"D({SMALL}) {mean(at_small.values())}, D(full) {mean(at_full.values())}"
            answers.append(Answer(VANISHING, optimizer, text, difference, verdict))
    return answers


def _normalized(study: Study, optimizer: str) -> list[Answer]:
    answers = []
    for own in _full(study, optimizer):
        for plain in _full(study, "sgd_plain"):
            at_own, at_plain = study.decay_gain(own), study.decay_gain(plain)
            own_gain, difference = mean(at_own.values()), mean(paired(at_own, at_plain).values())
            text = f"D({optimizer}) {own_gain}, D(sgd_plain) {mean(at_plain.values())}"
            vanishes = mean(paired(at_plain, at_own, MARGIN).values()).high <= 0
            verdict = _held_only(all_of([above(own_gain), above(difference)]), vanishes)
            answers.append(Answer(NORMALIZED_STEPS, optimizer, text, difference, verdict))
    return answers


def _noise_scale(study: Study) -> list[Answer]:
    by_optimizer: dict[str, list[tuple[float, dict[int, float]]]] = defaultdict(list)
    for constant in study.constant("training", study.main, regime="samples", is_full=False):
        gains = study.decay_gain(constant)
        if constant.noise_scale is not None and gains:
            by_optimizer[constant.cell.optimizer].append((constant.cell.batch_size / constant.noise_scale, gains))
    groups = [group for group in by_optimizer.values() if len(group) > FEWEST_BATCHES]
    seeds = set.intersection(*(set(gains) for group in groups for _, gains in group)) if groups else set()
    if not seeds:
        return []
    ranks = [stats.rankdata([place for place, _ in group]) for group in groups]
    estimate = mean(
        [_agreement(ranks, [np.array([gains[seed] for _, gains in group]) for group in groups]) for seed in seeds]
    )
    p = _p_value(ranks, [np.array([np.mean(list(gains.values())) for _, gains in group]) for group in groups])
    num = sum(map(len, groups))
    falls = _falls_at_equal_steps(study)
    text = f"mean rank correlation {estimate} over {num} cells of {len(groups)} optimizers, p = {p:.2g}"
    text += "".join(f"; {name}, D({small}) - D({large}) at equal steps {fall}" for name, small, large, fall in falls)
    verdict = Verdict.UNDECIDED
    if estimate.low > 0 or (p >= LARGEST_P and num >= FEWEST_RANKED):
        verdict = Verdict.REFUTED
    elif estimate.high < 0 and p < LARGEST_P:
        verdict = Verdict.HELD
    verdict = _held_only(all_of([verdict, *(above(fall) for *_, fall in falls)]), bool(falls))
    return [Answer(NOISE_SCALE, "all optimizers", text, estimate, verdict)]


def _falls_at_equal_steps(study: Study) -> list[tuple[str, int, int, Estimate]]:
    """Return optimizer, smallest and largest batch below the full one, and how far D falls between them."""
    by_optimizer: dict[str, list[Tuned]] = defaultdict(list)
    for constant in study.constant("training", study.main, has_equal_steps=True, is_full=False):
        if study.decay_gain(constant):
            by_optimizer[constant.cell.optimizer].append(constant)
    falls = []
    for optimizer, cells in by_optimizer.items():
        small, large = (pick(cells, key=lambda tuned: tuned.cell.batch_size) for pick in (min, max))
        if small is not large:
            fall = mean(paired(study.decay_gain(small), study.decay_gain(large)).values())
            falls.append((optimizer, small.cell.batch_size, large.cell.batch_size, fall))
    return falls


Ranks = Sequence[npt.NDArray[np.float64]]


def _agreement(ranks: Ranks, gains: Ranks) -> float:
    """Return the mean over optimizers of the rank correlation of gains with places."""
    pairs = zip(ranks, gains, strict=True)
    return float(np.mean([np.corrcoef(places, stats.rankdata(values))[0, 1] for places, values in pairs]))


def _p_value(ranks: Ranks, gains: Ranks) -> float:
    """Return the two-sided p-value of the mean correlation, by permutations of the gains within each optimizer."""
    rng = np.random.default_rng(0)
    ranked = [stats.rankdata(values) for values in gains]
    observed = abs(_agreement(ranks, ranked))
    shuffled = np.zeros(NUM_SHUFFLES)
    for places, values in zip(ranks, ranked, strict=True):
        centered, deviations = places - places.mean(), values - values.mean()
        shuffles = rng.permuted(np.tile(deviations, (NUM_SHUFFLES, 1)), axis=1)
        shuffled += shuffles @ centered / (np.linalg.norm(centered) * np.linalg.norm(deviations)) / len(ranks)
    return float((1 + (np.abs(shuffled) >= observed - 1e-9).sum()) / (1 + NUM_SHUFFLES))


def _lead(study: Study, optimizer: str, batch_size: int) -> dict[int, float]:
    """Return by fresh seed the objective of an optimizer minus that of Adam at equal samples, each at its best."""
    best = []
    for name in (optimizer, "adam"):
        cells = study.constant("training", study.main, optimizer=name, batch_size=batch_size, regime="samples")
        best += [tuned for cell in cells if (tuned := study.under(cell, CONSTANT, *DECAYED))]
    return paired(best[0].values, best[1].values) if len(best) == 2 else {}


def _small_batches(study: Study, optimizer: str) -> Answer | None:
    at_small, at_large = (_lead(study, optimizer, batch_size) for batch_size in (SMALL, LARGE))
    difference, lead = mean(paired(at_large, at_small).values()), mean(at_large.values())
    if not difference.num:
        return None
    verdict = _held_only(above(difference), above(lead) is Verdict.HELD)
    text = f"lead({SMALL}) {mean(at_small.values())}, lead({LARGE}) {lead}"
    return Answer(SMALL_BATCHES, optimizer, text, difference, verdict)
