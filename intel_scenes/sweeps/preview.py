"""Output of `sweep.plan=true`: what each run would do and cost, and which differences the study could detect."""

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
from intel_scenes.errors import UserError, counted
from intel_scenes.record import Status, Summary
from intel_scenes.studies.load import Run, collect
from intel_scenes.sweeps.confirmation import ArmKey, arm_key
from intel_scenes.sweeps.jobs import Compose
from intel_scenes.sweeps.overrides import Overrides, values_by_key

INTEL_TEST_IMAGES = 3000  # of the download


class Action(StrEnum):
    """What a sweep would do with a run."""

    RUN = "run"
    SKIP = "skip"
    RESUME = "resume"
    RETRY = "retry"
    CHECK = "check"  # the folder holds a record of other files or settings


@dataclass(frozen=True)
class Confirming:
    """The confirming runs of a sweep.

    Attributes:
        num_arms: Number of arms that are confirmed.
        num_seeds: Number of fresh seeds of each arm.
        num_unknown: Number of runs whose configurations validation has not chosen yet.
        examples: Overrides of one run of each arm, which costs about as much as those runs.
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
    has_outlook: bool = True,
) -> None:
    """Print what each run would do and cost, estimated from similar runs, and what the study could detect.

    Args:
        named: Overrides of each run, by its name.
        finished: Names of the runs that are complete.
        folder: Folder of the study.
        compose: Makes the configuration of a job from its overrides.
        tuned: Keys that are tuned within an arm.
        has_baseline: Whether all arms are compared with a baseline only.
        confirming: The confirming runs; those already decided are among the named ones.
        has_outlook: Whether to print what the study could detect.
    """
    earlier = [run for run in collect(folder)[0] if run.is_completed]
    costs, num_unknown, counts = list[Cost](), 0, Counter[Action]()
    for name, job in named.items():
        action = Action.SKIP if name in finished else _action(folder / name)
        counts[action] += 1
        text = ""
        if action != Action.SKIP:
            cost = _cost(compose(job), earlier)
            costs += [cost] if cost else []
            num_unknown += cost is None
            text = f"about {cost.minutes:.1f} minutes" if cost else "new"
        print(f"  {action:<9}{name}  {text}".rstrip())
    print(", ".join(f"{count} to {action}" for action, count in counts.items()))
    if counts[Action.CHECK]:
        print("check: the folder holds a record of other files or settings, so the run may be refused")
    if confirming and confirming.num_unknown:
        sizes = f"{counted(confirming.num_arms, 'arm')} with {counted(confirming.num_seeds, 'fresh seed')}"
        sizes += " each" * (confirming.num_arms > 1)
        print(f"then {counted(confirming.num_unknown, 'run')} to confirm what validation chooses: {sizes}")
        examples = [_cost(compose(job), earlier) for job in confirming.examples]
        if None in examples:
            num_unknown += confirming.num_unknown
        else:
            mean = Cost(*(fmean(numbers) for numbers in zip(*(cost for cost in examples if cost), strict=True)))
            costs += [mean] * confirming.num_unknown
    if costs:
        minutes, megabytes = (sum(numbers) for numbers in zip(*costs, strict=True))
        print(f"about {minutes:.0f} minutes and {megabytes:.0f} MB for {counted(len(costs), 'run')}")
    if num_unknown:
        print(
            f"time and disk space are unknown for {counted(num_unknown, 'run')}: no earlier run of this study has the "
            "same network and image size"
        )
    if not has_outlook:
        return
    num_test = _num_test(earlier, compose(next(iter(named.values()))).data)
    for line in _outlook(named.values(), folder, num_test, tuned, confirming, has_baseline=has_baseline):
        print(line)


class Cost(NamedTuple):
    """Estimated cost of a run."""

    minutes: float
    megabytes: float


def _cost(config: RunConfig, earlier: Sequence[Run]) -> Cost | None:
    """Return the cost estimated from similar earlier runs; None without any."""
    similar = [run for run in earlier if _is_similar(run, config)]
    if not similar:
        return None
    fraction = config.data.train_fraction
    similar = [run for run in similar if _fraction(run) == fraction] or similar
    # The time of an epoch is about proportional to its images; equal steps make up for fewer images by more epochs.
    whole_epoch = fmean((_epoch_seconds(run) or 0.0) / _fraction(run) for run in similar)
    seconds = whole_epoch * config.epochs * (1 if config.equal_steps else fraction)
    return Cost(config.budget_minutes or seconds / 60, fmean(map(_megabytes, similar)))


def _fraction(run: Run) -> float:
    return run.summary.train_fraction or 1.0


def _action(folder: Path) -> Action:
    summary = Summary.peek(folder)
    if summary is None:
        return Action.CHECK if (folder / record.SUMMARY).exists() else Action.RUN
    actions = {Status.INTERRUPTED: Action.RESUME, Status.FAILED: Action.RETRY, Status.COMPLETED: Action.CHECK}
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
    """Return sentences on what a sweep could detect, with its confirming seeds where it has some."""
    if confirming and confirming.num_seeds == 1 < confirming.num_arms:
        return ["no difference between arms can be tested with one confirming seed of each: set sweep.confirm=5"]
    if confirming:
        return _promise(confirming.num_arms, confirming.num_seeds, folder, num_test, has_baseline=has_baseline)
    arms: dict[ArmKey, set[str]] = {}
    for job in jobs:
        arms.setdefault(arm_key(job, tuned), set()).add(values_by_key(job).get("seed", ""))
    lines = _promise(len(arms), min(map(len, arms.values())), folder, num_test, has_baseline=has_baseline)
    if len({arm_key(job, ()) for job in jobs}) > len(arms):
        chosen = ", ".join(sorted(tuned))
        lines += [f"the seeds that choose {chosen} are also tested: sweep.confirm=5 tests on five fresh seeds instead"]
    return lines


def _promise(num_arms: int, num_seeds: int, folder: Path, num_test: int | None, *, has_baseline: bool) -> list[str]:
    """Return what so many seeds could detect; `num_test` counts where no earlier run tells the number of images."""
    from intel_scenes.studies.comparison import compare  # imports scipy
    from intel_scenes.studies.render.power import would_show

    if num_arms < 2:
        return []
    try:
        earlier = compare(folder).design
    except UserError:  # there are no runs yet
        earlier = None
    if num_test is None:
        return ["the smallest detectable difference is unknown, because data.root has no test images to count"]
    return would_show(earlier, num_arms, num_seeds, num_images=num_test, has_baseline=has_baseline)


def _num_test(earlier: Sequence[Run], data: DataConfig) -> int | None:
    """Return the number of test images from earlier runs, else from the files; None where it is unknown."""
    if numbers := [run.summary.num_test for run in earlier if run.summary.num_test]:
        return numbers[-1]
    if data.source == "synthetic":
        return data.num_test
    try:
        if data.root is not None or data.labels is not None:
            root, labels = (Path(path).expanduser() if path else None for path in (data.root, data.labels))
            return count_test_images(root, labels, data.test_fraction)
    except UserError:
        pass  # no images yet
    return INTEL_TEST_IMAGES if data.source == "intel" else None


def _is_similar(run: Run, config: RunConfig) -> bool:
    same_size = config.data.image_size in (None, run.summary.image_size)
    return _epoch_seconds(run) is not None and run.summary.architecture == config.model.architecture and same_size


def _epoch_seconds(run: Run) -> float | None:
    seconds, epochs = run.summary.fit_seconds, run.summary.epochs
    return seconds / epochs if seconds is not None and epochs else None


def _megabytes(run: Run) -> float:
    return sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file()) / 1e6
