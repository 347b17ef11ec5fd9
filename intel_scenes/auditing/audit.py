"""An audit: what is wrong with the images and labels of a configuration, by its frozen backbone."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from omegaconf import DictConfig, OmegaConf
from torch import nn

from intel_scenes.auditing import checks as audit
from intel_scenes.auditing.checks import Judged, Recovery
from intel_scenes.data import progress
from intel_scenes.data.batches import EvalBatches, Stored
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.scenes import Scenes, in_label_conflict
from intel_scenes.data.splits import Indices, stratified_folds
from intel_scenes.errors import UserError
from intel_scenes.models.backbones import build, check_image_size
from intel_scenes.models.weights import Weights, resolve_weights
from intel_scenes.predictions import Probabilities
from intel_scenes.training import configuration
from intel_scenes.training.frozen_features import Head, fit_head, frozen, linear_head
from intel_scenes.training.identity import circumstances
from intel_scenes.training.images import data_module
from intel_scenes.training.inference import probabilities

log = logging.getLogger(__name__)

NO_CLEANLAB = 'pip install "intel-scenes[audit]" adds what finds them'
SPLITS = ("train", "test")
PAGE, TABLE, EXCLUDE = "audit.html", "audit.csv", "exclude.txt"
# What the images of a training need beside, and an audit has no use for: it sees every image once, as evaluation does.
UNTRAINED = {
    "augment": {"scale": [1.0, 1.0], "ratio": [1.0, 1.0], "flip": 0.0, "policy": None},
    "recipe": {"mixup": 0.0, "cutmix": 0.0, "train_size": None, "views": 1},
    "epochs": 1,
}


@dataclass(frozen=True)
class Finding:
    """One row of `audit.csv`; what does not apply is None.

    Attributes:
        kind: `unreadable`, `odd`, `identical`, `near` or `label`.
        split: `train` or `test`.
        path: `<class>/<file>`.
        label: Name of its class.
        other_split: Of the image that it is the same as, or nearly.
        other_path: Of that image.
        other_label: Of that image.
        suggested: The class that is more likely.
        score: Of a near pair the cosine distance; of a label the self-confidence, from 0 (surely wrong) to 1.
        flagged: Of a pair, whether the labels differ; of a label, whether confident learning takes it to be wrong.
        reason: Why it is unreadable or odd; of a label, whether it was flipped for a check.
    """

    kind: str
    split: str
    path: str
    label: str
    other_split: str | None = None
    other_path: str | None = None
    other_label: str | None = None
    suggested: str | None = None
    score: float | None = None
    flagged: bool | None = None
    reason: str | None = None


@dataclass(frozen=True, eq=False)
class Audit:
    """What an audit found.

    Attributes:
        scenes: The readable images of "train" and "test", with the labels that they have on the disk.
        findings: By kind, in the order of `Finding.kind`; of a kind the worst first.
        judged: What confident learning says of "train" (out of fold) and "test" (by a head of all train images);
            empty where cleanlab is not installed.
        recovery: How many flipped labels were found; None where none were flipped.
        exclude: Images of train for `data.exclude`: a heading, and the paths below it.
        facts: How it was made, by name.
    """

    scenes: dict[str, Scenes]
    findings: list[Finding]
    judged: dict[str, Judged]
    recovery: Recovery | None
    exclude: list[tuple[str, list[str]]]
    facts: dict[str, Any]


def run(cfg: DictConfig) -> Audit:
    """Looks for what is wrong; nothing is written but the cache.

    Raises:
        UserError: Something that the user can mend.
    """
    plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    configuration.check_audit(plain)
    can_judge = find_spec("cleanlab") is not None
    if not can_judge and (plain["flip"] or plain["exclude"]["labels"]):
        raise UserError(f"flip and exclude.labels are about labels that are likely wrong: {NO_CLEANLAB}")
    plain |= UNTRAINED
    plain["data"] |= {"on_unreadable": "skip", "batch_size": 1, "val_fraction": None}
    _check_output(plain)
    torch.set_num_threads(configuration.resolve_threads(plain))
    weights = resolve_weights(plain["model"]["name"], plain["model"]["weights"])
    if weights is None:
        log.warning("model.weights=null: near images and labels are judged by what a random network makes of them")
    data = data_module(plain)
    scenes = dict(zip(SPLITS, (data.scenes, data.test_scenes), strict=True))
    given, changed = audit.flipped(data.scenes.labels, plain["flip"], len(data.classes), plain["seed"])
    features = _features(plain, weights, data)
    judged = _judged(features, given, plain) if can_judge else {}
    return Audit(
        scenes=scenes,
        findings=[
            *_unreadable(data),
            *_odd(scenes, data),
            *_identical(scenes),
            *_near(scenes, features, plain["near"]),
            *_doubtful(scenes, judged, given, changed),
        ],
        judged=judged,
        recovery=audit.recovery(judged["train"], changed) if changed.any() else None,
        exclude=_exclude(scenes, judged if plain["exclude"]["labels"] else {}),
        facts=_facts(plain, data, weights),
    )


def _check_output(plain: dict[str, Any]) -> None:
    """Refuses to write over the list of what was left out, from which the next one is missing."""
    given = plain["data"]["exclude"]
    if (
        given is not None
        and Path(given).expanduser().resolve() == Path(plain["output"], EXCLUDE).expanduser().resolve()
    ):
        raise UserError(f"data.exclude={given} would be overwritten by what is found in the rest: set another output")


def _features(plain: dict[str, Any], weights: Weights | None, data: SceneDataModule) -> SceneDataModule:
    """The images as the frozen backbone sees them, from the cache that heads are trained from as well."""
    name, size = plain["model"]["name"], data.view.size
    torch.manual_seed(plain["seed"])
    network = build(name, len(data.classes), weights=weights, image_size=size)
    check_image_size(network, name, size)
    if linear_head(network) is None:
        raise UserError(f"an audit needs a model that ends in a linear layer, which {name} does not: choose another")
    features, _ = frozen(
        network,
        Head(network, name),
        data,
        plain,
        weights=weights.digest if weights else None,
        device=torch.device("cuda" if torch.cuda.is_available() else "cpu"),
        precision=configuration.resolve_precision(plain["precision"], "auto"),
    )
    return features


def _judged(features: SceneDataModule, given: Indices, plain: dict[str, Any]) -> dict[str, Judged]:
    """Train labels are judged out of fold, test labels by a head that is fitted to all of train."""
    num_classes, test = len(features.classes), features.test_images
    train = replace(features.images, labels=torch.from_numpy(given))
    folds = stratified_folds(given, features.scenes.contents, plain["folds"], plain["seed"])
    predicted = np.empty((len(given), num_classes))
    with progress.bar(len(given), "labels") as bar:
        for fold in range(plain["folds"]):
            rest, own = np.flatnonzero(folds != fold), np.flatnonzero(folds == fold)
            predicted[own] = _predicted(_head(train, rest, num_classes), train, own)
            bar.update(len(own))
    head = _head(train, np.arange(len(given)), num_classes)
    of_test = _predicted(head, test, np.arange(len(test.labels)))
    return {
        "train": audit.judged(given, predicted),
        "test": audit.judged(features.test_scenes.labels, of_test),
    }


def _head(images: Stored, chosen: Indices, num_classes: int) -> nn.Linear:
    layer = nn.Linear(images.values.shape[1], num_classes)
    for parameter in layer.parameters():
        nn.init.zeros_(parameter)  # the optimum does not depend on it, but the last digits do
    fit_head(layer, images, chosen, label_smoothing=0.0)
    return layer


def _predicted(head: nn.Linear, images: Stored, chosen: Indices) -> Probabilities:
    if not len(chosen):  # fewer images than folds
        return np.empty((0, head.out_features))
    batches = EvalBatches(images, chosen, audit.BLOCK)
    return probabilities(head, batches, lambda seen: [seen], device=torch.device("cpu"), precision="32-true")


def _unreadable(data: SceneDataModule) -> Iterator[Finding]:
    for split, reasons in data.unreadable.items():
        for path, reason in reasons.items():
            yield Finding("unreadable", split, path, path.partition("/")[0], reason=reason)


def _odd(scenes: dict[str, Scenes], data: SceneDataModule) -> Iterator[Finding]:
    found = {split: audit.forms(one) for split, one in scenes.items()}
    usual = audit.common_size([form for forms in found.values() for form in forms])
    for (split, forms), images in zip(found.items(), (data.images, data.test_images), strict=True):
        for index, kind, seen in audit.odd(forms, images, usual):
            yield Finding("odd", split, *_named(scenes[split], index), reason=f"{kind}: {seen}")


def _identical(scenes: dict[str, Scenes]) -> list[Finding]:
    found = []
    for first, *others in audit.identical(*scenes.values()):
        found += [_pair("identical", scenes, first, other) for other in others]
    return sorted(found, key=lambda pair: not pair.flagged)


def _near(scenes: dict[str, Scenes], features: SceneDataModule, within: float) -> Iterator[Finding]:
    """Pairs that are nearly the same but no two copies of one file."""
    vectors = np.concatenate([features.images.values.numpy(), features.test_images.values.numpy()])
    places = [(number, index) for number, one in enumerate(scenes.values()) for index in range(len(one))]
    contents = [content for one in scenes.values() for content in one.contents]
    once = np.sort(np.unique(contents, return_index=True)[1])  # copies would crowd out all other pairs
    for (first, other), distance in zip(*audit.near_pairs(vectors[once], within), strict=True):
        yield _pair("near", scenes, places[once[first]], places[once[other]], float(distance))


def _pair(
    kind: str, scenes: dict[str, Scenes], first: tuple[int, int], other: tuple[int, int], score: float | None = None
) -> Finding:
    (split, (path, label)), (other_split, (other_path, other_label)) = (
        (SPLITS[number], _named(scenes[SPLITS[number]], index)) for number, index in (first, other)
    )
    flagged = label != other_label
    return Finding(kind, split, path, label, other_split, other_path, other_label, score=score, flagged=flagged)


def _doubtful(
    scenes: dict[str, Scenes], judged: dict[str, Judged], given: Indices, changed: audit.Mask
) -> Iterator[Finding]:
    """Labels that are flagged, or are not the most likely class."""
    for split, found in judged.items():
        one = scenes[split]
        labels = given if split == "train" else one.labels
        for index in found.order:
            if found.flagged[index] or found.suggested[index] != labels[index]:
                yield Finding(
                    "label",
                    split,
                    one.paths[index],
                    one.classes[labels[index]],
                    suggested=one.classes[found.suggested[index]],
                    score=float(found.quality[index]),
                    flagged=bool(found.flagged[index]),
                    reason="flipped for the check" if split == "train" and changed[index] else None,
                )


def _named(scenes: Scenes, index: int) -> tuple[str, str]:
    return scenes.paths[index], scenes.classes[scenes.labels[index]]


def _exclude(scenes: dict[str, Scenes], judged: dict[str, Judged]) -> list[tuple[str, list[str]]]:
    train, of_test = scenes["train"], set(scenes["test"].contents)
    lists = [
        ("the same file under two labels", in_label_conflict(train)[0]),
        ("the same file as a test image", np.array([content in of_test for content in train.contents])),
    ]
    if judged:
        lists.append(("a label that is likely wrong", judged["train"].flagged))
    return [(heading, [train.paths[index] for index in np.flatnonzero(mask)]) for heading, mask in lists]


def _facts(plain: dict[str, Any], data: SceneDataModule, weights: Weights | None) -> dict[str, Any]:
    return {
        "images": f"{len(data.scenes):,} train, {len(data.test_scenes):,} test, {data.scenes.root.parent}",
        "data fingerprint": data.fingerprint,
        "model": f"{plain['model']['name']}, {weights.name if weights else 'random weights'}, {data.view.size} px",
        **{key: plain[key] for key in ("near", "folds", "seed", "flip")},
        "threads": torch.get_num_threads(),
        **circumstances(torch.device("cuda" if torch.cuda.is_available() else "cpu")),
    }
