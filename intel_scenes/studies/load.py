"""The runs of a study folder, from their records alone."""

from collections import Counter
from collections.abc import Callable, Set
from dataclasses import dataclass, replace
from pathlib import Path

from intel_scenes import files, record
from intel_scenes.errors import UserError
from intel_scenes.record import Status, StudyPlan, Summary
from intel_scenes.studies.notices import Kind, Notice


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        folder: Folder of the record.
        overrides: Overrides that were typed, by key.
        summary: Contents of `summary.json`.
        has_tta: `val_accuracy` is the one with test-time augmentation (TTA).
    """

    folder: Path
    overrides: dict[str, str]
    summary: Summary
    has_tta: bool = False

    @property
    def name(self) -> str:
        """Name of the folder."""
        return self.folder.name

    @property
    def is_completed(self) -> bool:
        """Whether it has results."""
        return self.summary.status is Status.COMPLETED

    @property
    def val_accuracy(self) -> float:
        """Primary metric on validation, which ranks runs: a fraction to six digits, since one key is a float32."""
        key = f"val_{self.summary.metric}{'_tta' if self.has_tta else ''}"
        return round(_known(getattr(self.summary, key)), 6)

    @property
    def test_accuracy(self) -> float:
        """Primary metric on the test set, a fraction."""
        return _known(getattr(self.summary, f"test_{self.summary.metric}"))

    @property
    def views(self) -> object:
        """`recipe.views` of the test-time augmentation; 1 (none) where it is not recorded."""
        return files.flatten(self.summary.recipe_resolved or {}).get("recipe.views", 1)


def _known(accuracy: float | None) -> float:
    assert accuracy is not None, "a completed summary has its accuracies"
    return accuracy


@dataclass(frozen=True)
class StudyRecords:
    """The runs of a study folder.

    Attributes:
        folder: Study folder.
        plan: Plan of the study; an empty one where none was written.
        runs: Completed runs of one data set and one primary metric.
        elsewhere: Completed runs that are left out because they have other images or another primary metric.
        failed: Failed runs.
        unfinished: Runs that were interrupted or are still running.
        notices: Notices for the reader.
    """

    folder: Path
    plan: StudyPlan
    runs: tuple[Run, ...]
    elsewhere: tuple[Run, ...]
    failed: tuple[Run, ...]
    unfinished: tuple[Run, ...]
    notices: tuple[Notice, ...]

    @property
    def all_runs(self) -> tuple[Run, ...]:
        """All runs, compared or not."""
        return (*self.runs, *self.elsewhere, *self.failed, *self.unfinished)


def load(folder: Path) -> StudyRecords:
    """Read the records of a study folder.

    Raises:
        UserError: No run can be read, or the plan is invalid.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: set folder to that of a sweep, such as multirun/models")
    runs, notices = collect(folder)
    plan = record.read_study(folder) or StudyPlan()
    if not runs and any(folder.glob(f"*/{record.STUDY}")):
        raise UserError(f"{folder} holds several sweeps: set folder={folder}/NAME to compare the runs of one")
    if not runs and (folder / record.SUMMARY).exists():
        raise UserError(f"{folder} is a single run: set folder to one that holds several runs, such as {folder.parent}")
    if not runs:
        reason = ""
        if notices:
            more = f"; and {len(notices) - 1} more" if len(notices) > 1 else ""
            first = notices[0]
            reason = f" that can be read ({first.runs[0]} is left out: {first.values.get('reason')}{more})"
        raise UserError(f"{folder} holds no runs{reason}: set folder to that of a sweep, such as multirun/models")
    confirming = set(plan.confirming_runs)
    completed, elsewhere, of_data = _most_common(
        [run for run in runs if run.is_completed],
        confirming,
        lambda run: run.summary.data_fingerprint,
        Kind.OTHER_IMAGES,
    )
    completed, others, of_metric = _most_common(
        completed, confirming, lambda run: run.summary.metric, Kind.OTHER_METRIC
    )
    ranked, of_tta = _with_tta(completed)
    return StudyRecords(
        folder=folder,
        plan=plan,
        runs=tuple(ranked),
        elsewhere=(*elsewhere, *others),
        failed=tuple(run for run in runs if run.summary.status is Status.FAILED),
        unfinished=tuple(run for run in runs if run.summary.status is Status.INTERRUPTED),
        notices=(*notices, *of_data, *of_metric, *of_tta),
    )


def collect(folder: Path) -> tuple[list[Run], list[Notice]]:
    """Return the runs of a study folder that have a record, by name, and a notice for each that is left out.

    Of two records of the same run, the completed one is kept.
    """
    runs: dict[str, Run] = {}
    notices = []
    paths = folder.iterdir() if folder.is_dir() else ()
    for path in sorted(path for path in paths if path.is_dir() and not path.name.startswith(".")):
        try:
            run = _read_run(path)
        except (UserError, OSError, ValueError) as error:
            notices.append(Notice(Kind.UNREADABLE, (path.name,), {"reason": str(error).splitlines()[0]}))
            continue
        key = run.summary.config_digest or run.name
        if key in runs and run.is_completed:
            notices.append(Notice(Kind.DUPLICATE, (run.name,), {"other": runs[key].name}))
        if key not in runs or (run.is_completed and not runs[key].is_completed):
            runs[key] = run
    return list(runs.values()), notices


def _read_run(folder: Path) -> Run:
    """Read the record of a run.

    Raises:
        UserError: There is no record, or it is invalid.
    """
    summary = Summary.read(folder)
    if summary is None:
        raise UserError(f"it has no {record.SUMMARY}")
    path = folder / record.OVERRIDES
    try:
        typed = (record.read_yaml(path) or []) if path.exists() else []
    except ValueError as error:
        raise UserError(f"{record.OVERRIDES} cannot be read ({error})") from error
    if not isinstance(typed, list):
        raise UserError(f"{record.OVERRIDES} is not a list")
    pairs = (str(text).lstrip("+").partition("=") for text in typed)
    return Run(folder, {key: value for key, _, value in pairs}, summary)


def _most_common(
    runs: list[Run], confirming: Set[str], value: Callable[[Run], str | None], kind: Kind
) -> tuple[list[Run], list[Run], list[Notice]]:
    """Return the runs with the most common value (among runs that are no confirmation), the others, and a notice."""
    if len({value(run) for run in runs}) < 2:
        return runs, [], []
    choosing = [run for run in runs if run.name not in confirming]
    counts = Counter(value(run) for run in choosing or runs)
    most_common = max(counts, key=lambda key: (counts[key], str(key)))
    same = [run for run in runs if value(run) == most_common]
    others = [run for run in runs if value(run) != most_common]
    names = tuple(run.name for run in others)
    return same, others, [Notice(kind, names, {"num_all": len(runs), "most": most_common})]


def _with_tta(runs: list[Run]) -> tuple[list[Run], list[Notice]]:
    """Mark runs as ranked by the validation accuracy with TTA, where all records have it.

    Records of earlier versions lack it. Without TTA theirs is the same accuracy; with TTA it is not comparable to that
    of other runs.
    """
    without = tuple(run.name for run in runs if run.summary.val_accuracy_tta is None and run.views != 1)
    if not without:
        return [replace(run, has_tta=run.summary.val_accuracy_tta is not None) for run in runs], []
    return runs, [Notice(Kind.WITHOUT_TTA, without)] if len(without) < len(runs) else []
