"""The end of a run: its best weights on the validation and the test images, once."""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy.typing as npt
from torch import nn

from intel_scenes import files, record
from intel_scenes.data import progress_bar
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.splits import Splits
from intel_scenes.errors import UserError
from intel_scenes.models.norms import batch_norms
from intel_scenes.models.predicting import probabilities
from intel_scenes.models.scores import calibrated_results, scores
from intel_scenes.models.weights import network_state
from intel_scenes.probabilities import Probabilities, balanced_accuracy, macro_f1
from intel_scenes.record import Epoch, Predictions, Summary
from intel_scenes.runtime import Runtime
from intel_scenes.training import memory
from intel_scenes.training.checkpoints import EpochRecorder, read_best
from intel_scenes.training.confusion import draw_confusion
from intel_scenes.training.curves import draw_curves
from intel_scenes.training.mistakes import draw_mistakes

log = logging.getLogger(__name__)

Split = Literal["val", "test"]
SPLITS: tuple[Split, ...] = ("val", "test")

WILD = 0.2  # difference of the accuracies on training images while training and in evaluation mode
USUAL = 0.1  # momentum of torch's batch norms


def evaluate(
    known: Summary,
    folder: Path,
    network: nn.Module,
    data: SceneDataModule,
    recorder: EpochRecorder,
    runtime: Runtime,
) -> Summary:
    """Evaluates the best epoch, writes predictions and pictures, and adds results and cost to the summary.

    Args:
        known: The summary so far.
        folder: The run folder, with `best.ckpt`.
        network: Takes the best weights.
        data: The images.
        recorder: The history of the run.
        runtime: Where and how precisely to compute.

    Raises:
        UserError: `best.ckpt` is damaged, or not of the best epoch: a kill cut its record off, and a GPU did not
            repeat it.
    """
    checkpoint = read_best(folder)
    if checkpoint["epoch"] != recorder.history.best.epoch:
        raise UserError(
            f"{folder / record.BEST} is of epoch {checkpoint['epoch'] + 1}, but the best of the history is "
            f"{recorder.history.best.epoch + 1}: an epoch that was cut off did not repeat itself, remove the folder"
        )
    state = network_state(checkpoint["state_dict"])  # of a head alone, or by now of its whole network: see add_backbone
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    splits = data.splits
    predicted: dict[str, Probabilities] = {
        split: predict(network, data, split, runtime, f"evaluating {split}") for split in SPLITS
    }
    by_split = {split: _predictions(splits, split, one) for split, one in predicted.items()}
    Predictions.write(folder, splits.classes, by_split)
    history, best = recorder.history, recorder.history.best
    files.write_whole(folder / record.CURVES, draw_curves(history))
    labels, val_labels, clean = splits.test_scenes.labels, splits.scenes.labels[splits.val], splits.clean_test()
    test, val = scores(predicted["test"], labels), scores(predicted["val"], val_labels)
    results = calibrated_results(predicted, {"val": val_labels, "test": labels})
    _draw(folder, splits, by_split["test"], test.confusion)
    warn_of_other_results(network, (best, history.epochs[-1]))
    return replace(
        known,
        best_epoch=best.epoch,
        train_accuracy=best.train_eval_accuracy,
        val_accuracy=best.val_accuracy,
        val_loss=best.val_loss,
        val_accuracy_tta=val.accuracy,
        test_accuracy=results.test_accuracy,
        test_loss=results.test_loss,
        test_accuracy_interval=results.test_accuracy_interval,
        test_ece=results.test_ece,
        temperature=results.temperature,
        test_loss_calibrated=results.test_loss_calibrated,
        test_ece_calibrated=results.test_ece_calibrated,
        test_accuracy_clean=scores(predicted["test"][clean], labels[clean]).accuracy if clean.any() else None,
        test_accuracy_per_class=tuple(test.accuracy_per_class),
        test_confusion=tuple(map(tuple, test.confusion)),
        val_balanced_accuracy=best.val_balanced_accuracy,
        test_balanced_accuracy=balanced_accuracy(test.confusion),
        test_macro_f1=macro_f1(test.confusion),
        val_balanced_accuracy_tta=balanced_accuracy(val.confusion),
        fit_seconds=recorder.fit_seconds,
        images_per_second=len(history.epochs) / sum(1 / epoch.images_per_second for epoch in history.epochs),
        peak_memory_bytes=memory.peak(runtime.device),
    )


def predict(network: nn.Module, data: SceneDataModule, split: Split, runtime: Runtime, label: str) -> Probabilities:
    """Predicts the images of a split, with the test-time augmentation of their pipeline.

    Args:
        network: With the weights to use.
        data: The images.
        split: Of the images.
        runtime: Where and how precisely to compute.
        label: Of the progress bar.

    Returns:
        (N, C) probabilities, in the order of the split.
    """
    num_images = len(data.splits.val if split == "val" else data.splits.test)
    batches = progress_bar.with_bar(data.eval_batches(split), num_images, label)
    seen = (data.pipeline.tta_views(batch.to(runtime.device).images) for batch in batches)
    return probabilities(network, seen, runtime)


def warn_of_other_results(network: nn.Module, epochs: Sequence[Epoch]) -> None:
    """Says where a network does far worse in evaluation mode than it did while training, on training images.

    Args:
        network: That was trained.
        epochs: The best and the last: where all of them guess alike, the first is the best.
    """
    gaps = [(epoch.train_accuracy, epoch.train_eval_accuracy) for epoch in epochs]
    training, evaluating = max(gaps, key=lambda gap: gap[0] - gap[1])
    if training - evaluating <= WILD:
        return
    momenta = (getattr(module, "momentum", None) for module in batch_norms(network))
    momentum = min((momentum for momentum in momenta if momentum), default=USUAL)
    why = (
        f"BatchNorm momentum is {momentum:g}, so its running statistics lag and early evaluation can be at chance"
        if momentum < USUAL
        else "BatchNorm statistics or the average of the weights (recipe.ema_decay) may lag behind the weights, or "
        "evaluation see images of another size (recipe.train_size)"
    )
    log.warning(
        "training accuracy was %.0f %%, but in evaluation mode it is %.0f %% on training images: %s; train longer",
        100 * training,
        100 * evaluating,
        why,
    )


def _draw(folder: Path, splits: Splits, test: Predictions, confusion: npt.ArrayLike) -> None:
    """Draws the confusion matrix of the test images and the most confident mistakes: they choose nothing."""
    what = "test split, best epoch"
    files.write_whole(folder / record.CONFUSION, draw_confusion(confusion, splits.classes, what))
    files.write_whole(folder / record.MISTAKES, draw_mistakes(splits.test_scenes.root, test, splits.classes, what))


def _predictions(splits: Splits, split: str, predicted: Probabilities) -> Predictions:
    is_val = split == "val"
    scenes, positions = (splits.scenes, splits.val) if is_val else (splits.test_scenes, splits.test)
    paths = [scenes.paths[index] for index in positions]
    return Predictions(paths, scenes.labels[positions], predicted.argmax(1), predicted)
