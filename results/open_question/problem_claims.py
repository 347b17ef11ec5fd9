"""Rows of the table that compare problems: thinned classes, and weight decay with BatchNorm."""

import math
from collections.abc import Iterable
from dataclasses import replace

from results.open_question.cells import DECAYED, Study, Tuned
from results.open_question.claims import MARGIN, Answer, Claim, batch_label, or_not_run
from results.open_question.intervals import Estimate, Verdict, above, mean, paired, within
from results.open_question.runs import FROZEN, Problem

UNCHANGED = math.log(1 + MARGIN)  # change of a log ratio of losses that does not matter
OPTIMIZERS = ("sgd_plain", "sgd", "adam", "sign")
WITH_NORMS = "resnet9"  # what the names of the small networks with BatchNorm start with

OPENING = Claim(
    "Kunstner 2023, 2024 (2402.19449)",
    "the lead of Adam over SGD needs heavy-tailed classes",
    "lead: log of the ratio of the excess losses of SGD with momentum and Adam at their best constant rates, at the "
    "largest common batch and the longest training; held if thinning the classes raises it above 0, refuted if by less "
    f"than {MARGIN:.0%}",
)
NOT_NOISE = Claim(
    OPENING.source,
    "that lead is not noise: it does not shrink as the batch grows",
    "with thinned classes at equal samples, the lead at the largest batch minus that at the smallest: refuted if it "
    f"lies below 0, held if it lies above -{MARGIN:.0%}",
)
NORMS = Claim(
    "Li and Arora 2019; Defazio 2025 (2506.02285)",
    "D depends on weight decay in a network with BatchNorm, not without",
    "D as the log of the ratio of the training losses; its change from the smallest to the largest weight decay in the "
    "network with BatchNorm minus that on frozen features: held if it does not include 0 and the first change is the "
    f"larger one, refuted if it lies within {MARGIN:.0%} or the second one is the larger",
)


def answers(study: Study) -> list[Answer]:
    """Return the answers to these rows."""
    thinned = _thinned(study)
    return [
        *or_not_run(OPENING, [answer for problem in thinned if (answer := _opening(study, problem))]),
        *or_not_run(NOT_NOISE, [answer for problem in thinned if (answer := _not_noise(study, problem))]),
        *or_not_run(NORMS, [answer for name in OPTIMIZERS if (answer := _norms(study, name))]),
    ]


def _thinned(study: Study) -> list[Problem]:
    problems = {trial.cell.problem for trial in study.trials}
    main = study.main
    return sorted(one for one in problems if main and one != main and replace(one, images="all") == main)


def _leads(study: Study, problem: Problem | None, **fixed: object) -> list[tuple[str, dict[int, float]]]:
    """Return batch and passes in words, in ascending order, and the log ratio of the excess of SGD and Adam by seed."""
    found = {}
    for sgd in study.constant("training", problem, optimizer="sgd", **fixed):
        adam = study.tuned["training"].get(replace(sgd.cell, optimizer="adam"))
        if adam:
            lead = paired(study.log_excess(sgd), study.log_excess(adam))
            label = f"{batch_label(sgd.cell.batch_size, sgd.cell.num_train)}, {sgd.cell.passes} passes"
            found[sgd.cell.batch_size, sgd.cell.passes] = label, lead
    return [found[place] for place in sorted(found)]


def _opening(study: Study, thinned: Problem) -> Answer | None:
    balanced_leads, thinned_leads = (dict(_leads(study, problem)) for problem in (study.main, thinned))
    common = [batch for batch in thinned_leads if batch in balanced_leads]
    if not common:
        return None
    before, after = balanced_leads[common[-1]], thinned_leads[common[-1]]
    opened = mean(paired(after, before).values())
    text = (
        f"batch {common[-1]}: lead {mean(before.values())} with balanced, {mean(after.values())} with thinned classes"
    )
    verdict = above(opened)
    if verdict is not Verdict.HELD:
        verdict = Verdict.REFUTED if opened.high < UNCHANGED else Verdict.UNDECIDED
    return Answer(OPENING, f"without {thinned.images}", text, opened, verdict)


def _not_noise(study: Study, thinned: Problem) -> Answer | None:
    leads = _leads(study, thinned, regime="samples")
    if len(leads) < 2:
        return None
    (smallest, at_smallest), (largest, at_largest) = leads[0], leads[-1]
    change = mean(paired(at_largest, at_smallest).values())
    text = f"lead {mean(at_smallest.values())} at {smallest}, {mean(at_largest.values())} at {largest}"
    verdict = Verdict.UNDECIDED
    if change.high < 0:
        verdict = Verdict.REFUTED
    elif change.low > -UNCHANGED:
        verdict = Verdict.HELD
    return Answer(NOT_NOISE, f"without {thinned.images}", text, change, verdict)


def _norms(study: Study, optimizer: str) -> Answer | None:
    problems = {trial.cell.problem for trial in study.trials if trial.cell.problem.images == "all"}
    with_norms = [one for one in problems if one.trained != FROZEN and one.model.startswith(WITH_NORMS)]
    frozen = [one for one in problems if one.trained == FROZEN]
    changes = _change(study, optimizer, with_norms), _change(study, optimizer, frozen)
    if not all(changes):
        return None
    with_bn, without = (mean(change.values()) for change in changes)
    interaction = mean(paired(changes[0], changes[1]).values())
    text = f"change of D with weight decay: {with_bn} with BatchNorm, {without} on frozen features"
    return Answer(NORMS, optimizer, text, interaction, _of_interaction(interaction, with_bn, without))


def _of_interaction(interaction: Estimate, with_bn: Estimate, without: Estimate) -> Verdict:
    if within(interaction, -UNCHANGED, UNCHANGED) is Verdict.HELD:
        return Verdict.REFUTED
    if interaction.low <= 0 <= interaction.high:
        return Verdict.UNDECIDED
    return Verdict.HELD if abs(with_bn.value) > abs(without.value) else Verdict.REFUTED


def _change(study: Study, optimizer: str, problems: Iterable[Problem]) -> dict[int, float]:
    """Return by fresh seed the change of D from the smallest to the largest weight decay, at the smallest batch."""
    by_decay = sorted(problems, key=lambda one: one.weight_decay)
    if len(by_decay) < 2:
        return {}
    low, high = by_decay[0], by_decay[-1]
    for constant in sorted(study.constant("training", low, optimizer=optimizer), key=lambda one: one.cell.batch_size):
        other = study.tuned["training"].get(replace(constant.cell, problem=high))
        if other and (change := paired(_relative_gain(study, other), _relative_gain(study, constant))):
            return change
    return {}


def _relative_gain(study: Study, constant: Tuned) -> dict[int, float]:
    decayed = study.under(constant, *DECAYED)
    if decayed is None:
        return {}
    first, second = (
        {seed: math.log(trial.train_loss) for seed, trial in one.trials.items()} for one in (constant, decayed)
    )
    return paired(first, second)
