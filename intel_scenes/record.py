"""Files of a run and of a study: their names, and a class for the content of each, with its reader and writer."""

import csv
import io
import itertools
import json
import math
import re
import reprlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, astuple, dataclass, field, fields, is_dataclass, replace
from enum import StrEnum
from pathlib import Path
from types import UnionType
from typing import Any, NamedTuple, Self, TypeVar, get_args, get_origin

import numpy as np
import yaml

from intel_scenes import files
from intel_scenes.errors import UserError
from intel_scenes.probabilities import Labels, Probabilities

Row = TypeVar("Row")  # of a CSV file

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
SUMMARY = "summary.json"
HISTORY = "history.csv"
AVERAGES = "averages.csv"  # only with the key `averages`
GRADIENT_NOISE = "gradient_noise.csv"  # only with the key `noise_scale`
PREDICTIONS = "predictions.csv"
CURVES = "curves.png"
CONFUSION, MISTAKES = "confusion.png", "mistakes.png"  # of the test images
BEST = "checkpoints/best.ckpt"
LAST = "checkpoints/last.ckpt"
LOCK = ".lock"  # lease of the process that is running the run
STUDY, STUDY_LOCK = "study.yaml", ".study.lock"  # in the folder of a study

ACCURACY, BALANCED = "accuracy", "balanced_accuracy"  # primary metrics, which choose and which verdicts compare
MAX_DEPTH = 20  # of nested values in a record
LARGEST = 1e100  # numbers in a record are smaller, because float32 ends at 3.4e38, and larger than its reciprocal
MAX_CLASS = 2**15 - 1  # highest number of a class
GROUP_KEYS = ("study", "model", "optim", "scheduler", "recipe")  # keys of a summary that name the file of a group


@dataclass(frozen=True)
class Origin:
    """Origin of a run's configuration.

    Attributes:
        overrides: Overrides as typed.
        choices: File chosen in each group.
        composition_digest: Digest of the configuration files and the overrides: runs that share it compose alike.
    """

    overrides: tuple[str, ...] = ()
    choices: Mapping[str, str | None] = field(default_factory=dict)
    composition_digest: str = ""

    @property
    def typed(self) -> set[str]:
        """Keys and groups that were typed."""
        return keys_of(self.overrides)


class Status(StrEnum):
    """Status of a run; it is `interrupted` while it trains too, so that the record of a killed run is correct."""

    COMPLETED = "completed"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


@dataclass(frozen=True)
class Normalization:
    """Mean and standard deviation of each channel, for values from 0 to 1, by which images are normalized."""

    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def architecture(library: str | None, name: str) -> str:
    """Return the name of a backbone, with its library unless that is torchvision or this package."""
    return f"{library} {name}" if library in ("timm", "custom") else name


@dataclass(frozen=True, kw_only=True)
class Summary:
    """Content of `summary.json`, in the order of its keys; None (null) stands for what does not exist or is unknown.

    docs/record.md describes every key.

    Attributes:
        recipe_resolved: Recipe and augmentation with the values that took effect. Open, because later versions add keys
            and a policy has arguments of its own; compared by key.
        weights_digest: SHA-256 of a file; for published weights their file name, which holds its first digits, or their
            place on the Hugging Face hub.
        model_library: "torchvision", "intel_scenes", "timm" or "custom"; None means one of the first two.
        model_source: SHA-256 of the source of a custom backbone.
        transform_input: Whether googlenet or inception_v3 normalizes once more, as in TensorFlow.
        layout: Images that were read, in words.
        test_fraction: Share of the images that was cut as the test set; None where a test set was present.
        test_accuracy_interval: 95 % Wilson interval.
        test_accuracy_per_class: Recall of each class; None for a class without test images.
        test_confusion: Counts, rows the true and columns the predicted classes.
        val_accuracy_tta: Validation accuracy with the test-time augmentation of test.
        test_folder: Folder of the test images.
        predictions_digest: SHA-256 of `predictions.csv`; None in records of earlier versions.
        primary_metric: `accuracy` or `balanced_accuracy`, which chose the best epoch and which verdicts compare; None
            means `accuracy`.
        val_balanced_accuracy: Mean recall over classes on validation, of the best epoch.
        test_balanced_accuracy: Mean recall over classes on test.
        test_macro_f1: Mean F1 over classes on test.
        val_balanced_accuracy_tta: Mean recall over classes on validation, with the test-time augmentation of test.
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
    resume_digest: str | None = None
    weights_digest: str | None = None
    model_library: str | None = None
    model_source: str | None = None
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
    primary_metric: str | None = None
    train_fraction: float | None = None
    subset_seed: int | None = None
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
    val_balanced_accuracy: float | None = None
    test_balanced_accuracy: float | None = None
    test_macro_f1: float | None = None
    val_balanced_accuracy_tta: float | None = None
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
    predictions_digest: str | None = None

    def __post_init__(self) -> None:
        """Check that a completed run has the accuracies that every comparison needs, and that all are fractions.

        Raises:
            ValueError: An accuracy is missing or not a fraction, or the primary metric is unknown.
        """
        if self.metric not in (ACCURACY, BALANCED):
            raise ValueError(f"primary_metric is {self.metric}")
        if self.status is not Status.COMPLETED:
            return
        needed = {"val_accuracy", "test_accuracy"}
        if self.metric == BALANCED:
            needed |= {"val_balanced_accuracy", "val_balanced_accuracy_tta", "test_balanced_accuracy"}
        for key in (summary_field.name for summary_field in fields(self) if "accuracy" in summary_field.name):
            accuracy = getattr(self, key)
            if accuracy is None and key not in needed:
                continue
            shares = accuracy if isinstance(accuracy, tuple) else (accuracy,)
            if accuracy is None or any(share is not None and not 0 <= share <= 1 for share in shares):
                raise ValueError(f"completed, but {key} is {files.shown(accuracy)}")

    @property
    def architecture(self) -> str | None:
        """Name of the backbone, with its library unless that is torchvision or this package."""
        return self.model_name and architecture(self.model_library, self.model_name)

    @property
    def metric(self) -> str:
        """Primary metric; `accuracy` for a record without one."""
        return self.primary_metric or ACCURACY

    @classmethod
    def read(cls, folder: Path) -> Self | None:
        """Read the summary of a run folder; None where there is none.

        Missing keys and numbers that are not finite are read as null; keys of later versions are ignored.

        Raises:
            UserError: The file is not a valid summary.
        """
        path = folder / SUMMARY
        try:
            values = json.loads(path.read_bytes())
        except FileNotFoundError:
            return None
        except (ValueError, RecursionError) as error:
            raise UserError(f"{path} is not a record ({error}): move the folder away") from error
        if not isinstance(values, dict):
            raise UserError(f"{path} is not a record, because it is not a JSON object: move the folder away")
        typed = {}
        for summary_field in fields(cls):
            value = values.get(summary_field.name)
            try:
                typed[summary_field.name] = _typed(value, summary_field.type)
            except (KeyError, ValueError, OverflowError) as error:
                text = f"{summary_field.name}: {(value if isinstance(value, str) else reprlib.repr(value))[:40]}"
                raise UserError(f"{path} holds {text}, which no run writes: move the folder away") from error
        try:
            return cls(**typed)
        except ValueError as error:
            raise UserError(f"{path} is inconsistent ({error}): move the folder away") from error

    @classmethod
    def peek(cls, folder: Path) -> Self | None:
        """Read the summary of a run folder; None where it is missing or invalid."""
        try:
            return cls.read(folder)
        except UserError:
            return None

    def check_predictions(self, folder: Path) -> None:
        """Check that `predictions.csv` is still what the run wrote.

        Raises:
            UserError: It is not, or cannot be read.
        """
        path = folder / PREDICTIONS
        try:
            is_same = self.predictions_digest in (None, files.sha256(path))
        except OSError as error:
            raise UserError(f"{path} cannot be read ({error}): remove its folder and train again") from error
        if not is_same:
            raise UserError(
                f"{path} has changed since the run wrote it (its checksum in {SUMMARY} differs): remove its folder and "
                "train again"
            )

    def write(self, folder: Path) -> None:
        """Write `summary.json` with every key, atomically; values that are not finite numbers become null.

        Raises:
            FileExistsError: The folder holds a completed record, which is never overwritten.
        """
        present = Summary.read(folder)
        if present is not None and present.status is Status.COMPLETED:
            raise FileExistsError(f"{folder / SUMMARY} holds a completed record")
        finite = {
            key: None if isinstance(value, float) and not math.isfinite(value) else value
            for key, value in asdict(self).items()
        }
        files.write_whole(folder / SUMMARY, (json.dumps(finite, indent=2, allow_nan=False) + "\n").encode())


def _typed(value: Any, kind: Any) -> Any:  # noqa: ANN401
    """Convert a JSON value to the type of a field: a list to a tuple, plain values to an enum or a dataclass.

    Raises:
        KeyError: A part of the value is missing.
        OverflowError: A number is too large.
        ValueError: The value has another type, or is nested too deeply.
    """
    value = _finite(value)
    if isinstance(kind, UnionType):  # with None
        return None if value is None else _typed(value, get_args(kind)[0])
    origin, arguments = get_origin(kind), get_args(kind)
    if origin is tuple and isinstance(value, list):
        kinds = [arguments[0]] * len(value) if arguments[-1] is ... else arguments
        return tuple(_typed(item, item_kind) for item, item_kind in zip(value, kinds, strict=True))
    if isinstance(value, dict) and (origin is Mapping or is_dataclass(kind)):
        if origin is Mapping:
            return {key: _typed(item, arguments[1]) for key, item in value.items()}
        return kind(**{field.name: _typed(value[field.name], field.type) for field in fields(kind)})
    if kind is Status:
        return Status(value)
    if kind is Any:
        return _plain(value)
    if type(value) is kind or (kind is float and type(value) is int):  # True is no int here
        return value
    raise ValueError


def _plain(value: Any, depth: int = 0) -> Any:  # noqa: ANN401
    """Check any JSON value; numbers that are not finite become None."""
    if depth > MAX_DEPTH:
        raise ValueError
    if isinstance(value, dict):
        return {key: _plain(item, depth + 1) for key, item in value.items()}
    if isinstance(value, list):
        return [_plain(item, depth + 1) for item in value]
    return _finite(value)


def _finite(value: Any) -> Any:  # noqa: ANN401
    """Return a value; None for a number that is not finite.

    Raises:
        OverflowError: A number is so large or so small that calculating with it overflows.
    """
    if type(value) is int:
        np.int64(value)
    if not isinstance(value, float):
        return value
    if not math.isfinite(value):
        return None
    if value and not 1 / LARGEST < abs(value) < LARGEST:
        raise OverflowError
    return value


@dataclass(frozen=True)
class Epoch:
    """Row of `history.csv`.

    Attributes:
        epoch: Number of the epoch, from 0.
        step: Optimizer steps so far.
        lr: Learning rate of the first parameter group at the end of the epoch.
        train_accuracy: Running average while training: augmented images, training mode.
        train_eval_accuracy: Accuracy in evaluation mode without augmentation, on a fixed slice of the training set as
            large as the validation set.
        images_per_second: Throughput of the training part.
        val_balanced_accuracy: Mean recall over classes; None in older histories.
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
    val_balanced_accuracy: float | None = None


@dataclass(frozen=True)
class History:
    """Content of `history.csv`: the epochs of a run so far.

    Attributes:
        epochs: Epochs, from the first one.
        primary_metric: Metric that chooses the best epoch; not part of the file.
    """

    epochs: tuple[Epoch, ...] = ()
    primary_metric: str = ACCURACY

    @property
    def best(self) -> Epoch:
        """First epoch with the highest primary metric on validation.

        Raises:
            ValueError: There is no epoch yet.
        """
        return max(self.epochs, key=lambda epoch: getattr(epoch, f"val_{self.primary_metric}"))

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the history of a run folder; it is empty where the file is missing or cannot be read."""
        return cls(_rows_of(folder / HISTORY, _epoch))

    def write(self, folder: Path) -> None:
        """Write `history.csv` atomically."""
        files.write_csv(folder / HISTORY, HISTORY_COLUMNS, map(astuple, self.epochs))


def _rows_of(path: Path, convert: Callable[[Mapping[str, str]], Row]) -> tuple[Row, ...]:
    """Read the rows of a CSV file; there are none where it is missing or cannot be read."""
    try:
        with path.open(newline="") as file:
            return tuple(map(convert, csv.DictReader(file)))
    except (OSError, KeyError, TypeError, ValueError, csv.Error):
        return ()


def _epoch(row: Mapping[str, str]) -> Epoch:
    """Convert a row of `history.csv`; columns that were added later may be missing or empty."""
    late = {"val_balanced_accuracy": float(row["val_balanced_accuracy"])} if row.get("val_balanced_accuracy") else {}
    numbers = [float(row[key]) for key in HISTORY_COLUMNS[2:] if key != "val_balanced_accuracy"]
    return Epoch(int(row["epoch"]), int(row["step"]), *numbers, **late)


@dataclass(frozen=True)
class AveragedEpoch:
    """Row of `averages.csv`: an average of the weights, or the live weights, at the end of an epoch.

    Losses are cross entropies without label smoothing and class weights; all scores are in evaluation mode.

    Attributes:
        epoch: Number of the epoch, from 0.
        step: Optimizer steps so far.
        window: Share of the steps that is averaged over; 0 for the live weights.
        train_loss: On all training images where only the head is trained, else on the slice of `train_eval_accuracy`.
        train_accuracy: On the same images.
        test_loss: None before the last epoch of the training.
        test_accuracy: None before the last epoch of the training.
        weight_norm: Euclidean norm of the parameters with weight decay.
    """

    epoch: int
    step: int
    window: float
    train_loss: float
    train_accuracy: float
    val_loss: float
    val_accuracy: float
    test_loss: float | None
    test_accuracy: float | None
    weight_norm: float


@dataclass(frozen=True)
class Averages:
    """Content of `averages.csv`: for each epoch so far the live weights, then each window in ascending order."""

    rows: tuple[AveragedEpoch, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the averages of a run folder; there are none where the file is missing or cannot be read."""
        return cls(_rows_of(folder / AVERAGES, _averaged_epoch))

    def write(self, folder: Path) -> None:
        """Write `averages.csv` atomically."""
        files.write_csv(folder / AVERAGES, AVERAGES_COLUMNS, map(astuple, self.rows))


def _averaged_epoch(row: Mapping[str, str]) -> AveragedEpoch:
    """Convert a row of `averages.csv`; the test columns are empty before the last epoch."""
    tested = {key: float(row[key]) if row[key] else None for key in ("test_loss", "test_accuracy")}
    numbers = {key: float(row[key]) for key in AVERAGES_COLUMNS[2:] if key not in tested}
    values: dict[str, Any] = {"epoch": int(row["epoch"]), "step": int(row["step"]), **numbers, **tested}
    return AveragedEpoch(**values)


@dataclass(frozen=True)
class EpochNoise:
    """Row of `gradient_noise.csv`.

    Attributes:
        epoch: Number of the epoch, from 0.
        step: Optimizer steps so far.
        small_batch: Images of a small batch.
        large_batch: Images of a large batch.
        num_large: Large batches of the measurement.
        small_norm: Mean squared norm of the gradient of small batches.
        large_norm: Mean squared norm of the gradient of large batches.
        signal: Estimate of the squared norm of the gradient over all training images.
        noise: Estimate of the trace of the covariance of the gradients of single images.
        noise_scale: Noise divided by signal, in images; None where the signal is not positive.
    """

    epoch: int
    step: int
    small_batch: int
    large_batch: int
    num_large: int
    small_norm: float
    large_norm: float
    signal: float
    noise: float
    noise_scale: float | None


@dataclass(frozen=True)
class GradientNoise:
    """Content of `gradient_noise.csv`: the gradient noise of the epochs of a run so far, from the first one."""

    epochs: tuple[EpochNoise, ...] = ()

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the gradient noise of a run folder; it is empty where the file is missing or cannot be read."""
        return cls(_rows_of(folder / GRADIENT_NOISE, _epoch_noise))

    def write(self, folder: Path) -> None:
        """Write `gradient_noise.csv` atomically."""
        files.write_csv(folder / GRADIENT_NOISE, GRADIENT_NOISE_COLUMNS, map(astuple, self.epochs))


def _epoch_noise(row: Mapping[str, str]) -> EpochNoise:
    values = [row[key] for key in GRADIENT_NOISE_COLUMNS]
    epoch, step, small_batch, large_batch, num_large = map(int, values[:5])
    small_norm, large_norm, signal, noise = map(float, values[5:9])
    scale = float(values[9]) if values[9] else None
    return EpochNoise(
        epoch, step, small_batch, large_batch, num_large, small_norm, large_norm, signal, noise, noise_scale=scale
    )


@dataclass(frozen=True)
class Predictions:
    """Rows of `predictions.csv` for one split with N images.

    Attributes:
        paths: `<class>/<file>` of each image.
        labels: (N,), true classes.
        predicted: (N,), most probable classes.
        probabilities: (N, C), rows sum to 1; (N, 0) where they were not read.
    """

    paths: list[str]
    labels: Labels
    predicted: Labels
    probabilities: Probabilities

    @classmethod
    def read(cls, folder: Path, split: str) -> Self:
        """Read a split of the predictions of a run folder.

        Args:
            folder: Folder of the run.
            split: "val" or "test".

        Raises:
            UserError: The split has no predictions, or they cannot be read.
        """
        by_split = cls.read_splits(folder, split)
        if split not in by_split:
            raise UserError(
                f"{folder / PREDICTIONS} cannot be read (it has no {split} images): remove its folder and train again"
            )
        return by_split[split]

    @classmethod
    def read_splits(cls, folder: Path, *splits: str) -> dict[str, Self]:
        """Read several splits at once; those without images are left out.

        Raises:
            UserError: The file cannot be read.
        """
        path = folder / PREDICTIONS
        try:
            text = path.read_bytes().decode(errors="replace")
            rows = {split: _rows(text, split) for split in splits}
            by_split = {split: cls._of(split, fields, width) for split, (fields, width) in rows.items() if fields}
        except (OSError, ValueError, IndexError, OverflowError, csv.Error) as error:
            raise UserError(f"{path} cannot be read ({error}): remove its folder and train again") from error
        return by_split

    @classmethod
    def _of(cls, split: str, fields: list[str], width: int) -> Self:
        """Convert the fields of all rows of a split, one after the other, given the number of fields in a row."""
        names, labels, predicted, *columns = (fields[place::width] for place in range(1, width))
        paths = list(map(files.without_apostrophe, names))
        probabilities = np.array(columns, np.float64).reshape(len(columns), len(paths)).T
        read = cls(paths, _whole(labels), _whole(predicted), np.ascontiguousarray(probabilities))
        classes = np.concatenate([read.labels, read.predicted])
        if classes.min() < 0 or classes.max() >= len(columns):
            raise ValueError(f"it has {split} images of a class without a probability")
        return read

    @classmethod
    def read_classes(cls, folder: Path) -> dict[str, Self]:
        """Read all splits without probabilities, which is several times as fast, for hundreds of runs.

        Raises:
            UserError: The file has no test images, or cannot be read.
        """
        path = folder / PREDICTIONS
        try:
            text = path.read_bytes().decode(errors="replace")
            rows = {split: _heads(text, split) for split in ("test", "val")}
            if not rows["test"]:
                raise ValueError("it has no test images")
            columns = {split: tuple(zip(*of_split, strict=True)) for split, of_split in rows.items() if of_split}
            by_split = {
                split: cls(
                    list(map(files.without_apostrophe, paths)),
                    _whole(labels),
                    _whole(predicted),
                    np.empty((len(paths), 0)),
                )
                for split, (paths, labels, predicted) in columns.items()
            }
            classes = np.concatenate([numbers for one in by_split.values() for numbers in (one.labels, one.predicted)])
            if classes.min() < 0 or classes.max() > MAX_CLASS:
                raise ValueError(f"it has images of a class below 0 or above {MAX_CLASS:,}")
        except (OSError, ValueError, IndexError, OverflowError, csv.Error) as error:
            raise UserError(f"{path} cannot be read ({error}): remove its folder and train again") from error
        return by_split

    @staticmethod
    def write(folder: Path, classes: Sequence[str], splits: Mapping[str, "Predictions"]) -> None:
        """Write `predictions.csv` atomically.

        Args:
            folder: Folder of the run.
            classes: Names of the classes, in the order of the probabilities.
            splits: Predictions by split.
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
    """Return the fields of all rows of a split, one after the other, and the number of fields in a row.

    Raises:
        ValueError: Rows are of different length, or empty.
    """
    if '"' in text or "\r" in text:  # a path with a comma, or a file from another system
        rows = [row for row in csv.reader(io.StringIO(text)) if row[0] == split]
        fields, widths = list(itertools.chain.from_iterable(rows)), {len(row) for row in rows}
    else:
        lines = text.removesuffix("\n").split("\n")
        if "" in lines:
            raise ValueError("it has an empty line")
        lines = [line for line in lines if line.startswith(split)]
        fields, widths = ",".join(lines).split(",") if lines else [], {line.count(",") + 1 for line in lines}
    if len(widths) > 1:
        raise ValueError(f"its {split} images differ in the number of columns")
    return fields, max(widths, default=0)


def _heads(text: str, split: str) -> Sequence[Sequence[str]]:
    """Return path, label and prediction of each row of a split.

    Raises:
        ValueError: A row is truncated before its probabilities.
    """
    if '"' in text:  # a path with a comma
        return [row[1:-1][:3] for row in csv.reader(io.StringIO(text)) if row[:1] == [split]]
    rows = re.findall(rf"\n{split},([^,\n]*),([^,\n]*),([^,\n]*),", text)
    if len(rows) < text.count(f"\n{split},"):
        raise ValueError(f"it has {split} images without probabilities")
    return rows


def _whole(numbers: Sequence[str]) -> Labels:
    return np.array(numbers, dtype=np.int64)


SUMMARY_KEYS = tuple(field.name for field in fields(Summary))
HISTORY_COLUMNS = tuple(field.name for field in fields(Epoch))
AVERAGES_COLUMNS = tuple(field.name for field in fields(AveragedEpoch))
GRADIENT_NOISE_COLUMNS = tuple(field.name for field in fields(EpochNoise))


def keys_of(overrides: Iterable[str]) -> set[str]:
    """Return the keys and groups of overrides."""
    return {text.lstrip("+").partition("=")[0] for text in overrides}


def remove_leftovers(folder: Path) -> None:
    """Remove temporary files that a killed `write_whole` left in a run folder and its checkpoints."""
    tables = (HISTORY, AVERAGES, GRADIENT_NOISE, PREDICTIONS)
    for name in (CONFIG, OVERRIDES, SUMMARY, *tables, CURVES, CONFUSION, MISTAKES, BEST, LAST):
        path = folder / name
        for leftover in path.parent.glob(f".{path.name}-*"):
            leftover.unlink(missing_ok=True)


Asked = str | tuple[str, ...] | None  # the question of a study, or its factors


def said(what: Asked) -> str:
    """Return the question of a study, or its factors, as text."""
    return (what if isinstance(what, str) else ", ".join(what or [])) or "not specified"


class _Loader(yaml.SafeLoader):
    """Loader without aliases, which let a small file stand for a huge value, and with limited nesting."""

    depth = 0

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:  # noqa: ANN401
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("it has an alias (*NAME)")
        if self.depth > MAX_DEPTH:
            raise yaml.YAMLError(f"it is nested more than {MAX_DEPTH} deep")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node


def read_yaml(path: Path) -> Any:  # noqa: ANN401
    """Return the plain values of a YAML file of a record, which may be hostile: nothing is executed or expanded.

    Raises:
        OSError: The file cannot be read.
        ValueError: It is no YAML, or has an alias or too deep a nesting.
    """
    try:
        return yaml.load(path.read_text(), Loader=_Loader)
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error


class Interval(NamedTuple):
    """Interval that values of a key were sampled from.

    Attributes:
        low: Smallest value.
        high: Largest value.
        is_log: Whether the scale was logarithmic.
    """

    low: float
    high: float
    is_log: bool


@dataclass(frozen=True)
class Addition:
    """Addition of a later invocation of a sweep to the plan of its study.

    Attributes:
        date: Date, ISO 8601, UTC.
        command: Command as typed; None where it is unknown.
        runs: Names of the added runs.
        changed: Changes of `question`, `compared` and `tuned`, each with its old and new value.
    """

    date: str | None = None
    command: str | None = None
    runs: tuple[str, ...] = ()
    changed: Mapping[str, tuple[Asked, Asked]] = field(default_factory=dict)


@dataclass(frozen=True)
class ConfirmedArm:
    """Arm whose chosen configuration is trained again on fresh seeds, which chose nothing.

    Attributes:
        label: Label of the arm when it was chosen.
        overrides: Overrides of the chosen configuration, without the seed and neutral keys.
        chosen_by: Seeds of the runs by which it was chosen.
        seeds: Fresh seeds, one for each run.
        runs: Names of the confirming runs.
    """

    label: str
    overrides: tuple[str, ...]
    chosen_by: tuple[str, ...] = ()
    seeds: tuple[str, ...] = ()
    runs: tuple[str, ...] = ()


@dataclass(frozen=True)
class Confirmation:
    """Decision of an invocation of a sweep on what to confirm, before the first confirming run.

    Attributes:
        date: Date, ISO 8601, UTC.
        command: Command as typed; None where it is unknown.
        arms: New arms, or earlier ones with more seeds.
    """

    date: str | None = None
    command: str | None = None
    arms: tuple[ConfirmedArm, ...] = ()


@dataclass(frozen=True)
class Baseline:
    """Arm that was named as the baseline, and how many runs were completed by then.

    Attributes:
        label: Label as typed.
        date: Date when it was first named, ISO 8601, UTC.
        num_completed: Number of runs of the study that were completed by then.
        num_confirming: Number of confirming runs among them.
    """

    label: str
    date: str | None = None
    num_completed: int = 0
    num_confirming: int = 0


@dataclass(frozen=True)
class StudyBudget:
    """Resolution of `study_minutes`, before the first run of a sweep.

    Attributes:
        minutes: Minutes of the whole sweep, as typed.
        of: Digest of the sweep, before anything was left out.
        epochs: Epochs of every run.
        cut: Values whose runs are left out, as `KEY=VALUE`, in that order.
        confirm: Number of fresh seeds of each arm.
        predicted_minutes: Predicted duration, from the measured steps.
        date: Date, ISO 8601, UTC.
    """

    minutes: float
    of: str
    epochs: int
    cut: tuple[str, ...] = ()
    confirm: int = 0
    predicted_minutes: float | None = None
    date: str | None = None


@dataclass(frozen=True)
class PlannedRun:
    """A run of a plan file.

    Attributes:
        name: Name of its folder.
        configuration: Digest of its composed configuration, without paths and values that depend on the machine.
        data: Fingerprint of its images.
    """

    name: str
    configuration: str
    data: str


@dataclass(frozen=True)
class SweepPlan:
    """Content of a plan file, which the shards of a sweep share; docs/record.md describes its keys.

    Attributes:
        threads: CPU threads of each run.
        runs: All runs of the sweep, without confirming ones.
        fitted_epochs: Epochs that fit into `budget_minutes`, by budget digest.
        budget: Resolution of `study_minutes`; None without it.
    """

    threads: int
    runs: tuple[PlannedRun, ...]
    fitted_epochs: Mapping[str, int] = field(default_factory=dict)
    budget: StudyBudget | None = None

    @property
    def digest(self) -> str:
        """Digest of the content."""
        return files.digest(asdict(self))

    @classmethod
    def read(cls, path: Path) -> Self:
        """Read a plan file.

        Raises:
            UserError: It is not a plan, or is truncated or changed.
        """
        if not path.is_file():
            raise UserError(f"{path} is not a file: copy the plan file of the sweep there")
        try:
            content = json.loads(path.read_bytes())
            plan = cls(
                threads=_count(content["threads"]),
                runs=tuple(PlannedRun(**{key: _word(value) for key, value in run.items()}) for run in content["runs"]),
                fitted_epochs={digest: _count(epochs) for digest, epochs in content["fitted_epochs"].items()},
                budget=_budget(content["budget"]) if content["budget"] else None,
            )
            is_whole = plan.digest == content["digest"]
        except (AttributeError, KeyError, OverflowError, RecursionError, TypeError, ValueError):
            is_whole = False
        if not is_whole:
            raise UserError(f"{path} is not a complete plan file: copy it again from where it was made")
        return plan

    def write(self, path: Path) -> None:
        """Write the plan file."""
        files.write_whole(path, json.dumps({"digest": self.digest, **asdict(self)}, indent=1).encode())


def _word(value: object) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{value} is not a text")
    return value


def _count(value: object) -> int:
    if type(value) is not int or value < 1:
        raise ValueError(f"{value} is not a count")
    return value


@dataclass(frozen=True)
class StudyPlan:
    """Content of `study.yaml`: what a study asks, and which runs were planned to answer it.

    A plan may be written by hand or by an earlier version: every key may be missing.

    Attributes:
        question: Question of the study.
        compared: Factors that make an arm; empty for all that vary and are not tuned.
        tuned: Factors that validation tunes within an arm.
        searched: Keys whose values were sampled, with their intervals.
        seeds: Seeds of the runs planned first.
        primary_metric: Metrics that choose and that are compared, in words.
        threads: CPU threads of each run.
        fixed: Overrides that all runs share; None where they are unknown.
        swept: Keys in which runs differ.
        date: Date of the first invocation, ISO 8601, UTC.
        command: Command as typed; None where it is unknown.
        commit: Git commit of the checkout.
        planned: Names of the runs planned first.
        added: Additions of later invocations.
        confirmed: Decisions on what to confirm; an invocation that adds arms or seeds adds an entry.
        baselines: Arms that were named as the baseline.
        twins: Runs that turned out to be the same as another, with its name.
        fitted_epochs: Epochs that fit into `budget_minutes`, by budget digest.
        budgets: Resolutions of `study_minutes`, one for each sweep that asked.
        plan_file: Digest of the plan file of its shards; None without one.
        others: Keys that this version does not know, which are kept when the plan is written again.
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
    budgets: tuple[StudyBudget, ...] = ()
    plan_file: str | None = None
    others: Mapping[str, object] = field(default_factory=dict)

    @property
    def tuning_runs(self) -> tuple[str, ...]:
        """Names of the tuning runs, each once: those planned first and those added later."""
        return tuple(dict.fromkeys([*self.planned, *(name for addition in self.added for name in addition.runs)]))

    @property
    def cut(self) -> tuple[str, ...]:
        """Values that `study_minutes` left out of a sweep, as `KEY=VALUE`; a later sweep may have run them."""
        return tuple(dict.fromkeys(value for budget in self.budgets for value in budget.cut))

    @property
    def confirmed_arms(self) -> tuple[ConfirmedArm, ...]:
        """Confirmed configurations, each once with all its fresh seeds and their runs."""
        arms: dict[tuple[str, ...], ConfirmedArm] = {}
        for arm in (arm for entry in self.confirmed for arm in entry.arms):
            held = arms.get(arm.overrides, replace(arm, seeds=(), runs=()))
            arms[arm.overrides] = replace(held, seeds=(*held.seeds, *arm.seeds), runs=(*held.runs, *arm.runs))
        return tuple(arms.values())

    @property
    def confirming_runs(self) -> tuple[str, ...]:
        """Names of the confirming runs."""
        return tuple(name for arm in self.confirmed_arms for name in arm.runs)

    @property
    def all_planned(self) -> tuple[str, ...]:
        """Names of all runs, each once, with those added later and the confirming ones."""
        return tuple(dict.fromkeys([*self.tuning_runs, *self.confirming_runs]))


def read_study(folder: Path) -> StudyPlan | None:
    """Return the plan of a study folder; None where there is no `study.yaml`.

    Raises:
        UserError: The file is not a plan.
    """
    try:
        content = read_yaml(folder / STUDY)
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        raise UserError(f"{folder / STUDY} cannot be read ({error}): correct it, or move it away") from error
    try:
        return _study_plan(content)
    except (AttributeError, KeyError, OverflowError, TypeError, ValueError) as error:
        raise UserError(f"{folder / STUDY} is not a plan of a study: correct it, or move it away") from error


def write_study(folder: Path, plan: StudyPlan) -> None:
    """Write the plan of a study into its folder; the caller holds `STUDY_LOCK`.

    Keys without a value are left out, except question and commit, which are null.
    """
    values = asdict(plan)
    values["searched"] = {key: [low, high, int(is_log)] for key, (low, high, is_log) in plan.searched.items()}
    for addition in values["added"]:
        if not addition["changed"]:
            del addition["changed"]
    unknown = [key for key, value in values.items() if value is None and key not in ("question", "commit")]
    unknown += [key for key in ("confirmed", "baselines", "twins", "fitted_epochs", "budgets") if not values[key]]
    unknown += ["swept"] if plan.fixed is None else []
    others = values.pop("others")
    written = {key: value for key, value in values.items() if key not in unknown} | others
    files.write_whole(folder / STUDY, yaml.safe_dump(written, sort_keys=False, allow_unicode=True).encode())


def _study_plan(content: Any) -> StudyPlan:  # noqa: ANN401
    """Convert the content of a YAML file; AttributeError, KeyError, TypeError or ValueError where it is no plan."""
    get = content.get
    known = {field.name for field in fields(StudyPlan)} - {"others"}
    return StudyPlan(
        question=_text(get("question")),
        compared=_texts(get("compared")),
        tuned=_texts(get("tuned")),
        searched={str(key): _interval(*ends) for key, ends in (get("searched") or {}).items()},
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
        budgets=tuple(map(_budget, get("budgets") or [])),
        plan_file=_text(get("plan_file")),
        others={str(key): value for key, value in content.items() if key not in known},
    )


def _interval(low: float, high: float, is_log: object) -> Interval:
    if not all(isinstance(end, int | float) and math.isfinite(end) for end in (low, high)):
        raise ValueError(f"{low} to {high} is no interval of numbers")
    return Interval(low, high, bool(is_log))


def _addition(entry: Any) -> Addition:  # noqa: ANN401
    changed = {str(key): (_asked(old), _asked(new)) for key, (old, new) in (entry.get("changed") or {}).items()}
    return Addition(_text(entry.get("date")), _command(entry.get("command")), _texts(entry.get("runs")), changed)


def _confirmation(entry: Any) -> Confirmation:  # noqa: ANN401
    return Confirmation(
        _text(entry.get("date")), _command(entry.get("command")), tuple(map(_confirmed_arm, entry.get("arms") or []))
    )


def _confirmed_arm(entry: Any) -> ConfirmedArm:  # noqa: ANN401
    lists = (_texts(entry.get(key)) for key in ("overrides", "chosen_by", "seeds", "runs"))
    arm = ConfirmedArm(str(entry.get("label")), *lists)
    if len(arm.seeds) != len(arm.runs):
        raise ValueError(f"{arm.label} does not have one seed for each run")
    return arm


def _baseline(entry: Any) -> Baseline:  # noqa: ANN401
    counts = (int(entry.get(key) or 0) for key in ("num_completed", "num_confirming"))
    return Baseline(str(entry.get("label")), _text(entry.get("date")), *counts)


def _budget(entry: Any) -> StudyBudget:  # noqa: ANN401
    predicted = entry.get("predicted_minutes")
    return StudyBudget(
        minutes=float(entry["minutes"]),
        of=str(entry["of"]),
        epochs=int(entry["epochs"]),
        cut=_texts(entry.get("cut")),
        confirm=int(entry.get("confirm") or 0),
        predicted_minutes=None if predicted is None else float(predicted),
        date=_text(entry.get("date")),
    )


def _asked(value: object) -> Asked:
    return _texts(value) if isinstance(value, list) else _text(value)


def _command(value: object) -> str | None:
    return value if isinstance(value, str) else None


def _text(value: object) -> str | None:
    return None if value is None else str(value)


def _texts(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | None):
        raise TypeError(f"{value} is not a list")
    return tuple(map(str, value or ()))
