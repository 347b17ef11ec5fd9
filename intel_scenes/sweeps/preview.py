"""What `sweep.plan=true` prints: what each run would do and cost, and what the study would show."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from intel_scenes import record
from intel_scenes.config import DataConfig, RunConfig
from intel_scenes.data.scenes import find_split, num_images
from intel_scenes.errors import UserError
from intel_scenes.record import Status, Summary
from intel_scenes.studies.collect import Run, collect
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


def show(
    named: Mapping[str, Overrides],
    finished: set[str],
    folder: Path,
    compose: Compose,
    *,
    tuned: Collection[str],
    has_baseline: bool,
) -> None:
    """Prints what each run would do and may cost, by the runs there that are alike, and what the study would show.

    Args:
        named: The overrides of each run, by its name.
        finished: Names of the runs that are complete.
        folder: Of the study.
        compose: Overrides to the configuration of a job.
        tuned: Keys whose best value is taken within an arm.
        has_baseline: Whether all arms are compared with one of them alone.
    """
    earlier = [run for run in collect(folder)[0] if run.is_completed]
    minutes, megabytes, unknown, counts = 0.0, 0.0, 0, Counter[Action]()
    for name, job in named.items():
        action = Action.SKIP if name in finished else _action(folder / name)
        counts[action] += 1
        cost = ""
        if action != Action.SKIP:
            config = compose(job)
            alike = [run for run in earlier if _is_alike(run, config)]
            if alike:
                by_epoch = [seconds for run in alike if (seconds := _epoch_seconds(run)) is not None]
                estimate = config.budget_minutes or sum(by_epoch) / len(by_epoch) * config.epochs / 60
                cost = f"about {estimate:.1f} minutes"
                minutes += estimate
                megabytes += sum(map(_megabytes, alike)) / len(alike)
            else:
                cost, unknown = "no run alike yet", unknown + 1
        print(f"  {action:<9}{name}  {cost}".rstrip())
    print(", ".join(f"{count} to {action}" for action, count in counts.items()))
    if counts[Action.CHECK]:
        print("check: there is a record of other files or settings, which may be refused")
    known = len(named) - counts[Action.SKIP] - unknown
    if known:
        print(f"about {minutes:.0f} minutes and {megabytes:.0f} MB for {known} runs")
    if unknown:
        print(f"minutes and disk unknown for {unknown} runs: no earlier run there has their network and image size")
    num_test = _num_test(earlier, compose(next(iter(named.values()))).data)
    for line in _promise(named, folder, tuned, num_test, has_baseline=has_baseline):
        print(line)


def _action(folder: Path) -> Action:
    summary = Summary.peek(folder)
    if summary is None:
        return Action.CHECK if (folder / record.SUMMARY).exists() else Action.RUN
    actions = {Status.INTERRUPTED: Action.CONTINUE, Status.FAILED: Action.RETRY, Status.COMPLETED: Action.CHECK}
    return actions[summary.status]


def _promise(
    named: Mapping[str, Overrides],
    folder: Path,
    tuned: Collection[str],
    num_test: int | None,
    *,
    has_baseline: bool,
) -> list[str]:
    """What the seeds of a sweep would show, with that many test images where no earlier runs say how many."""
    from intel_scenes.studies.comparison import compare  # imports scipy
    from intel_scenes.studies.pairs import would_show

    aside = {"seed", *tuned}
    arms: dict[tuple[str, ...], set[str]] = {}
    for job in named.values():
        values = values_by_key(job)
        arm = tuple(f"{key}={value}" for key, value in sorted(values.items()) if key not in aside)
        arms.setdefault(arm, set()).add(values.get("seed", ""))
    if len(arms) < 2:
        return []
    try:
        pairs = compare(folder).pairs
    except UserError:  # there is nothing yet
        pairs = []
    if num_test is None:
        return ["the smallest detectable difference is unknown: data.root has no test images to count"]
    num_seeds = min(map(len, arms.values()))
    return would_show(pairs, len(arms), num_seeds, num_images=num_test, has_baseline=has_baseline)


def _num_test(earlier: Sequence[Run], data: DataConfig) -> int | None:
    """The number of test images by earlier runs, else by the names of files; None where it is unknown."""
    if known := [run.summary.num_test for run in earlier if run.summary.num_test]:
        return known[-1]
    if data.source == "synthetic":
        return data.num_test
    try:
        if data.root is not None:
            return num_images(find_split(Path(data.root).expanduser(), "seg_test"))
    except UserError:
        pass  # there are none
    return INTEL_TEST_IMAGES if data.source == "intel" else None


def _is_alike(run: Run, config: RunConfig) -> bool:
    same_size = config.data.image_size in (None, run.summary.image_size)
    return _epoch_seconds(run) is not None and run.summary.model_name == config.model.name and same_size


def _epoch_seconds(run: Run) -> float | None:
    seconds, epochs = run.summary.fit_seconds, run.summary.epochs
    return seconds / epochs if seconds is not None and epochs else None


def _megabytes(run: Run) -> float:
    return sum(path.stat().st_size for path in run.folder.rglob("*") if path.is_file()) / 1e6
