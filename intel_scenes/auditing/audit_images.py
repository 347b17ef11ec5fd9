"""Audit of a data set: unreadable, odd and duplicate images, and labels that are likely wrong."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from intel_scenes.auditing.findings import Finding, find_identical, find_near, find_odd, find_unreadable
from intel_scenes.auditing.label_issues import (
    LabelIssues,
    Mask,
    Recovery,
    find_label_issues,
    flip_labels,
    label_findings,
    recovery,
)
from intel_scenes.config import AuditConfig, ModelConfig
from intel_scenes.data.scenes import Scenes, in_label_conflict
from intel_scenes.errors import UserError
from intel_scenes.models.backbones import check_image_size
from intel_scenes.models.libraries import build, resolve_weights
from intel_scenes.models.weights import Weights
from intel_scenes.runtime import runtime_of_machine
from intel_scenes.training.build import read_images, report_images
from intel_scenes.training.frozen_features import Head, frozen_features, linear_head
from intel_scenes.training.identity import circumstances

log = logging.getLogger(__name__)

NO_CLEANLAB = 'install cleanlab with pip install "intel-scenes[audit]"'
PAGE, TABLE, EXCLUDE = "audit.html", "audit.csv", "exclude.txt"


@dataclass(frozen=True, eq=False)
class AuditResult:
    """Findings of an audit.

    Attributes:
        scenes: Readable images by split ("train", "test", and "val" if the folder has one), with their original labels.
        findings: Findings by kind, in the order of `Finding.kind`, the most severe of each kind first.
        near: Largest cosine distance of near-duplicates.
        label_issues: Label issues by split; empty if cleanlab is not installed.
        recovery: How well flipped labels were found; None if none were flipped.
        exclude: Training images for `data.exclude`: pairs of a reason and paths.
        facts: Settings and circumstances of the audit, by name, for the page.
    """

    scenes: dict[str, Scenes]
    findings: list[Finding]
    near: float
    label_issues: dict[str, LabelIssues]
    recovery: Recovery | None
    exclude: list[tuple[str, list[str]]]
    facts: dict[str, object]

    @property
    def num_excluded(self) -> int:
        """Number of different images in `exclude`."""
        return len({path for _, paths in self.exclude for path in paths})


def audit_images(config: AuditConfig) -> AuditResult:
    """Audit a data set; only the cache is written.

    Raises:
        UserError: The configuration, the images or the model cannot be used.
    """
    has_cleanlab = find_spec("cleanlab") is not None
    if not has_cleanlab and (config.flip or config.exclude.labels):
        raise UserError(f"flip and exclude.labels need cleanlab, which finds label errors: {NO_CLEANLAB}")
    _check_output(config.data.exclude, config.output)
    runtime = runtime_of_machine(config.precision, config.threads)
    torch.set_num_threads(runtime.threads)
    weights = resolve_weights(config.model)
    if weights is None:
        log.warning(
            "model.weights=null: near-duplicates and label errors are found by the features of an untrained network; "
            "expect many mistakes"
        )
    # All images that can be decoded, with none cut from train for validation.
    data = read_images(
        replace(config.data, batch_size=1, on_unreadable="skip"), config.model, seed=config.seed, cuts_val=False
    )
    report_images(data)
    scenes, num_classes = data.splits.scenes_by_split, len(data.splits.classes)
    train = scenes["train"]
    network = _backbone(config.model, weights, num_classes, data.view.size, config.seed)
    features, _ = frozen_features(
        network,
        Head(network, config.model.name),
        data,
        model=config.model,
        weights=weights,
        seed=config.seed,
        runtime=runtime,
    )
    train_labels, flipped = flip_labels(train.labels, config.flip, num_classes, config.seed)
    labels = {split: of_split.labels for split, of_split in scenes.items()} | {"train": train_labels}
    label_issues = find_label_issues(features, labels, config.folds, config.seed) if has_cleanlab else {}
    vectors = np.concatenate([features.images.values.numpy(), features.test_images.values.numpy()])
    findings = [
        *find_unreadable(data.unreadable, data.layout.by_split),
        *find_odd(scenes, data.images_by_split),
        *find_identical(scenes),
        *find_near(scenes, vectors, config.near),
    ]
    for split, issues in label_issues.items():
        findings += label_findings(split, scenes[split], labels[split], issues, flipped if split == "train" else None)
    return AuditResult(
        scenes=scenes,
        findings=findings,
        near=config.near,
        label_issues=label_issues,
        recovery=recovery(label_issues["train"], flipped) if flipped.any() else None,
        exclude=_exclude(scenes, label_issues["train"].flagged if config.exclude.labels else None),
        facts={
            "images": f"{', '.join(f'{len(one):,} {split}' for split, one in scenes.items())}, {train.root.parent}",
            "data fingerprint": data.splits.fingerprint,
            "model": ", ".join(
                [config.model.architecture, weights.name if weights else "random weights", f"{data.view.size} px"]
            ),
            **{"near": config.near, "folds": config.folds, "seed": config.seed, "flip": config.flip},
            "threads": runtime.threads,
            **asdict(circumstances(runtime.device)),
        },
    )


def _check_output(exclude: str | None, output: str) -> None:
    """Raise a UserError if the audit would overwrite the list that it reads, whose images the new one would lack."""
    if exclude is not None and Path(exclude).expanduser().resolve() == Path(output, EXCLUDE).expanduser().resolve():
        raise UserError(f"output={output} would overwrite data.exclude={exclude}: set another output")


def _backbone(model: ModelConfig, weights: Weights | None, num_classes: int, image_size: int, seed: int) -> nn.Module:
    """Return the network whose features compare the images.

    Raises:
        UserError: It does not take images of this size, or does not end in a linear layer.
    """
    torch.manual_seed(seed)
    network = build(model, num_classes, weights=weights, image_size=image_size)
    check_image_size(network, model.name, image_size)
    if linear_head(network) is None:
        raise UserError(
            f"an audit needs a model that ends in a linear layer, which {model.name} does not: choose another model"
        )
    return network


def _exclude(scenes: Mapping[str, Scenes], flagged: Mask | None) -> list[tuple[str, list[str]]]:
    """Return the training images to leave out, with those of `flagged` labels unless it is None."""
    train = scenes["train"]
    masks = [("identical to a training image of another class", in_label_conflict(train)[0])]
    for split, name in (("test", "test"), ("val", "validation")):
        if split in scenes:
            contents = set(scenes[split].contents)
            masks.append((f"identical to a {name} image", np.array([digest in contents for digest in train.contents])))
    if flagged is not None:
        masks.append(("with a label that is likely wrong", flagged))
    return [(reason, [train.paths[index] for index in np.flatnonzero(mask)]) for reason, mask in masks]
