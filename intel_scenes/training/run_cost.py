"""What a run of a sweep costs in seconds, from its start to its record, before any of them has begun."""

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
from intel_scenes.training.build import build_classifier, build_data, build_network, build_trainer, check_devices
from intel_scenes.training.checkpoints import EpochRecorder
from intel_scenes.training.cost_forecast import evaluation_seconds, measure_run, seconds_of
from intel_scenes.training.epoch_budget import NUM_STEPS, epochs_ratio, with_steps
from intel_scenes.training.evaluation import evaluate
from intel_scenes.training.frozen_features import Head, add_backbone, features_folder, fit_head, linear_head
from intel_scenes.training.identity import facts_of, state_digest

TRIAL_EPOCHS = 5  # of a head on random features; the first and the last are not counted as epochs


@dataclass(frozen=True)
class RunCost:
    """What a run takes, in seconds.

    Attributes:
        start: Beside its epochs and features: reading and building, the last evaluation, the record.
        epochs: Of an epoch with its evaluations, at each of the sizes that share out the epochs.
        features: Of a frozen backbone, computed once for all runs that share them; 0 where there are none to compute.
        shared: Digest by which runs share features.
        is_by_seed: Whether runs of other seeds have features of their own, because their weights are random.
        num_test: Test images.
        ratio: Epochs that are trained for each one that is asked for: above 1 with `equal_steps`.
    """

    start: float
    epochs: tuple[float, ...]
    features: float = 0.0
    shared: str = ""
    is_by_seed: bool = False
    num_test: int = 0
    ratio: float = 1.0

    def seconds(self, num_epochs: int) -> float:
        """Of a run of so many epochs as asked for, but for its features."""
        num_sizes, num_trained = len(self.epochs), max(1, round(num_epochs * self.ratio))
        ends = [-(-num_trained * (place + 1) // num_sizes) for place in range(num_sizes)]  # shared out as by `size_of`
        counts = [end - before for before, end in zip([0, *ends], ends, strict=False)]
        return self.start + sum(count * one for count, one in zip(counts, self.epochs, strict=True))


def measure_run_cost(config: RunConfig) -> RunCost:
    """Measures a few steps of a run on its own images, and a whole training of a head on random features.

    The second says what a run takes beside the passes through its network: the Trainer's start and loops, checkpoints,
    predictions, curves. Nothing is left of it.

    Args:
        config: As composed, with the threads of the study.

    Raises:
        UserError: The images cannot be had, or the parts of the run cannot be built.
    """
    with _silent():
        return _measured(config)


def _measured(config: RunConfig) -> RunCost:
    runtime = runtime_of_trainer(config.trainer, config.threads)
    torch.set_num_threads(runtime.threads)
    build_data(config)  # decodes the images where that has not been done yet
    started = time.perf_counter()
    weights = resolve_weights(config.model)
    data = build_data(config)
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
        ratio=epochs_ratio(config, data),
    )
    if config.recipe.trained == "head":
        return of_head
    unfitted = with_steps(config, data, max(config.epochs, len(data.train_sizes)), folder=None)
    costs = measure_run(unfitted, weights, data, runtime, NUM_STEPS).costs
    splits, views = data.splits, TTA[config.recipe.views]
    start = of_head.start + costs.evaluation * views * (len(splits.val) + len(splits.test))
    if config.effective_recipe.head_first:
        start += trial.head_fit
    num_bytes = sum(value.nbytes for value in network.state_dict().values())
    writing = trial.written * (2 + costs.kept / num_bytes)  # the best weights, the last ones, and what is kept beside
    beside = trial.epoch + writing
    return replace(of_head, start=start, epochs=tuple(costs.epoch(data, size) + beside for size in data.train_sizes))


@contextmanager
def _silent() -> Iterator[None]:
    """Without notices and warnings: the runs give them, and random features may call for others."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        logging.disable(logging.WARNING)
        try:
            yield
        finally:
            logging.disable(logging.NOTSET)


def _head(config: RunConfig, network: nn.Module, num_classes: int) -> Head:
    """The head of a network; that of a small one where there is none and the network is trained as a whole."""
    if linear_head(network) is None and config.recipe.trained == "all":
        return Head(ResNet9(num_classes, width=8), "resnet9")
    return Head(network, config.model.name)


@dataclass(frozen=True)
class _Trial:
    """Seconds of a training of a head on features: beside its epochs, of one, of a checkpoint, of a closed fit."""

    start: float
    epoch: float
    written: float
    head_fit: float


class _Starts(Callback):
    """Notes when each epoch starts."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.times.append(time.perf_counter())


def _trial(
    config: RunConfig, network: nn.Module, head: Head, data: SceneDataModule, runtime: Runtime, folder: Path
) -> _Trial:
    seen = _of_noise(head, data)
    without: dict[str, Any] = WITHOUT_BACKBONE
    recipe = replace(config.recipe, trained="head", **without)
    trained = with_steps(replace(config, recipe=recipe), data, TRIAL_EPOCHS, folder)
    head_fit = 0.0
    if config.effective_recipe.head_first:
        head_fit = seconds_of(lambda: fit_head(head.layer, seen.images, seen.splits.train, 0.0), runtime.device)
        head.layer.reset_parameters()
    started = time.perf_counter()
    classifier = build_classifier(trained, head, data.splits)
    recorder, starts = EpochRecorder(folder), _Starts()
    trainer = build_trainer(trained, runtime, [recorder, starts])
    if memory.is_resident(config.data.device_resident, runtime.device, seen.images.values.nbytes):
        seen = seen.on(runtime.device)
    trainer.fit(classifier, seen, weights_only=True)
    evaluate(Summary(status=Status.INTERRUPTED), folder, classifier.network, seen, recorder, runtime)
    network.cpu()
    written = seconds_of(lambda: add_backbone(folder, network), runtime.device)
    in_all = time.perf_counter() - started
    epoch = (starts.times[-1] - starts.times[1]) / (TRIAL_EPOCHS - 2)
    return _Trial(max(0.0, in_all - TRIAL_EPOCHS * epoch), epoch, written, head_fit)


def _of_noise(head: Head, data: SceneDataModule) -> SceneDataModule:
    """Random features: a head learns nothing from them, and takes as long as with others."""
    generator, width = np.random.default_rng(0), head.layer.in_features
    train, test = (
        generator.standard_normal((len(images.labels), width), np.float32) for images in (data.images, data.test_images)
    )
    return data.with_features(train, test)


def _features(
    config: RunConfig, network: nn.Module, data: SceneDataModule, weights: Weights | None, runtime: Runtime
) -> tuple[float, str]:
    """Seconds that the features of the frozen backbone will take, and by what runs share them."""
    if config.recipe.trained == "all" and not config.effective_recipe.head_first:
        return 0.0, ""
    folder = features_folder(data, model=config.model, weights=weights, seed=config.seed, runtime=runtime)
    if weights is not None and folder.exists():
        return 0.0, ""
    num_images = len(data.splits.scenes) + len(data.splits.test_scenes)
    made_by = folder.name if weights else features_key(config.model)
    shared = files.digest([made_by, data.splits.fingerprint, data.view.size])
    network.to(memory_format=torch.channels_last)
    return evaluation_seconds(network, data, runtime) * num_images, shared
