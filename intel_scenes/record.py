"""The files of a run: their names, and a class for what each of them holds, with its reader and its writer."""

import csv
import io
import itertools
import json
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, Self, get_args, get_origin

import numpy as np
import yaml

from intel_scenes import files
from intel_scenes.errors import UserError
from intel_scenes.probabilities import Labels, Probabilities

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
SUMMARY = "summary.json"
HISTORY = "history.csv"
PREDICTIONS = "predictions.csv"
CURVES = "curves.png"
BEST = "checkpoints/best.ckpt"
LAST = "checkpoints/last.ckpt"
LOCK = ".lock"  # of the process that is at work in the folder
STUDY, STUDY_LOCK = "study.yaml", ".study.lock"  # of a folder of runs

GROUP_KEYS = ("study", "model", "optim", "scheduler", "recipe")  # keys of a summary that name the file of a group


@dataclass(frozen=True)
class Origin:
    """Where a run's configuration comes from.

    Attributes:
        overrides: What was typed.
        choices: The file chosen in each group.
        composition_digest: Of the tree of configuration files and the overrides: runs that share it compose alike.
    """

    overrides: tuple[str, ...] = ()
    choices: Mapping[str, str | None] = field(default_factory=dict)
    composition_digest: str = ""

    @property
    def typed(self) -> set[str]:
        """The keys and groups that were typed."""
        return keys_of(self.overrides)


class Status(StrEnum):
    """How a run ended; `interrupted` as well while it is going on, so that one that is killed leaves a true record."""

    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each channel, of values from 0 to 1, that are normalized away."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True, kw_only=True)
class Summary:
    """What `summary.json` holds, in the order of its keys; None is null, what is not or cannot be known.

    Attributes:
        recipe_resolved: The recipe and the augmentation as they came out: open, since a later version adds keys and a
            policy has arguments of its own; they are shown and compared by key.
        weights_digest: SHA-256 of a file; of published weights their file name, which holds its first digits.
        transform_input: Of googlenet and inception_v3: whether they normalize once more, as TensorFlow did.
        layout: The images that were found, in words.
        test_fraction: Share of them that was cut as the test split; None where a test split was there.
        test_accuracy_interval: 95 %, Wilson.
        test_accuracy_per_class: None for a class without test images.
        test_confusion: Counts, rows the true and columns the predicted classes.
        val_accuracy_tta: Of the validation predictions, with the test-time augmentation of test.
        test_folder: Where the test images lay.
    """

    status: Status
    error: str | None = None
    traceback: str | None = None
    started: str | None = None
    ended: str | None = None
    # identity
    study: str | None = None
    model: str | None = None
    optim: str | None = None
    scheduler: str | None = None
    recipe: str | None = None
    recipe_resolved: Mapping[str, Any] | None = None
    model_name: str | None = None
    weights: str | None = None
    seed: int | None = None
    classes: tuple[str, ...] | None = None
    config_digest: str | None = None
    configuration_digest: str | None = None
    composition_digest: str | None = None
    weights_digest: str | None = None
    # pairing
    data_fingerprint: str | None = None
    split_digest: str | None = None
    order_digest: str | None = None
    init_digest: str | None = None
    # settings
    lr: float | None = None
    batch_size: int | None = None
    image_size: int | None = None
    epochs: int | None = None
    parameters: int | None = None
    num_train: int | None = None
    num_val: int | None = None
    num_test: int | None = None
    normalization: Normalization | None = None
    budget_minutes: float | None = None
    budget_digest: str | None = None
    store_size: int | None = None
    store_rule: str | None = None
    transform_input: bool | None = None
    layout: str | None = None
    test_fraction: float | None = None
    # results
    best_epoch: int | None = None
    train_accuracy: float | None = None
    val_accuracy: float | None = None
    val_loss: float | None = None
    test_accuracy: float | None = None
    test_loss: float | None = None
    test_accuracy_interval: tuple[float, float] | None = None
    test_duplicates: tuple[str, ...] | None = None
    test_accuracy_clean: float | None = None
    test_ece: float | None = None
    temperature: float | None = None
    test_loss_calibrated: float | None = None
    test_ece_calibrated: float | None = None
    test_accuracy_per_class: tuple[float | None, ...] | None = None
    test_confusion: tuple[tuple[int, ...], ...] | None = None
    val_accuracy_tta: float | None = None
    # cost
    fit_seconds: float | None = None
    features_seconds: float | None = None
    compile_seconds: float | None = None
    images_per_second: float | None = None
    peak_memory_bytes: int | None = None
    # circumstances
    device: str | None = None
    precision: str | None = None
    threads: int | None = None
    versions: Mapping[str, str] | None = None
    package_version: str | None = None
    git_commit: str | None = None
    git_dirty: bool | None = None
    test_folder: str | None = None

    def __post_init__(self) -> None:
        """Checks that a completed run has the accuracies that every comparison needs.

        Raises:
            ValueError: One is missing, or no fraction.
        """
        if self.status is not Status.COMPLETED:
            return
        accuracies = {"val_accuracy": self.val_accuracy, "test_accuracy": self.test_accuracy}
        if self.val_accuracy_tta is not None:  # records of earlier versions lack it
            accuracies["val_accuracy_tta"] = self.val_accuracy_tta
        for key, accuracy in accuracies.items():
            if accuracy is None or not 0 <= accuracy <= 1:
                raise ValueError(f"completed, but {key} is {accuracy}")

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Reads the summary of a run folder; None where there is none.

        A key that is missing is read as null, so is a number that is not finite; a key of a later version is ignored.

        Raises:
            UserError: The file holds something else.
        """
        path = folder / SUMMARY
        try:
            values = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except ValueError as error:
            raise UserError(f"{path} is no record ({error}): move the folder away") from error
        if not isinstance(values, dict):
            raise UserError(f"{path} is no record: move the folder away")
        typed = {}
        for one in fields(cls):
            value = values.get(one.name)
            try:
                typed[one.name] = _typed(value, one.type)
            except (KeyError, ValueError) as error:
                said = f"{one.name}: {str(value)[:40]}"
                raise UserError(f"{path} says {said}, which no run writes there: move the folder away") from error
        try:
            return cls(**typed)
        except ValueError as error:
            raise UserError(f"{path} says {error}: move the folder away") from error

    @classmethod
    def peek(cls, folder: Path) -> Self | None:
        """Reads the summary of a run folder; None, too, where the file holds something else."""
        try:
            return cls.read(folder)
        except UserError:
            return None

    def write(self, folder: Path) -> None:
        """Writes `summary.json` with every key, whole; null stands for a number that is not finite.

        Raises:
            FileExistsError: The folder holds a completed record, which is never overwritten.
        """
        there = Summary.read(folder)
        if there is not None and there.status is Status.COMPLETED:
            raise FileExistsError(f"{folder / SUMMARY} holds a completed record")
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }
        files.write_whole(folder / SUMMARY, (json.dumps(finite, indent=2, allow_nan=False) + "\n").encode())


def _typed(value: Any, kind: Any) -> Any:  # noqa: ANN401
    """A value of JSON as a field of this type has it: a tuple for a list, an enum or a dataclass for plain values.

    Raises:
        KeyError: A part of it is missing.
        ValueError: It is of another type.
    """
    if isinstance(value, float) and not math.isfinite(value):
        value = None
    if isinstance(kind, UnionType):  # with None
        return None if value is None else _typed(value, get_args(kind)[0])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        return tuple(_typed(item, one) for item, one in zip(value, kinds, strict=True))
    if isinstance(value, dict) and (origin is Mapping or is_dataclass(kind)):
        if origin is Mapping:
            return {key: _typed(item, arguments[1]) for key, item in value.items()}
        return kind(**{field.name: _typed(value[field.name], field.type) for field in fields(kind)})
    if kind is Status:
        return Status(value)
    if kind is Any or type(value) is kind or (kind is float and type(value) is int):  # True is no int here
        return value
    raise ValueError


@dataclass(frozen=True)
class Epoch:
    """A row of `history.csv`.

    Attributes:
        epoch: From 0.
        step: Optimizer steps so far.
        lr: Of the first parameter group at the end of the epoch.
        train_accuracy: Seen while training: augmented, in training mode.
        train_eval_accuracy: In evaluation mode without augmentation, on a fixed slice of train as large as val.
        images_per_second: Of the training part.
    """

    epoch: int
    step: int
    lr: float
    train_loss: float
    train_accuracy: float
    train_eval_accuracy: float
    val_loss: float
    val_accuracy: float
    images_per_second: float


@dataclass(frozen=True)
class History:
    """What `history.csv` holds: the epochs of a run so far."""

    epochs: tuple[Epoch, ...] = ()

    @property
    def best(self) -> Epoch:
        """The first epoch with the highest validation accuracy.

        Raises:
            ValueError: There is no epoch yet.
        """
        return max(self.epochs, key=lambda epoch: epoch.val_accuracy)

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Reads the history of a run folder; no epochs where there is none, or none that can be read."""
        try:
            with (folder / HISTORY).open(newline="") as file:
                rows = list(csv.DictReader(file))
            numbers = HISTORY_COLUMNS[2:]
            return cls(
                tuple(Epoch(int(row["epoch"]), int(row["step"]), *(float(row[key]) for key in numbers)) for row in rows)
            )
        except (OSError, KeyError, TypeError, ValueError):
            return cls()

    def write(self, folder: Path) -> None:
        """Writes `history.csv` whole."""
        files.write_csv(folder / HISTORY, HISTORY_COLUMNS, map(astuple, self.epochs))


@dataclass(frozen=True)
class Predictions:
    """What `predictions.csv` holds of a split: what a run says of its N images.

    Attributes:
        paths: `<class>/<file>` of each image.
        labels: (N,), their classes.
        predicted: (N,), the most probable classes.
        probabilities: (N, C), rows sum to 1; (N, 0) where they were not asked for.
    """

    paths: list[str]
    labels: Labels
    predicted: Labels
    probabilities: Probabilities

    @classmethod
    def read(cls, folder: Path, split: str) -> Self:
        """Reads a split of the predictions of a run folder.

        Args:
            folder: Of the run.
            split: "val" or "test".

        Raises:
            UserError: There are none, or they cannot be read.
        """
        found = cls.read_splits(folder, split)
        if split not in found:
            raise UserError(f"{folder / PREDICTIONS} cannot be read (it has no {split} images): run it again")
        return found[split]

    @classmethod
    def read_splits(cls, folder: Path, *splits: str) -> dict[str, Self]:
        """Reads several splits at once, those that have images.

        Raises:
            UserError: They cannot be read.
        """
        path = folder / PREDICTIONS
        try:
            text = path.read_bytes().decode(errors="replace")
            rows = {split: _rows(text, split) for split in splits}
            found = {split: cls._of(split, fields, width) for split, (fields, width) in rows.items() if fields}
        except (OSError, ValueError, IndexError, OverflowError) as error:
            raise UserError(f"{path} cannot be read ({error}): run it again") from error
        return found

    @classmethod
    def _of(cls, split: str, fields: list[str], width: int) -> Self:
        """From the fields of all rows of a split, one after the other, and their number in a row."""
        paths, labels, predicted, *columns = (fields[place::width] for place in range(1, width))
        probabilities = np.array(columns, np.float64).reshape(len(columns), len(paths)).T
        read = cls(paths, _whole(labels), _whole(predicted), np.ascontiguousarray(probabilities))
        classes = np.concatenate([read.labels, read.predicted])
        if classes.min() < 0 or classes.max() >= len(columns):
            raise ValueError(f"{split} images of a class that has no probability")
        return read

    @classmethod
    def read_classes(cls, folder: Path) -> dict[str, Self]:
        """Reads all splits without probabilities: several times as fast, for hundreds of runs.

        Raises:
            UserError: There are no test images, or they cannot be read.
        """
        path = folder / PREDICTIONS
        try:
            text = path.read_bytes().decode(errors="replace")
            rows = {split: _heads(text, split) for split in ("test", "val")}
            if not rows["test"]:
                raise ValueError("it has no test images")
            columns = {split: tuple(zip(*of_split, strict=True)) for split, of_split in rows.items() if of_split}
            found = {
                split: cls(list(paths), _whole(labels), _whole(predicted), np.empty((len(paths), 0)))
                for split, (paths, labels, predicted) in columns.items()
            }
            if any(min(one.labels.min(), one.predicted.min()) < 0 for one in found.values()):
                raise ValueError("images of a class below 0")
        except (OSError, ValueError, IndexError, OverflowError) as error:
            raise UserError(f"{path} cannot be read ({error}): run it again") from error
        return found

    @staticmethod
    def write(folder: Path, classes: Sequence[str], splits: Mapping[str, "Predictions"]) -> None:
        """Writes `predictions.csv` whole.

        Args:
            folder: Of the run.
            classes: Their names, in the order of the probabilities.
            splits: The predictions by split.
        """
        rows = [
            (split, path, label, predicted, *probabilities)
            for split, images in splits.items()
            for path, label, predicted, probabilities in zip(
                images.paths,
                images.labels.tolist(),
                images.predicted.tolist(),
                images.probabilities.tolist(),
                strict=True,
            )
        ]
        files.write_csv(folder / PREDICTIONS, ("split", "path", "label", "predicted", *classes), rows)


def _rows(text: str, split: str) -> tuple[list[str], int]:
    """The fields of all rows of a split, one after the other, and their number in a row.

    Raises:
        ValueError: Rows are of different length, or empty.
    """
    if '"' in text or "\r" in text:  # of a path with a comma, or written elsewhere
        rows = [row for row in csv.reader(io.StringIO(text)) if row[0] == split]
        fields, widths = list(itertools.chain.from_iterable(rows)), {len(row) for row in rows}
    else:
        lines = text.removesuffix("\n").split("\n")
        if "" in lines:
            raise ValueError("an empty line")
        lines = [line for line in lines if line.startswith(split)]
        fields, widths = ",".join(lines).split(",") if lines else [], {line.count(",") + 1 for line in lines}
    if len(widths) > 1:
        raise ValueError(f"{split} images with more columns than others")
    return fields, max(widths, default=0)


def _heads(text: str, split: str) -> Sequence[Sequence[str]]:
    """Path, label and prediction of each row of a split.

    Raises:
        ValueError: A row is cut off before its probabilities.
    """
    if '"' in text:  # of a path with a comma
        return [row[1:-1][:3] for row in csv.reader(io.StringIO(text)) if row[:1] == [split]]
    rows = re.findall(rf"\n{split},([^,\n]*),([^,\n]*),([^,\n]*),", text)
    if len(rows) < text.count(f"\n{split},"):
        raise ValueError(f"{split} images without probabilities")
    return rows


def _whole(numbers: Sequence[str]) -> Labels:
    return np.array(numbers, dtype=np.int64)


SUMMARY_KEYS = tuple(field.name for field in fields(Summary))
HISTORY_COLUMNS = tuple(field.name for field in fields(Epoch))


def keys_of(overrides: Iterable[str]) -> set[str]:
    """The keys and groups that were typed."""
    return {text.lstrip("+").partition("=")[0] for text in overrides}


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed writer of `write_whole` left in a run folder and its checkpoints."""
    for name in (CONFIG, OVERRIDES, SUMMARY, HISTORY, PREDICTIONS, CURVES, BEST, LAST):
        path = folder / name
        for leftover in path.parent.glob(f".{path.name}-*"):
            leftover.unlink(missing_ok=True)


Asked = str | tuple[str, ...] | None  # a study's question, or its factors


def said(what: Asked) -> str:
    """A study's question or its factors as a sentence has them."""
    return (what if isinstance(what, str) else ", ".join(what or [])) or "not said"


class Interval(NamedTuple):
    """The interval that values of a key were sampled from.

    Attributes:
        low: The smallest value.
        high: The largest value.
        is_log: Whether they were sampled on a logarithmic scale.
    """

    low: float
    high: float
    is_log: bool


@dataclass(frozen=True)
class Addition:
    """What a later invocation of a sweep adds to the plan of its study.

    Attributes:
        date: ISO 8601, UTC.
        command: What was typed; None where it is unknown.
        runs: Names of the runs it adds.
        changed: What it asks differently (`question`, `compared`, `tuned`), as it was and as it is.
    """

    date: str | None = None
    command: str | None = None
    runs: tuple[str, ...] = ()
    changed: Mapping[str, tuple[Asked, Asked]] = field(default_factory=dict)


@dataclass(frozen=True)
class ConfirmedArm:
    """An arm whose chosen configuration is run again on fresh seeds, which chose nothing.

    Attributes:
        label: Of the arm when it was chosen.
        overrides: Of the chosen configuration, without the seed and keys that change no result.
        chosen_by: Seeds of the arm's runs by which it was chosen.
        seeds: The fresh ones, one for each run.
        runs: Names of the confirming runs.
    """

    label: str
    overrides: tuple[str, ...]
    chosen_by: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Confirmation:
    """What an invocation of a sweep decided to confirm, before the first confirming run.

    Attributes:
        date: ISO 8601, UTC.
        command: What was typed; None where it is unknown.
        arms: New ones, or earlier ones on more seeds.
    """

    date: str | None = None
    command: str | None = None
    arms: tuple[ConfirmedArm, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """An arm that was named as the one to compare all others with, and what could be known by then.

    Attributes:
        label: As it was typed.
        date: When it was first named, ISO 8601, UTC.
        num_completed: Runs of the study that were completed by then.
        num_confirming: Confirming runs among them.
    """

    label: str
    date: str | None = None
    num_completed: int = 0
    num_confirming: int = 0


@dataclass(frozen=True)
class StudyPlan:
    """`study.yaml`: what a study asks, and which runs were planned to answer it.

    A plan may be written by hand or by an earlier version: every key may be missing.

    Attributes:
        question: What the study asks.
        compared: Factors that make an arm; empty for all that vary and are not tuned.
        tuned: Factors chosen on validation within an arm.
        searched: Keys whose values were sampled, with their intervals.
        seeds: Of the runs planned first.
        primary_metric: What chooses, and what is compared.
        threads: Threads of each run.
        fixed: Overrides that all runs share; None where they are unknown.
        swept: Keys in which runs differ.
        date: Of the first invocation, ISO 8601, UTC.
        command: What was typed; None where it is unknown.
        commit: Git commit of the checkout.
        planned: Names of the runs planned first.
        added: What later invocations added.
        confirmed: What is run again on fresh seeds; an invocation that adds arms or seeds adds an entry.
        baselines: The arms that were named to compare all others with, each when it was first named.
        twins: Runs that came to the same as another, with its name.
        fitted_epochs: Epochs that fit into `budget_minutes`, by budget digest.
        others: Keys that this version does not know, with any values, kept when the plan is written again.
    """

    question: str | None = None
    compared: tuple[str, ...] = ()
    tuned: tuple[str, ...] = ()
    searched: Mapping[str, Interval] = field(default_factory=dict)
    seeds: tuple[str, ...] = ()
    primary_metric: str | None = None
    threads: int | None = None
    fixed: tuple[str, ...] | None = None
    swept: tuple[str, ...] = ()
    date: str | None = None
    command: str | None = None
    commit: str | None = None
    planned: tuple[str, ...] = ()
    added: tuple[Addition, ...] = ()
    confirmed: tuple[Confirmation, ...] = ()
    baselines: tuple[Baseline, ...] = ()
    twins: Mapping[str, str] = field(default_factory=dict)
    fitted_epochs: Mapping[str, int] = field(default_factory=dict)
    others: Mapping[str, object] = field(default_factory=dict)

    @property
    def tuning_runs(self) -> tuple[str, ...]:
        """Names of the runs that may choose, each once: those planned first and those added later."""
        return tuple(dict.fromkeys([*self.planned, *(name for one in self.added for name in one.runs)]))

    @property
    def confirmed_arms(self) -> tuple[ConfirmedArm, ...]:
        """Each confirmed configuration once, with all its fresh seeds and their runs."""
        arms: dict[tuple[str, ...], ConfirmedArm] = {}
        for one in (arm for entry in self.confirmed for arm in entry.arms):
            held = arms.get(one.overrides, replace(one, seeds=(), runs=()))
            arms[one.overrides] = replace(held, seeds=(*held.seeds, *one.seeds), runs=(*held.runs, *one.runs))
        return tuple(arms.values())

    @property
    def confirming_runs(self) -> tuple[str, ...]:
        """Names of the runs that confirm."""
        return tuple(name for arm in self.confirmed_arms for name in arm.runs)

    @property
    def all_planned(self) -> tuple[str, ...]:
        """Names of all runs, each once, including those added later and those that confirm."""
        return tuple(dict.fromkeys([*self.tuning_runs, *self.confirming_runs]))


def read_study(folder: Path) -> StudyPlan | None:
    """The plan of a study folder; None where there is no `study.yaml`.

    Raises:
        UserError: The file holds something else.
    """
    try:
        found = yaml.safe_load((folder / STUDY).read_text())
    except FileNotFoundError:
        return None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise UserError(f"{folder / STUDY} cannot be read: mend it, or move it away") from error
    try:
        return _study_plan(found)
    except (AttributeError, TypeError, ValueError) as error:
        raise UserError(f"{folder / STUDY} is no plan of a study: mend it, or move it away") from error


def write_study(folder: Path, plan: StudyPlan) -> None:
    """Writes the plan of a study into its folder; the caller holds `STUDY_LOCK`.

    A key without a value is left out where a plan may lack it; question and commit are null.
    """
    values = asdict(plan)
    values["searched"] = {key: [low, high, int(is_log)] for key, (low, high, is_log) in plan.searched.items()}
    for addition in values["added"]:
        if not addition["changed"]:
            del addition["changed"]
    unknown = [key for key, value in values.items() if value is None and key not in ("question", "commit")]
    unknown += [key for key in ("confirmed", "baselines", "twins", "fitted_epochs") if not values[key]]
    unknown += ["swept"] if plan.fixed is None else []
    others = values.pop("others")
    written = {key: value for key, value in values.items() if key not in unknown} | others
    files.write_whole(folder / STUDY, yaml.safe_dump(written, sort_keys=False, allow_unicode=True).encode())


def _study_plan(found: Any) -> StudyPlan:  # noqa: ANN401
    """A plan from the content of a YAML file; AttributeError, TypeError or ValueError where it is none."""
    get = found.get
    known = {one.name for one in fields(StudyPlan)} - {"others"}
    return StudyPlan(
        question=_text(get("question")),
        compared=_texts(get("compared")),
        tuned=_texts(get("tuned")),
        searched={key: Interval(low, high, bool(log)) for key, (low, high, log) in (get("searched") or {}).items()},
        seeds=_texts(get("seeds")),
        primary_metric=_text(get("primary_metric")),
        threads=None if get("threads") is None else int(get("threads")),
        fixed=None if get("fixed") is None else _texts(get("fixed")),
        swept=_texts(get("swept")),
        date=_text(get("date")),
        command=_command(get("command")),
        commit=_text(get("commit")),
        planned=_texts(get("planned")),
        added=tuple(map(_addition, get("added") or [])),
        confirmed=tuple(map(_confirmation, get("confirmed") or [])),
        baselines=tuple(map(_baseline, get("baselines") or [])),
        twins={str(name): str(twin) for name, twin in (get("twins") or {}).items()},
        fitted_epochs={str(digest): int(epochs) for digest, epochs in (get("fitted_epochs") or {}).items()},
        others={key: value for key, value in found.items() if key not in known},
    )


def _addition(found: Any) -> Addition:  # noqa: ANN401
    changed = {key: (_asked(old), _asked(new)) for key, (old, new) in (found.get("changed") or {}).items()}
    return Addition(_text(found.get("date")), _command(found.get("command")), _texts(found.get("runs")), changed)


def _confirmation(found: Any) -> Confirmation:  # noqa: ANN401
    return Confirmation(
        _text(found.get("date")), _command(found.get("command")), tuple(map(_confirmed_arm, found.get("arms") or []))
    )


def _confirmed_arm(found: Any) -> ConfirmedArm:  # noqa: ANN401
    lists = (_texts(found.get(key)) for key in ("overrides", "chosen_by", "seeds", "runs"))
    arm = ConfirmedArm(str(found.get("label")), *lists)
    if len(arm.seeds) != len(arm.runs):
        raise ValueError(f"{arm.label} has not one seed for each run")
    return arm


def _baseline(found: Any) -> Baseline:  # noqa: ANN401
    counts = (int(found.get(key) or 0) for key in ("num_completed", "num_confirming"))
    return Baseline(str(found.get("label")), _text(found.get("date")), *counts)


def _asked(value: object) -> Asked:
    return _texts(value) if isinstance(value, list) else _text(value)


def _command(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | None):
        raise TypeError(f"{value} is no list")
    return tuple(map(str, value or ()))
