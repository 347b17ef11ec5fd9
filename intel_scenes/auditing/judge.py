"""Labels that are likely wrong: confident learning, and a check of it by labels that are made wrong."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from intel_scenes.auditing.find import Finding
from intel_scenes.data import progress_bar
from intel_scenes.data.batches import EvalBatches
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.scenes import Scenes
from intel_scenes.data.splits import Indices, stratified_folds
from intel_scenes.data.store import Stored
from intel_scenes.models.predicting import probabilities
from intel_scenes.probabilities import Probabilities
from intel_scenes.runtime import Runtime
from intel_scenes.training.frozen_features import fit_head

Mask = npt.NDArray[np.bool_]

BATCH_SIZE = 1024  # features at once


@dataclass(frozen=True, eq=False)
class Judgement:
    """What confident learning says of labels (Northcutt et al. 2021).

    Attributes:
        order: (N,) positions, the most doubtful label first.
        quality: (N,) self-confidence, the probability of the given class: from 0 (surely wrong) to 1 (surely right).
        suggested: (N,) the most likely class.
        flagged: (N,) mask of the labels that are likely wrong.
        confusion: (C, C) counts, rows the given and columns the most likely classes.
        joint: (C, C) estimated shares of all images, rows the given and columns the true classes.
    """

    order: Indices
    quality: Probabilities
    suggested: Indices
    flagged: Mask
    confusion: Indices
    joint: Probabilities

    @property
    def noise(self) -> float:
        """Estimated share of labels that are wrong."""
        return 1 - float(np.trace(self.joint))


def judge(labels: Indices, probabilities: Probabilities) -> Judgement:
    """What confident learning says of labels.

    Args:
        labels: (N,) given classes.
        probabilities: (N, C) of a model that was not fitted to these labels.
    """
    from cleanlab import count, filter, rank  # an extra

    quality = rank.get_label_quality_scores(labels, probabilities, method="self_confidence")
    suggested, num_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    confusion = np.bincount(labels * num_classes + suggested, minlength=num_classes**2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")  # the only image of a class is never flagged
        flagged = filter.find_label_issues(labels, probabilities, n_jobs=1)
    return Judgement(
        order=np.argsort(quality, kind="stable"),
        quality=quality,
        suggested=suggested,
        flagged=flagged,
        confusion=confusion.reshape(num_classes, num_classes),
        joint=count.estimate_joint(labels, probabilities),
    )


def judge_splits(
    features: SceneDataModule, labels: Mapping[str, Indices], num_folds: int, seed: int
) -> dict[str, Judgement]:
    """What confident learning says of the labels of each split that was found.

    Train labels are judged by heads that are fitted to the other folds, the others by a head that is fitted to all of
    train.

    Args:
        features: The images as a frozen backbone sees them.
        labels: (N,) labels by split; those of train need not be those on the disk.
        num_folds: Number of folds; byte-identical images lie in one.
        seed: Of the folds.
    """
    num_classes, images, given = len(features.splits.classes), features.images_by_split, labels["train"]
    train = replace(images.pop("train"), labels=torch.from_numpy(given))
    folds = stratified_folds(given, features.splits.scenes_by_split["train"].contents, num_folds, seed)
    out_of_fold = np.empty((len(given), num_classes))
    with progress_bar.bar(len(given), "labels") as bar:
        for fold in range(num_folds):
            rest, own = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            out_of_fold[own] = _predicted(_head(train, rest, num_classes), train, own)
            bar.update(len(own))
    head = _head(train, np.arange(len(given)), num_classes)
    others = {split: _predicted(head, one, np.arange(len(one.labels))) for split, one in images.items()}
    return {"train": judge(given, out_of_fold)} | {split: judge(labels[split], of) for split, of in others.items()}


def _head(images: Stored, chosen: Indices, num_classes: int) -> nn.Linear:
    layer = nn.Linear(images.values.shape[1], num_classes)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)  # the optimum does not depend on it, but the last digits do
    fit_head(layer, images, chosen, label_smoothing=0.0)
    return layer


def _predicted(head: nn.Linear, images: Stored, chosen: Indices) -> Probabilities:
    if not len(chosen):  # fewer images than folds
        return np.empty((0, head.out_features))
    batches = ([batch.images] for batch in EvalBatches(images, chosen, BATCH_SIZE))
    return probabilities(head, batches, Runtime(torch.device("cpu"), "32-true", torch.get_num_threads()))


def find_doubtful(
    split: str, scenes: Scenes, given: Indices, judgement: Judgement, changed: Mask | None = None
) -> Iterator[Finding]:
    """Labels that are flagged or are not the most likely class, the most doubtful first.

    Args:
        split: Of the images.
        scenes: The images.
        given: (N,) labels that were judged.
        judgement: What was said of them.
        changed: (N,) mask of the labels that were flipped; None where none were.
    """
    for index in judgement.order:
        if judgement.flagged[index] or judgement.suggested[index] != given[index]:
            yield Finding(
                "label",
                split,
                scenes.paths[index],
                scenes.classes[given[index]],
                suggested=scenes.classes[judgement.suggested[index]],
                score=float(judgement.quality[index]),
                flagged=bool(judgement.flagged[index]),
                reason="flipped for the check" if changed is not None and changed[index] else None,
            )


def flip(labels: Indices, share: float, num_classes: int, seed: int) -> tuple[Indices, Mask]:
    """Labels of which a share, chosen at random, is any other class; and the mask of those."""
    generator, changed = np.random.default_rng(seed), np.zeros(len(labels), dtype=bool)
    changed[generator.permutation(len(labels))[: round(share * len(labels))]] = True
    shifts = generator.integers(1, num_classes, len(labels))
    return np.where(changed, (labels + shifts) % num_classes, labels), changed


@dataclass(frozen=True)
class Recovery:
    """How many of the labels that were flipped are found.

    Attributes:
        flipped: Their number.
        precision: Share of flipped ones among those flagged; labels that were wrong before count as not flipped.
        recall: Share of those flagged among the flipped.
        early: Share of the flipped in as much of the ranking as `depth`.
        depth: Twice the share of flipped labels.
    """

    flipped: int
    precision: float
    recall: float
    early: float
    depth: float


def recovery(judgement: Judgement, changed: Mask) -> Recovery:
    """How many of the labels of a mask (N,) are found; at least one of them is set."""
    number, hits = int(changed.sum()), int((changed & judgement.flagged).sum())
    return Recovery(
        flipped=number,
        precision=hits / max(1, int(judgement.flagged.sum())),
        recall=hits / number,
        early=float(changed[judgement.order[: 2 * number]].sum() / number),
        depth=2 * number / len(changed),
    )
