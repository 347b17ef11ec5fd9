"""Forecast of what a run will cost, from a few timed steps on its own images."""

import logging
import statistics
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from copy import deepcopy
from dataclasses import dataclass
from functools import partial

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from intel_scenes.config import RunConfig
from intel_scenes.data.batches import TrainBatches
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.pipelines import size_of
from intel_scenes.data.store import Batch
from intel_scenes.errors import counted
from intel_scenes.models.classifier import SceneClassifier, forward_backward
from intel_scenes.models.weights import Weights
from intel_scenes.runtime import Runtime
from intel_scenes.training import averaging, memory
from intel_scenes.training.build import build_classifier, build_network
from intel_scenes.training.claim import as_user_errors
from intel_scenes.training.frozen_features import Head, linear_head

NUM_STEPS = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Costs:
    """Time and memory of the parts of a run, from a few steps after a warm-up step.

    Attributes:
        step_seconds: Seconds of a training step, by the side of the images in pixels.
        num_timed: Number of timed steps at each size.
        num_batches: Batches per epoch.
        evaluation_seconds: Seconds to evaluate an image without test-time augmentation.
        features_seconds: Seconds to compute the frozen features of all images; 0 if the run uses none.
        state_bytes: Bytes of the optimizer's state and of the weight averages, beside the weights.
        peak_bytes: Peak memory in bytes; None if the system does not report it.
        num_scored: Networks that `averages` evaluates after each epoch: the live weights and each average.
        scores_all: Whether it evaluates them on all training images, as it does a head.
    """

    step_seconds: Mapping[int, float]
    num_timed: int
    num_batches: int
    evaluation_seconds: float
    features_seconds: float
    state_bytes: int
    peak_bytes: int | None
    num_scored: int = 0
    scores_all: bool = False

    def epoch_seconds(self, data: SceneDataModule, size: int) -> float:
        """Return the seconds of an epoch with its evaluations, at a side of the images in pixels."""
        splits = data.splits
        scored = splits.train if self.scores_all else splits.train_eval
        num_evaluated = len(splits.val) + len(splits.train_eval) + self.num_scored * (len(splits.val) + len(scored))
        return self.num_batches * self.step_seconds[size] + self.evaluation_seconds * num_evaluated


def time_parts(
    classifier: SceneClassifier,
    network: nn.Module,
    data: SceneDataModule,
    *,
    num_batches: int,
    head_first: bool,
    runtime: Runtime,
    num_averages: int = 0,
    num_scored: int = 0,
    num_steps: int = NUM_STEPS,
) -> Costs:
    """Time a few steps at each training size.

    Args:
        classifier: Classifier of the whole network or of its head; it is trained for a few steps and of no further use.
        network: The whole network.
        data: The images and the training sizes.
        num_batches: Batches per epoch.
        head_first: Whether the run begins with fitting the head to frozen features.
        runtime: Device and precision of the training.
        num_averages: Number of averages of the weights that the run keeps.
        num_scored: Networks that `averages` evaluates after each epoch.
        num_steps: Steps to time at each size, after a warm-up step.
    """
    memory.begin(runtime.device)
    num_images, features_seconds, inputs = _num_images(data), 0.0, data
    if isinstance(classifier.network, Head):
        features_seconds = evaluation_seconds(network, data, runtime) * num_images
        inputs = _zero_features(classifier.network, data)
    classifier.to(runtime.device)
    configured = classifier.configure_optimizers()
    assert isinstance(configured, dict)
    optimizer = configured["optimizer"]
    assert isinstance(optimizer, torch.optim.Optimizer)
    averages = [deepcopy(classifier) for _ in range(num_averages)]
    steps = {
        size: _step_seconds(classifier, optimizer, averages, inputs, size, runtime, num_steps)
        for size in dict.fromkeys(data.train_sizes)
    }
    state = [value for values in optimizer.state.values() for value in values.values()]
    state += [value for average in averages for value in average.state_dict().values()]
    image_seconds = evaluation_seconds(classifier, inputs, runtime)
    peak_bytes = memory.peak(runtime.device)
    if head_first:
        features_seconds = image_seconds * num_images  # the same network without its last layer
    return Costs(
        steps,
        num_steps,
        num_batches,
        image_seconds,
        features_seconds,
        _num_bytes(state),
        peak_bytes,
        num_scored,
        scores_all=isinstance(classifier.network, Head),
    )


@dataclass(frozen=True)
class TimedRun:
    """A run whose parts were timed; its weights are of no further use.

    Attributes:
        costs: Time and memory of its parts.
        classifier: Classifier of the whole network or of its head.
        network: The whole network.
    """

    costs: Costs
    classifier: SceneClassifier
    network: nn.Module


def time_run(
    config: RunConfig, weights: Weights | None, data: SceneDataModule, runtime: Runtime, num_steps: int = NUM_STEPS
) -> TimedRun:
    """Build the network and the optimizer of a run, and time a few steps.

    Args:
        config: Configuration with the number of steps resolved.
        weights: Initial weights of the network; None for random ones.
        data: The images.
        runtime: Device and precision of the training.
        num_steps: Steps to time at each size, after a warm-up step.

    Raises:
        UserError: The network or the optimizer cannot be built, or memory does not suffice for a step.
    """
    with as_user_errors(partial(fitting_batch_size, config, weights, data, runtime)):
        return _timed(config, weights, data, runtime, num_steps)


def fitting_batch_size(
    config: RunConfig, weights: Weights | None, data: SceneDataModule, runtime: Runtime
) -> int | None:
    """Return the first of a half, a quarter, an eighth ... of the batch size of which two steps fit into the memory.

    It errs on the small side, because what the run that did not fit still holds is in memory as well.

    Args:
        config: Configuration of a run that ran out of memory, with the number of steps resolved.
        weights: Initial weights of the network; None for random ones.
        data: The images.
        runtime: Device and precision of the training.

    Returns:
        The batch size; None if no step fits, or for a run on several devices or with a growing batch.
    """
    if runtime.num_devices > 1 or data.sizes:
        return None
    log.info("out of memory: trying smaller batches")
    batch_size = data.batch_size
    while batch_size := batch_size // 2:
        with suppress(Exception):  # without memory, a step fails in many ways
            _timed(config, weights, data.with_batch_size(batch_size), runtime, num_steps=1)
            return batch_size
    return None


def _timed(
    config: RunConfig, weights: Weights | None, data: SceneDataModule, runtime: Runtime, num_steps: int
) -> TimedRun:
    network = build_network(config, weights, data, runtime.num_devices)
    head = Head(network, config.model.name) if config.recipe.trained == "head" else None
    classifier = build_classifier(config, head or network, data.splits, runtime)
    costs = time_parts(
        classifier,
        network,
        data,
        num_batches=config.trainer.num_batches(data.num_batches),
        head_first=config.effective_recipe.head_first,
        runtime=runtime,
        num_averages=(config.recipe.ema_decay is not None) + len(config.averages or ()),
        num_scored=1 + len(config.averages) if config.averages else 0,
        num_steps=num_steps,
    )
    return TimedRun(costs, classifier, network)


def _zero_features(head: Head, data: SceneDataModule) -> SceneDataModule:
    """Return features of zeros: the time of a step does not depend on their values."""
    width = head.layer.in_features
    train, test = (np.zeros((len(images.labels), width), np.float32) for images in (data.images, data.test_images))
    return data.with_features(train, test)


def fitted_epochs(costs: Costs, data: SceneDataModule, minutes: float) -> int:
    """Return the largest number of epochs whose training fits into a time, frozen features included; at least 1.

    Args:
        costs: Time of the parts of the run.
        data: The images and the training sizes, each of which trains a share of the epochs.
        minutes: Time for the training and the evaluations after each epoch, without the final evaluation.
    """

    def seconds(epochs: int) -> float:
        return costs.features_seconds + sum(_epoch_seconds(costs, data, epochs))

    limit, fitting = 60 * minutes, 1
    if seconds(1) > limit:
        log.warning(
            "not even one epoch fits into budget_minutes=%g: training one epoch, which takes about %s",
            minutes,
            _duration(seconds(1)),
        )
    while seconds(2 * fitting) <= limit:
        fitting *= 2
    return max(1, bisect_right(range(2 * fitting), limit, lo=fitting, key=seconds) - 1)


def forecast(
    costs: Costs,
    classifier: SceneClassifier,
    network: nn.Module,
    data: SceneDataModule,
    *,
    num_epochs: int,
    num_steps: int,
    num_views: int,
    runtime: Runtime,
) -> list[str]:
    """Return steps, parameters, GFLOP, minutes, memory and disk of a run, one sentence for each.

    Args:
        costs: Time and memory of the parts of the run.
        classifier: Classifier of the whole network or of its head.
        network: The whole network.
        data: The images and the training sizes, each of which trains a share of the epochs.
        num_epochs: Epochs of the run.
        num_steps: Optimizer steps of the run.
        num_views: Views per image of the final evaluation.
        runtime: Device and precision of the training.
    """
    is_head, splits = isinstance(classifier.network, Head), data.splits
    forward = forward_gflop(network, data.view.size)
    training = [0.0] if is_head else [training_gflop(forward_gflop(network, size)) for size in costs.step_seconds]
    seconds = _epoch_seconds(costs, data, num_epochs)
    num_evaluated = num_views * (len(splits.val) + len(splits.test)) + costs.num_scored * len(splits.test)
    total = costs.features_seconds + sum(seconds) + costs.evaluation_seconds * num_evaluated
    weights, state = (_num_bytes(part.state_dict().values()) for part in (network, classifier.network))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    steps = f"{costs.num_timed} steps of " + ", ".join(f"{value:.2g} s" for value in costs.step_seconds.values())
    steps += " each (longer on a busy machine)"
    num_images, head = _num_images(data), linear_head(network)
    grown, passes = [size for sizes in data.sizes for size in sizes], data.passes_per_epoch
    batches = f"{counted(costs.num_batches, 'batch', 'batches')} of {data.batch_size}"
    batches = f"batches that grow from {data.batch_size} to {max(grown):,}" if grown else batches
    timed = f" with batches of {data.batch_size}" if grown else ""
    batches += f" ({passes} passes)" if passes > 1 else ""
    checkpoint = state + costs.state_bytes
    # On a CPU the checkpoint is copied in memory, and written while the training continues.
    peak = costs.peak_bytes and costs.peak_bytes + (checkpoint if runtime.device.type == "cpu" else 0)
    features = 4 * head[1].in_features * num_images if head and costs.features_seconds else 0
    once = (
        f"features of {num_images:,} images, computed once in about {_duration(costs.features_seconds)} "
        "unless data.cache_dir has them; all runs of this backbone at this size share them"
    )
    return [
        f"{len(splits.train):,} training images in {batches}, "
        f"{counted(num_steps, 'step')} with epochs={num_epochs}; "
        f"{len(splits.val):,} validation and {len(splits.test):,} test images",
        f"{parameters:,} parameters; GFLOP per image: {forward:.2f} to evaluate at {data.view.size} px, "
        f"{' to '.join(f'{gflop:.2f}' for gflop in sorted({min(training), max(training)}))} to train",
        *([once] if costs.features_seconds else []),
        f"time: about {_duration(sum(seconds) / num_epochs)} per epoch and {_duration(total)} in all on "
        f"{runtime.device}, {runtime.precision}, threads={runtime.threads}; measured on {steps}",
        f"memory: about {peak / 1e9:.1f} GB{timed}" if peak else "memory: unknown on this system",
        f"disk: about {weights / 1e6:.0f} MB, and {checkpoint / 1e6:.0f} MB more during training"
        + (f", {features / 1e6:.0f} MB of features" if features else ""),
    ]


def _epoch_seconds(costs: Costs, data: SceneDataModule, num_epochs: int) -> list[float]:
    return [costs.epoch_seconds(data, size_of(data.train_sizes, epoch, num_epochs)) for epoch in range(num_epochs)]


def _num_images(data: SceneDataModule) -> int:
    return len(data.splits.scenes) + len(data.splits.test_scenes)


def _num_bytes(values: Iterable[object]) -> int:
    return sum(value.nbytes for value in values if isinstance(value, torch.Tensor))


def _step_seconds(
    classifier: SceneClassifier,
    optimizer: torch.optim.Optimizer,
    averages: Sequence[SceneClassifier],
    data: SceneDataModule,
    size: int,
    runtime: Runtime,
    num_steps: int,
) -> float:
    classifier.train().on_train_start()
    num_classes, label_smoothing = len(data.splits.classes), classifier.label_smoothing
    batches = TrainBatches(data.images, data.splits.train, data.batch_size, data.seed, lambda: 0)
    stored = _repeated(batches)  # an epoch may have a single batch

    def step() -> None:
        batch = next(stored).to(runtime.device)
        images, targets = data.pipeline.train_batch(batch, epoch=0, size=size, num_classes=num_classes)
        optimizer.zero_grad()
        forward_backward(classifier.network, images, targets, runtime, label_smoothing=label_smoothing)
        optimizer.step()
        for average in averages:
            averaging.move(average, classifier, 0.5)

    step()
    return statistics.median(seconds_of(step, runtime.device) for _ in range(num_steps))


def _repeated(batches: TrainBatches) -> Iterator[Batch]:
    while True:
        yield from batches


def evaluation_seconds(network: nn.Module, data: SceneDataModule, runtime: Runtime) -> float:
    """Return the seconds to evaluate an image, from a few passes of one batch after a warm-up pass."""
    network.to(runtime.device).eval()
    stored = next(iter(data.eval_batches("val"))).images

    def forward() -> None:
        with torch.inference_mode(), runtime.autocast():
            network(data.pipeline.eval_view(stored.to(runtime.device)))

    forward()
    return statistics.median(seconds_of(forward, runtime.device) for _ in range(NUM_STEPS)) / len(stored)


def forward_gflop(network: nn.Module, size: int) -> float:
    """Return the floating-point operations (1e9) of a forward pass of one image; a multiply-add counts as two.

    Only the forward pass is counted, because torch's counter ignores the groups of convolutions in a backward pass
    (pytorch/pytorch#183405).
    """
    parameter, was_training = next(network.parameters()), network.training
    image = torch.zeros(1, 3, size, size, dtype=parameter.dtype, device=parameter.device)
    # The counter does not know the fused attention of evaluation mode.
    is_fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.eval()(image)
    torch.backends.mha.set_fastpath_enabled(is_fused)
    network.train(was_training)
    return float(counter.get_total_flops() / 1e9)


def training_gflop(forward: float) -> float:
    """Return the GFLOP of a training step: the backward pass computes two products for each one of the forward pass."""
    return 3 * forward


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Return the seconds until the device has finished the work."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
