"""Several finished runs as one: mean probabilities, votes, or mean weights."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from intel_scenes import files, predictions, record
from intel_scenes.data.batches import VIEWS
from intel_scenes.data.progress import shown
from intel_scenes.errors import UserError, did_you_mean
from intel_scenes.models.backbones import build
from intel_scenes.models.weights import kept_beside_state
from intel_scenes.predictions import Labels, Probabilities
from intel_scenes.training import configuration
from intel_scenes.training.checkpoints import read_best, save
from intel_scenes.training.images import data_module
from intel_scenes.training.inference import calibrated_results, probabilities, scores

SPLITS = ("val", "test")
OF_CHOICES = ("name", "val_accuracy", "test_accuracy", "test_accuracy_interval")  # figures that need no probabilities
Predicted = Mapping[str, Probabilities]  # by split


def evaluated(
    folders: Sequence[Path], way: str, views: int | str | None = None, output_weights: Path | None = None
) -> dict[str, Any]:
    """How right runs are, each alone and all as one.

    Args:
        folders: Of finished runs.
        way: "mean", "vote" or "soup".
        views: One of `VIEWS`, to see the images again in that way; None takes what the runs predicted.
        output_weights: A file for the weights of a soup, which `model.weights` takes.

    Returns:
        `combine` (the way), `views`, `members` (the folders that were combined), and `rows`: one for each run, and of
        several the last for all of them, with their accuracy, loss and calibration.

    Raises:
        UserError: A run is not complete, the runs cannot be combined, there are no such views, or the images are gone.
    """
    if views is not None and views not in tuple(VIEWS):  # a list has no hash
        names = [str(name) for name in VIEWS]
        raise UserError(f"views={views}: there are {', '.join(names)}{did_you_mean(str(views), names)}")
    members = [read(folder) for folder in folders]
    check_alike(members)
    if views is not None:
        members = [seen_again(member, views) for member in members]
    labels, taken = members[0].labels, members
    rows = [_row(str(member.folder), member.predicted, labels) for member in members]
    if len(members) > 1:
        if way == "soup":
            predicted, taken, checkpoint = soup(members, views)
            if output_weights is not None:
                files.write_whole(output_weights, partial(save, checkpoint))
        else:
            predicted = {"mean": mean, "vote": vote}[way](members)
        together = _row(f"{way} of {len(taken)}", predicted, labels)
        # Shares of votes are no probabilities: only which class has most of them means something.
        rows.append({k: v if way != "vote" or k in OF_CHOICES else None for k, v in together.items()})
    return {"combine": way, "views": views, "members": [str(member.folder) for member in taken], "rows": rows}


def _row(name: str, predicted: Predicted, labels: Mapping[str, Labels]) -> dict[str, Any]:
    val_accuracy = scores(predicted["val"], labels["val"]).accuracy
    return {"name": name, "val_accuracy": val_accuracy, **calibrated_results(predicted, labels)}


@dataclass(frozen=True)
class Member:
    """A finished run, by its record.

    Attributes:
        folder: Of the run.
        summary: What `summary.json` holds.
        paths: Of each split, the images in the order of the predictions.
        labels: Of each split, (N,).
        predicted: Of each split, (N, C) probabilities.
    """

    folder: Path
    summary: Mapping[str, Any]
    paths: Mapping[str, list[str]]
    labels: Mapping[str, Labels]
    predicted: Predicted


def read(folder: Path) -> Member:
    """A finished run.

    Raises:
        UserError: There is none, or its predictions cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: run=FOLDER is that of a finished run")
    summary = record.peek(folder)
    if summary is None and any(folder.glob(f"*/{record.SUMMARY}")):
        raise UserError(f"{folder} holds several runs: name them, run=[{folder}/RUN1,{folder}/RUN2,...]")
    if summary is None or summary["status"] != "completed":
        raise UserError(f"{folder} holds no run that is complete: name the folder of one")
    found = {split: predictions.read(folder, split) for split in SPLITS}
    return Member(
        folder,
        summary,
        {split: one.paths for split, one in found.items()},
        {split: one.labels for split, one in found.items()},
        {split: one.probabilities for split, one in found.items()},
    )


def check_alike(members: Sequence[Member]) -> None:
    """Checks that runs can be combined.

    Raises:
        UserError: They saw other images or other classes, or cut the validation split elsewhere.
    """
    first = members[0]
    for other in members[1:]:
        names = f"{other.folder} and {first.folder}"
        for split in SPLITS:
            if other.paths[split] != first.paths[split]:
                raise UserError(f"{names} have other {split} images: combine runs of one study")
        if any(other.summary[key] != first.summary[key] for key in ("classes", "data_fingerprint")):
            raise UserError(f"{names} are of other images, those of train included: combine runs of one study")


def seen_again(member: Member, views: int | str) -> Member:
    """A member with what its best epoch predicts from other views of the images."""
    _, predict = _predictor(member, views)
    weights = [_weights(member)]
    return replace(member, predicted={split: predict(weights, split) for split in SPLITS})


def mean(members: Sequence[Member]) -> Predicted:
    """The mean of the probabilities."""
    return {split: np.mean([member.predicted[split] for member in members], axis=0) for split in SPLITS}


def vote(members: Sequence[Member]) -> Predicted:
    """The share of the members that call a class the most likely; where several have most votes, the mean decides."""
    found = {}
    for split, average in mean(members).items():
        votes = sum(np.eye(average.shape[1])[member.predicted[split].argmax(1)] for member in members)
        shares = votes / len(members) + 1e-6 * average
        found[split] = shares / shares.sum(1, keepdims=True)
    return found


def soup(members: Sequence[Member], views: int | str | None = None) -> tuple[Predicted, list[Member], dict[str, Any]]:
    """A network with the mean weights of members, taken in by validation accuracy as long as that does not fall.

    The greedy soup of Wortsman et al., "Model soups", 2022. The test images are read once, by the last network.

    Args:
        members: Of one architecture, and from the same weights.
        views: As `evaluated` takes them.

    Returns:
        Its probabilities, the members that it is made of, and a checkpoint with its `state_dict`.

    Raises:
        UserError: The members have several architectures or image sizes, began from random weights, or their images are
            gone.
    """
    names = {(member.summary["model_name"], member.summary["image_size"]) for member in members}
    if len(names) > 1:
        raise UserError(f"combine=soup takes runs of one architecture and image size, not of {sorted(names)}")
    if not _have_one_start([member.summary for member in members]):
        raise UserError("combine=soup takes runs that began from the same pretrained weights: choose mean or vote")
    ordered = sorted(members, key=lambda member: -_val_accuracy(member.predicted["val"], member))
    network, predict = _predictor(ordered[0], views)
    taken: list[Member] = []
    states: list[dict[str, Tensor]] = []
    best, val = -1.0, ordered[0].predicted["val"]
    for member in ordered:
        tried = [*states, _weights(member)]
        found = predict(tried, "val")
        accuracy = _val_accuracy(found, member)
        if accuracy >= best:
            best, val, states, taken = accuracy, found, tried, [*taken, member]
    predicted = {"val": val, "test": predict(states, "test")}
    return predicted, taken, {"state_dict": _average(states), **kept_beside_state(network)}


def _val_accuracy(predicted: Probabilities, member: Member) -> float:
    """As the images are seen here: the accuracy in the record is of one view."""
    return float((predicted.argmax(1) == member.labels["val"]).mean())


def _have_one_start(summaries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether runs began from the same weights: by their digest, by name where an older record has none."""
    digests = {summary["weights_digest"] for summary in summaries}
    names = {summary["weights"] for summary in summaries}
    if None in digests:
        return len(names) == 1 and None not in names and len(digests - {None}) <= 1
    return len(digests) == 1


def _weights(member: Member) -> dict[str, Tensor]:
    found: dict[str, Tensor] = read_best(member.folder)["state_dict"]
    return {name.removeprefix("network."): tensor for name, tensor in found.items() if name.startswith("network.")}


def _average(states: Sequence[dict[str, Tensor]]) -> dict[str, Tensor]:
    return {
        key: torch.stack([state[key] for state in states]).double().mean(0).to(tensor.dtype)
        for key, tensor in states[0].items()
    }


def _predictor(
    member: Member, views: int | str | None
) -> tuple[nn.Module, Callable[[Sequence[dict[str, Tensor]], str], Probabilities]]:
    """A network, and what takes weights and a split to the probabilities that it gives with their mean."""
    plain = configuration.of_record(member.folder)
    if views is not None:
        plain["recipe"]["views"] = views
    data = data_module(plain)
    if data.fingerprint != member.summary["data_fingerprint"]:
        raise UserError(f"the images are no longer those of {member.folder}: put them back, or run it again")
    transforms = member.summary["transform_input"]
    network = build(
        plain["model"]["name"],
        len(data.classes),
        weights=None,
        image_size=data.view.size,
        # A record from before it was kept: as the network was built then.
        transform_input=member.summary["weights"] is not None if transforms is None else transforms,
    )
    network.to(memory_format=torch.channels_last)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")

    def predict(states: Sequence[dict[str, Tensor]], split: str) -> Probabilities:
        network.load_state_dict(_average(states))
        what = f"mean of {len(states)} runs" if len(states) > 1 else member.folder.name
        batches = shown(data.evaluation(split), len(member.labels[split]), f"{what}: {split}")  # type: ignore[arg-type]
        return probabilities(network, batches, data.views, device=device, precision=member.summary["precision"])

    return network, predict
