"""What a run will cost, before it starts: by a few steps on its own images."""

import statistics
import time
from collections.abc import Callable, Iterable

import numpy as np
import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from intel_scenes.data.batches import TrainBatches
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.models.classifier import SceneClassifier
from intel_scenes.runs import memory
from intel_scenes.runs.features import Head
from intel_scenes.runs.inference import autocast

NUM_STEPS = 3


def forecast(
    classifier: SceneClassifier,
    network: nn.Module,
    data: SceneDataModule,
    *,
    epochs: int,
    device: torch.device,
    precision: str,
) -> list[str]:
    """Steps, parameters, arithmetic, minutes, memory and disk of a run, a sentence for each.

    Args:
        classifier: Of the whole network or of its head: is trained for a few steps, throw it away.
        network: The whole network.
        data: The images.
        epochs: Of the run.
        device: Where it trains.
        precision: As Lightning names it.
    """
    memory.reset_peak(device)
    seen = forward_gflop(network, data.view.size)
    trained, once, kept = training_gflop(seen), [], 0
    if isinstance(classifier.network, Head):
        once, trained = [_features_once(network, data, device, precision)], 0.0
        # The time of a step does not depend on what the features are.
        train, test = (
            np.zeros((len(images.labels), classifier.network.layer.in_features), np.float32)
            for images in (data.images, data.test_images)
        )
        data = data.of_features(train, test)
        kept = train.nbytes + test.nbytes
    seconds, moments = _step_seconds(classifier, data, device, precision)
    held = memory.peak(device)
    a_step = statistics.median(seconds) if seconds else float("nan")
    per_image = _evaluation_seconds(classifier, data, device, precision)
    num_batches = len(data.train) // data.batch_size
    an_epoch = num_batches * a_step + per_image * (len(data.val) + len(data.train_eval))
    in_all = epochs * an_epoch + per_image * (len(data.val) + len(data.test))
    weights, state = (_num_bytes(part.state_dict().values()) for part in (network, classifier.network))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    return [
        f"{len(data.train):,} training images in {num_batches:,} batches of {data.batch_size}, "
        f"{num_batches * epochs:,} steps with epochs={epochs}; "
        f"{len(data.val):,} valid and {len(data.test):,} test images",
        f"{parameters:,} parameters; for an image of {data.view.size} px {seen:.2f} GFLOP to see it, "
        f"{trained:.2f} to train on it",
        *once,
        f"about {_duration(an_epoch)} an epoch and {_duration(in_all)} in all on {device}, {precision}, "
        f"{torch.get_num_threads()} threads, by {len(seconds)} steps of {a_step:.2g} s",
        f"memory about {held / 1e9:.1f} GB" if held else "memory unknown on this system",
        f"disk about {weights / 1e6:.0f} MB, and {(state + moments) / 1e6:.0f} MB more while it trains"
        + (f", {kept / 1e6:.0f} MB of features" if kept else ""),
    ]


def _num_bytes(values: Iterable[object]) -> int:
    return sum(value.nbytes for value in values if isinstance(value, torch.Tensor))


def _step_seconds(
    classifier: SceneClassifier, data: SceneDataModule, device: torch.device, precision: str
) -> tuple[list[float], int]:
    """Seconds of a few steps after a first one, and the bytes of what the optimizer keeps."""
    classifier.to(device).train()
    configured = classifier.configure_optimizers()
    assert isinstance(configured, dict)
    optimizer = configured["optimizer"]
    assert isinstance(optimizer, torch.optim.Optimizer)
    batches = TrainBatches(data.images, data.train, data.batch_size, data.seed, lambda: 0)
    stored = iter(batches)

    def step() -> None:
        pixels, labels, indices = next(stored)
        images = data.augmented(pixels.to(device), indices, epoch=0)
        optimizer.zero_grad()
        with autocast(device, precision):
            loss = classifier.training_step((images, labels.to(device)), 0)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()

    step()
    seconds = [seconds_of(step, device) for _ in range(min(NUM_STEPS, len(batches) - 1))]
    states = [value for state in optimizer.state.values() for value in state.values()]
    return seconds, _num_bytes(states)


def _evaluation_seconds(network: nn.Module, data: SceneDataModule, device: torch.device, precision: str) -> float:
    """Seconds for an image, by one batch after a first one."""
    network.to(device).eval()
    pixels, *_ = next(iter(data.evaluation("val")))

    def evaluate() -> None:
        with torch.inference_mode(), autocast(device, precision):
            network(data.prepared(pixels.to(device)))

    evaluate()
    return seconds_of(evaluate, device) / len(pixels)


def _features_once(network: nn.Module, data: SceneDataModule, device: torch.device, precision: str) -> str:
    num_images = len(data.scenes) + len(data.test_scenes)
    seconds = _evaluation_seconds(network, data, device, precision) * num_images
    return (
        f"features of {num_images:,} images once, about {_duration(seconds)} unless they are in data.cache_dir: "
        "all runs of this backbone at this size share them"
    )


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
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
