"""Finished runs on a folder of labelled images: how right they are, class by class, and compared image by image."""

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
from intel_scenes.errors import UserError, counted
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

NUM_NAMED = 5  # of images that are left out


@dataclass(frozen=True)
class ClassScores:
    """How right predictions are for one class; None is what is not defined.

    Attributes:
        name: Of the class.
        num_images: Of this class.
        num_predicted: Images that are predicted to be of it.
        precision: Share of right ones among those; None where there are none.
        recall: Share of right ones among the images of the class; None where the folder has none.
        f1: Harmonic mean of both; None where there are neither images nor predictions.
    """

    name: str
    num_images: int
    num_predicted: int
    precision: float | None
    recall: float | None
    f1: float | None


@dataclass(frozen=True, kw_only=True)
class FolderScores:
    """How right and how well calibrated a run, or the mean of several, is on the images of a folder.

    Attributes:
        name: Folder of the run, or how many were combined.
        accuracy: Share of right predictions.
        accuracy_interval: 95 % Wilson interval over images.
        balanced_accuracy: Mean recall of the classes that the folder has.
        macro_f1: Mean F1 of the classes that the folder has or that are predicted.
        loss: Negative log likelihood, its mean over images.
        ece: Expected calibration error, 15 bins (Guo et al. 2017).
        temperature: That was fitted to the validation images of the run, as its record has it; None is unknown.
        loss_calibrated: The loss at that temperature.
        ece_calibrated: The calibration error at that temperature.
        classes: Of each class of the run, in its order.
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
    """What runs come to on a folder of labelled images.

    Attributes:
        folder: That was given.
        split: That was read; None where the folder was read whole.
        classes: Of the runs, in the order of labels and probabilities.
        num_images: That could be decoded.
        views: Test-time augmentation that was asked for; None is that of each run.
        rows: One for each run, and of several the last for their mean.
        pairs: Each run compared with each that was named before it.
        skipped: Images that cannot be decoded, with the reason.
        notices: What keeps figures from being those of a record to the last digit, or from being of new images.
        predictions: Of each row, of all images in the order of the folder.
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
    """Evaluates runs on the labelled images of a folder.

    On a run's own test images it repeats the record to the last digit, given the device, the number of threads, the
    versions and the test-time augmentation of the record; where device or threads differ, a notice says so.

    Args:
        runs: Finished, of the same classes.
        folder: Holds class folders, or splits of them.
        split: Of the folder; None for one that has none, whose images are all taken. A class of the runs may have no
            images: its recall is then not defined.
        views: Test-time augmentation; None is that of each run.
        labels: A labels file in place of class folders, whose paths are relative to the folder.
        cache_dir: Where decoded images are kept; None is the cache of each run.
        trust: Whether the classes of custom networks, which the records name, may be imported.

    Raises:
        UserError: The folder has no such split, no images, or a class that the runs do not know; the classes of the
            runs differ; or a checkpoint is missing or damaged.
    """
    classes = _classes_of(runs)
    scenes = _with_labels_of(classes, read_labelled(folder, split, labels=labels), runs[0])
    found = [_predict(run, scenes, views, cache_dir, trust=trust) for run in runs]
    notices = [*_seen_in_training(runs, labels or folder, split), *(one.notice for one in found if one.notice)]
    skipped = found[0].skipped  # the same of each run: whether an image can be decoded is not up to its network
    if skipped:
        few = ", ".join(list(skipped)[:NUM_NAMED]) + (", ..." if len(skipped) > NUM_NAMED else "")
        log.warning("%s could not be decoded; skipped: %s", counted(len(skipped), "image"), few)
    for notice in notices:
        log.warning("%s", notice)
    names, predictions = [str(run.folder) for run in runs], [one.predictions for one in found]
    temperatures: list[float | None] = [one.temperature for one in found]
    pairs = [
        paired_difference(names[late], names[early], *(_is_right(predictions[one]) for one in (late, early)))
        for early, late in combinations(range(len(runs)), 2)
    ]
    if len(runs) > 1:
        names.append(f"mean of {len(runs)}")
        temperatures.append(_temperature_of_mean(runs))
        predictions.append(_mean(predictions))
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
    """What a run predicts of a folder.

    Attributes:
        predictions: Of the images that can be decoded.
        temperature: Of the run.
        skipped: Of the others, the reason by path.
        notice: Where the run computed otherwise than its record says; None where it did not.
    """

    predictions: Predictions
    temperature: float
    skipped: Mapping[str, str]
    notice: str | None


def _classes_of(runs: Sequence[FinishedRun]) -> tuple[str, ...]:
    first = runs[0]
    for run in runs:
        if not run.summary.classes:
            raise UserError(f"the record of {run.folder} names no classes: it cannot be evaluated on a folder")
        if run.summary.classes != first.summary.classes:
            named = (f"{one.folder} ({', '.join(one.summary.classes or ())})" for one in (run, first))
            raise UserError(f"{' and '.join(named)} have other classes: evaluate them one at a time")
    assert first.summary.classes is not None
    return first.summary.classes


def _with_labels_of(classes: Sequence[str], scenes: Scenes, run: FinishedRun) -> Scenes:
    """The same images with the labels that the classes have in a run."""
    if unknown := sorted(set(scenes.classes) - set(classes)):
        raise UserError(
            f"{scenes.root} has classes that {run.folder} does not know ({', '.join(unknown)}): the folder has "
            f"{', '.join(scenes.classes)}, the run {', '.join(classes)}; rename or remove the class folders"
        )
    labels = np.array([classes.index(name) for name in scenes.classes], dtype=np.int64)
    return replace(scenes, classes=tuple(classes), labels=labels[scenes.labels])


def _predict(
    run: FinishedRun, scenes: Scenes, views: Views | None, cache_dir: Path | None, *, trust: bool
) -> _Predicted:
    data = run.config.data
    here = resolve_threads(None)
    with _threads(min(run.summary.threads or here, here)):
        member = trained(run, views, trust=trust)
        cache = cache_dir or Path(data.cache_dir).expanduser()
        packing = Packing(cache, member.storing.size, data.store_rule, member.pipeline.view)
        packed = packing.pack(scenes)
        readable, stored, _ = packing.readable(scenes, packed)
        if not len(readable):
            raise UserError(f"no image of {scenes.root} can be decoded: replace them, or name another folder")
        seen: tuple[nn.Module, Stored, Pipeline] = member.network, stored, member.pipeline
        if run.config.recipe.trained == "head" and member.pipeline.tta == 1:
            seen = _as_features(member, run.config.model.name, stored)
        predicted = _probabilities(*seen, eval_batch_size(data.batch_size), member)
    reasons = {scenes.paths[index]: reason for index, reason in sorted(packed.unreadable.items())}
    predictions = Predictions(list(readable.paths), readable.labels, predicted.argmax(1), predicted)
    return _Predicted(predictions, member.temperature, reasons, _notice(run, member.runtime))


def _as_features(member: Trained, model_name: str, stored: Stored) -> tuple[nn.Module, Stored, Pipeline]:
    """A head, the features of the images that it takes, and how they are shown, as a run of the head alone had them.

    The whole network would predict the same but for the last digits, which depend on the size of a batch.
    """
    head, show = Head(member.network, model_name), member.pipeline.eval_view
    member.network.set_submodule(head.name, nn.Identity())
    with progress_bar.bar(len(stored.labels), f"features of {Path(member.name).name}", is_brief=True) as bar:
        values = torch.from_numpy(all_features(member.network, stored, show, member.runtime, bar))
    return head, Stored(values, stored.labels, torch.arange(len(values))), FeaturePipeline()


def _probabilities(
    network: nn.Module, stored: Stored, pipeline: Pipeline, batch_size: int, member: Trained
) -> Probabilities:
    batches, device = EvalBatches(stored, np.arange(len(stored.labels)), batch_size), member.runtime.device
    shown = progress_bar.with_bar(iter(batches), len(stored.labels), f"evaluating {Path(member.name).name}")
    return probabilities(network, (pipeline.tta_views(one.to(device).images) for one in shown), member.runtime)


@contextmanager
def _threads(number: int) -> Iterator[None]:
    """Has torch compute on so many threads."""
    before = torch.get_num_threads()
    torch.set_num_threads(number)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def _notice(run: FinishedRun, runtime: Runtime) -> str | None:
    """Where a run is evaluated otherwise than its record says; of what can be known."""
    summary, device = run.summary, device_name(runtime.device)
    others = [f"on {device} instead of {summary.device}"] if summary.device not in (None, device) else []
    if runtime.device.type == "cpu" and summary.threads not in (None, runtime.threads):
        others.append(f"on {counted(runtime.threads, 'thread')} instead of {summary.threads}")
    if run.config.compile:
        others.append("without compiling the network")
    if not others:
        return None
    return f"{run.folder} is evaluated {' and '.join(others)}: the last digits may differ from those of its record"


def _seen_in_training(runs: Sequence[FinishedRun], folder: Path, split: Split | None) -> Iterator[str]:
    """Names the runs that were trained on images of this folder or labels file, as far as that is known by its path."""
    for run in runs:
        root = run.config.data.labels or run.config.data.root
        if split in (None, "train") and root and Path(root).expanduser().resolve() == folder.resolve():
            yield f"{run.folder} was trained on images of {folder}: on those its figures are too good"


def _is_right(predictions: Predictions) -> npt.NDArray[np.bool_]:
    is_right: npt.NDArray[np.bool_] = predictions.predicted == predictions.labels
    return is_right


def _mean(predictions: Sequence[Predictions]) -> Predictions:
    average = np.mean([one.probabilities for one in predictions], axis=0)
    return replace(predictions[0], predicted=average.argmax(1), probabilities=average)


def _temperature_of_mean(runs: Sequence[FinishedRun]) -> float | None:
    """That fits the mean of the runs on their validation images; None where they have other ones."""
    first = runs[0].predictions["val"]
    if any(run.predictions["val"].paths != first.paths for run in runs):
        return None
    return fitted_temperature(_mean([run.predictions["val"] for run in runs]).probabilities, first.labels)


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
    """Precision, recall and F1 of each class.

    Args:
        confusion: (C, C) counts, rows the true and columns the predicted classes.
        classes: Their names.
    """
    counts = np.asarray(confusion)
    found = []
    for name, images, called, right in zip(
        classes, counts.sum(1).tolist(), counts.sum(0).tolist(), counts.diagonal().tolist(), strict=True
    ):
        precision, recall = right / called if called else None, right / images if images else None
        f1 = 2 * right / (images + called) if images + called else None
        found.append(ClassScores(name, images, called, precision, recall, f1))
    return tuple(found)
