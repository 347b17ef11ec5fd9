"""Several finished runs as one: mean probabilities, votes, or mean weights."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from intel_scenes import files, record
from intel_scenes.config import Combine, Views
from intel_scenes.errors import UserError
from intel_scenes.inference.load_run import (
    FinishedRun,
    load_images,
    load_run,
    read_weights,
    rebuild_network,
    trained_network,
)
from intel_scenes.models.scores import calibrated_results, scores
from intel_scenes.models.weights import kept_beside_state
from intel_scenes.probabilities import Labels, Probabilities, balanced_accuracy, confusion_of
from intel_scenes.record import Predictions, Summary
from intel_scenes.training.best_epoch import SPLITS, Split, predict_split
from intel_scenes.training.checkpoints import save


@dataclass(frozen=True, kw_only=True)
class Row:
    """How right a run is, or several as one; None for what votes cannot have, whose shares are no probabilities.

    Attributes:
        name: The folder of the run, or how many were combined and how.
        val_accuracy: As all the others, of the views that were asked for.
    """

    name: str
    val_accuracy: float
    test_accuracy: float
    test_loss: float | None
    test_accuracy_interval: tuple[float, float]
    test_ece: float | None
    temperature: float | None
    test_loss_calibrated: float | None
    test_ece_calibrated: float | None


@dataclass(frozen=True)
class Evaluation:
    """How right runs are, each alone and all as one; as JSON it is what `output` holds.

    Attributes:
        combine: The way.
        views: That were asked for.
        members: The folders that were combined.
        rows: One for each run, and of several the last for all of them.
    """

    combine: Combine
    views: Views | None
    members: tuple[str, ...]
    rows: tuple[Row, ...]


def evaluate_runs(
    folders: Sequence[Path],
    combine: Combine,
    views: Views | None = None,
    output_weights: Path | None = None,
    *,
    trust: bool = False,
) -> Evaluation:
    """Evaluates runs, each alone and all as one.

    Args:
        folders: Of finished runs.
        combine: How several are made one.
        views: To predict the images again in that way; None takes what the runs predicted.
        output_weights: A file for the weights of a soup, which `model.weights` takes.
        trust: Whether the classes of custom networks, which the records name, may be imported.

    Raises:
        UserError: A run is not complete, the runs cannot be combined, or the images are gone.
    """
    runs = [load_run(folder) for folder in folders]
    check_alike(runs)
    if views is not None:
        runs = [predict_again(run, views, trust=trust) for run in runs]
    labels, members = runs[0].labels, runs
    rows = [_row(str(run.folder), run.probabilities, labels) for run in runs]
    if len(runs) > 1:
        if combine == "soup":
            mixed = soup(runs, views, trust=trust)
            members, combined = mixed.members, mixed.probabilities
            if output_weights is not None:
                checkpoint = {"state_dict": mixed.state, **mixed.kept_beside}
                files.write_whole(output_weights, partial(save, checkpoint))
        else:
            combined = (mean if combine == "mean" else vote)([run.probabilities for run in runs])
        together = _row(f"{combine} of {len(members)}", combined, labels)
        rows.append(_without_probabilities(together) if combine == "vote" else together)
    return Evaluation(combine, views, tuple(str(run.folder) for run in members), tuple(rows))


def _row(name: str, probabilities: Mapping[str, Probabilities], labels: Mapping[str, Labels]) -> Row:
    val_accuracy = scores(probabilities["val"], labels["val"]).accuracy
    return Row(name=name, val_accuracy=val_accuracy, **asdict(calibrated_results(probabilities, labels)))


def _without_probabilities(row: Row) -> Row:
    return replace(
        row, test_loss=None, test_ece=None, temperature=None, test_loss_calibrated=None, test_ece_calibrated=None
    )


def check_alike(runs: Sequence[FinishedRun]) -> None:
    """Checks that runs can be combined.

    Raises:
        UserError: They saw other images or other classes, or cut the validation split elsewhere.
    """
    first = runs[0]
    for other in runs[1:]:
        names = f"{other.folder} and {first.folder}"
        for split in SPLITS:
            if other.predictions[split].paths != first.predictions[split].paths:
                raise UserError(f"{names} have other {split} images: combine runs of one study")
        mine, theirs = ((one.summary.classes, one.summary.data_fingerprint) for one in (first, other))
        if mine != theirs:
            raise UserError(f"{names} are of other images, those of train included: combine runs of one study")


def predict_again(run: FinishedRun, views: Views, *, trust: bool = False) -> FinishedRun:
    """A run with what its best epoch predicts from other views of the images.

    Raises:
        UserError: The images or the weights are gone, or the weights do not fit.
    """
    data = load_images(run, views)
    network = trained_network(run, trust=trust)
    predictions: dict[str, Predictions] = {}
    for split in SPLITS:
        probabilities = predict_split(network, data, split, run.runtime, f"{run.folder.name}: {split}")
        predictions[split] = replace(
            run.predictions[split], predicted=probabilities.argmax(1), probabilities=probabilities
        )
    return replace(run, predictions=predictions)


def mean(runs: Sequence[Mapping[str, Probabilities]]) -> dict[str, Probabilities]:
    """The mean over runs of the probabilities of each split."""
    return {split: np.mean([probabilities[split] for probabilities in runs], axis=0) for split in SPLITS}


def vote(runs: Sequence[Mapping[str, Probabilities]]) -> dict[str, Probabilities]:
    """The share of the runs that call a class the most likely; where several have most votes, the mean decides."""
    shares = {}
    for split, average in mean(runs).items():
        votes = sum(np.eye(average.shape[1])[probabilities[split].argmax(1)] for probabilities in runs)
        share = votes / len(runs) + 1e-6 * average
        shares[split] = share / share.sum(1, keepdims=True)
    return shares


@dataclass(frozen=True, eq=False)
class Soup:
    """A network with the mean weights of runs.

    Attributes:
        members: The runs that it is made of.
        probabilities: Of each split, (N, C).
        state: The mean weights, under their names in the network.
        kept_beside: What else a checkpoint of the network has to hold; see `kept_beside_state`.
    """

    members: list[FinishedRun]
    probabilities: dict[str, Probabilities]
    state: dict[str, Tensor]
    kept_beside: dict[str, bool]


def soup(runs: Sequence[FinishedRun], views: Views | None = None, *, trust: bool = False) -> Soup:
    """Averages the weights of runs, each taken in as long as their metric on validation does not fall, the best first.

    The greedy soup of Wortsman et al., "Model soups", 2022. The test images are read once, by the last network.

    Args:
        runs: Of one architecture, and from the same weights.
        views: As `evaluate_runs` takes them.
        trust: As `evaluate_runs` takes it.

    Raises:
        UserError: The runs have several architectures, image sizes or primary metrics, began from random weights, or
            their images are gone.
    """
    names = {(run.summary.architecture, run.summary.image_size) for run in runs}
    if len(names) > 1:
        raise UserError(f"combine=soup takes runs of one architecture and image size, not of {sorted(names)}")
    if not _have_one_start([run.summary for run in runs]):
        raise UserError("combine=soup takes runs that began from the same pretrained weights: choose mean or vote")
    metric = runs[0].summary.metric
    if any(run.summary.metric != metric for run in runs):
        raise UserError("combine=soup takes runs of one primary_metric: choose mean or vote")
    labels = runs[0].labels["val"]
    ordered = sorted(runs, key=lambda run: -_primary(metric, run.probabilities["val"], labels))
    best = ordered[0]
    data = load_images(best, views)
    network, runtime = rebuild_network(best, trust=trust), best.runtime

    def predict_by(states: Sequence[Mapping[str, Tensor]], split: Split) -> Probabilities:
        network.load_state_dict(_average(states))
        name = f"mean of {len(states)} runs" if len(states) > 1 else best.folder.name
        return predict_split(network, data, split, runtime, f"{name}: {split}")

    members: list[FinishedRun] = []
    states: list[dict[str, Tensor]] = []
    best_value, val = -1.0, best.probabilities["val"]
    for run in ordered:
        candidates = [*states, read_weights(run)]
        probabilities = predict_by(candidates, "val")
        # As the images are seen here: the record's is of one view.
        value = _primary(metric, probabilities, labels)
        if value >= best_value:
            best_value, val, states, members = value, probabilities, candidates, [*members, run]
    predicted = {"val": val, "test": predict_by(states, "test")}
    return Soup(members, predicted, _average(states), kept_beside_state(network))


def _primary(metric: str, probabilities: Probabilities, labels: Labels) -> float:
    """The accuracy or balanced accuracy."""
    predicted = probabilities.argmax(1)
    if metric == record.BALANCED:
        return balanced_accuracy(confusion_of(predicted, labels))
    return float((predicted == labels).mean())


def _have_one_start(summaries: Sequence[Summary]) -> bool:
    """Whether runs began from the same weights: by their digest, by name where an older record has none."""
    digests = {summary.weights_digest for summary in summaries}
    names = {summary.weights for summary in summaries}
    if None in digests:
        return len(names) == 1 and None not in names and len(digests - {None}) <= 1
    return len(digests) == 1


def _average(states: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    return {
        key: torch.stack([state[key] for state in states]).double().mean(0).to(tensor.dtype)
        for key, tensor in states[0].items()
    }
