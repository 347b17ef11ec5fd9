"""Evaluation of the best epoch on the validation and test images, once, at the end of a run."""

import logging
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Literal

from torch import nn

from intel_scenes import files, record
from intel_scenes.data import progress_bar
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.splits import Splits
from intel_scenes.errors import UserError, percentage
from intel_scenes.models.norms import batch_norms
from intel_scenes.models.predicting import probabilities
from intel_scenes.models.scores import calibrated_results, scores
from intel_scenes.models.weights import network_state
from intel_scenes.probabilities import Probabilities, balanced_accuracy, macro_f1
from intel_scenes.record import Epoch, Predictions, Summary
from intel_scenes.runtime import Runtime
from intel_scenes.training import memory
from intel_scenes.training.checkpoints import EpochRecorder, read_best
from intel_scenes.training.confusion import render_confusion
from intel_scenes.training.curves import plot_curves
from intel_scenes.training.mistakes import render_mistakes

log = logging.getLogger(__name__)

Split = Literal["val", "test"]
SPLITS: tuple[Split, ...] = ("val", "test")

LARGE_GAP = 0.2  # between the accuracies on training images while training and in evaluation mode
DEFAULT_MOMENTUM = 0.1  # of torch's batch norms


def evaluate_best_epoch(
    summary: Summary,
    folder: Path,
    network: nn.Module,
    data: SceneDataModule,
    recorder: EpochRecorder,
    runtime: Runtime,
) -> Summary:
    """Evaluate the best epoch, write predictions and figures, and return the summary with results and cost.

    Args:
        summary: The summary before the results.
        folder: Run folder that holds `best.ckpt`.
        network: Network into which the best weights are loaded.
        data: The images.
        recorder: History of the run.
        runtime: Device and precision to compute with.

    Raises:
        UserError: `best.ckpt` is corrupt, or belongs to another epoch than the best one of the history: the run was
            killed between the two files, and the GPU did not reproduce the epoch.
    """
    checkpoint = read_best(folder)
    if checkpoint["epoch"] != recorder.history.best.epoch:
        raise UserError(
            f"{folder / record.BEST} holds epoch {checkpoint['epoch'] + 1}, but the best epoch of the history is "
            f"{recorder.history.best.epoch + 1}: an epoch was not reproduced after an interruption; remove the folder "
            "and train again"
        )
    state = network_state(checkpoint["state_dict"])  # of the head alone, or of the whole network after add_backbone
    network.load_state_dict({name: state[name] for name in network.state_dict()})
    splits = data.splits
    predicted: dict[str, Probabilities] = {
        split: predict_split(network, data, split, runtime, f"evaluating {split}") for split in SPLITS
    }
    by_split = {split: _predictions(splits, split, rows) for split, rows in predicted.items()}
    Predictions.write(folder, splits.classes, by_split)
    history, best = recorder.history, recorder.history.best
    files.write_whole(folder / record.CURVES, plot_curves(history))
    labels, val_labels, clean = splits.test_scenes.labels, splits.scenes.labels[splits.val], splits.clean_test()
    test, val = scores(predicted["test"], labels), scores(predicted["val"], val_labels)
    results = calibrated_results(predicted, {"val": val_labels, "test": labels})
    title = "test set, best epoch"
    files.write_whole(folder / record.CONFUSION, render_confusion(test.confusion, splits.classes, title))
    mistakes = render_mistakes(splits.test_scenes.root, by_split["test"], splits.classes, title)
    files.write_whole(folder / record.MISTAKES, mistakes)
    warn_of_evaluation_gap(network, (best, history.epochs[-1]))
    return replace(
        summary,
        best_epoch=best.epoch,
        train_accuracy=best.train_eval_accuracy,
        val_accuracy=best.val_accuracy,
        val_loss=best.val_loss,
        val_accuracy_tta=val.accuracy,
        **asdict(results),
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
        predictions_digest=files.sha256(folder / record.PREDICTIONS),
    )


def predict_split(
    network: nn.Module, data: SceneDataModule, split: Split, runtime: Runtime, label: str
) -> Probabilities:
    """Predict the images of a split, with the test-time augmentation of their pipeline.

    Args:
        network: Network with the weights to use.
        data: The images.
        split: Split to predict.
        runtime: Device and precision to compute with.
        label: Label of the progress bar.

    Returns:
        (N, C) probabilities, in the order of the split.
    """
    num_images = len(data.splits.val if split == "val" else data.splits.test)
    batches = progress_bar.with_bar(data.eval_batches(split), num_images, label)
    inputs = (data.pipeline.tta_views(batch.to(runtime.device).images) for batch in batches)
    return probabilities(network, inputs, runtime)


def warn_of_evaluation_gap(network: nn.Module, epochs: Sequence[Epoch]) -> None:
    """Warn if a network is far less accurate on training images in evaluation mode than it was while training.

    Args:
        network: The trained network.
        epochs: The best and the last epoch: if all are at chance, the first one counts as the best.
    """
    gaps = [(epoch.train_accuracy, epoch.train_eval_accuracy) for epoch in epochs]
    training, evaluating = max(gaps, key=lambda gap: gap[0] - gap[1])
    if training - evaluating <= LARGE_GAP:
        return
    momenta = (getattr(module, "momentum", None) for module in batch_norms(network))
    momentum = min((momentum for momentum in momenta if momentum), default=DEFAULT_MOMENTUM)
    cause = (
        f"BatchNorm momentum is {momentum:g}, so its running statistics lag and early evaluation can be at chance"
        if momentum < DEFAULT_MOMENTUM
        else "BatchNorm statistics or the average of the weights (recipe.ema_decay) may lag behind the weights, or "
        "evaluation may use another image size than training (recipe.train_size)"
    )
    log.warning(
        "accuracy on training images was %s while training, but is %s in evaluation mode: %s; train longer",
        percentage(training, 0),
        percentage(evaluating, 0),
        cause,
    )


def _predictions(splits: Splits, split: str, predicted: Probabilities) -> Predictions:
    is_val = split == "val"
    scenes, positions = (splits.scenes, splits.val) if is_val else (splits.test_scenes, splits.test)
    paths = [scenes.paths[index] for index in positions]
    return Predictions(paths, scenes.labels[positions], predicted.argmax(1), predicted)
