"""Evaluate finished runs on a folder of labelled images: overall, by class, and paired image by image."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import combinations
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from intel_scenes.config import Views
from intel_scenes.data import progress_bar
from intel_scenes.data.batches import EvalBatches
from intel_scenes.data.datamodule import eval_batch_size
from intel_scenes.data.layouts import Split, read_labelled
from intel_scenes.data.pipelines import FeaturePipeline, Pipeline
from intel_scenes.data.readable import Packing
from intel_scenes.data.scenes import Scenes
from intel_scenes.data.store import Stored
from intel_scenes.errors import UserError, counted, few
from intel_scenes.inference.load_run import FinishedRun
from intel_scenes.inference.paired import PairedDifference, paired_difference
from intel_scenes.inference.trained import Trained, trained
from intel_scenes.models.predicting import probabilities
from intel_scenes.models.scores import fitted_temperature, scores
from intel_scenes.probabilities import Probabilities, at_temperature, balanced_accuracy, macro_f1
from intel_scenes.record import Predictions
from intel_scenes.runtime import Runtime, resolve_threads
from intel_scenes.training.frozen_features import Head, all_features
from intel_scenes.training.identity import device_name

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class ClassScores:
    """Scores of one class; None is undefined.

    Attributes:
        name: Name of the class.
        num_images: Number of images of the class.
        num_predicted: Number of images predicted to be of the class.
        precision: Share of correct predictions among `num_predicted`; None if that is 0.
        recall: Share of correct predictions among `num_images`; None if that is 0.
        f1: Harmonic mean of precision and recall; None without images and predictions.
    """

    name: str
    num_images: int
    num_predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, kw_only=True)
class FolderScores:
    """Accuracy and calibration of a run, or of the mean of several, on the images of a folder.

    Attributes:
        name: Folder of the run, or the number of runs combined.
        accuracy: Share of correct predictions.
        accuracy_interval: 95 % Wilson interval over images.
        balanced_accuracy: Mean recall of the classes in the folder.
        macro_f1: Mean F1 of the classes in the folder or among the predictions.
        loss: Negative log-likelihood, mean over images.
        ece: Expected calibration error, 15 bins (Guo et al. 2017).
        temperature: Temperature fitted to the validation images of the run; None if unknown.
        loss_calibrated: Loss at that temperature.
        ece_calibrated: Calibration error at that temperature.
        classes: Scores of each class, in the order of the run.
        confusion: (C, C) counts, rows the true and columns the predicted classes.
    """

    name: str
    accuracy: float
    accuracy_interval: tuple[float, float]
    balanced_accuracy: float
    macro_f1: float
    loss: float
    ece: float
    temperature: float | None
    loss_calibrated: float | None
    ece_calibrated: float | None
    classes: tuple[ClassScores, ...]
    confusion: tuple[tuple[int, ...], ...]


@dataclass(frozen=True)
class FolderEvaluation:
    """Scores of runs on a folder of labelled images.

    Attributes:
        folder: Folder of the images.
        split: Split that was evaluated; None for a folder without splits.
        classes: Classes of the runs, in the order of labels and probabilities.
        num_images: Number of images that could be decoded.
        views: Test-time augmentation; None is that of each run.
        rows: Scores of each run; with several runs the last is their mean.
        pairs: Each run compared with every run named before it.
        skipped: Images that could not be decoded, with the reason.
        notices: Why the last digits may differ from the record, or why the scores are optimistic.
        predictions: Predictions of each row, in the order of the folder.
    """

    folder: Path
    split: str | None
    classes: tuple[str, ...]
    num_images: int
    views: Views | None
    rows: tuple[FolderScores, ...]
    pairs: tuple[PairedDifference, ...]
    skipped: tuple[str, ...]
    notices: tuple[str, ...]
    predictions: tuple[Predictions, ...] = field(repr=False)


def evaluate_folder(
    runs: Sequence[FinishedRun],
    folder: Path,
    split: Split | None = None,
    views: Views | None = None,
    *,
    labels: Path | None = None,
    cache_dir: Path | None = None,
    trust: bool = False,
) -> FolderEvaluation:
    """Evaluate runs on a folder of labelled images.

    On the run's own test images this reproduces the scores of the record to the last digit, given the record's device,
    number of threads, versions and test-time augmentation; a notice says where device or threads differ.

    Args:
        runs: Finished runs with the same classes.
        folder: Folder of class folders, or of splits with class folders.
        split: Split to evaluate; None for a folder without splits, all of which is evaluated. A class of the runs
            without images has no recall.
        views: Test-time augmentation; None is that of each run.
        labels: Labels file in place of class folders; its paths are relative to the folder.
        cache_dir: Cache of decoded images; None is that of each run.
        trust: Whether to import the classes of custom networks, which the records name.

    Raises:
        UserError: The folder lacks the split, has no images or a class that the runs do not have; the classes of the
            runs differ; or a checkpoint is missing or corrupt.
    """
    classes = _classes_of(runs)
    scenes = _with_labels_of(classes, read_labelled(folder, split, labels=labels), runs[0])
    predicted = [_predict(run, scenes, views, cache_dir, trust=trust) for run in runs]
    notices = [*_trained_on(runs, labels or folder, split), *(of_run.notice for of_run in predicted if of_run.notice)]
    skipped = predicted[0].skipped  # the same for every run: decoding does not depend on the network
    if skipped:
        log.warning("%s could not be decoded; skipped: %s", counted(len(skipped), "image"), few(list(skipped)))
    for notice in notices:
        log.warning("%s", notice)
    names, predictions = [str(run.folder) for run in runs], [of_run.predictions for of_run in predicted]
    temperatures: list[float | None] = [of_run.temperature for of_run in predicted]
    pairs = [
        paired_difference(names[late], names[early], *(_is_correct(predictions[number]) for number in (late, early)))
        for early, late in combinations(range(len(runs)), 2)
    ]
    if len(runs) > 1:
        names.append(f"mean of {len(runs)}")
        temperatures.append(_temperature_of_mean(runs))
        predictions.append(_mean_of(predictions))
    rows = [_scored(classes, *of_row) for of_row in zip(names, predictions, temperatures, strict=True)]
    return FolderEvaluation(
        folder=folder,
        split=split,
        classes=classes,
        num_images=len(predictions[0].labels),
        views=views,
        rows=tuple(rows),
        pairs=tuple(pairs),
        skipped=tuple(f"{path} ({reason})" for path, reason in skipped.items()),
        notices=tuple(notices),
        predictions=tuple(predictions),
    )


@dataclass(frozen=True)
class _Predicted:
    """Predictions of a run for a folder.

    Attributes:
        predictions: Predictions for the images that can be decoded.
        temperature: Temperature of the run.
        skipped: Reason why an image was skipped, by path.
        notice: How device, threads or compilation differ from the record; None if they do not.
    """

    predictions: Predictions
    temperature: float
    skipped: Mapping[str, str]
    notice: str | None


def _classes_of(runs: Sequence[FinishedRun]) -> tuple[str, ...]:
    first = runs[0]
    for run in runs:
        if not run.summary.classes:
            raise UserError(f"the record of {run.folder} names no classes: train again to evaluate it on a folder")
        if run.summary.classes != first.summary.classes:
            listed = (f"{finished.folder} ({', '.join(finished.summary.classes or ())})" for finished in (run, first))
            raise UserError(f"{' and '.join(listed)} have different classes: evaluate them one at a time")
    assert first.summary.classes is not None
    return first.summary.classes


def _with_labels_of(classes: Sequence[str], scenes: Scenes, run: FinishedRun) -> Scenes:
    """Return the same images with the class numbers of the run."""
    if unknown := sorted(set(scenes.classes) - set(classes)):
        raise UserError(
            f"{scenes.root} has classes that {run.folder} does not have ({', '.join(unknown)}): the folder has "
            f"{', '.join(scenes.classes)}, the run {', '.join(classes)}; rename or remove the class folders"
        )
    labels = np.array([classes.index(name) for name in scenes.classes], dtype=np.int64)
    return replace(scenes, classes=tuple(classes), labels=labels[scenes.labels])


def _predict(
    run: FinishedRun, scenes: Scenes, views: Views | None, cache_dir: Path | None, *, trust: bool
) -> _Predicted:
    data = run.config.data
    available = resolve_threads(None)
    with _threads(min(run.summary.threads or available, available)):
        member = trained(run, views, trust=trust)
        cache = cache_dir or Path(data.cache_dir).expanduser()
        packing = Packing(cache, member.storing.size, data.store_rule, member.pipeline.view)
        packed = packing.pack(scenes)
        readable, stored, _ = packing.readable(scenes, packed)
        if not len(readable):
            raise UserError(f"no image of {scenes.root} can be decoded: replace them, or give another folder")
        inputs: tuple[nn.Module, Stored, Pipeline] = member.network, stored, member.pipeline
        if run.config.recipe.trained == "head" and member.pipeline.tta == 1:
            inputs = _as_features(member, run.config.model.name, stored)
        predicted = _probabilities(*inputs, eval_batch_size(data.images_per_batch), member)
    reasons = {scenes.paths[index]: reason for index, reason in sorted(packed.unreadable.items())}
    predictions = Predictions(list(readable.paths), readable.labels, predicted.argmax(1), predicted)
    return _Predicted(predictions, member.temperature, reasons, _notice(run, member.runtime))


def _as_features(member: Trained, model_name: str, stored: Stored) -> tuple[nn.Module, Stored, Pipeline]:
    """Return the head, the features of all images and their pipeline, as a run on frozen features evaluates them.

    The whole network would predict the same except for the last digits, which depend on the batch size.
    """
    head, show = Head(member.network, model_name), member.pipeline.eval_view
    member.network.set_submodule(head.name, nn.Identity())
    with progress_bar.bar(len(stored.labels), f"features of {Path(member.name).name}", is_brief=True) as bar:
        values = torch.from_numpy(all_features(member.network, stored, show, member.runtime, bar))
    return head, Stored(values, stored.labels, torch.arange(len(values))), FeaturePipeline()


def _probabilities(
    network: nn.Module, stored: Stored, pipeline: Pipeline, batch_size: int, member: Trained
) -> Probabilities:
    all_batches, device = EvalBatches(stored, np.arange(len(stored.labels)), batch_size), member.runtime.device
    batches = progress_bar.with_bar(iter(all_batches), len(stored.labels), f"evaluating {Path(member.name).name}")
    return probabilities(network, (pipeline.tta_views(batch.to(device).images) for batch in batches), member.runtime)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Set the number of torch's threads for the body of a with statement."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _notice(run: FinishedRun, runtime: Runtime) -> str | None:
    """Return how device, threads or compilation differ from the record, as far as it names them."""
    summary, device = run.summary, device_name(runtime.device)
    differences = [f"on {device} instead of {summary.device}"] if summary.device not in (None, device) else []
    if runtime.device.type == "cpu" and summary.threads not in (None, runtime.threads):
        differences.append(f"on {counted(runtime.threads, 'thread')} instead of {summary.threads}")
    if run.config.compile:
        differences.append("without compiling the network")
    if not differences:
        return None
    return f"{run.folder} is evaluated {' and '.join(differences)}: the last digits may differ from its record"


def _trained_on(runs: Sequence[FinishedRun], folder: Path, split: Split | None) -> Iterator[str]:
    """Warn of each run that was trained on images of this folder or labels file; only its path is compared."""
    for run in runs:
        root = run.config.data.labels or run.config.data.root
        if split in (None, "train") and root and Path(root).expanduser().resolve() == folder.resolve():
            yield f"{run.folder} was trained on images of {folder}: its scores on them are too optimistic"


def _is_correct(predictions: Predictions) -> npt.NDArray[np.bool_]:
    is_correct: npt.NDArray[np.bool_] = predictions.predicted == predictions.labels
    return is_correct


def _mean_of(predictions: Sequence[Predictions]) -> Predictions:
    average = np.mean([of_run.probabilities for of_run in predictions], axis=0)
    return replace(predictions[0], predicted=average.argmax(1), probabilities=average)


def _temperature_of_mean(runs: Sequence[FinishedRun]) -> float | None:
    """Return the temperature of the runs' mean, fitted to their validation images; None if those differ."""
    first = runs[0].predictions["val"]
    if any(run.predictions["val"].paths != first.paths for run in runs):
        return None
    return fitted_temperature(_mean_of([run.predictions["val"] for run in runs]).probabilities, first.labels)


def _scored(classes: Sequence[str], name: str, predictions: Predictions, temperature: float | None) -> FolderScores:
    plain = scores(predictions.probabilities, predictions.labels)
    calibrated = temperature and scores(at_temperature(predictions.probabilities, temperature), predictions.labels)
    return FolderScores(
        name=name,
        accuracy=plain.accuracy,
        accuracy_interval=plain.interval,
        balanced_accuracy=balanced_accuracy(plain.confusion),
        macro_f1=macro_f1(plain.confusion),
        loss=plain.loss,
        ece=plain.ece,
        temperature=temperature,
        loss_calibrated=calibrated.loss if calibrated else None,
        ece_calibrated=calibrated.ece if calibrated else None,
        classes=class_scores(plain.confusion, classes),
        confusion=tuple(map(tuple, plain.confusion)),
    )


def class_scores(confusion: Sequence[Sequence[int]], classes: Sequence[str]) -> tuple[ClassScores, ...]:
    """Return precision, recall and F1 of each class.

    Args:
        confusion: (C, C) counts, rows the true and columns the predicted classes.
        classes: Names of the classes.
    """
    counts = np.asarray(confusion)
    rows = []
    for name, num_images, num_predicted, num_correct in zip(
        classes, counts.sum(1).tolist(), counts.sum(0).tolist(), counts.diagonal().tolist(), strict=True
    ):
        precision = num_correct / num_predicted if num_predicted else None
        recall = num_correct / num_images if num_images else None
        f1 = 2 * num_correct / (num_images + num_predicted) if num_images + num_predicted else None
        rows.append(ClassScores(name, num_images, num_predicted, precision, recall, f1))
    return tuple(rows)
