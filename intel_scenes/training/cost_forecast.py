"""What a run will cost, before it starts: by a few steps on its own images."""

import logging
import statistics
import time
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Mapping
from copy import deepcopy
from dataclasses import dataclass

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
from intel_scenes.training.frozen_features import Head, linear_head

NUM_STEPS = 3

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Costs:
    """What the parts of a run take, in seconds, by a few steps after a first one.

    Attributes:
        steps: A training step, by the side of the images.
        measured: How many steps of each were measured.
        num_batches: Of an epoch.
        evaluation: Evaluating an image in one view.
        features: Of all images, once, where the run begins with the features of a frozen backbone.
        kept: Bytes of what the training keeps beside the weights: of the optimizer, and the average of the weights.
        held: Bytes of memory at most; None where the system does not tell.
    """

    steps: Mapping[int, float]
    measured: int
    num_batches: int
    evaluation: float
    features: float
    kept: int
    held: int | None

    def epoch(self, data: SceneDataModule, size: int) -> float:
        """Seconds of an epoch at this size of the images."""
        return self.num_batches * self.steps[size] + self.evaluation * (
            len(data.splits.val) + len(data.splits.train_eval)
        )


def measure(
    classifier: SceneClassifier,
    network: nn.Module,
    data: SceneDataModule,
    *,
    num_batches: int,
    head_first: bool,
    runtime: Runtime,
    averages: bool = False,
    num_steps: int = NUM_STEPS,
) -> Costs:
    """Measures a few steps at each size of the training images.

    Args:
        classifier: Of the whole network or of its head: is trained for a few steps, throw it away.
        network: The whole network.
        data: The images, and the sizes.
        num_batches: Of an epoch.
        head_first: Whether the run begins with the features of a frozen backbone.
        runtime: Where and how precisely it trains.
        averages: Whether the run keeps an average of the weights.
        num_steps: To measure, beside the first one of each size.
    """
    memory.begin(runtime.device)
    num_images, features, seen = _num_images(data), 0.0, data
    if isinstance(classifier.network, Head):
        features = evaluation_seconds(network, data, runtime) * num_images
        seen = _of_nothing(classifier.network, data)
    classifier.to(runtime.device)
    configured = classifier.configure_optimizers()
    assert isinstance(configured, dict)
    optimizer = configured["optimizer"]
    assert isinstance(optimizer, torch.optim.Optimizer)
    average = deepcopy(classifier) if averages else None
    steps = {
        size: _step_seconds(classifier, optimizer, average, seen, size, runtime, num_steps)
        for size in dict.fromkeys(data.train_sizes)
    }
    kept = [value for state in optimizer.state.values() for value in state.values()]
    kept += average.state_dict().values() if average else []
    evaluation = evaluation_seconds(classifier, seen, runtime)
    held = memory.peak(runtime.device)
    if head_first:
        features = evaluation * num_images  # by the same network, all but its last layer
    return Costs(steps, num_steps, num_batches, evaluation, features, _num_bytes(kept), held)


@dataclass(frozen=True)
class Measured:
    """A run whose costs were measured; its weights are of no more use.

    Attributes:
        costs: Of its parts.
        classifier: Of the whole network or of its head.
        network: The whole network.
    """

    costs: Costs
    classifier: SceneClassifier
    network: nn.Module


def measure_run(
    config: RunConfig, weights: Weights | None, data: SceneDataModule, runtime: Runtime, num_steps: int = NUM_STEPS
) -> Measured:
    """Builds the network and the optimizer of a run, and measures a few of its steps.

    Args:
        config: With the number of steps.
        weights: That the network begins from.
        data: The images.
        runtime: Where and how precisely it trains.
        num_steps: To measure at each size, beside the first one.

    Raises:
        UserError: The network or the optimizer cannot be built.
    """
    network = build_network(config, weights, data, runtime.num_devices)
    head = Head(network, config.model.name) if config.recipe.trained == "head" else None
    classifier = build_classifier(config, head or network, data.splits)
    costs = measure(
        classifier,
        network,
        data,
        num_batches=config.trainer.num_batches(data.num_batches),
        head_first=config.effective_recipe.head_first,
        runtime=runtime,
        averages=config.recipe.ema_decay is not None,
        num_steps=num_steps,
    )
    return Measured(costs, classifier, network)


def _of_nothing(head: Head, data: SceneDataModule) -> SceneDataModule:
    """Empty features: the time of a step does not depend on what they are."""
    width = head.layer.in_features
    train, test = (np.zeros((len(images.labels), width), np.float32) for images in (data.images, data.test_images))
    return data.with_features(train, test)


def fitted_epochs(costs: Costs, data: SceneDataModule, minutes: float) -> int:
    """The most epochs whose training fits into a time, features of a frozen backbone included; at least one.

    Args:
        costs: As measured.
        data: The images, and the sizes that share out the epochs.
        minutes: Of training, with the evaluations after each epoch and without the last one.
    """

    def seconds(epochs: int) -> float:
        return costs.features + sum(_epoch_seconds(costs, data, epochs))

    limit, known = 60 * minutes, 1
    if seconds(1) > limit:
        log.warning(
            "not even one epoch fits into %g minutes: one is trained, in about %s", minutes, _duration(seconds(1))
        )
    while seconds(2 * known) <= limit:
        known *= 2
    return max(1, bisect_right(range(2 * known), limit, lo=known, key=seconds) - 1)


def forecast(
    costs: Costs,
    classifier: SceneClassifier,
    network: nn.Module,
    data: SceneDataModule,
    *,
    num_epochs: int,
    num_views: int,
    runtime: Runtime,
) -> list[str]:
    """Steps, parameters, arithmetic, minutes, memory and disk of a run, a sentence for each.

    Args:
        costs: As measured.
        classifier: Of the whole network or of its head.
        network: The whole network.
        data: The images, and the sizes that share out the epochs.
        num_epochs: Of the run.
        num_views: Of the last evaluation.
        runtime: Where and how precisely it trains.
    """
    is_head, splits = isinstance(classifier.network, Head), data.splits
    seen = forward_gflop(network, data.view.size)
    trained = [0.0] if is_head else [training_gflop(forward_gflop(network, size)) for size in costs.steps]
    seconds = _epoch_seconds(costs, data, num_epochs)
    in_all = costs.features + sum(seconds) + costs.evaluation * num_views * (len(splits.val) + len(splits.test))
    weights, state = (_num_bytes(part.state_dict().values()) for part in (network, classifier.network))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    step = ", ".join(f"{one:.2g} s" for one in costs.steps.values())
    num_images, head = _num_images(data), linear_head(network)
    written = state + costs.kept  # the checkpoint
    # It is written from a copy while the training goes on.
    held = costs.held and costs.held + (written if runtime.device.type == "cpu" else 0)
    kept = 4 * head[1].in_features * num_images if head and costs.features else 0
    once = (
        f"features of {num_images:,} images once, about {_duration(costs.features)} "
        "unless they are in data.cache_dir: all runs of this backbone at this size share them"
    )
    return [
        f"{len(splits.train):,} training images in {counted(costs.num_batches, 'batch', 'batches')} of "
        f"{data.batch_size}, {costs.num_batches * num_epochs:,} steps with epochs={num_epochs}; "
        f"{len(splits.val):,} validation and {len(splits.test):,} test images",
        f"{parameters:,} parameters; for an image of {data.view.size} px {seen:.2f} GFLOP to see it, "
        f"{' to '.join(f'{gflop:.2f}' for gflop in sorted({min(trained), max(trained)}))} to train on it",
        *([once] if costs.features else []),
        f"about {_duration(sum(seconds) / num_epochs)} an epoch and {_duration(in_all)} in all "
        f"on {runtime.device}, {runtime.precision}, threads={runtime.threads}, by {costs.measured} steps of {step}",
        f"memory about {held / 1e9:.1f} GB" if held else "memory unknown on this system",
        f"disk about {weights / 1e6:.0f} MB, and {written / 1e6:.0f} MB more while it trains"
        + (f", {kept / 1e6:.0f} MB of features" if kept else ""),
    ]


def _epoch_seconds(costs: Costs, data: SceneDataModule, num_epochs: int) -> list[float]:
    return [costs.epoch(data, size_of(data.train_sizes, epoch, num_epochs)) for epoch in range(num_epochs)]


def _num_images(data: SceneDataModule) -> int:
    return len(data.splits.scenes) + len(data.splits.test_scenes)


def _num_bytes(values: Iterable[object]) -> int:
    return sum(value.nbytes for value in values if isinstance(value, torch.Tensor))


def _step_seconds(
    classifier: SceneClassifier,
    optimizer: torch.optim.Optimizer,
    average: SceneClassifier | None,
    data: SceneDataModule,
    size: int,
    runtime: Runtime,
    num_steps: int,
) -> float:
    classifier.train().on_train_start()
    num_classes, label_smoothing = len(data.splits.classes), classifier.label_smoothing
    batches = TrainBatches(data.images, data.splits.train, data.batch_size, data.seed, lambda: 0)
    stored = _again_and_again(batches)  # an epoch may have a single batch

    def step() -> None:
        batch = next(stored).to(runtime.device)
        images, targets = data.pipeline.train_batch(batch, epoch=0, size=size, num_classes=num_classes)
        optimizer.zero_grad()
        forward_backward(classifier.network, images, targets, runtime, label_smoothing=label_smoothing)
        optimizer.step()
        if average:
            averaging.move(average, classifier, 0.5)

    step()
    return statistics.median(seconds_of(step, runtime.device) for _ in range(num_steps))


def _again_and_again(batches: TrainBatches) -> Iterator[Batch]:
    while True:
        yield from batches


def evaluation_seconds(network: nn.Module, data: SceneDataModule, runtime: Runtime) -> float:
    """Seconds for an image, by a few passes of one batch after a first one."""
    network.to(runtime.device).eval()
    stored = next(iter(data.eval_batches("val"))).images

    def evaluate() -> None:
        with torch.inference_mode(), runtime.autocast():
            network(data.pipeline.eval_view(stored.to(runtime.device)))

    evaluate()
    return statistics.median(seconds_of(evaluate, runtime.device) for _ in range(NUM_STEPS)) / len(stored)


def forward_gflop(network: nn.Module, size: int) -> float:
    """Floating point operations (1e9) of an image's way through a network; a multiplication with an addition is two.

    torch's counter forgets the groups of convolutions in a backward pass (pytorch/pytorch#183405).
    """
    parameter, was_training = next(network.parameters()), network.training
    image = torch.zeros(1, 3, size, size, dtype=parameter.dtype, device=parameter.device)
    # The fused attention of evaluation is not in the counter's list.
    is_fused = torch.backends.mha.get_fastpath_enabled()
    torch.backends.mha.set_fastpath_enabled(False)
    with torch.inference_mode(), FlopCounterMode(display=False) as counter:
        network.eval()(image)
    torch.backends.mha.set_fastpath_enabled(is_fused)
    network.train(was_training)
    return float(counter.get_total_flops() / 1e9)


def training_gflop(forward: float) -> float:
    """The same of a training step: for each product of the forward pass the backward pass computes two."""
    return 3 * forward


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"


def seconds_of(work: Callable[[], object], device: torch.device) -> float:
    """Seconds until the device is done."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
