"""Confirmation: the configurations that validation chose, run again on fresh seeds, which chose nothing.

The runs that choose and those that are tested are then different ones, so that the luck of a seed which won a choice is
no part of the verdict (Cawley and Talbot, "On over-fitting in model selection", 2010).
"""

import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from filelock import FileLock
from hydra.errors import HydraException

from intel_scenes import files, record
from intel_scenes.config import SweepConfig
from intel_scenes.digests import is_neutral
from intel_scenes.errors import UserError
from intel_scenes.record import Confirmation, ConfirmedArm, Status, StudyPlan, Summary, read_study, write_study
from intel_scenes.studies.naming import few, seeds_in_order
from intel_scenes.sweeps.names import run_name
from intel_scenes.sweeps.overrides import Overrides, normalized, parsed, values_by_key
from intel_scenes.sweeps.plan import typed_command

if TYPE_CHECKING:
    from intel_scenes.studies.choose import Choice

FIRST_SEED = 101  # beyond those that sweeps are given, so that seeds which are added to choose by do not meet them

ArmKey = tuple[str, ...]


def chosen_arms(folder: Path, plan: StudyPlan) -> list[ConfirmedArm]:
    """Each arm of a study with the configuration that validation chose for it, the best on validation first.

    Confirming runs take no part.

    Raises:
        UserError: There is nothing to choose from, or nothing tells how to run what was chosen.
    """
    return [
        ConfirmedArm(
            arm.label,
            _overrides(arm.chosen.runs[0].folder),
            seeds_in_order(str(run.summary.seed) for one in arm.configurations for run in one.runs),
        )
        for arm in _choice(folder, plan, {}).arms
    ]


def edges(asked: "Asked", bounds: Mapping[str, Sequence[float]]) -> list[str]:
    """A sentence for each best value at the edge of what was tried: arms are not compared there, confirmed or not.

    Args:
        asked: What is confirmed.
        bounds: Natural bounds of keys, at which a best value is at no edge.
    """
    from intel_scenes.studies.notices import Kind
    from intel_scenes.studies.render.sentences import sentence

    notices = _choice(asked.folder, read_study(asked.folder) or StudyPlan(), bounds).notices
    return [sentence(notice) for notice in notices if notice.kind is Kind.AT_EDGE]


def _choice(folder: Path, plan: StudyPlan, bounds: Mapping[str, Sequence[float]]) -> "Choice":
    """What validation says now; confirming runs take no part.

    Raises:
        UserError: There is nothing to choose from.
    """
    from intel_scenes.studies.align import align  # imports scipy
    from intel_scenes.studies.arms import group
    from intel_scenes.studies.choose import choose
    from intel_scenes.studies.load import load

    try:
        study = load(folder)
    except UserError as error:
        raise UserError(f"nothing can be chosen: {error}") from error
    grouped = group(replace(study, plan=plan), align(study.runs))
    candidates = [replace(one, confirmed=None) for one in grouped.candidates]
    return choose(candidates, grouped.tuned, plan.searched, bounds)


def _overrides(run: Path) -> tuple[str, ...]:
    """What was typed for a run, without its seed and what changes no result; the study, which sets other keys, stays.

    Raises:
        UserError: The folder of the run does not say it.
    """
    typed = _typed(run)
    if typed is None:
        raise UserError(
            f"{run.name} was chosen, and its {record.OVERRIDES} does not say how to run it: leave sweep.confirm out"
        )
    return tuple(text for key, text in typed.items() if key == "study" or not (key == "seed" or is_neutral(key)))


def _typed(run: Path) -> dict[str, str] | None:
    """What was typed for a run, by key; None where its folder does not say it."""
    try:
        typed = yaml.safe_load((run / record.OVERRIDES).read_text()) or []
        return {parsed(str(text)).key_or_group: str(text) for text in typed}
    except (OSError, TypeError, ValueError, yaml.YAMLError, HydraException):
        return None


def arm_key(overrides: Overrides, tuned: Collection[str]) -> ArmKey:
    """What makes the arm of a run: all that was typed but the seed, what is tuned, and what changes no result."""
    texts = normalized(overrides)
    return tuple(sorted(text for key, text in texts.items() if not (key == "seed" or key in tuned or is_neutral(key))))


@dataclass(frozen=True)
class Asked:
    """What a sweep asks to be confirmed; arms of other sweeps of the study are confirmed by their own commands.

    Attributes:
        folder: Of the study.
        num_seeds: Of each arm.
        num_arms: The best of the sweep on validation; None for all.
        named: The overrides of each run of the sweep, by its name.
        tuned: Keys whose best value is taken within an arm.
    """

    folder: Path
    num_seeds: int
    num_arms: int | None
    named: Mapping[str, Overrides]
    tuned: frozenset[str]

    def arms(self, plan: StudyPlan) -> frozenset[ArmKey]:
        """The arms of the sweep; a run that came to the same as another one counts as that one."""
        jobs = dict(self.named)
        for name in jobs.keys() & plan.twins.keys():
            if typed := _typed(self.folder / plan.twins[name]):
                jobs[name] = tuple(typed.values())
        return frozenset(arm_key(job, self.tuned) for job in jobs.values())

    def key_of(self, arm: ConfirmedArm) -> ArmKey:
        """What makes a confirmed arm."""
        return arm_key(arm.overrides, self.tuned)

    def held(self, plan: StudyPlan) -> list[ConfirmedArm]:
        """The arms of the sweep that a plan confirms."""
        arms = self.arms(plan)
        return [arm for arm in plan.confirmed_arms if self.key_of(arm) in arms]

    def is_decided(self, plan: StudyPlan) -> bool:
        """Whether a plan says already what is confirmed, so that nothing is left to choose."""
        held = self.held(plan)
        if any(len(arm.seeds) < self.num_seeds for arm in held):
            return False
        return len(held) >= self.num_arms if self.num_arms else self.arms(plan) <= set(map(self.key_of, held))

    def size(self, plan: StudyPlan) -> tuple[int, int]:
        """How many arms are confirmed, and by how many seeds each, once those are chosen that a plan lacks."""
        held, num_arms = self.held(plan), len(self.arms(plan))
        if self.num_arms:
            num_arms = max(len(held), min(num_arms, self.num_arms))
        return num_arms, max(self.num_seeds, *(len(arm.seeds) for arm in held), 0)


def asked_of(named: Mapping[str, Overrides], folder: Path, options: SweepConfig, tuned: Collection[str]) -> Asked:
    """What a sweep asks to be confirmed in the folder of a study.

    Args:
        named: The overrides of each run of the sweep, by its name.
        folder: Of the study.
        options: How many arms and seeds.
        tuned: Keys whose best value is taken within an arm.
    """
    return Asked(folder, options.confirm, options.confirm_best, named, frozenset(tuned))


def proposed(asked: Asked, plan: StudyPlan) -> StudyPlan:
    """A plan with what is to be confirmed beside what it confirms already, whose choice stands.

    Raises:
        UserError: There is nothing to choose from, or nothing tells how to run what was chosen.
    """
    if asked.is_decided(plan):
        return plan
    held = asked.held(plan)
    wanted = asked.arms(plan) - set(map(asked.key_of, held))
    new = [arm for arm in chosen_arms(asked.folder, plan) if asked.key_of(arm) in wanted]
    if asked.num_arms:
        new = new[: max(0, asked.num_arms - len(held))]
    seeds = _seeds(asked, plan)
    entry = []
    for arm in (*held, *new):
        more = tuple(seed for seed in seeds if seed not in arm.seeds)
        names = tuple(run_name([*arm.overrides, f"seed={seed}"], asked.folder) for seed in more)
        entry += [replace(arm, seeds=more, runs=names)] if more else []
    if not entry:
        return plan
    return replace(plan, confirmed=(*plan.confirmed, Confirmation(files.now(), typed_command(), tuple(entry))))


def _seeds(asked: Asked, plan: StudyPlan) -> tuple[str, ...]:
    """Those of the sweep's arms, then those of other arms, with which they are paired, then fresh ones."""
    own, all_ = (
        seeds_in_order(seed for arm in arms for seed in arm.seeds) for arms in (asked.held(plan), plan.confirmed_arms)
    )
    num = max(asked.num_seeds, len(own))
    known = (*own, *(seed for seed in all_ if seed not in own))[:num]
    return known + _fresh_seeds(asked.folder, plan, num - len(known))


def _fresh_seeds(folder: Path, plan: StudyPlan, num: int) -> tuple[str, ...]:
    """The first numbers that are the seed of no run that is planned or there."""
    summaries = (Summary.peek(path.parent) for path in folder.glob(f"*/{record.SUMMARY}"))
    used = {str(summary.seed) for summary in summaries if summary is not None}
    used |= {seed for name in plan.all_planned for seed in re.findall(r"\bseed=(\d+)", name)}
    numbers = (str(number) for number in itertools.count(FIRST_SEED) if str(number) not in used)
    return tuple(itertools.islice(numbers, max(0, num)))


def decide(asked: Asked) -> StudyPlan:
    """The plan of a study with what is confirmed: written by the first process that asks, and read by all others."""
    plan = read_study(asked.folder) or StudyPlan()
    if asked.is_decided(plan):
        return plan
    with FileLock(asked.folder / record.STUDY_LOCK):
        before = read_study(asked.folder) or StudyPlan()
        plan = proposed(asked, before)
        if plan != before:
            write_study(asked.folder, plan)
    return plan


def confirming_jobs(asked: Asked, plan: StudyPlan) -> list[Overrides]:
    """The overrides of each run that confirms an arm of a sweep, one seed after the other.

    The sweep says what changes no result, such as where the images are.
    """
    job = next(iter(asked.named.values()))
    idle = [text for text in job if is_neutral(key := parsed(text).key_or_group) and key != "study"]
    pairs = [(seed, arm) for arm in asked.held(plan) for seed in arm.seeds]
    in_turn = sorted(pairs, key=lambda pair: (len(pair[0]), pair[0]))
    return [[*arm.overrides, f"seed={seed}", *idle] for seed, arm in in_turn]


def open_runs(folder: Path, plan: StudyPlan, done: Collection[str]) -> list[str]:
    """Names of the runs that may choose and have not ended yet.

    Args:
        folder: Of the study.
        plan: Of the study.
        done: Names of those that are known to have ended.
    """
    others = [name for name in plan.tuning_runs if name not in done and name not in plan.twins]
    return [name for name in others if not _has_ended(folder / name)]


def _has_ended(folder: Path) -> bool:
    summary = Summary.peek(folder)
    return summary is not None and summary.status in (Status.COMPLETED, Status.FAILED)


def waits_for(names: Sequence[str], asked: Asked) -> list[str]:
    """Sentences that say why nothing is confirmed yet, and what to do.

    Args:
        names: Of the runs that may choose and have not completed.
        asked: By the sweep that waits for them.
    """
    own, others = ([name for name in names if (name in asked.named) == is_own] for is_own in (True, False))
    sentences = []
    if own:
        has = "has" if len(own) == 1 else "have"
        sentences.append(f"nothing is confirmed yet: {few(own)} {has} not completed; the same command goes on")
    if others:
        has, them = ("has", "it") if len(others) == 1 else ("have", "them")
        sentences.append(
            f"nothing is confirmed yet: {few(others)} {has} not completed, planned by another sweep of "
            f"{asked.folder}: run {them}, or take {them} out of planned (or added) in {record.STUDY}"
        )
    return sentences


def chosen_otherwise(asked: Asked, plan: StudyPlan) -> list[str]:
    """Labels of the sweep's confirmed arms for which validation would choose another configuration by now."""
    now = {asked.key_of(arm): _values(arm) for arm in chosen_arms(asked.folder, plan)}
    return [arm.label for arm in asked.held(plan) if now.get(asked.key_of(arm), _values(arm)) != _values(arm)]


def _values(arm: ConfirmedArm) -> set[str]:
    return set(normalized(arm.overrides).values())


def refuse_confirming_seeds(jobs: Iterable[Overrides], plan: StudyPlan) -> None:
    """Refuses a sweep that would choose by seeds which confirm.

    Raises:
        UserError: It would.
    """
    confirming = {seed for arm in plan.confirmed_arms for seed in arm.seeds}
    for job in jobs if confirming else ():
        if (seed := values_by_key(job).get("seed")) in confirming:
            raise UserError(
                f"seed={seed} confirms what was chosen, so nothing is chosen by it: take another seed, or "
                "sweep.confirm=N for more seeds that confirm"
            )


def told(asked: Asked, plan: StudyPlan) -> str:
    """Which arms of a sweep are confirmed by which seeds, as `sgd at lr_scale=3, by seeds 101, 102`."""
    texts, held = [], asked.held(plan)
    for arm in held:
        values = [f"{key}={value}" for key, value in values_by_key(arm.overrides).items() if key in asked.tuned]
        texts.append(f"{arm.label} at {' '.join(values)}" if values else arm.label)
    seeds = seeds_in_order(seed for arm in held for seed in arm.seeds)
    return f"{few(texts)}, by seed{'s' * (len(seeds) > 1)} {few(seeds, 10)}"
