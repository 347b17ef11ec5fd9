"""Predictions of the runs of a study, aligned on the test images that most of them share."""

import csv
import itertools
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intel_scenes import files, record
from intel_scenes.errors import UserError, percentage
from intel_scenes.probabilities import balanced_accuracy, confusion_of
from intel_scenes.record import Predictions
from intel_scenes.studies.load import Run
from intel_scenes.studies.notices import Kind, Notice

Classes = npt.NDArray[np.int16]
ENDS = (("split", "path"), ("other_split", "other_path"))  # columns of the two images of a row of audit.csv


@dataclass(frozen=True)
class TestImages:
    """The test images.

    Attributes:
        classes: Names of the classes.
        paths: `<class>/<file>` of N images.
        labels: (N,) int16 class indices.
        groups: (N,) cluster index of each image, for near-duplicates; None where all images are independent.
        is_balanced: The primary metric is balanced accuracy, which weighs every class equally.
    """

    __test__ = False  # pytest would collect a class with this name

    classes: tuple[str, ...] = ()
    paths: tuple[str, ...] = ()
    labels: Classes = field(default_factory=lambda: np.empty(0, np.int16))
    groups: npt.NDArray[np.intp] | None = None
    is_balanced: bool = False

    @property
    def strata(self) -> Classes | None:
        """(N,) classes with equal weights for balanced accuracy; None for plain accuracy."""
        return self.labels if self.is_balanced else None


@dataclass(frozen=True)
class Aligned:
    """Predictions of the runs, in the order of the images.

    Attributes:
        images: Test images of most runs.
        predicted: (N,) int16 predicted classes of each run that has predictions of these images, by name.
        digests: SHA-256 of the predictions of each such run, by name.
        contradictory: Names of runs whose recorded validation accuracy contradicts their predictions; they must not
            take part in the choice.
        notices: Notices for the runs that are left out.
    """

    images: TestImages
    predicted: Mapping[str, Classes]
    digests: Mapping[str, str]
    contradictory: frozenset[str]
    notices: tuple[Notice, ...]


@dataclass(frozen=True)
class _TestPredictions:
    """Test predictions of a run in the order of its file, and the primary metric of its validation predictions."""

    images: TestImages
    predicted: Classes
    val_accuracy: float | None


def align(runs: Sequence[Run], audit: Path | None = None) -> Aligned:
    """Read the test predictions of runs, and leave out those of other images or labels than most runs have.

    Args:
        runs: Completed runs.
        audit: `audit.csv` of the same images, whose clusters of near-duplicates count once.

    Raises:
        UserError: The audit cannot be read, or is of other images.
    """
    read: dict[str, _TestPredictions] = {}
    notices = []
    # Hundreds of runs have the same thousands of paths in the same order: keep and sort them once.
    same_paths: dict[tuple[str, ...], tuple[str, ...]] = {}
    orders: dict[tuple[str, ...], npt.NDArray[np.intp]] = {}
    numbers: dict[tuple[str, ...], int] = {}
    keys: dict[str, tuple[int, bytes]] = {}  # images and labels of each run, independent of their order
    for run in runs:
        try:
            predictions = _read_predictions(run)
        except UserError as error:
            reason = str(error).replace(f"{run.folder}/", "")
            notices.append(Notice(Kind.NO_PREDICTIONS, (run.name,), {"reason": reason}))
            continue
        paths = same_paths.setdefault(predictions.images.paths, predictions.images.paths)
        read[run.name] = replace(predictions, images=replace(predictions.images, paths=paths))
        if paths not in orders:
            orders[paths] = np.array(sorted(range(len(paths)), key=paths.__getitem__))
            numbers[paths] = numbers.setdefault(tuple(sorted(paths)), len(numbers))
        keys[run.name] = numbers[paths], predictions.images.labels[orders[paths]].tobytes()
    counts = Counter(keys.values())
    most_common = max(counts, key=lambda key: counts[key], default=None)  # the first of equal counts
    same = {name: predictions for name, predictions in read.items() if keys[name] == most_common}
    images = next((predictions.images for predictions in same.values()), TestImages())
    images = replace(images, is_balanced=any(run.summary.metric == record.BALANCED for run in runs))
    if audit and same:
        images = replace(images, groups=near_groups(audit, images.paths))
    back = np.argsort(orders[images.paths]) if same else np.empty(0, np.intp)
    others = tuple(name for name in read if name not in same)
    for name in others:
        notices.append(
            Notice(Kind.NO_PREDICTIONS, (name,), {"reason": "their test images differ from those of most runs"})
        )
    contradictions = [
        notice for run in runs if run.name in read and (notice := _contradiction(run, read[run.name].val_accuracy))
    ]
    return Aligned(
        images=images,
        predicted={
            name: predictions.predicted[orders[predictions.images.paths]][back] for name, predictions in same.items()
        },
        digests={run.name: files.sha256(run.folder / record.PREDICTIONS) for run in runs if run.name in same},
        contradictory=frozenset(name for notice in contradictions for name in notice.runs),
        notices=(*notices, *contradictions),
    )


def _contradiction(run: Run, predicted: float | None) -> Notice | None:
    """Return a notice where the recorded primary metric on validation contradicts the predictions."""
    plain = f"val_{run.summary.metric}"
    key = plain if run.summary.val_accuracy_tta is None else f"{plain}_tta"
    recorded = getattr(run.summary, key)
    if predicted is None or (key == plain and run.views != 1) or abs(recorded - predicted) < 1e-5:
        return None
    return Notice(Kind.CONTRADICTORY, (run.name,), {"key": key, "recorded": recorded, "predicted": predicted})


def near_groups(audit: Path, paths: Sequence[str]) -> npt.NDArray[np.intp]:
    """Return the clusters of near-duplicate test images: those linked by any chain of pairs of an audit.

    Args:
        audit: `audit.csv` of the audit.
        paths: `<class>/<file>` of N test images.

    Returns:
        (N,) cluster index of each image.

    Raises:
        UserError: The file cannot be read, is no audit, or is of other images.
    """
    indices = {path: index for index, path in enumerate(paths)}
    group = np.arange(len(paths))
    try:
        with audit.open(newline="") as file:
            table = csv.DictReader(file)
            if not {"kind", *ENDS[0], *ENDS[1]} <= set(table.fieldnames or ()):
                raise KeyError("kind")
            rows = [
                {key: files.without_apostrophe(row[key] or "") for key in itertools.chain(*ENDS)}
                for row in table
                if row["kind"] in ("identical", "near")
            ]
    except (OSError, KeyError, UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"compare.audit={audit} cannot be read: set it to the audit.csv of an audit") from error
    named = {(row[split], row[path]): None for row in rows for split, path in ENDS}  # in the order of the file
    if unknown := [path for split, path in named if split == "test" and path not in indices]:
        raise UserError(
            f"compare.audit={audit} names {unknown[0]}, which is not a test image of this study: "
            "set it to the audit of the same images"
        )
    for row in rows:
        if row["split"] == row["other_split"] == "test":
            group[group == group[indices[row["path"]]]] = group[indices[row["other_path"]]]
    return group


def _read_predictions(run: Run) -> _TestPredictions:
    """Read the test predictions of a run.

    Raises:
        UserError: It has none, or they contradict its record.
    """
    run.summary.check_predictions(run.folder)
    splits = Predictions.read_classes(run.folder)
    read, val = splits["test"], splits.get("val")
    labels, predicted = read.labels.astype(np.int16), read.predicted.astype(np.int16)
    highest = int(max(read.labels.max(), read.predicted.max()))
    classes = run.summary.classes or tuple(str(index) for index in range(highest + 1))
    accuracy, num_test = float(np.mean(predicted == labels)), run.summary.num_test
    recorded = run.summary.test_accuracy
    assert recorded is not None, "a completed summary has its test accuracy"
    if num_test not in (None, len(read.paths)) or abs(accuracy - recorded) > 1e-6:
        raise UserError(
            f"{record.PREDICTIONS} has {len(read.paths)} test images and {percentage(accuracy, 2)} accuracy, but "
            f"{record.SUMMARY} says {num_test} and {percentage(recorded, 2)}"
        )
    if val:
        highest = max(highest, int(max(val.labels.max(), val.predicted.max())))
    if len(read.paths) < 2 or highest >= len(classes):
        raise UserError(
            f"{record.PREDICTIONS} has fewer than two test images, or a class that {record.SUMMARY} does not list"
        )
    if len(set(read.paths)) < len(read.paths):
        raise UserError(f"{record.PREDICTIONS} lists an image twice")
    val_accuracy = None
    if val and run.summary.metric == record.BALANCED:
        val_accuracy = balanced_accuracy(confusion_of(val.predicted, val.labels))
    elif val:
        val_accuracy = float(np.mean(val.predicted == val.labels))
    return _TestPredictions(TestImages(classes, tuple(read.paths), labels), predicted, val_accuracy)
