"""The end of a run: its best weights on the validation and the test images, once."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import nn

from intel_scenes import files, record
from intel_scenes.data import progress
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.splits import Indices
from intel_scenes.errors import UserError
from intel_scenes.predictions import Probabilities
from intel_scenes.training import memory
from intel_scenes.training.checkpoints import EpochRecorder, read_best
from intel_scenes.training.curves import draw_curves
from intel_scenes.training.inference import calibrated_results, probabilities, scores

log = logging.getLogger(__name__)

WILD = 0.2  # difference of the accuracies on training images while training and in evaluation mode
USUAL = 0.1  # momentum of torch's batch norms


def evaluate(
    folder: Path,
    network: nn.Module,
    data: SceneDataModule,
    recorder: EpochRecorder,
    *,
    device: torch.device,
    precision: str,
) -> dict[str, Any]:
    """Evaluates the best epoch, writes `predictions.csv` and `curves.png`, and returns results and cost.

    Args:
        folder: The run folder, with `best.ckpt`.
        network: Takes the best weights.
        data: The images.
        recorder: The history of the run.
        device: Where to compute.
        precision: Of the run, as Lightning names it.

    Returns:
        Results and cost of `summary.json`.

    Raises:
        UserError: `best.ckpt` is damaged, or not of the best epoch: a kill cut its record off, and a GPU did not
            repeat it.
    """
    checkpoint = read_best(folder)
    if checkpoint["epoch"] != recorder.best["epoch"]:
        raise UserError(
            f"{folder / record.BEST} is of epoch {checkpoint['epoch'] + 1}, but the best of the history is "
            f"{recorder.best['epoch'] + 1}: an epoch that was cut off did not repeat itself, remove the folder"
        )
    weights = checkpoint["state_dict"]
    network.load_state_dict({name: weights[f"network.{name}"] for name in network.state_dict()})
    predicted: dict[str, Probabilities] = {}
    splits: dict[Literal["val", "test"], Indices] = {"val": data.val, "test": data.test}
    for split, chosen in splits.items():
        batches = progress.shown(data.evaluation(split), len(chosen), f"evaluating {split}")
        predicted[split] = probabilities(network, batches, data.views, device=device, precision=precision)
    _write_predictions(folder, data, predicted)
    files.write_whole(folder / record.CURVES, draw_curves(recorder.rows))
    labels, val_labels, clean = data.test_scenes.labels, data.scenes.labels[data.val], data.clean_test()
    test, best = scores(predicted["test"], labels), recorder.best
    warn_of_other_results(network, (best, recorder.rows[-1]))
    return {
        "best_epoch": best["epoch"],
        "train_accuracy": best["train_eval_accuracy"],
        "val_accuracy": best["val_accuracy"],
        "val_loss": best["val_loss"],
        "val_accuracy_tta": scores(predicted["val"], val_labels).accuracy,
        **calibrated_results(predicted, {"val": val_labels, "test": labels}),
        "test_accuracy_clean": scores(predicted["test"][clean], labels[clean]).accuracy if clean.any() else None,
        "test_accuracy_per_class": test.accuracy_per_class,
        "test_confusion": test.confusion,
        "fit_seconds": recorder.fit_seconds,
        "images_per_second": len(recorder.rows) / sum(1 / row["images_per_second"] for row in recorder.rows),
        "peak_memory_bytes": memory.peak(device),
    }


def warn_of_other_results(network: nn.Module, rows: Sequence[Mapping[str, Any]]) -> None:
    """Says where a network does far worse in evaluation mode than it did while training, on training images.

    Args:
        network: That was trained.
        rows: Of the best epoch and of the last: where all of them guess alike, the first is the best.
    """
    gaps = [(row["train_accuracy"], row["train_eval_accuracy"]) for row in rows]
    training, evaluating = max(gaps, key=lambda gap: gap[0] - gap[1])
    if training - evaluating <= WILD:
        return
    norms = (module for module in network.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm))
    momentum = min((module.momentum for module in norms if module.momentum), default=USUAL)
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


def _write_predictions(folder: Path, data: SceneDataModule, predicted: dict[str, Probabilities]) -> None:
    rows = []
    for split, positions, scenes in (("val", data.val, data.scenes), ("test", data.test, data.test_scenes)):
        found = predicted[split]
        rows += [
            (split, scenes.paths[index], scenes.labels[index], np.argmax(row), *row.tolist())
            for index, row in zip(positions, found, strict=True)
        ]
    files.write_csv(folder / record.PREDICTIONS, ("split", "path", "label", "predicted", *data.classes), rows)
