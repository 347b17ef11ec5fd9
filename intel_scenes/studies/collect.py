"""The runs of a study folder, from their records alone."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
import yaml

from intel_scenes import files, record
from intel_scenes.digests import is_neutral
from intel_scenes.errors import UserError
from intel_scenes.record import Predictions, Status, Summary


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
        """The validation accuracy that chooses, a fraction; to six digits, since one of the two keys is a float32."""
        return round(_known(self.summary.val_accuracy_tta if self.has_tta else self.summary.val_accuracy), 6)

    @property
    def test_accuracy(self) -> float:
        """The test accuracy, a fraction."""
        return _known(self.summary.test_accuracy)

    @property
    def views(self) -> object:
        """`recipe.views` of its test-time augmentation; 1, which is none, where the record does not say."""
        return files.flatten(self.summary.recipe_resolved or {}).get("recipe.views", 1)


def _known(accuracy: float | None) -> float:
    assert accuracy is not None, "a completed summary has its accuracies"
    return accuracy


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
        key = run.summary.config_digest or run.name
        if key in runs and run.is_completed:
            problems.append(f"{run.name} is the same run as {runs[key].name} and counted once")
        if key not in runs or (run.is_completed and not runs[key].is_completed):
            runs[key] = run
    return list(runs.values()), problems


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


def said(what: str | Sequence[str] | None) -> str:
    """A study's question or list of factors as a sentence has it."""
    return (what if isinstance(what, str) else ", ".join(what or [])) or "not said"


def varying(runs: Sequence[Run]) -> list[str]:
    """The keys of overrides whose values differ between runs, sorted, without those that have no effect.

    Where no run says what was typed, the groups whose files differ.
    """
    keys = sorted({key for run in runs for key in run.overrides if not is_neutral(key)})
    keys = keys or [key for key in record.GROUP_KEYS if not is_neutral(key)]
    return [key for key in keys if len(_levels(runs, key)) > 1]


def _levels(runs: Sequence[Run], key: str) -> set[str]:
    """The values of a factor; of runs with one digest that of one who typed it, since all come to the same."""
    by_digest: dict[str, str] = {}
    for run in sorted(runs, key=lambda run: key not in run.overrides):
        by_digest.setdefault(run.summary.configuration_digest or run.name, value_of(run, key))
    return set(by_digest.values())


def value_of(run: Run, key: str) -> str:
    """What a factor was set to, as labels have it; for a group that nobody typed, the file that was taken."""
    default = getattr(run.summary, key) if key in record.GROUP_KEYS else None
    return as_written(run.overrides.get(key, str(default) if default is not None else "default"))


def as_written(value: str) -> str:
    """A value as labels have it: numbers in one way of writing, so that `1.0` is `1`."""
    try:
        return f"{float(value):.15g}"
    except ValueError:
        return value


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
        read = Predictions.read(run.folder, "test", with_probabilities=False)
        labels, predicted = read.labels.astype(np.int16), read.predicted.astype(np.int16)
        highest = int(max(read.labels.max(), read.predicted.max()))
        known = run.summary.classes or [str(place) for place in range(highest + 1)]
        accuracy, num_test = float(np.mean(predicted == labels)), run.summary.num_test
        if num_test not in (None, len(read.paths)) or abs(accuracy - run.test_accuracy) > 1e-6:
            raise UserError(
                f"{len(read.paths)} test images, {accuracy:.2%} of them right, but {record.SUMMARY} says "
                f"{num_test} and {run.test_accuracy:.2%}"
            )
        if len(read.paths) < 2 or highest >= len(known):
            raise UserError("fewer than two test images, or a class that is not among its classes")
        if not self.paths:
            self.paths, self.labels, self.classes = read.paths, labels, list(known)
        order: slice | list[int] = slice(None)
        if read.paths != self.paths:
            place = {path: index for index, path in enumerate(read.paths)}
            if place.keys() != set(self.paths) or len(place) != len(read.paths):
                raise UserError("they are of other images than those of the first run")
            order = [place[path] for path in self.paths]
        if not np.array_equal(labels[order], self.labels):
            raise UserError("their labels are not those of the first run")
        return predicted[order], files.sha256(run.folder / record.PREDICTIONS)
