"""Confirmation: the configurations that validation chose, trained again on fresh seeds that chose nothing.

Choice and test then rest on different runs, so that a seed that was chosen because it was lucky does not enter the
verdict (Cawley and Talbot, "On over-fitting in model selection", 2010).
"""

import itertools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from filelock import FileLock
from hydra.errors import HydraException

from intel_scenes import files, record
from intel_scenes.digests import is_neutral
from intel_scenes.errors import UserError, few
from intel_scenes.record import Confirmation, ConfirmedArm, Status, StudyPlan, Summary, read_study, write_study
from intel_scenes.studies.naming import seeds_in_order
from intel_scenes.sweeps.names import run_name
from intel_scenes.sweeps.overrides import Overrides, in_yaml, normalized, parsed, values_by_key
from intel_scenes.sweeps.plan import typed_command

if TYPE_CHECKING:
    from intel_scenes.studies.choose import Choice

FIRST_SEED = 101  # above the usual seeds of sweeps, so that tuning seeds added later do not collide with it

ArmKey = tuple[str, ...]


def chosen_arms(folder: Path, plan: StudyPlan) -> list[ConfirmedArm]:
    """Return each arm of a study with the configuration that validation chose, the best on validation first.

    Confirming runs take no part in the choice.

    Raises:
        UserError: There is no run to choose from, or the overrides of a chosen run are unknown.
    """
    return [
        ConfirmedArm(
            arm.label,
            _overrides(arm.chosen.runs[0].folder),
            seeds_in_order(str(run.summary.seed) for configuration in arm.configurations for run in configuration.runs),
        )
        for arm in _choice(folder, plan, {}).arms
    ]


def edges(asked: "Asked", bounds: Mapping[str, Sequence[float]]) -> list[str]:
    """Return a sentence for each best value at a grid edge, where arms are not compared, confirmed or not.

    Args:
        asked: What is confirmed.
        bounds: Natural bounds of keys, which are no grid edges.
    """
    from intel_scenes.studies.notices import Kind
    from intel_scenes.studies.render.sentences import sentence

    notices = _choice(asked.folder, read_study(asked.folder) or StudyPlan(), bounds).notices
    return [sentence(notice) for notice in notices if notice.kind is Kind.AT_EDGE]


def _choice(folder: Path, plan: StudyPlan, bounds: Mapping[str, Sequence[float]]) -> "Choice":
    """Return the present choice by validation; confirming runs take no part.

    Raises:
        UserError: There is no run to choose from.
    """
    from intel_scenes.studies.align import align  # imports scipy
    from intel_scenes.studies.arms import group
    from intel_scenes.studies.choose import choose
    from intel_scenes.studies.load import load

    try:
        study = load(folder)
    except UserError as error:
        raise UserError(f"validation cannot choose a configuration to confirm: {error}") from error
    grouped = group(replace(study, plan=plan), align(study.runs))
    candidates = [replace(candidate, confirmed=None) for candidate in grouped.candidates]
    return choose(candidates, grouped.tuned, plan.searched, bounds)


def _overrides(run: Path) -> tuple[str, ...]:
    """Return the overrides of a run without its seed and neutral keys, but with the study, which sets other keys.

    Raises:
        UserError: The folder of the run does not hold them.
    """
    typed = _typed(run)
    if typed is None:
        raise UserError(
            f"{run.name} was chosen, but its {record.OVERRIDES} cannot be read, so it cannot be trained again: leave "
            "sweep.confirm out"
        )
    return tuple(text for key, text in typed.items() if key == "study" or not (key == "seed" or is_neutral(key)))


def _typed(run: Path) -> dict[str, str] | None:
    """Return the overrides of a run by key; None where its folder does not hold them."""
    try:
        typed = record.read_yaml(run / record.OVERRIDES) or []
        return {parsed(str(text)).key_or_group: str(text) for text in typed}
    except (OSError, TypeError, ValueError, HydraException):
        return None


def arm_key(overrides: Overrides, tuned: Collection[str]) -> ArmKey:
    """Return what identifies the arm of a run: its overrides without the seed, tuned keys and neutral keys."""
    texts = normalized(overrides)
    return tuple(sorted(text for key, text in texts.items() if not (key == "seed" or key in tuned or is_neutral(key))))


@dataclass(frozen=True)
class Asked:
    """What a sweep asks to confirm; arms of other sweeps of the study are confirmed by their own commands.

    Attributes:
        folder: Folder of the study.
        num_seeds: Number of fresh seeds of each arm.
        num_arms: Number of arms, the best on validation; None for all arms of the sweep.
        named: Overrides of each run of the sweep, by its name.
        tuned: Keys that are tuned within an arm.
    """

    folder: Path
    num_seeds: int
    num_arms: int | None
    named: Mapping[str, Overrides]
    tuned: frozenset[str]

    def arms(self, plan: StudyPlan) -> frozenset[ArmKey]:
        """Return the arms of the sweep; a run that is the twin of another one counts as that one."""
        jobs = dict(self.named)
        for name in jobs.keys() & plan.twins.keys():
            if typed := _typed(self.folder / plan.twins[name]):
                jobs[name] = tuple(typed.values())
        return frozenset(arm_key(job, self.tuned) for job in jobs.values())

    def key_of(self, arm: ConfirmedArm) -> ArmKey:
        """Return what identifies a confirmed arm."""
        return arm_key(arm.overrides, self.tuned)

    def confirmed(self, plan: StudyPlan) -> list[ConfirmedArm]:
        """Return the arms of the sweep that a plan confirms."""
        arms = self.arms(plan)
        return [arm for arm in plan.confirmed_arms if self.key_of(arm) in arms]

    def is_decided(self, plan: StudyPlan) -> bool:
        """Return whether a plan already confirms all that is asked, so that no choice is left to make."""
        confirmed = self.confirmed(plan)
        if any(len(arm.seeds) < self.num_seeds for arm in confirmed):
            return False
        if self.num_arms:
            return len(confirmed) >= self.num_arms
        return self.arms(plan) <= set(map(self.key_of, confirmed))

    def size(self, plan: StudyPlan) -> tuple[int, int]:
        """Return the number of arms to confirm and of seeds of each, counting those that are not chosen yet."""
        confirmed, num_arms = self.confirmed(plan), len(self.arms(plan))
        if self.num_arms:
            num_arms = max(len(confirmed), min(num_arms, self.num_arms))
        return num_arms, max(self.num_seeds, *(len(arm.seeds) for arm in confirmed), 0)


def proposed(asked: Asked, plan: StudyPlan) -> StudyPlan:
    """Return a plan extended by what is to be confirmed; what it confirms already keeps its choice.

    Raises:
        UserError: There is no run to choose from, or the overrides of a chosen run are unknown.
    """
    if asked.is_decided(plan):
        return plan
    confirmed = asked.confirmed(plan)
    wanted = asked.arms(plan) - set(map(asked.key_of, confirmed))
    new = [arm for arm in chosen_arms(asked.folder, plan) if asked.key_of(arm) in wanted]
    if asked.num_arms:
        new = new[: max(0, asked.num_arms - len(confirmed))]
    seeds = _seeds(asked, plan)
    entry = []
    for arm in (*confirmed, *new):
        more = tuple(seed for seed in seeds if seed not in arm.seeds)
        names = tuple(run_name([*arm.overrides, f"seed={seed}"], asked.folder) for seed in more)
        entry += [replace(arm, seeds=more, runs=names)] if more else []
    if not entry:
        return plan
    return replace(plan, confirmed=(*plan.confirmed, Confirmation(files.now(), typed_command(), tuple(entry))))


def _seeds(asked: Asked, plan: StudyPlan) -> tuple[str, ...]:
    """Return the confirming seeds: those of the sweep's arms, those of other arms (for pairing), then fresh ones."""
    own, of_all = (
        seeds_in_order(seed for arm in arms for seed in arm.seeds)
        for arms in (asked.confirmed(plan), plan.confirmed_arms)
    )
    num = max(asked.num_seeds, len(own))
    used = (*own, *(seed for seed in of_all if seed not in own))[:num]
    return used + _fresh_seeds(asked.folder, plan, num - len(used))


def _fresh_seeds(folder: Path, plan: StudyPlan, num: int) -> tuple[str, ...]:
    """Return the first numbers that are the seed of no planned or existing run."""
    summaries = (Summary.peek(path.parent) for path in folder.glob(f"*/{record.SUMMARY}"))
    used = {str(summary.seed) for summary in summaries if summary is not None}
    used |= {seed for name in plan.all_planned for seed in re.findall(r"\bseed=(\d+)", name)}
    numbers = (str(number) for number in itertools.count(FIRST_SEED) if str(number) not in used)
    return tuple(itertools.islice(numbers, max(0, num)))


def decide(asked: Asked) -> StudyPlan:
    """Return the plan of a study with what it confirms: the first process that asks writes it, all others read it."""
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
    """Return the overrides of each run that confirms an arm of a sweep, seed by seed.

    Neutral keys, such as where the images are, are those of the sweep.
    """
    job = next(iter(asked.named.values()))
    neutral = [text for text in job if is_neutral(key := parsed(text).key_or_group) and key != "study"]
    pairs = [(seed, arm) for arm in asked.confirmed(plan) for seed in arm.seeds]
    in_turn = sorted(pairs, key=lambda pair: (len(pair[0]), pair[0]))
    return [[*arm.overrides, f"seed={seed}", *neutral] for seed, arm in in_turn]


def open_runs(folder: Path, plan: StudyPlan, done: Collection[str]) -> list[str]:
    """Return the names of the tuning runs that have not ended yet.

    Args:
        folder: Folder of the study.
        plan: Plan of the study.
        done: Names of runs that are known to have ended.
    """
    others = [name for name in plan.tuning_runs if name not in done and name not in plan.twins]
    return [name for name in others if not _has_ended(folder / name)]


def _has_ended(folder: Path) -> bool:
    summary = Summary.peek(folder)
    return summary is not None and summary.status in (Status.COMPLETED, Status.FAILED)


def waits_for(names: Sequence[str], asked: Asked) -> list[str]:
    """Return sentences that say why nothing is confirmed yet, and what to do.

    Args:
        names: Names of the tuning runs that are not completed.
        asked: What the waiting sweep asks to confirm.
    """
    own, others = ([name for name in names if (name in asked.named) == is_own] for is_own in (True, False))
    sentences = []
    if own:
        is_or_are = "is" if len(own) == 1 else "are"
        sentences.append(
            f"nothing is confirmed yet: {few(own)} {is_or_are} not completed; start the same command again to resume"
        )
    if others:
        is_or_are, them = ("is", "it") if len(others) == 1 else ("are", "them")
        sentences.append(
            f"nothing is confirmed yet: {few(others)}, planned by another sweep of {asked.folder}, {is_or_are} not "
            f"completed: run {them}, or remove {them} from planned (or added) in {record.STUDY}"
        )
    return sentences


def chosen_otherwise(asked: Asked, plan: StudyPlan) -> list[str]:
    """Return the labels of the confirmed arms for which validation would now choose another configuration."""
    now = {asked.key_of(arm): _values(arm) for arm in chosen_arms(asked.folder, plan)}
    return [arm.label for arm in asked.confirmed(plan) if now.get(asked.key_of(arm), _values(arm)) != _values(arm)]


def _values(arm: ConfirmedArm) -> set[str]:
    return set(normalized(arm.overrides).values())


def refuse_confirming_seeds(jobs: Iterable[Overrides], plan: StudyPlan) -> None:
    """Refuse a sweep that would tune on confirming seeds.

    Raises:
        UserError: One of its seeds confirms an arm.
    """
    confirming = {seed for arm in plan.confirmed_arms for seed in arm.seeds}
    for job in jobs if confirming else ():
        if (seed := values_by_key(job).get("seed")) in confirming:
            raise UserError(
                f"seed={seed} is a confirming seed, so it cannot be used for tuning: take another seed, or set "
                "sweep.confirm=N for more confirming seeds"
            )


def in_words(asked: Asked, plan: StudyPlan) -> str:
    """Return which arms are confirmed on which seeds, as `sgd at lr_scale=3, on seeds 101, 102`."""
    texts, confirmed = [], asked.confirmed(plan)
    for arm in confirmed:
        values = [in_yaml(text) for key, text in normalized(arm.overrides).items() if key in asked.tuned]
        texts.append(f"{arm.label} at {' '.join(values)}" if values else arm.label)
    seeds = seeds_in_order(seed for arm in confirmed for seed in arm.seeds)
    return f"{few(texts)}, on seed{'s' * (len(seeds) > 1)} {few(seeds, 10)}"
