"""The runs of a study folder, from their records alone."""

import csv
import hashlib
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from intel_scenes import files, record
from intel_scenes.errors import UserError

# What a comparison reads of a record, by type; a key may be null but for the accuracies that it cannot do without.
NEEDED = ("val_accuracy", "test_accuracy")
TYPES: dict[type | tuple[type, ...], tuple[str, ...]] = {
    str: (
        *("status", "error", "ended", "data_fingerprint", "device", "git_commit", "test_folder", "model_name"),
        *("split_digest", "order_digest", "init_digest", "config_digest", "configuration_digest", *record.GROUP_KEYS),
    ),
    (int, float): (
        *(*NEEDED, "train_accuracy", "fit_seconds", "epochs", "images_per_second", "parameters", "num_test"),
        *("image_size", "seed", "lr", "val_accuracy_tta"),
    ),
    list: ("classes", "test_duplicates"),
    dict: ("versions", "recipe_resolved"),
}
_TEST_ROW = re.compile(rb"^test,([^,\n]*),(\d{1,4}),(\d{1,4}),", re.MULTILINE)


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
    summary: dict[str, Any]
    has_tta: bool = False

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.name

    @property
    def is_completed(self) -> bool:
        """Whether it has results."""
        return bool(self.summary["status"] == "completed")

    @property
    def val_accuracy(self) -> float:
        """The validation accuracy that chooses, a fraction; to six digits, since one of the two keys is a float32."""
        accuracy: float = self.summary["val_accuracy_tta" if self.has_tta else "val_accuracy"]
        return round(accuracy, 6)

    @property
    def views(self) -> object:
        """`recipe.views` of its test-time augmentation; 1, which is none, where the record does not say."""
        return files.flatten(self.summary["recipe_resolved"] or {}).get("recipe.views", 1)


@dataclass(frozen=True)
class Predictions:
    """What a run says of the test images.

    Attributes:
        paths: `<class>/<file>` of N images.
        labels: (N,) int16, their classes.
        predicted: (N,) int16.
        digest: Of the whole file, probabilities included.
    """

    paths: list[str]
    labels: npt.NDArray[np.int16]
    predicted: npt.NDArray[np.int16]
    digest: str


def collect(folder: Path) -> tuple[list[Run], list[str]]:
    """The runs of a study folder that have a record, by name, and a sentence for each that is left out.

    Of two that are the same run, the completed one is taken.
    """
    runs: dict[str, Run] = {}
    problems = []
    places = folder.iterdir() if folder.is_dir() else ()
    for path in sorted(place for place in places if place.is_dir() and not place.name.startswith(".")):
        try:
            run = _run(path)
        except (UserError, OSError, ValueError, yaml.YAMLError) as error:
            problems.append(f"{path.name} is left out: {str(error).splitlines()[0]}")
            continue
        key = run.summary["config_digest"] or run.name
        if key in runs and run.is_completed:
            problems.append(f"{run.name} is the same run as {runs[key].name} and counted once")
        if key not in runs or (run.is_completed and not runs[key].is_completed):
            runs[key] = run
    return list(runs.values()), problems


def _run(folder: Path) -> Run:
    """Raises UserError where a record lacks what every record has, or holds something else there."""
    summary = record.read_summary(folder)
    if summary is None:
        raise UserError(f"it has no {record.SUMMARY}")
    if summary["status"] not in ("completed", "failed", "interrupted"):
        raise UserError(f"{record.SUMMARY} has no status that is known")
    summary = {key: None if _is_nan(value) else value for key, value in summary.items()}
    for kinds, keys in TYPES.items():
        for key in keys:
            value = summary[key]
            if value is not None and (isinstance(value, bool) or not isinstance(value, kinds)):
                raise UserError(f"{record.SUMMARY} says {key}: {str(value)[:40]}")
    accuracies = [*NEEDED, *(["val_accuracy_tta"] if summary["val_accuracy_tta"] is not None else [])]
    for key in accuracies if summary["status"] == "completed" else ():
        if summary[key] is None or not 0 <= summary[key] <= 1:
            raise UserError(f"{record.SUMMARY} says completed, but {key} is {summary[key]}")
    path = folder / record.OVERRIDES
    typed = (yaml.safe_load(path.read_text()) or []) if path.exists() else []
    if not isinstance(typed, list):
        raise UserError(f"{record.OVERRIDES} is no list")
    pairs = (str(text).lstrip("+").partition("=") for text in typed)
    return Run(folder, {key: value for key, _, value in pairs}, summary)


def _is_nan(value: object) -> bool:
    return isinstance(value, float) and not math.isfinite(value)


def read_study(folder: Path) -> dict[str, Any]:
    """What `study.yaml` of a study folder holds; nothing where there is none.

    Raises:
        UserError: It holds something else.
    """
    try:
        found = yaml.safe_load((folder / record.STUDY).read_text())
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / record.STUDY} cannot be read: mend it, or move it away") from error
    lists = ("compared", "tuned", "planned", "added", "fixed", "swept")
    is_plan = isinstance(found, dict) and all(isinstance(found.get(key) or [], list) for key in lists)
    if not is_plan or not all(isinstance(one, dict) for one in found.get("added") or []):
        raise UserError(f"{folder / record.STUDY} is no plan of a study: mend it, or move it away")
    plan: dict[str, Any] = found
    return plan


def planned(study: Mapping[str, Any]) -> list[str]:
    """Names of all runs of a plan, each once, those that were added later too."""
    added = [name for one in study.get("added") or [] for name in one.get("runs") or []]
    return list(dict.fromkeys(map(str, [*(study.get("planned") or []), *added])))


def said(what: str | Sequence[str] | None) -> str:
    """A study's question or list of factors as a sentence has it."""
    return (what if isinstance(what, str) else ", ".join(what or [])) or "not said"


def varying(runs: Sequence[Run]) -> list[str]:
    """The keys of overrides whose values differ between runs, sorted, without those that have no effect.

    Where no run says what was typed, the groups whose files differ.
    """
    keys = sorted({key for run in runs for key in run.overrides if not record.is_neutral(key)})
    keys = keys or [key for key in record.GROUP_KEYS if not record.is_neutral(key)]
    return [key for key in keys if len(_levels(runs, key)) > 1]


def _levels(runs: Sequence[Run], key: str) -> set[str]:
    """The values of a factor; of runs with one digest that of one who typed it, since all come to the same."""
    by_digest: dict[str, str] = {}
    for run in sorted(runs, key=lambda run: key not in run.overrides):
        by_digest.setdefault(run.summary["configuration_digest"] or run.name, value_of(run, key))
    return set(by_digest.values())


def value_of(run: Run, key: str) -> str:
    """What a factor was set to, as labels have it; for a group that nobody typed, the file that was taken."""
    default = run.summary.get(key) if key in record.GROUP_KEYS else None
    return as_written(run.overrides.get(key, str(default) if default is not None else "default"))


def as_written(value: str) -> str:
    """A value as labels have it: numbers in one way of writing, so that `1.0` is `1`."""
    try:
        return f"{float(value):.15g}"
    except ValueError:
        return value


def predictions(folder: Path) -> Predictions:
    """The test part of `predictions.csv`.

    Raises:
        UserError: There is none, or it cannot be read.
    """
    try:
        raw = (folder / record.PREDICTIONS).read_bytes()
    except OSError as error:
        raise UserError(f"{record.PREDICTIONS} cannot be read") from error
    rows: list[tuple[bytes, bytes, bytes]] = _TEST_ROW.findall(raw)
    if b'"' in raw:  # a path with a comma
        table = csv.reader(io.StringIO(raw.decode(errors="replace")))
        rows = [tuple(text.encode() for text in row[1:4]) for row in table if row[:1] == ["test"]]  # type: ignore[misc]
    elif len(rows) != raw.count(b"\ntest,"):
        raise UserError(f"{record.PREDICTIONS} has rows that are broken")
    if not rows:
        raise UserError(f"{record.PREDICTIONS} has no test images")
    try:
        paths, labels, predicted = zip(*rows, strict=True)
        known, found = np.array(labels).astype(np.int16), np.array(predicted).astype(np.int16)
    except (ValueError, OverflowError) as error:
        raise UserError(f"{record.PREDICTIONS} has rows that are broken") from error
    names = [path.decode(errors="replace") for path in paths]
    return Predictions(names, known, found, hashlib.sha256(raw).hexdigest())


@dataclass
class TestImages:
    """What all runs of a comparison predict; filled in by the first that is read.

    Attributes:
        classes: Their names.
        paths: `<class>/<file>` of N images.
        labels: (N,) int16.
    """

    __test__ = False  # a name like this is no test

    classes: list[str] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)
    labels: npt.NDArray[np.int16] = field(default_factory=lambda: np.empty(0, np.int16))

    def aligned(self, run: Run) -> tuple[npt.NDArray[np.int16], str]:
        """Predicted classes in the order of the images, and a digest of the file.

        Raises:
            UserError: The run has no predictions, or they do not go with its record or with the other runs.
        """
        read = predictions(run.folder)
        highest = int(max(read.labels.max(), read.predicted.max()))
        known = run.summary["classes"] or [str(place) for place in range(highest + 1)]
        accuracy, said = float(np.mean(read.predicted == read.labels)), run.summary["test_accuracy"]
        if run.summary["num_test"] not in (None, len(read.paths)) or abs(accuracy - said) > 1e-6:
            raise UserError(
                f"{len(read.paths)} test images, {accuracy:.2%} of them right, but {record.SUMMARY} says "
                f"{run.summary['num_test']} and {said:.2%}"
            )
        if len(read.paths) < 2 or highest >= len(known):
            raise UserError("fewer than two test images, or a class that is not among its classes")
        if not self.paths:
            self.paths, self.labels, self.classes = read.paths, read.labels, list(map(str, known))
        order: slice | list[int] = slice(None)
        if read.paths != self.paths:
            place = {path: index for index, path in enumerate(read.paths)}
            if place.keys() != set(self.paths) or len(place) != len(read.paths):
                raise UserError("they are of other images than those of the first run")
            order = [place[path] for path in self.paths]
        if not np.array_equal(read.labels[order], self.labels):
            raise UserError("their labels are not those of the first run")
        return read.predicted[order], read.digest


def history(folder: Path) -> dict[str, list[float]]:
    """The columns of `history.csv`; empty where it cannot be read."""
    try:
        with (folder / record.HISTORY).open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {} if not rows else {name: [float(row[name]) for row in rows] for name in record.HISTORY_COLUMNS}
    except (OSError, KeyError, TypeError, ValueError):
        return {}
