"""Rows of the table that compare problems: thinned classes, weight decay with BatchNorm, and batches in a network."""

import math
from dataclasses import replace
from itertools import product

from results.open_question.cells import OUTCOMES, Outcome, Study
from results.open_question.claims import MARGIN, Answer, Claim, batch_label, or_not_run
from results.open_question.intervals import Verdict, above, mean, paired, within
from results.open_question.runs import CONSTANT, WITH_NORMS, WITHOUT_NORMS, Problem

UNCHANGED = math.log(1 + MARGIN)  # change of a log ratio of losses that does not matter
OPTIMIZERS = ("sgd_plain", "sgd", "adam", "sign")
NO_CHANGE: dict[Outcome, float] = {"training": 0.03, "test": 0.01}  # change of D that does not matter: nats, accuracy

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
    "interaction: the change of D from the smallest to the largest weight decay with BatchNorm minus that without, in "
    "the same network; held if its interval does not include 0 and the first change is the larger one in size, refuted "
    f"if it lies within {NO_CHANGE['training']:g} (training loss) or {NO_CHANGE['test']:g} (test accuracy) of 0, or if "
    "it does not include 0 and the second change is the larger one",
)
IN_NETWORK = Claim(
    "the same question in a network with BatchNorm, as McCandlish et al. 2018 answer it",
    "D is larger at small batches, for each optimizer",
    "D of the smallest batch minus that of the largest, at equal samples: held if it lies above 0, refuted if it does "
    "not reach above 0; larger batches take fewer steps",
)


def answers(study: Study) -> list[Answer]:
    """Return the answers to these rows."""
    thinned, parts = _thinned(study), list(product(OPTIMIZERS, OUTCOMES))
    return [
        *or_not_run(OPENING, [answer for problem in thinned if (answer := _opening(study, problem))]),
        *or_not_run(NOT_NOISE, [answer for problem in thinned if (answer := _not_noise(study, problem))]),
        *or_not_run(NORMS, [answer for part in parts if (answer := _norms(study, *part))]),
        *or_not_run(IN_NETWORK, [answer for part in parts if (answer := _in_network(study, *part))]),
    ]


def _thinned(study: Study) -> list[Problem]:
    problems = {trial.cell.problem for trial in study.trials}
    main = study.main
    return sorted(one for one in problems if main and one != main and replace(one, images="all") == main)


def _leads(study: Study, problem: Problem | None, **fixed: object) -> list[tuple[str, dict[int, float]]]:
    """Return batch and passes in words, in ascending order, and the log ratio of the excess of SGD and Adam by seed."""
    leads = {}
    for sgd in study.constant("training", problem, optimizer="sgd", **fixed):
        adam = study.tuned["training"].get(replace(sgd.cell, optimizer="adam"))
        if adam:
            lead = paired(study.log_excess(sgd), study.log_excess(adam))
            label = f"{batch_label(sgd.cell.batch_size, sgd.cell.num_train)}, {sgd.cell.passes} passes"
            leads[sgd.cell.batch_size, sgd.cell.passes] = label, lead
    return [leads[place] for place in sorted(leads)]


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


def _norms(study: Study, optimizer: str, outcome: Outcome) -> Answer | None:
    with_norms, without = (_changes(study, optimizer, outcome, model) for model in (WITH_NORMS, WITHOUT_NORMS))
    batches = sorted(with_norms.keys() & without.keys())
    if not batches:
        return None
    changes = with_norms[batches[0]], without[batches[0]]
    first, second = (mean(change.values()) for change in changes)
    interaction = mean(paired(*changes).values())
    verdict = Verdict.UNDECIDED
    if within(interaction, -NO_CHANGE[outcome], NO_CHANGE[outcome]) is Verdict.HELD:
        verdict = Verdict.REFUTED
    elif not interaction.low <= 0 <= interaction.high:
        verdict = Verdict.HELD if abs(first.value) > abs(second.value) else Verdict.REFUTED
    text = f"batch {batches[0]}: change of D with weight decay {first} with BatchNorm, {second} without"
    return Answer(NORMS, f"{optimizer}, {outcome}", text, interaction, verdict)


def _changes(study: Study, optimizer: str, outcome: Outcome, model: str) -> dict[int, dict[int, float]]:
    """Return by batch size and fresh seed how D changes from the smallest to the largest weight decay."""
    gains = _gains(study, optimizer, outcome, model)
    if len(gains) < 2:
        return {}
    low, high = gains[min(gains)], gains[max(gains)]
    changes = {batch: paired(high[batch], low[batch]) for batch in low.keys() & high.keys()}
    return {batch: change for batch, change in changes.items() if change}


def _gains(study: Study, optimizer: str, outcome: Outcome, model: str) -> dict[float, dict[int, dict[int, float]]]:
    """Return D of a network by weight decay, batch size and fresh seed."""
    gains: dict[float, dict[int, dict[int, float]]] = {}
    for cell, constant in study.tuned[outcome].items():
        is_meant = (cell.schedule, cell.optimizer, cell.problem.model) == (CONSTANT, optimizer, model)
        if is_meant and (by_seed := study.decay_gain(constant)):
            gains.setdefault(cell.problem.weight_decay, {})[cell.batch_size] = by_seed
    return gains


def _in_network(study: Study, optimizer: str, outcome: Outcome) -> Answer | None:
    gains = _gains(study, optimizer, outcome, WITH_NORMS)
    by_batch = dict(sorted(gains[min(gains)].items())) if gains else {}
    if len(by_batch) < 2:
        return None
    smallest, *_, largest = by_batch
    fall = mean(paired(by_batch[smallest], by_batch[largest]).values())
    text = "D " + ", ".join(f"{mean(by_seed.values())} at batch {batch}" for batch, by_seed in by_batch.items())
    return Answer(IN_NETWORK, f"{optimizer}, {outcome}", text, fall, above(fall))
