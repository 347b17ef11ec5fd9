"""Estimate of the seconds that a run of a sweep takes from its start to its record, before any run has begun."""

import logging
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import nn

from intel_scenes import files
from intel_scenes.config import WITHOUT_BACKBONE, RunConfig
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.pipelines import TTA
from intel_scenes.models.libraries import features_key, resolve_weights
from intel_scenes.models.resnet9 import ResNet9
from intel_scenes.models.weights import Weights
from intel_scenes.record import Status, Summary
from intel_scenes.runtime import Runtime, runtime_of_trainer
from intel_scenes.training import memory
from intel_scenes.training.best_epoch import evaluate_best_epoch
from intel_scenes.training.build import build_classifier, build_data, build_network, build_trainer, check_devices
from intel_scenes.training.checkpoints import EpochRecorder
from intel_scenes.training.cost_forecast import evaluation_seconds, seconds_of, time_run
from intel_scenes.training.epoch_budget import NUM_STEPS, epochs_ratio, with_steps
from intel_scenes.training.frozen_features import Head, add_backbone, features_folder, fit_head, linear_head
from intel_scenes.training.identity import facts_of, state_digest

TRIAL_EPOCHS = 5  # of a head on random features; the first and the last are not timed as epochs


@dataclass(frozen=True)
class RunCost:
    """Estimated seconds of a run.

    Attributes:
        start: Seconds beside its epochs and features: reading, building, the final evaluation and the record.
        epochs: Seconds of an epoch with its evaluations at each training size, each of which has a share of the epochs.
        features: Seconds to compute frozen features, once for all runs that share them; 0 if there are none to compute.
        shared: Digest that runs with the same features have in common.
        is_by_seed: Whether each seed has features of its own, because its weights are random.
        num_test: Number of test images.
        ratio: Epochs trained per epoch of the configuration: above 1 with `equal_steps`.
    """

    start: float
    epochs: tuple[float, ...]
    features: float = 0.0
    shared: str = ""
    is_by_seed: bool = False
    num_test: int = 0
    ratio: float = 1.0

    def seconds(self, num_epochs: int) -> float:
        """Return the seconds of a run of a number of epochs, without its features."""
        num_sizes, num_trained = len(self.epochs), max(1, round(num_epochs * self.ratio))
        ends = [-(-num_trained * (index + 1) // num_sizes) for index in range(num_sizes)]  # the shares of `size_of`
        counts = [end - before for before, end in zip([0, *ends], ends, strict=False)]
        return self.start + sum(count * seconds for count, seconds in zip(counts, self.epochs, strict=True))


def estimate_run_cost(config: RunConfig) -> RunCost:
    """Time a few steps of a run on its own images, and a whole training of a head on random features.

    The latter gives the time beside the passes through the network: the Trainer's start and loops, checkpoints,
    predictions, figures. Its files are removed.

    Args:
        config: The composed configuration, with the threads of the study.

    Raises:
        UserError: The images are missing, or the parts of the run cannot be built.
    """
    with _silent():
        return _estimated(config)


def _estimated(config: RunConfig) -> RunCost:
    runtime = runtime_of_trainer(config.trainer, config.threads)
    torch.set_num_threads(runtime.threads)
    build_data(config)  # decodes the images if the cache does not have them
    started = time.perf_counter()
    weights = resolve_weights(config.model)
    data = build_data(config)
    ratio, config = epochs_ratio(config, data), config.with_batch_size(data.batch_size)
    check_devices(config, data, runtime)
    facts_of(config, weights, data)
    network = build_network(config, weights, data, runtime.num_devices)
    state_digest(network)
    building = time.perf_counter() - started
    head = _head(config, network, len(data.splits.classes))
    with TemporaryDirectory() as place:
        trial = _trial(config, network, head, data, runtime, Path(place))
    features, shared = _features(config, network, data, weights, runtime)
    of_head = RunCost(
        building + trial.start,
        (trial.epoch,),
        features,
        shared,
        is_by_seed=weights is None,
        num_test=len(data.splits.test),
        ratio=ratio,
    )
    if config.recipe.trained == "head":
        return of_head
    unfitted = with_steps(config, data, max(config.epochs, len(data.train_sizes)), folder=None)
    costs = time_run(unfitted, weights, data, runtime, NUM_STEPS).costs
    splits, views = data.splits, TTA[config.recipe.views]
    num_evaluated = views * (len(splits.val) + len(splits.test)) + costs.num_scored * len(splits.test)
    start = of_head.start + costs.evaluation_seconds * num_evaluated
    if config.effective_recipe.head_first:
        start += trial.head_fit
    num_bytes = sum(value.nbytes for value in network.state_dict().values())
    writing = trial.checkpoint * (2 + costs.state_bytes / num_bytes)  # best and last weights, and the optimizer's state
    beside = trial.epoch + writing
    epochs = tuple(costs.epoch_seconds(data, size) + beside for size in data.train_sizes)
    return replace(of_head, start=start, epochs=epochs)


@contextmanager
def _silent() -> Iterator[None]:
    """Suppress log messages and warnings: the runs repeat them, and random features may cause misleading ones."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _head(config: RunConfig, network: nn.Module, num_classes: int) -> Head:
    """Return the head of a network; that of a small network if all layers are trained and the head is not linear."""
    if linear_head(network) is None and config.recipe.trained == "all":
        return Head(ResNet9(num_classes, width=8), "resnet9")
    return Head(network, config.model.name)


@dataclass(frozen=True)
class _Trial:
    """Seconds of a training of a head on random features.

    Attributes:
        start: Seconds beside its epochs.
        epoch: Seconds of an epoch.
        checkpoint: Seconds to write a checkpoint of the whole network.
        head_fit: Seconds to fit the head before the training; 0 if the recipe does not.
    """

    start: float
    epoch: float
    checkpoint: float
    head_fit: float


class _Starts(Callback):
    """Callback that records when each epoch starts."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.times.append(time.perf_counter())


def _trial(
    config: RunConfig, network: nn.Module, head: Head, data: SceneDataModule, runtime: Runtime, folder: Path
) -> _Trial:
    features = _random_features(head, data)
    without: dict[str, Any] = WITHOUT_BACKBONE
    recipe = replace(config.recipe, trained="head", **without)
    head_config = with_steps(replace(config, recipe=recipe), data, TRIAL_EPOCHS, folder)
    head_fit = 0.0
    if config.effective_recipe.head_first:
        head_fit = seconds_of(lambda: fit_head(head.layer, features.images, features.splits.train, 0.0), runtime.device)
        head.layer.reset_parameters()
    started = time.perf_counter()
    classifier = build_classifier(head_config, head, data.splits, runtime)
    recorder, starts = EpochRecorder(folder), _Starts()
    trainer = build_trainer(head_config, runtime, [recorder, starts])
    if memory.is_resident(config.data.device_resident, runtime.device, features.images.values.nbytes):
        features = features.on(runtime.device)
    trainer.fit(classifier, features, weights_only=True)
    evaluate_best_epoch(Summary(status=Status.INTERRUPTED), folder, classifier.network, features, recorder, runtime)
    network.cpu()
    checkpoint = seconds_of(lambda: add_backbone(folder, network), runtime.device)
    total = time.perf_counter() - started
    epoch = (starts.times[-1] - starts.times[1]) / (TRIAL_EPOCHS - 2)
    return _Trial(max(0.0, total - TRIAL_EPOCHS * epoch), epoch, checkpoint, head_fit)


def _random_features(head: Head, data: SceneDataModule) -> SceneDataModule:
    """Return random features: a training on them takes as long as one on real features."""
    generator, width = np.random.default_rng(0), head.layer.in_features
    train, test = (
        generator.standard_normal((len(images.labels), width), np.float32) for images in (data.images, data.test_images)
    )
    return data.with_features(train, test)


def _features(
    config: RunConfig, network: nn.Module, data: SceneDataModule, weights: Weights | None, runtime: Runtime
) -> tuple[float, str]:
    """Return the seconds to compute the frozen features, and the digest of the runs that share them."""
    if config.recipe.trained == "all" and not config.effective_recipe.head_first:
        return 0.0, ""
    folder = features_folder(data, model=config.model, weights=weights, seed=config.seed, runtime=runtime)
    if weights is not None and folder.exists():
        return 0.0, ""
    num_images = len(data.splits.scenes) + len(data.splits.test_scenes)
    backbone = folder.name if weights else features_key(config.model)
    shared = files.digest([backbone, data.splits.fingerprint, data.view.size])
    network.to(memory_format=torch.channels_last)
    return evaluation_seconds(network, data, runtime) * num_images, shared
