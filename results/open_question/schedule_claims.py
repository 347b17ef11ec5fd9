"""Rows of the table on schedules: growing batches, averages, the floor of the rate, the exponent of the decay."""

import math
from collections import defaultdict
from collections.abc import Mapping

import numpy as np

from results.open_question.cells import DECAYED, OUTCOMES, SCREENING_SEED, Outcome, Study, Tuned, gain, windows
from results.open_question.claims import MARGIN, Answer, Claim, batch_label, or_not_run, pooled
from results.open_question.intervals import UNKNOWN, Estimate, Verdict, above, all_of, mean, paired, ratio
from results.open_question.optimum import Optimum
from results.open_question.runs import CONSTANT, GROWING, WITH_NORMS, Problem, Trial

SGD = ("sgd_plain", "sgd")  # the source of the exponent is about SGD
OPTIMIZERS = (*SGD, "adam", "sign")
LINEAR, FLOOR = "linear", "linear to 0.1"
FAR_FROM_FULL = (16, 64)  # batches that stay small against all images and the noise scale for most of the training
RECOVERED = 0.9  # share of D that an average must recover
OUTSIDE = 0.1  # largest share of epochs in which the curves of a growing batch may lie apart

GROWTH = Claim(
    "Smith et al. 2018 (SGD); Malladi et al. 2022 (Adam, sign); Seesaw (2510.14717)",
    "growing the batch equals decaying the rate: half the rate is twice the batch for SGD, four times for Adam (Seesaw "
    "excludes four times the batch at an unchanged rate, so that this does not test it)",
    f"at the rate of the linear decay, batches of {' and '.join(map(str, FAR_FROM_FULL))}, differences of the "
    f"objective by seed at the end of each epoch: held if the last interval lies within {MARGIN:.0%} of D and no "
    f"epoch's lies outside, refuted if the last or more than {OUTSIDE:.0%} of the epochs' lie outside; decided where D "
    "lies above 0",
)
AVERAGING_SUFFICES = Claim(
    "Sandler 2023; Meterez 2026 (2602.03702)",
    f"averaging the weights at a constant rate recovers at least {RECOVERED:.0%} of D",
    f"for each cell whose D lies above 0, the window chosen with the rate on the screening seed: held if the gain of "
    f"the average minus {RECOVERED:.0%} of D lies above 0, refuted if it does not reach above 0",
)
AVERAGING_FAILS = Claim(
    "Ajroldi 2025 (2502.06761)",
    "averaging cannot replace the decay",
    "the opposite of the row before, from the same runs: held if that is refuted, refuted if that held",
)
TO_ZERO = Claim(
    "Defazio 2023; Bergsma 2025 (2502.15938)",
    "linear decay to exactly zero beats a 10 % floor, the more the longer the training",
    "gain: log of the ratio of the excess with the floor and without; held if its slope over the logarithm of the "
    "passes and the gain of the longest training lie above 0, refuted if one of them does not reach above 0",
)
EXPONENT = Claim(
    "Li 2026 (2602.06797), easy-task regime",
    "the best exponent of power decay is 2 beta - 1, with beta from the spectrum of the features",
    "the exponents beside the best one of each seed bound the optimum of a curve with one minimum; held if 2 beta - 1 "
    "lies between the lowest and the highest of these bounds, refuted if 2 beta - 1 lies outside for all fits of beta",
)


def answers(study: Study) -> list[Answer]:
    """Return the answers to these rows."""
    suffices = [answer for name in OPTIMIZERS for answer in _averaging(study, name)]
    return [
        *or_not_run(GROWTH, [answer for name in OPTIMIZERS if (answer := _growth(study, name))]),
        *or_not_run(AVERAGING_SUFFICES, suffices),
        *or_not_run(AVERAGING_FAILS, list(map(_opposite, suffices))),
        *or_not_run(TO_ZERO, [answer for name in OPTIMIZERS if (answer := _to_zero(study, name))]),
        *or_not_run(EXPONENT, [answer for name in SGD for answer in _exponents(study, name)]),
    ]


def label(tuned: Tuned) -> str:
    """Return batch size and regime of a cell in words."""
    return f"{batch_label(tuned.cell.batch_size, tuned.cell.num_train)}, equal {tuned.cell.regime}"


def _growth(study: Study, optimizer: str) -> Answer | None:
    parts = []
    for linear in study.cells("training", study.main, optimizer=optimizer, schedule=LINEAR):
        if linear.cell.batch_size not in FAR_FROM_FULL:
            continue
        grown, constant = _grown(study, linear), study.under(linear, CONSTANT)
        if grown and constant:
            parts.append((label(linear), *_curves_apart(grown, linear, mean(gain(constant, linear).values()))))
    return pooled(GROWTH, optimizer, "growing minus decaying as a share of D", parts) if parts else None


def _grown(study: Study, linear: Tuned) -> Mapping[int, Trial]:
    """Return the fresh trials with a growing batch at the rate of the linear decay."""
    cell = linear.cell.with_schedule(GROWING)
    return {
        trial.seed: trial
        for trial in study.trials
        if trial.cell == cell and trial.lr == linear.lr and trial.seed != SCREENING_SEED
    }


def _curves_apart(grown: Mapping[int, Trial], linear: Tuned, gained: Estimate) -> tuple[Estimate, Verdict]:
    """Return the last difference as a share of D, and the verdict over all epochs."""
    seeds = sorted(grown.keys() & linear.trials.keys())
    has_diverged = any(len(grown[seed].curve) != len(linear.trials[seed].curve) for seed in seeds)
    if not seeds or has_diverged:
        return UNKNOWN, Verdict.UNDECIDED
    curves = [zip(grown[seed].curve, linear.trials[seed].curve, strict=True) for seed in seeds]
    differences = [mean([left - right for left, right in epoch]) for epoch in zip(*curves, strict=True)]
    last, bound = differences[-1], MARGIN * gained.value
    unit = abs(gained.value) or math.nan
    share = Estimate(last.value / unit, last.low / unit, last.high / unit, last.num)
    if not gained.low > 0:
        return share, Verdict.UNDECIDED
    outside = [difference.low > bound or difference.high < -bound for difference in differences]
    if outside[-1] or sum(outside) > OUTSIDE * len(outside):
        return share, Verdict.REFUTED
    is_inside = -bound <= last.low and last.high <= bound
    return share, Verdict.HELD if is_inside and not any(outside) else Verdict.UNDECIDED


def _averaging(study: Study, optimizer: str) -> list[Answer]:
    networks = sorted({trial.cell.problem for trial in study.trials if trial.cell.problem.model == WITH_NORMS})
    scopes = {f"{optimizer}, {outcome}": (outcome, study.main) for outcome in OUTCOMES}
    scopes |= {f"{optimizer}, {outcome}, {network}": (outcome, network) for outcome in OUTCOMES for network in networks}
    return [answer for scope, place in scopes.items() if (answer := _recovered(study, optimizer, scope, *place))]


def _recovered(study: Study, optimizer: str, scope: str, outcome: Outcome, problem: Problem | None) -> Answer | None:
    parts = []
    for constant in study.constant(outcome, problem, optimizer=optimizer):
        decayed, averaged = study.under(constant, *DECAYED), windows(study, constant)
        if decayed is None or not averaged:
            continue
        best = min(averaged, key=lambda tuned: tuned.screened)
        recovered, gained = gain(constant, best), gain(constant, decayed)
        # A decayed schedule that gains nothing leaves nothing to recover.
        is_decided = mean(gained.values()).low > 0
        verdict = above(mean(paired(recovered, gained, RECOVERED).values())) if is_decided else Verdict.NOT_RUN
        share = ratio(recovered, gained)
        parts.append((f"{label(constant)}, {best.cell.schedule}", share, verdict if share.num else Verdict.UNDECIDED))
    if not parts:
        return None
    decided = [part for part in parts if part[2] is not Verdict.NOT_RUN]
    if not decided:
        text = f"D does not lie above 0 in any of {len(parts)} cells"
        return Answer(AVERAGING_SUFFICES, scope, text, UNKNOWN, Verdict.UNDECIDED)
    return pooled(AVERAGING_SUFFICES, scope, "share of D recovered", decided)


def _opposite(answer: Answer) -> Answer:
    verdict = {Verdict.HELD: Verdict.REFUTED, Verdict.REFUTED: Verdict.HELD}.get(answer.verdict, answer.verdict)
    return Answer(AVERAGING_FAILS, answer.scope, answer.measured, answer.estimate, verdict)


def _to_zero(study: Study, optimizer: str) -> Answer | None:
    by_batch: dict[str, list[tuple[int, dict[int, float]]]] = defaultdict(list)
    for floor in study.cells("training", study.main, optimizer=optimizer, schedule=FLOOR):
        if linear := study.under(floor, LINEAR):
            cell = floor.cell
            gains = paired(study.log_excess(floor), study.log_excess(linear))
            by_batch[batch_label(cell.batch_size, cell.num_train)].append((cell.passes, gains))
    parts = []
    for batch, lengths in by_batch.items():
        lengths.sort(key=lambda pair: pair[0])
        seeds = set.intersection(*(set(gains) for _, gains in lengths))
        if len(lengths) < 2:
            continue
        passes = [math.log(length) for length, _ in lengths]
        growth = mean([float(np.polyfit(passes, [gains[seed] for _, gains in lengths], 1)[0]) for seed in seeds])
        longest = mean(lengths[-1][1].values())
        gained = ", ".join(f"{mean(gains.values())} at {length} passes" for length, gains in lengths)
        parts.append((f"{batch} (gain {gained})", growth, all_of([above(growth), above(longest)])))
    return pooled(TO_ZERO, optimizer, "growth of the gain with log passes at batch", parts) if parts else None


def _exponents(study: Study, optimizer: str) -> list[Answer]:
    optimum = study.optima.get(study.main) if study.main else None
    if optimum is None:
        return []
    answers = []
    for linear in study.cells("training", study.main, optimizer=optimizer, schedule=LINEAR):
        by_exponent = {exponent_of(tuned.cell.schedule): tuned for tuned in _powers(study, linear)}
        if len(by_exponent) > 2:
            answers.append(_exponent(f"{optimizer}, {label(linear)}", dict(sorted(by_exponent.items())), optimum))
    return answers


def _powers(study: Study, linear: Tuned) -> list[Tuned]:
    cells = [cell for cell in study.tuned["training"] if cell.with_schedule(LINEAR) == linear.cell]
    return [study.tuned["training"][cell] for cell in cells if exponent_of(cell.schedule)]


def exponent_of(schedule: str) -> float:
    """Return the exponent of a power decay, 1 for the linear one; 0 for other schedules."""
    return 1.0 if schedule == LINEAR else float(schedule.split()[1]) if schedule.startswith("power ") else 0.0


def _exponent(scope: str, by_exponent: Mapping[float, Tuned], optimum: Optimum) -> Answer:
    exponents = [0.0, *by_exponent, math.inf]
    seeds = set.intersection(*(set(tuned.values) for tuned in by_exponent.values()))
    best = [min(by_exponent, key=lambda power: by_exponent[power].values[seed]) for seed in seeds]
    predicted, *ends = (2 * beta - 1 for beta in (optimum.beta, optimum.beta_low, optimum.beta_high))
    if not best:
        return Answer(EXPONENT, scope, "no fresh seeds", UNKNOWN, Verdict.UNDECIDED)
    places = [exponents.index(power) for power in best]
    bracket = Estimate(float(np.mean(best)), exponents[min(places) - 1], exponents[max(places) + 1], len(best))
    text = (
        f"best exponent {bracket}; predicted {predicted:.3g} ({min(ends):.3g} to {max(ends):.3g} over fits of beta); "
        "beyond the easy-task regime the source predicts a late cooldown instead"
    )
    is_bounded = bracket.low > 0 and bracket.high < math.inf
    verdict = Verdict.UNDECIDED
    if max(ends) < bracket.low or min(ends) > bracket.high:
        verdict = Verdict.REFUTED
    elif is_bounded and bracket.low <= predicted <= bracket.high:
        verdict = Verdict.HELD
    return Answer(EXPONENT, scope, text, bracket, verdict)
