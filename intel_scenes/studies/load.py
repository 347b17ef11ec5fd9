"""The runs of a study folder, from their records alone."""

from collections import Counter
from collections.abc import Callable, Sequence, Set
from dataclasses import dataclass, replace
from pathlib import Path

import yaml

from intel_scenes import files, record
from intel_scenes.errors import UserError
from intel_scenes.record import Status, StudyPlan, Summary
from intel_scenes.studies.notices import Kind, Notice


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        folder: Of its record.
        overrides: What was typed, by key.
        summary: What `summary.json` holds.
        has_tta: Its validation accuracy is the one with test-time augmentation.
    """

    folder: Path
    overrides: dict[str, str]
    summary: Summary
    has_tta: bool = False

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.name

    @property
    def is_completed(self) -> bool:
        """Whether it has results."""
        return self.summary.status is Status.COMPLETED

    @property
    def val_accuracy(self) -> float:
        """What chooses: the primary metric on validation, a fraction; to six digits, since one key is a float32."""
        key = f"val_{self.summary.metric}{'_tta' if self.has_tta else ''}"
        return round(_known(getattr(self.summary, key)), 6)

    @property
    def test_accuracy(self) -> float:
        """The primary metric on the test images, a fraction."""
        return _known(getattr(self.summary, f"test_{self.summary.metric}"))

    @property
    def views(self) -> object:
        """`recipe.views` of its test-time augmentation; 1, which is none, where the record does not say."""
        return files.flatten(self.summary.recipe_resolved or {}).get("recipe.views", 1)


def _known(accuracy: float | None) -> float:
    assert accuracy is not None, "a completed summary has its accuracies"
    return accuracy


@dataclass(frozen=True)
class Study:
    """The runs of a study folder.

    Attributes:
        folder: Of the study.
        plan: Of the study; an empty one where none was written.
        runs: Completed, of one data set and one primary metric.
        elsewhere: Completed, left out because they are of other images, or of another metric.
        failed: Runs that failed.
        unfinished: Runs that were cut off or are still going on.
        notices: What is odd.
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
        """Compared or not, each once."""
        return (*self.runs, *self.elsewhere, *self.failed, *self.unfinished)


def load(folder: Path) -> Study:
    """Reads the records of a study folder.

    Raises:
        UserError: There is no run that can be read, or the plan is none.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: folder=FOLDER is that of a sweep, such as multirun/models")
    runs, notices = collect(folder)
    plan = record.read_study(folder) or StudyPlan()
    if not runs and any(folder.glob(f"*/{record.STUDY}")):
        raise UserError(f"{folder} holds sweeps: folder={folder}/NAME compares the runs of one")
    if not runs:
        reason = f" that can be read ({_told(notices)})" if notices else ""
        raise UserError(f"{folder} holds no runs{reason}: folder=FOLDER is that of a sweep, such as multirun/models")
    confirming = set(plan.confirming_runs)
    completed, elsewhere, of_data = _of_most(
        [run for run in runs if run.is_completed],
        confirming,
        lambda run: run.summary.data_fingerprint,
        Kind.OTHER_IMAGES,
    )
    completed, others, of_metric = _of_most(completed, confirming, lambda run: run.summary.metric, Kind.OTHER_METRIC)
    ranked, of_tta = _with_tta(completed)
    return Study(
        folder=folder,
        plan=plan,
        runs=tuple(ranked),
        elsewhere=(*elsewhere, *others),
        failed=tuple(run for run in runs if run.summary.status is Status.FAILED),
        unfinished=tuple(run for run in runs if run.summary.status is Status.INTERRUPTED),
        notices=(*notices, *of_data, *of_metric, *of_tta),
    )


def _told(notices: Sequence[Notice]) -> str:
    first, *others = notices
    more = f" and {len(others)} more" if others else ""
    return f"{first.runs[0]} is left out: {first.values.get('reason')}{more}"


def collect(folder: Path) -> tuple[list[Run], list[Notice]]:
    """The runs of a study folder that have a record, by name, and a notice for each that is left out.

    Of two that are the same run, the completed one is taken.
    """
    runs: dict[str, Run] = {}
    notices = []
    places = folder.iterdir() if folder.is_dir() else ()
    for path in sorted(place for place in places if place.is_dir() and not place.name.startswith(".")):
        try:
            run = _run(path)
        except (UserError, OSError, ValueError, yaml.YAMLError) as error:
            notices.append(Notice(Kind.UNREADABLE, (path.name,), {"reason": str(error).splitlines()[0]}))
            continue
        key = run.summary.config_digest or run.name
        if key in runs and run.is_completed:
            notices.append(Notice(Kind.DUPLICATE, (run.name,), {"other": runs[key].name}))
        if key not in runs or (run.is_completed and not runs[key].is_completed):
            runs[key] = run
    return list(runs.values()), notices


def _run(folder: Path) -> Run:
    """Raises UserError where a record is not there, or holds something else than records do."""
    summary = Summary.read(folder)
    if summary is None:
        raise UserError(f"it has no {record.SUMMARY}")
    path = folder / record.OVERRIDES
    typed = (yaml.safe_load(path.read_text()) or []) if path.exists() else []
    if not isinstance(typed, list):
        raise UserError(f"{record.OVERRIDES} is no list")
    pairs = (str(text).lstrip("+").partition("=") for text in typed)
    return Run(folder, {key: value for key, _, value in pairs}, summary)


def _of_most(
    runs: list[Run], confirming: Set[str], value: Callable[[Run], str | None], kind: Kind
) -> tuple[list[Run], list[Run], list[Notice]]:
    """The runs with the value that most have, of those that choose; the others, and a notice that names them."""
    if len({value(run) for run in runs}) < 2:
        return runs, [], []
    choosing = [run for run in runs if run.name not in confirming]
    counts = Counter(value(run) for run in choosing or runs)
    largest = max(counts, key=lambda one: (counts[one], str(one)))
    same = [run for run in runs if value(run) == largest]
    others = [run for run in runs if value(run) != largest]
    names = tuple(run.name for run in others)
    return same, others, [Notice(kind, names, {"num_all": len(runs), "most": largest})]


def _with_tta(runs: list[Run]) -> tuple[list[Run], list[Notice]]:
    """The runs with the validation accuracy that test-time augmentation gives, where that is known of all.

    Records of earlier versions lack it: what they hold is the same with one view, and not to be ranked among the others
    with more.
    """
    without = tuple(run.name for run in runs if run.summary.val_accuracy_tta is None and run.views != 1)
    if not without:
        return [replace(run, has_tta=run.summary.val_accuracy_tta is not None) for run in runs], []
    return runs, [Notice(Kind.WITHOUT_TTA, without)] if len(without) < len(runs) else []
