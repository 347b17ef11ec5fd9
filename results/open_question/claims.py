"""What a source predicts, by which rule it is judged, and what was measured."""

import math
from collections.abc import Collection
from dataclasses import dataclass

from results.open_question.intervals import UNKNOWN, Estimate, Verdict, all_of

MARGIN = 0.1  # share of a gain, or of a ratio of losses, that does not matter


@dataclass(frozen=True)
class Claim:
    """A prediction that can fail.

    Attributes:
        source: Who predicts it.
        prediction: What is predicted.
        rule: When it counts as held and when as refuted; anything else is undecided. Written before any run on
            a fresh seed.
    """

    source: str
    prediction: str
    rule: str


@dataclass(frozen=True)
class Answer:
    """What was measured of a claim, for one scope (an optimizer, say).

    Attributes:
        claim: The claim.
        scope: What the measurement is about.
        measured: The measurement in words.
        estimate: The number that decides, with its interval.
        verdict: What it says of the claim.
    """

    claim: Claim
    scope: str
    measured: str
    estimate: Estimate
    verdict: Verdict


def or_not_run(claim: Claim, answers: Collection[Answer]) -> list[Answer]:
    """Return the answers, or that there were no runs."""
    return list(answers) or [Answer(claim, "", "not run", UNKNOWN, Verdict.NOT_RUN)]


def pooled(claim: Claim, scope: str, unit: str, parts: Collection[tuple[str, Estimate, Verdict]]) -> Answer:
    """Return one answer for several cells: refuted if one is, held if all are.

    Args:
        claim: The claim.
        scope: What all cells have in common.
        unit: What the estimates are.
        parts: Name, estimate and verdict of each cell.
    """
    words = "; ".join(f"{name}: {estimate}, {verdict}" for name, estimate, verdict in parts)
    verdict = all_of([verdict for _, _, verdict in parts])
    counted = f"{sum(one is verdict for _, _, one in parts)} of {len(parts)} {verdict}"
    deciding = [estimate for _, estimate, one in parts if one is verdict] or [estimate for _, estimate, _ in parts]
    shown = min(deciding, key=lambda one: one.value if math.isfinite(one.value) else math.inf, default=UNKNOWN)
    return Answer(claim, scope, f"{counted}; {unit}: {words}", shown, verdict)


def batch_label(batch_size: int, num_train: int) -> str:
    """Return a batch size in words."""
    return "full" if batch_size >= num_train else str(batch_size)
