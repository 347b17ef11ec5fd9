"""Labels that are likely wrong, by confident learning, and a check of it by labels that are flipped on purpose."""

import warnings
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from intel_scenes.auditing.findings import Finding
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

BATCH_SIZE = 1024  # features per forward pass


@dataclass(frozen=True, eq=False)
class LabelIssues:
    """Result of confident learning (Northcutt et al. 2021) for N labels of C classes.

    Attributes:
        order: (N,) positions, the label with the lowest self-confidence first.
        quality: (N,) self-confidence: predicted probability of the given label, 0 to 1.
        suggested: (N,) most probable class.
        flagged: (N,) mask of the labels that are likely wrong.
        confusion: (C, C) counts; rows are given labels, columns most probable classes.
        joint: (C, C) estimated joint distribution; rows are given labels, columns true classes.
    """

    order: Indices
    quality: Probabilities
    suggested: Indices
    flagged: Mask
    confusion: Indices
    joint: Probabilities

    @property
    def noise(self) -> float:
        """Estimated share of wrong labels, 0 to 1."""
        return 1 - float(np.trace(self.joint))


def confident_learning(labels: Indices, probabilities: Probabilities) -> LabelIssues:
    """Find label issues with cleanlab.

    Args:
        labels: (N,) given labels.
        probabilities: (N, C) predictions of a model that was not fitted to these labels.
    """
    from cleanlab import count, filter, rank  # an optional dependency

    quality = rank.get_label_quality_scores(labels, probabilities, method="self_confidence")
    suggested, num_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    confusion = np.bincount(labels * num_classes + suggested, minlength=num_classes**2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")  # the only image of a class is never flagged
        flagged = filter.find_label_issues(labels, probabilities, n_jobs=1)
    return LabelIssues(
        order=np.argsort(quality, kind="stable"),
        quality=quality,
        suggested=suggested,
        flagged=flagged,
        confusion=confusion.reshape(num_classes, num_classes),
        joint=count.estimate_joint(labels, probabilities),
    )


def find_label_issues(
    features: SceneDataModule, labels: Mapping[str, Indices], num_folds: int, seed: int
) -> dict[str, LabelIssues]:
    """Find label issues of each split, by logistic regressions on frozen features.

    Training labels are predicted by cross-validation, those of other splits by a head fitted to all training images.

    Args:
        features: Data set with the features of a frozen backbone.
        labels: (N,) labels by split; those of "train" may differ from the labels on the disk.
        num_folds: Number of folds; byte-identical images are in one fold.
        seed: Seed of the folds.
    """
    num_classes, images, train_labels = len(features.splits.classes), features.images_by_split, labels["train"]
    train = replace(images.pop("train"), labels=torch.from_numpy(train_labels))
    folds = stratified_folds(train_labels, features.splits.scenes_by_split["train"].contents, num_folds, seed)
    out_of_fold = np.empty((len(train_labels), num_classes))
    with progress_bar.bar(len(train_labels), "checking train labels", unit="label") as bar:
        for fold in range(num_folds):
            rest, own = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            out_of_fold[own] = _predicted(_fitted_head(train, rest, num_classes), train, own)
            bar.update(len(own))
    head = _fitted_head(train, np.arange(len(train_labels)), num_classes)
    predictions = {split: _predicted(head, stored, np.arange(len(stored.labels))) for split, stored in images.items()}
    predictions = {"train": out_of_fold} | predictions
    return {split: confident_learning(labels[split], predicted) for split, predicted in predictions.items()}


def _fitted_head(images: Stored, chosen: Indices, num_classes: int) -> nn.Linear:
    layer = nn.Linear(images.values.shape[1], num_classes)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)  # the problem is convex: the start changes only the last digits
    fit_head(layer, images, chosen, label_smoothing=0.0)
    return layer


def _predicted(head: nn.Linear, images: Stored, chosen: Indices) -> Probabilities:
    if not len(chosen):  # there are fewer images than folds
        return np.empty((0, head.out_features))
    batches = ([batch.images] for batch in EvalBatches(images, chosen, BATCH_SIZE))
    return probabilities(head, batches, Runtime(torch.device("cpu"), "32-true", torch.get_num_threads()))


def label_findings(
    split: str, scenes: Scenes, labels: Indices, issues: LabelIssues, flipped: Mask | None = None
) -> Iterator[Finding]:
    """Return findings for labels that are flagged or are not the most probable class, lowest self-confidence first.

    Args:
        split: Split of the images.
        scenes: N images.
        labels: (N,) labels that were checked.
        issues: Result of confident learning for these labels.
        flipped: (N,) mask of the labels that were flipped for the check; None if none were.
    """
    for index in issues.order:
        if issues.flagged[index] or issues.suggested[index] != labels[index]:
            yield Finding(
                "label",
                split,
                scenes.paths[index],
                scenes.classes[labels[index]],
                suggested=scenes.classes[issues.suggested[index]],
                score=float(issues.quality[index]),
                flagged=bool(issues.flagged[index]),
                reason="flipped for the check" if flipped is not None and flipped[index] else None,
            )


def flip_labels(labels: Indices, share: float, num_classes: int, seed: int) -> tuple[Indices, Mask]:
    """Change a random share of the labels to a random other class; return the labels and the mask of the changed."""
    generator, flipped = np.random.default_rng(seed), np.zeros(len(labels), dtype=bool)
    flipped[generator.permutation(len(labels))[: round(share * len(labels))]] = True
    shifts = generator.integers(1, num_classes, len(labels))
    return np.where(flipped, (labels + shifts) % num_classes, labels), flipped


@dataclass(frozen=True)
class Recovery:
    """How well labels that were flipped for a check are found again.

    Attributes:
        flipped: Number of flipped labels.
        precision: Share of the flagged labels that were flipped; a lower bound, because others were wrong before.
        recall: Share of the flipped labels that are flagged.
        early: Share of the flipped labels within the first `depth` of the ranking.
        depth: Share of the ranking: twice the share of flipped labels.
    """

    flipped: int
    precision: float
    recall: float
    early: float
    depth: float


def recovery(issues: LabelIssues, flipped: Mask) -> Recovery:
    """Return how well the flipped labels, an (N,) mask with at least one set, are found."""
    number, hits = int(flipped.sum()), int((flipped & issues.flagged).sum())
    return Recovery(
        flipped=number,
        precision=hits / max(1, int(issues.flagged.sum())),
        recall=hits / number,
        early=float(flipped[issues.order[: 2 * number]].sum() / number),
        depth=2 * number / len(flipped),
    )
