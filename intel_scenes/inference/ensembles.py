"""Ensembles of finished runs: mean probabilities, majority vote, or mean weights (soup)."""

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
class RunScores:
    """Scores of a run or of an ensemble; a vote has no loss or calibration, because its shares are no probabilities.

    Attributes:
        name: Folder of the run, or the way of combining and the number of runs.
        val_accuracy: Validation accuracy, with the same test-time augmentation as all other scores.
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
    val_balanced_accuracy: float
    test_balanced_accuracy: float


@dataclass(frozen=True)
class EnsembleScores:
    """Scores of runs, of each alone and of all combined; the JSON file of `output` has the same keys.

    Attributes:
        combine: How the runs were combined: mean, vote or soup.
        views: Test-time augmentation; None is that of each run.
        members: Folders of the runs that were combined.
        rows: One for each run; with several runs the last is the ensemble.
    """

    combine: Combine
    views: Views | None
    members: tuple[str, ...]
    rows: tuple[RunScores, ...]


def evaluate_runs(
    folders: Sequence[Path],
    combine: Combine,
    views: Views | None = None,
    output_weights: Path | None = None,
    *,
    trust: bool = False,
    cache_dir: Path | None = None,
) -> EnsembleScores:
    """Score runs on their own validation and test images, each alone and all combined.

    Args:
        folders: Folders of finished runs.
        combine: How to combine several runs.
        views: Test-time augmentation to predict the images again with; None uses the recorded predictions.
        output_weights: File for the weights of a soup, to be used as `model.weights`.
        trust: Whether to import the classes of custom networks, which the records name.
        cache_dir: Cache of decoded images; None is that of each run.

    Raises:
        UserError: A run is not complete, the runs cannot be combined, or their images are missing.
    """
    runs = [load_run(folder) for folder in folders]
    check_same_images(runs)
    if views is not None:
        runs = [predict_again(run, views, trust=trust, cache_dir=cache_dir) for run in runs]
    labels, members = runs[0].labels, runs
    rows = [_row(str(run.folder), run.probabilities, labels) for run in runs]
    if len(runs) > 1:
        if combine == "soup":
            mixed = soup(runs, views, trust=trust, cache_dir=cache_dir)
            members, combined = mixed.members, mixed.probabilities
            if output_weights is not None:
                checkpoint = {"state_dict": mixed.state, **mixed.kept_beside}
                files.write_whole(output_weights, partial(save, checkpoint))
        else:
            combined = (mean if combine == "mean" else vote)([run.probabilities for run in runs])
        ensemble = _row(f"{combine} of {len(members)}", combined, labels)
        rows.append(_without_probabilities(ensemble) if combine == "vote" else ensemble)
    return EnsembleScores(combine, views, tuple(str(run.folder) for run in members), tuple(rows))


def _row(name: str, probabilities: Mapping[str, Probabilities], labels: Mapping[str, Labels]) -> RunScores:
    return RunScores(
        name=name,
        val_accuracy=scores(probabilities["val"], labels["val"]).accuracy,
        **asdict(calibrated_results(probabilities, labels)),
        val_balanced_accuracy=_primary(record.BALANCED, probabilities["val"], labels["val"]),
        test_balanced_accuracy=_primary(record.BALANCED, probabilities["test"], labels["test"]),
    )


def _without_probabilities(row: RunScores) -> RunScores:
    return replace(
        row, test_loss=None, test_ece=None, temperature=None, test_loss_calibrated=None, test_ece_calibrated=None
    )


def check_same_images(runs: Sequence[FinishedRun]) -> None:
    """Check that runs can be combined.

    Raises:
        UserError: Their images, classes or validation sets differ.
    """
    first = runs[0]
    for other in runs[1:]:
        names = f"{other.folder} and {first.folder}"
        for split in SPLITS:
            if other.predictions[split].paths != first.predictions[split].paths:
                raise UserError(f"{names} have different {split} images: combine runs of one study")
        identities = [(run.summary.classes, run.summary.data_fingerprint) for run in (first, other)]
        if identities[0] != identities[1]:
            raise UserError(f"{names} differ in their classes or training images: combine runs of one study")


def predict_again(run: FinishedRun, views: Views, *, trust: bool = False, cache_dir: Path | None = None) -> FinishedRun:
    """Return a run with new predictions of its best epoch, made with other test-time augmentation.

    Raises:
        UserError: The images or the checkpoint are missing, or the checkpoint does not fit.
    """
    data = load_images(run, views, cache_dir)
    network = trained_network(run, trust=trust)
    predictions: dict[str, Predictions] = {}
    for split in SPLITS:
        probabilities = predict_split(network, data, split, run.runtime, f"{run.folder.name}: {split}")
        predictions[split] = replace(
            run.predictions[split], predicted=probabilities.argmax(1), probabilities=probabilities
        )
    return replace(run, predictions=predictions)


def mean(runs: Sequence[Mapping[str, Probabilities]]) -> dict[str, Probabilities]:
    """Return the mean over runs of the probabilities of each split."""
    return {split: np.mean([probabilities[split] for probabilities in runs], axis=0) for split in SPLITS}


def vote(runs: Sequence[Mapping[str, Probabilities]]) -> dict[str, Probabilities]:
    """Return the share of runs that predict each class; ties are broken by the mean probability."""
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
        members: Runs whose weights are averaged.
        probabilities: (N, C) probabilities of each split.
        state: Mean weights, under their names in the network.
        kept_beside: Further content of the checkpoint; see `kept_beside_state`.
    """

    members: list[FinishedRun]
    probabilities: dict[str, Probabilities]
    state: dict[str, Tensor]
    kept_beside: dict[str, bool]


def soup(
    runs: Sequence[FinishedRun], views: Views | None = None, *, trust: bool = False, cache_dir: Path | None = None
) -> Soup:
    """Average the weights of runs greedily: best run first, each added if the validation metric does not fall.

    This is the greedy soup of Wortsman et al., "Model soups", 2022. The test images are predicted once, by the final
    network.

    Args:
        runs: Runs of one architecture that started from the same weights.
        views: As in `evaluate_runs`.
        trust: As in `evaluate_runs`.
        cache_dir: As in `evaluate_runs`.

    Raises:
        UserError: The runs differ in architecture, image size or primary metric, started from random weights, or their
            images are missing.
    """
    sizes = {(run.summary.architecture, run.summary.image_size) for run in runs}
    if len(sizes) > 1:
        listed = ", ".join(f"{architecture} at {size} px" for architecture, size in sorted(sizes))
        raise UserError(f"combine=soup needs runs of one architecture and image size, not {listed}: use mean or vote")
    if not _have_one_start([run.summary for run in runs]):
        raise UserError("combine=soup needs runs that started from the same pretrained weights: use mean or vote")
    metric = runs[0].summary.metric
    if any(run.summary.metric != metric for run in runs):
        raise UserError("combine=soup needs runs with the same primary_metric: use mean or vote")
    labels = runs[0].labels["val"]
    ordered = sorted(runs, key=lambda run: -_primary(metric, run.probabilities["val"], labels))
    best = ordered[0]
    data = load_images(best, views, cache_dir)
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
        # Computed anew: the recorded metric may be of other test-time augmentation.
        value = _primary(metric, probabilities, labels)
        if value >= best_value:
            best_value, val, states, members = value, probabilities, candidates, [*members, run]
    predicted = {"val": val, "test": predict_by(states, "test")}
    return Soup(members, predicted, _average(states), kept_beside_state(network))


def _primary(metric: str, probabilities: Probabilities, labels: Labels) -> float:
    """Return the accuracy or the balanced accuracy."""
    predicted = probabilities.argmax(1)
    if metric == record.BALANCED:
        return balanced_accuracy(confusion_of(predicted, labels))
    return float((predicted == labels).mean())


def _have_one_start(summaries: Sequence[Summary]) -> bool:
    """Return whether runs started from the same weights, by digest, or by name for older records without a digest."""
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
