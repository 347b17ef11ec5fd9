"""What `sweep.plan=true` prints: what each run would do and cost, and what the study would show."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from statistics import fmean
from typing import NamedTuple

from intel_scenes import record
from intel_scenes.config import DataConfig, RunConfig
from intel_scenes.data.layouts import count_test_images
from intel_scenes.errors import UserError
from intel_scenes.record import Status, Summary
from intel_scenes.studies.load import Run, collect
from intel_scenes.sweeps.confirmation import ArmKey, arm_key
from intel_scenes.sweeps.jobs import Compose
from intel_scenes.sweeps.overrides import Overrides, values_by_key

INTEL_TEST_IMAGES = 3000  # that a download brings


class Action(StrEnum):
    """What a sweep would do with a run."""

    RUN = "run"
    SKIP = "skip"
    CONTINUE = "continue"
    RETRY = "retry"
    CHECK = "check"  # there is a record, of other files or settings


@dataclass(frozen=True)
class Confirming:
    """What confirms the arms of a sweep.

    Attributes:
        num_arms: That are confirmed.
        num_seeds: Fresh ones of each.
        num_unknown: Runs whose configurations validation has not chosen yet.
        examples: The overrides of one run of each arm, which costs about what those runs do.
    """

    num_arms: int
    num_seeds: int
    num_unknown: int
    examples: Sequence[Overrides]


def show(
    named: Mapping[str, Overrides],
    finished: Collection[str],
    folder: Path,
    compose: Compose,
    *,
    tuned: Collection[str],
    has_baseline: bool,
    confirming: Confirming | None = None,
) -> None:
    """Prints what each run would do and may cost, by the runs there that are alike, and what the study would show.

    Args:
        named: The overrides of each run, by its name.
        finished: Names of the runs that are complete.
        folder: Of the study.
        compose: Overrides to the configuration of a job.
        tuned: Keys whose best value is taken within an arm.
        has_baseline: Whether all arms are compared with one of them alone.
        confirming: What confirms the arms; the runs that are known already are among the named ones.
    """
    earlier = [run for run in collect(folder)[0] if run.is_completed]
    costs, num_unlike, counts = list[Cost](), 0, Counter[Action]()
    for name, job in named.items():
        action = Action.SKIP if name in finished else _action(folder / name)
        counts[action] += 1
        text = ""
        if action != Action.SKIP:
            cost = _cost(compose(job), earlier)
            costs += [cost] if cost else []
            num_unlike += cost is None
            text = f"about {cost.minutes:.1f} minutes" if cost else "new"
        print(f"  {action:<9}{name}  {text}".rstrip())
    print(", ".join(f"{count} to {action}" for action, count in counts.items()))
    if counts[Action.CHECK]:
        print("check: there is a record of other files or settings, which may be refused")
    if confirming and confirming.num_unknown:
        sizes = f"{_counted(confirming.num_arms, 'arm')} with {_counted(confirming.num_seeds, 'fresh seed')}"
        sizes += " each" * (confirming.num_arms > 1)
        print(f"then {_counted(confirming.num_unknown, 'run')} to confirm what validation chooses: {sizes}")
        examples = [_cost(compose(job), earlier) for job in confirming.examples]
        if None in examples:
            num_unlike += confirming.num_unknown
        else:
            mean = Cost(*(fmean(numbers) for numbers in zip(*(cost for cost in examples if cost), strict=True)))
            costs += [mean] * confirming.num_unknown
    if costs:
        minutes, megabytes = (sum(numbers) for numbers in zip(*costs, strict=True))
        print(f"about {minutes:.0f} minutes and {megabytes:.0f} MB for {len(costs)} runs")
    if num_unlike:
        print(f"minutes and disk unknown for {num_unlike} runs: no earlier run there has their network and image size")
    num_test = _num_test(earlier, compose(next(iter(named.values()))).data)
    for line in _outlook(named.values(), folder, num_test, tuned, confirming, has_baseline=has_baseline):
        print(line)


def _counted(number: int, noun: str) -> str:
    return f"{number} {noun}{'s' * (number != 1)}"


class Cost(NamedTuple):
    """What a run may take."""

    minutes: float
    megabytes: float


def _cost(config: RunConfig, earlier: Sequence[Run]) -> Cost | None:
    """By the earlier runs that are alike; None where there is none."""
    alike = [run for run in earlier if _is_alike(run, config)]
    if not alike:
        return None
    fraction = config.data.train_fraction
    alike = [run for run in alike if _fraction(run) == fraction] or alike
    # An epoch of a share of the images takes about this share of the time, and equal steps as many more epochs.
    by_whole_epoch = fmean((_epoch_seconds(run) or 0.0) / _fraction(run) for run in alike)
    seconds = by_whole_epoch * config.epochs * (1 if config.equal_steps else fraction)
    return Cost(config.budget_minutes or seconds / 60, fmean(map(_megabytes, alike)))


def _fraction(run: Run) -> float:
    return run.summary.train_fraction or 1.0


def _action(folder: Path) -> Action:
    summary = Summary.peek(folder)
    if summary is None:
        return Action.CHECK if (folder / record.SUMMARY).exists() else Action.RUN
    actions = {Status.INTERRUPTED: Action.CONTINUE, Status.FAILED: Action.RETRY, Status.COMPLETED: Action.CHECK}
    return actions[summary.status]


def _outlook(
    jobs: Collection[Overrides],
    folder: Path,
    num_test: int | None,
    tuned: Collection[str],
    confirming: Confirming | None,
    *,
    has_baseline: bool,
) -> list[str]:
    """What a sweep would show, by the seeds that confirm where some do."""
    if confirming and confirming.num_seeds == 1 < confirming.num_arms:
        return ["one seed confirms each arm: no difference between arms can be tested, sweep.confirm=5 asks for five"]
    if confirming:
        return _promise(confirming.num_arms, confirming.num_seeds, folder, num_test, has_baseline=has_baseline)
    arms: dict[ArmKey, set[str]] = {}
    for job in jobs:
        arms.setdefault(arm_key(job, tuned), set()).add(values_by_key(job).get("seed", ""))
    lines = _promise(len(arms), min(map(len, arms.values())), folder, num_test, has_baseline=has_baseline)
    if len({arm_key(job, ()) for job in jobs}) > len(arms):
        chosen = ", ".join(sorted(tuned))
        lines += [
            f"the seeds that choose {chosen} are tested too: sweep.confirm=5 tests the choice on five fresh seeds"
        ]
    return lines


def _promise(num_arms: int, num_seeds: int, folder: Path, num_test: int | None, *, has_baseline: bool) -> list[str]:
    """What so many seeds would show, with that many test images where no earlier runs say how many."""
    from intel_scenes.studies.comparison import compare  # imports scipy
    from intel_scenes.studies.render.power import would_show

    if num_arms < 2:
        return []
    try:
        earlier = compare(folder).design
    except UserError:  # there is nothing yet
        earlier = None
    if num_test is None:
        return ["the smallest detectable difference is unknown: data.root has no test images to count"]
    return would_show(earlier, num_arms, num_seeds, num_images=num_test, has_baseline=has_baseline)


def _num_test(earlier: Sequence[Run], data: DataConfig) -> int | None:
    """The number of test images by earlier runs, else by the names of files; None where it is unknown."""
    if known := [run.summary.num_test for run in earlier if run.summary.num_test]:
        return known[-1]
    if data.source == "synthetic":
        return data.num_test
    try:
        if data.root is not None or data.labels is not None:
            root, labels = (Path(path).expanduser() if path else None for path in (data.root, data.labels))
            return count_test_images(root, labels, data.test_fraction)
    except UserError:
        pass  # there are none
    return INTEL_TEST_IMAGES if data.source == "intel" else None


def _is_alike(run: Run, config: RunConfig) -> bool:
    same_size = config.data.image_size in (None, run.summary.image_size)
    return _epoch_seconds(run) is not None and run.summary.architecture == config.model.architecture and same_size


def _epoch_seconds(run: Run) -> float | None:
    seconds, epochs = run.summary.fit_seconds, run.summary.epochs
    return seconds / epochs if seconds is not None and epochs else None


def _megabytes(run: Run) -> float:
    return sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file()) / 1e6
