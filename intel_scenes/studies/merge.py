"""Merge the study folders of several shards into one folder, which is compared and confirmed like any study."""

import os
import shutil
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import NamedTuple

from filelock import FileLock

from intel_scenes import record
from intel_scenes.errors import UserError, few
from intel_scenes.record import Epoch, History, Status, StudyPlan, Summary, read_study, write_study

# Keys of a summary that may differ between two records of one run: time, cost, machine, and paths.
OF_MACHINE = {
    *("started", "ended", "composition_digest", "weights", "test_folder", "device", "versions", "package_version"),
    *("git_commit", "git_dirty", "fit_seconds", "features_seconds", "compile_seconds", "images_per_second"),
    "peak_memory_bytes",
}
# Keys of a plan that shards of one sweep share.
OF_SWEEP = ("compared", "tuned", "searched", "threads", "fixed", "swept", "planned", "budgets", "plan_file")


def merge(folders: Sequence[Path], output: Path) -> None:
    """Gather the runs of several study folders in one, with hard links where the file system allows them.

    Two records of one run count once if they are equal. A completed record replaces one that is not completed, also in
    a folder that an earlier merge has written.

    Args:
        folders: Study folders, which are not changed.
        output: Folder of the merged study; what it holds already takes part.

    Raises:
        UserError: A folder is missing, the folders are not parts of one sweep, or two records of a run differ: then
            nothing is written. Or a run of `output` that is to be replaced is being trained, or cannot be copied.
    """
    for folder in folders:
        if not folder.is_dir():
            raise UserError(f"there is no folder {folder}: set folder=[A,B,...] to the folders of the shards")
    sources = [output, *(folder for folder in folders if folder.resolve() != output.resolve())]
    plan = _merged_plan(sources)
    kept, twins = _kept_runs(sources)
    output.mkdir(parents=True, exist_ok=True)
    for name, run in kept.items():
        if run.folder.parent != output:
            _copy(run, output / name)
    if plan is not None:
        with FileLock(output / record.STUDY_LOCK):
            write_study(output, replace(plan, twins={**plan.twins, **twins}))


class _Recorded(NamedTuple):
    """A run folder and its summary, which is None if it cannot be read."""

    folder: Path
    summary: Summary | None

    @property
    def is_completed(self) -> bool:
        """Whether it has results."""
        return self.summary is not None and self.summary.status is Status.COMPLETED


def _kept_runs(sources: Sequence[Path]) -> tuple[dict[str, _Recorded], dict[str, str]]:
    """Return each run by its name, and the names of other runs that turned out to be the same run.

    Raises:
        UserError: Two records of a run differ.
    """
    kept: dict[str, _Recorded] = {}
    names: dict[str, str] = {}  # by the digest of the run
    twins: dict[str, str] = {}
    unequal = []
    for folder in (path.parent for source in sources for path in sorted(source.glob(f"[!.]*/{record.SUMMARY}"))):
        run = _Recorded(folder, Summary.peek(folder))
        digest = (run.summary.config_digest if run.summary else None) or folder.name
        name = names.setdefault(digest, folder.name) if folder.name not in kept else folder.name
        other = kept.setdefault(name, run)
        if other.folder == folder:
            continue
        if name != folder.name:
            twins[folder.name] = name
        if run.is_completed and not other.is_completed:
            kept[name] = run
        elif run.is_completed and (differences := _differences(other, run)):
            unequal.append(f"{other.folder} and {folder} ({', '.join(differences)})")
    if unequal:
        raise UserError(f"records of one run differ: {few(unequal)}; find out which is right, and move the other away")
    return kept, twins


def _differences(run: _Recorded, other: _Recorded) -> list[str]:
    """Return the keys and files in which two complete records differ; the checkpoints are not compared."""
    assert run.summary is not None, "a complete record has a summary"
    assert other.summary is not None, "a complete record has a summary"
    first, second = asdict(run.summary), asdict(other.summary)
    keys = [key for key in first if key not in OF_MACHINE and first[key] != second[key]]
    keys += [record.HISTORY] * (_epochs(run) != _epochs(other))
    return keys + [record.PREDICTIONS] * (_predictions(run) != _predictions(other))


def _epochs(run: _Recorded) -> list[Epoch]:
    return [replace(epoch, images_per_second=0.0) for epoch in History.read(run.folder).epochs]


def _predictions(run: _Recorded) -> bytes | None:
    path = run.folder / record.PREDICTIONS
    return path.read_bytes() if path.is_file() else None


def _copy(run: _Recorded, target: Path) -> None:
    """Copy a run folder, whole or not at all; files of a complete run, which nothing changes any more, are linked.

    Raises:
        UserError: The old folder is being trained, or a file cannot be copied.
    """
    if (target / record.LOCK).exists():
        raise UserError(
            f"{target} is being trained: wait for it, or remove its {record.LOCK} if its process was killed"
        )
    part = target.with_name(f".{target.name}-part")
    shutil.rmtree(part, ignore_errors=True)
    copy = _link if run.is_completed else shutil.copy2
    try:
        shutil.copytree(run.folder, part, symlinks=True, copy_function=copy, ignore=shutil.ignore_patterns(".*"))
    except shutil.Error as error:  # with the source, the target and the reason of each file
        shutil.rmtree(part, ignore_errors=True)
        (_, _, reason), *_ = error.args[0]
        raise UserError(
            f"{run.folder} cannot be copied into {target.parent} ({reason}): free some space, or set another output"
        ) from error
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # another file system, or one without hard links
        shutil.copy2(source, target)


def _merged_plan(sources: Sequence[Path]) -> StudyPlan | None:
    """Return the plan of the first folder that has one, with what the others add.

    Raises:
        UserError: A folder belongs to another sweep.
    """
    plans = {folder: plan for folder in sources if (plan := read_study(folder))}
    if not plans:
        return None
    (first, merged), *others = plans.items()
    for folder, plan in others:
        if different := _different(merged, plan):
            raise UserError(
                f"{folder} and {first} are not shards of one sweep, because their {record.STUDY} differ in "
                f"{', '.join(different)}: start all shards with the same command and plan file"
            )
        known, labels = set(merged.all_planned), {baseline.label for baseline in merged.baselines}
        merged = replace(
            merged,
            added=(*merged.added, *(added for added in plan.added if not known.issuperset(added.runs))),
            confirmed=merged.confirmed or plan.confirmed,
            baselines=(*merged.baselines, *(baseline for baseline in plan.baselines if baseline.label not in labels)),
            twins={**plan.twins, **merged.twins},
            fitted_epochs={**plan.fitted_epochs, **merged.fitted_epochs},
        )
    return merged


def _different(first: StudyPlan, second: StudyPlan) -> list[str]:
    """Return the keys in which two plans cannot be those of shards of one sweep."""
    keys = [key for key in OF_SWEEP if getattr(first, key) != getattr(second, key)]
    shared = first.fitted_epochs.keys() & second.fitted_epochs
    keys += ["fitted_epochs"] * any(first.fitted_epochs[key] != second.fitted_epochs[key] for key in shared)
    is_confirmed_twice = first.confirmed and second.confirmed and first.confirmed != second.confirmed
    return [*keys, *(["confirmed"] if is_confirmed_twice else [])]
