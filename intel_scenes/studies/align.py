"""What the runs of a study predict, on the test images that most of them share."""

import csv
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intel_scenes import files, record
from intel_scenes.errors import UserError
from intel_scenes.probabilities import balanced_accuracy, confusion_of
from intel_scenes.record import Predictions
from intel_scenes.studies.load import Run
from intel_scenes.studies.notices import Kind, Notice

Classes = npt.NDArray[np.int16]


@dataclass(frozen=True)
class TestImages:
    """The test images.

    Attributes:
        classes: Names of their classes.
        paths: `<class>/<file>` of N images.
        labels: (N,) int16.
        groups: (N,) number of the group of nearly equal images that each one is in; None where each stands alone.
        is_balanced: The classes count alike, however many images each has.
    """

    __test__ = False  # a name like this is no test

    classes: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    labels: Classes = field(default_factory=lambda: np.empty(0, np.int16))
    groups: npt.NDArray[np.intp] | None = None
    is_balanced: bool = False

    @property
    def strata(self) -> Classes | None:
        """(N,) classes that count alike; None where the images do."""
        return self.labels if self.is_balanced else None


@dataclass(frozen=True)
class Aligned:
    """What the runs predict, in the order of the images.

    Attributes:
        images: The test images, those of most runs.
        predicted: (N,) int16 for each run that has predictions of them, by its name.
        digests: SHA-256 of the predictions of each, by its name.
        contradictory: Names of runs whose validation accuracy is not that of their predictions, so that it must not
            choose.
        notices: A notice for each run that has none.
    """

    images: TestImages
    predicted: Mapping[str, Classes]
    digests: Mapping[str, str]
    contradictory: frozenset[str]
    notices: tuple[Notice, ...]


@dataclass(frozen=True)
class _Read:
    """The test predictions of a run, as they stand in its file, and the primary metric of those on validation."""

    images: TestImages
    predicted: Classes
    val_accuracy: float | None


def align(runs: Sequence[Run], audit: Path | None = None) -> Aligned:
    """Reads the test predictions of runs; those of other images than most, or with other labels, are left out.

    Args:
        runs: Completed.
        audit: `audit.csv` of the same images, whose groups of nearly equal ones count once.

    Raises:
        UserError: The audit cannot be read, or is of other images.
    """
    read: dict[str, _Read] = {}
    notices = []
    # Hundreds of runs have the same thousands of paths in the same order, which are kept and sorted once.
    same_paths: dict[tuple[str, ...], tuple[str, ...]] = {}
    orders: dict[tuple[str, ...], npt.NDArray[np.intp]] = {}
    numbers: dict[tuple[str, ...], int] = {}
    keys: dict[str, tuple[int, bytes]] = {}  # the images of each run and their labels, in whatever order they stand
    for run in runs:
        try:
            one = _read(run)
        except UserError as error:
            reason = str(error).replace(f"{run.folder}/", "")
            notices.append(Notice(Kind.NO_PREDICTIONS, (run.name,), {"reason": reason}))
            continue
        paths = same_paths.setdefault(one.images.paths, one.images.paths)
        read[run.name] = replace(one, images=replace(one.images, paths=paths))
        if paths not in orders:
            orders[paths] = np.array(sorted(range(len(paths)), key=paths.__getitem__))
            numbers[paths] = numbers.setdefault(tuple(sorted(paths)), len(numbers))
        keys[run.name] = numbers[paths], one.images.labels[orders[paths]].tobytes()
    counts = Counter(keys.values())
    usual = max(counts, key=lambda key: counts[key], default=None)  # of equal counts the first
    same = {name: one for name, one in read.items() if keys[name] == usual}
    images = next((one.images for one in same.values()), TestImages())
    images = replace(images, is_balanced=any(run.summary.metric == record.BALANCED for run in runs))
    if audit and same:
        images = replace(images, groups=near_groups(audit, images.paths))
    back = np.argsort(orders[images.paths]) if same else np.empty(0, np.intp)
    others = tuple(name for name in read if name not in same)
    for name in others:
        notices.append(Notice(Kind.NO_PREDICTIONS, (name,), {"reason": "they are of other test images than most"}))
    contradictions = [
        notice for run in runs if run.name in read and (notice := _contradiction(run, read[run.name].val_accuracy))
    ]
    return Aligned(
        images=images,
        predicted={name: one.predicted[orders[one.images.paths]][back] for name, one in same.items()},
        digests={run.name: files.sha256(run.folder / record.PREDICTIONS) for run in runs if run.name in same},
        contradictory=frozenset(name for notice in contradictions for name in notice.runs),
        notices=(*notices, *contradictions),
    )


def _contradiction(run: Run, predicted: float | None) -> Notice | None:
    """A notice where the primary metric on validation of a record is not that of its predictions."""
    plain = f"val_{run.summary.metric}"
    key = plain if run.summary.val_accuracy_tta is None else f"{plain}_tta"
    recorded = getattr(run.summary, key)
    if predicted is None or (key == plain and run.views != 1) or abs(recorded - predicted) < 1e-5:
        return None
    return Notice(Kind.CONTRADICTORY, (run.name,), {"key": key, "recorded": recorded, "predicted": predicted})


def near_groups(audit: Path, paths: Sequence[str]) -> npt.NDArray[np.intp]:
    """Which test images are nearly equal: by the pairs of an audit, those that are linked by any chain of them.

    Args:
        audit: Its `audit.csv`.
        paths: `<class>/<file>` of N test images.

    Returns:
        (N,) number of the group of each image.

    Raises:
        UserError: The file cannot be read, or is no such table.
    """
    places = {path: place for place, path in enumerate(paths)}
    group = np.arange(len(paths))
    try:
        with audit.open(newline="") as file:
            table = csv.DictReader(file)
            if not {"kind", "split", "path", "other_split", "other_path"} <= set(table.fieldnames or ()):
                raise KeyError("kind")
            rows = [row for row in table if row["kind"] in ("identical", "near")]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"compare.audit={audit} is no audit.csv that can be read: give the one of an audit") from error
    if strange := [path for row in rows for split, path in _of_pair(row) if split == "test" and path not in places]:
        raise UserError(
            f"compare.audit={audit} names {strange[0]}, which is no test image here: give the audit of these images"
        )
    for row in rows:
        if row["split"] == row["other_split"] == "test":
            group[group == group[places[row["path"]]]] = group[places[row["other_path"]]]
    return group


def _of_pair(row: Mapping[str, str]) -> list[tuple[str, str]]:
    return [(row["split"], row["path"]), (row["other_split"], row["other_path"])]


def _read(run: Run) -> _Read:
    """The test predictions of a run.

    Raises:
        UserError: It has none, or they do not go with its record.
    """
    splits = Predictions.read_classes(run.folder)
    read, val = splits["test"], splits.get("val")
    labels, predicted = read.labels.astype(np.int16), read.predicted.astype(np.int16)
    highest = int(max(read.labels.max(), read.predicted.max()))
    known = run.summary.classes or tuple(str(place) for place in range(highest + 1))
    accuracy, num_test = float(np.mean(predicted == labels)), run.summary.num_test
    known_accuracy = run.summary.test_accuracy
    assert known_accuracy is not None, "a completed summary has it"
    if num_test not in (None, len(read.paths)) or abs(accuracy - known_accuracy) > 1e-6:
        raise UserError(
            f"{len(read.paths)} test images, {accuracy:.2%} of them right, but {record.SUMMARY} says "
            f"{num_test} and {known_accuracy:.2%}"
        )
    if len(read.paths) < 2 or highest >= len(known):
        raise UserError("fewer than two test images, or a class that is not among its classes")
    if len(set(read.paths)) < len(read.paths):
        raise UserError("an image stands there twice")
    val_accuracy = None
    if val and run.summary.metric == record.BALANCED:
        val_accuracy = balanced_accuracy(confusion_of(val.predicted, val.labels))
    elif val:
        val_accuracy = float(np.mean(val.predicted == val.labels))
    return _Read(TestImages(known, tuple(read.paths), labels), predicted, val_accuracy)
