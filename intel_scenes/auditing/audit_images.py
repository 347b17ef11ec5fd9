"""An audit: what is wrong with the images and labels of a configuration, by its frozen backbone."""

import logging
from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import nn

from intel_scenes.auditing.find import Finding, find_identical, find_near, find_odd, find_unreadable
from intel_scenes.auditing.judge import Judgement, Mask, Recovery, find_doubtful, flip, judge_splits, recovery
from intel_scenes.config import AuditConfig, ModelConfig
from intel_scenes.data.datamodule import SceneDataModule
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

NO_CLEANLAB = 'pip install "intel-scenes[audit]" adds what finds them'
PAGE, TABLE, EXCLUDE = "audit.html", "audit.csv", "exclude.txt"


@dataclass(frozen=True, eq=False)
class Audit:
    """What is wrong with the images and labels of a folder.

    Attributes:
        scenes: The readable images of "train", "test", and of a "val" that was there, with the labels that they have on
            the disk.
        findings: By kind, in the order of `Finding.kind`; of a kind the worst first.
        near: Largest distance of a near pair.
        judgements: What confident learning says of "train" (out of fold) and of the others (by a head of all train
            images); empty where cleanlab is not installed.
        recovery: How many flipped labels were found; None where none were flipped.
        exclude: Images of train for `data.exclude`: a heading, and the paths below it.
        facts: How it was made, by name, for the page.
    """

    scenes: dict[str, Scenes]
    findings: list[Finding]
    near: float
    judgements: dict[str, Judgement]
    recovery: Recovery | None
    exclude: list[tuple[str, list[str]]]
    facts: dict[str, object]


def run(config: AuditConfig) -> Audit:
    """Looks for what is wrong; nothing is written but the cache.

    Raises:
        UserError: Something that the user can mend.
    """
    can_judge = find_spec("cleanlab") is not None
    if not can_judge and (config.flip or config.exclude.labels):
        raise UserError(f"flip and exclude.labels are about labels that are likely wrong: {NO_CLEANLAB}")
    _check_output(config.data.exclude, config.output)
    runtime = runtime_of_machine(config.precision, config.threads)
    torch.set_num_threads(runtime.threads)
    weights = resolve_weights(config.model)
    if weights is None:
        log.warning("model.weights=null: near images and labels are judged by what a random network makes of them")
    data = _images(config)
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
    given, changed = flip(train.labels, config.flip, num_classes, config.seed)
    labels = {split: one.labels for split, one in scenes.items()} | {"train": given}
    judgements = judge_splits(features, labels, config.folds, config.seed) if can_judge else {}
    vectors = np.concatenate([features.images.values.numpy(), features.test_images.values.numpy()])
    findings = [
        *find_unreadable(data.unreadable, data.layout.by_split),
        *find_odd(scenes, data.images_by_split),
        *find_identical(scenes),
        *find_near(scenes, vectors, config.near),
    ]
    for split, judgement in judgements.items():
        flipped = changed if split == "train" else None
        findings += find_doubtful(split, scenes[split], labels[split], judgement, flipped)
    return Audit(
        scenes=scenes,
        findings=findings,
        near=config.near,
        judgements=judgements,
        recovery=recovery(judgements["train"], changed) if changed.any() else None,
        exclude=_exclude(scenes, judgements["train"].flagged if config.exclude.labels else None),
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


def _images(config: AuditConfig) -> SceneDataModule:
    """All images that can be decoded, none of them cut from train to validate, each seen as evaluation shows it."""
    data = replace(config.data, batch_size=1, on_unreadable="skip")
    module = read_images(data, config.model, seed=config.seed, cuts_val=False)
    report_images(module)
    return module


def _check_output(exclude: str | None, output: str) -> None:
    """Refuses to write over the list of what was left out, from which the next one is missing."""
    if exclude is not None and Path(exclude).expanduser().resolve() == Path(output, EXCLUDE).expanduser().resolve():
        raise UserError(f"data.exclude={exclude} would be overwritten by what is found in the rest: set another output")


def _backbone(model: ModelConfig, weights: Weights | None, num_classes: int, image_size: int, seed: int) -> nn.Module:
    """The network whose features compare the images.

    Raises:
        UserError: It does not take images of this size, or does not end in a linear layer.
    """
    torch.manual_seed(seed)
    network = build(model, num_classes, weights=weights, image_size=image_size)
    check_image_size(network, model.name, image_size)
    if linear_head(network) is None:
        raise UserError(
            f"an audit needs a model that ends in a linear layer, which {model.name} does not: choose another"
        )
    return network


def _exclude(scenes: Mapping[str, Scenes], flagged: Mask | None) -> list[tuple[str, list[str]]]:
    """Images of train that one may leave out, those with `flagged` labels among them where they are asked for."""
    train = scenes["train"]
    lists = [("the same file under two labels", in_label_conflict(train)[0])]
    for split, name in (("test", "a test"), ("val", "a validation")):
        if split in scenes:
            there = set(scenes[split].contents)
            lists.append((f"the same file as {name} image", np.array([one in there for one in train.contents])))
    if flagged is not None:
        lists.append(("a label that is likely wrong", flagged))
    return [(heading, [train.paths[index] for index in np.flatnonzero(mask)]) for heading, mask in lists]
