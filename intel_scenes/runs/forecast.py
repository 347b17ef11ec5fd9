"""What a run will cost, before it starts: by a few steps on its own images."""

import statistics
import time
from collections.abc import Callable

import torch
from torch.utils.flop_counter import FlopCounterMode

from intel_scenes.data.batches import TrainBatches, prepare
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.models.classifier import SceneClassifier
from intel_scenes.runs import memory
from intel_scenes.runs.inference import autocast

NUM_STEPS = 3


def forecast(
    classifier: SceneClassifier, data: SceneDataModule, *, epochs: int, device: torch.device, precision: str
) -> list[str]:
    """Steps, parameters, arithmetic, minutes, memory and disk of a run, a sentence for each.

    Args:
        classifier: Is trained for a few steps: throw it away.
        data: Its images.
        epochs: Of the run.
        device: Where it trains.
        precision: As Lightning names it.
    """
    memory.reset_peak(device)
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

    with FlopCounterMode(display=False) as counter:
        step()
    num_steps = min(NUM_STEPS, len(batches) - 1)
    seconds = statistics.median(_timed(step, device) for _ in range(num_steps)) if num_steps else float("nan")
    held = memory.peak(device)
    classifier.eval()
    pixels, *_ = next(iter(data.evaluation("val")))

    def evaluate() -> None:
        with torch.inference_mode(), autocast(device, precision):
            classifier(prepare(pixels.to(device), data.view))

    evaluate()
    per_image = _timed(evaluate, device) / len(pixels)
    an_epoch = len(batches) * seconds + per_image * (len(data.val) + len(data.train_eval))
    in_all = epochs * an_epoch + per_image * (len(data.val) + len(data.test))
    network = classifier.network
    weights = sum(tensor.nbytes for tensor in network.state_dict().values())
    states = [value for state in optimizer.state.values() for value in state.values()]
    moments = sum(value.nbytes for value in states if isinstance(value, torch.Tensor))
    parameters = sum(parameter.numel() for parameter in network.parameters())
    gflop = counter.get_total_flops() / data.batch_size / 1e9
    return [
        f"{len(data.train):,} training images in {len(batches):,} batches of {data.batch_size}, "
        f"{len(batches) * epochs:,} steps with epochs={epochs}; "
        f"{len(data.val):,} valid and {len(data.test):,} test images",
        f"{parameters:,} parameters, {gflop:.2f} GFLOP to train on an image of {data.view.size} px",
        f"about {_duration(an_epoch)} an epoch and {_duration(in_all)} in all on {device}, {precision}, "
        f"{torch.get_num_threads()} threads, by {num_steps} steps of {seconds:.2f} s",
        f"memory about {(held or 0) / 1e9:.1f} GB" if held else "memory unknown on this system",
        f"disk about {weights / 1e6:.0f} MB, and {(weights + moments) / 1e6:.0f} MB more while it trains",
    ]


def _duration(seconds: float) -> str:
    return f"{seconds / 60:.1f} minutes" if seconds >= 60 else f"{seconds:.0f} seconds"


def _timed(work: Callable[[], None], device: torch.device) -> float:
    """Seconds until the device is done."""
    started = time.perf_counter()
    work()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - started
