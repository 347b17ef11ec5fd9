"""The runs of a study folder, from their records alone."""

import csv
import hashlib
import io
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import yaml

from intel_scenes import record
from intel_scenes.errors import UserError

STUDY = "study.yaml"
NUMBERS = ("val_accuracy", "test_accuracy", "train_accuracy", "fit_seconds", "epochs")  # of every completed record
_TEST_ROW = re.compile(rb"^test,([^,\n]*),(\d+),(\d+),", re.MULTILINE)


@dataclass(frozen=True)
class Run:
    """One run of a study.

    Attributes:
        folder: Of its record.
        overrides: What was typed, by key.
        summary: What `summary.json` holds.
    """

    folder: Path
    overrides: dict[str, str]
    summary: dict[str, Any]

    @property
    def name(self) -> str:
        """Of its folder."""
        return self.folder.name

    @property
    def is_completed(self) -> bool:
        """Whether it has results."""
        return bool(self.summary["status"] == "completed")


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
    for path in sorted(folder.glob(f"*/{record.SUMMARY}")):
        try:
            run = _run(path.parent)
        except (UserError, OSError, yaml.YAMLError) as error:
            problems.append(f"{path.parent.name} is left out: {str(error).splitlines()[0]}")
            continue
        key = run.summary["config_digest"] or run.name
        if key in runs and run.is_completed:
            problems.append(f"{run.name} is the same run as {runs[key].name} and counted once")
        if key not in runs or (run.is_completed and not runs[key].is_completed):
            runs[key] = run
    return list(runs.values()), problems


def _run(folder: Path) -> Run:
    """Raises UserError where a record lacks what every record has."""
    summary = record.read_summary(folder) or {}
    if summary.get("status") not in ("completed", "failed", "interrupted"):
        raise UserError(f"{record.SUMMARY} has no status that is known")
    if summary["status"] == "completed":
        for key in NUMBERS:
            if isinstance(summary[key], bool) or not isinstance(summary[key], int | float):
                raise UserError(f"{record.SUMMARY} says completed, but {key} is {summary[key]!r}")
    path = folder / record.OVERRIDES
    typed = (yaml.safe_load(path.read_text()) or []) if path.exists() else []
    if not isinstance(typed, list):
        raise UserError(f"{record.OVERRIDES} is no list")
    pairs = (str(text).lstrip("+").partition("=") for text in typed)
    return Run(folder, {key: value for key, _, value in pairs}, summary)


def read_study(folder: Path) -> dict[str, Any]:
    """What `study.yaml` of a study folder holds; nothing where there is none.

    Raises:
        UserError: It holds something else.
    """
    try:
        found = yaml.safe_load((folder / STUDY).read_text())
    except FileNotFoundError:
        return {}
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / STUDY} cannot be read: mend it, or move it away") from error
    if not isinstance(found, dict):
        raise UserError(f"{folder / STUDY} is no plan of a study: mend it, or move it away")
    return found


def varying(runs: Sequence[Run]) -> list[str]:
    """The keys of overrides whose values differ between runs, sorted, without those that have no effect."""
    keys = sorted({key for run in runs for key in run.overrides if not record.is_neutral(key)})
    return [key for key in keys if len({value_of(run, key) for run in runs}) > 1]


def value_of(run: Run, key: str) -> str:
    """What a factor was set to; for a group that nobody typed, the file that was taken."""
    default = run.summary.get(key) if key in record.GROUP_KEYS else None
    return run.overrides.get(key, str(default) if default is not None else "default")


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
        rows = [(row[1].encode(), row[2].encode(), row[3].encode()) for row in table if row[:1] == ["test"]]
    if not rows:
        raise UserError(f"{record.PREDICTIONS} has no test images")
    paths, labels, predicted = zip(*rows, strict=True)
    return Predictions(
        [path.decode(errors="replace") for path in paths],
        np.array(labels).astype(np.int16),
        np.array(predicted).astype(np.int16),
        hashlib.sha256(raw).hexdigest(),
    )


def history(folder: Path) -> dict[str, list[float]]:
    """The columns of `history.csv`; empty where it cannot be read."""
    try:
        with (folder / record.HISTORY).open(newline="") as file:
            rows = list(csv.DictReader(file))
        return {name: [float(row[name]) for row in rows] for name in record.HISTORY_COLUMNS}
    except (OSError, KeyError, TypeError, ValueError):
        return {}
