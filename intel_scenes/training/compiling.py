"""torch.compile, where it can."""

import logging
import time
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.errors import first_line
from intel_scenes.models.classifier import SceneClassifier
from intel_scenes.training.inference import autocast

log = logging.getLogger(__name__)


def compile_network(
    classifier: SceneClassifier, data: SceneDataModule, *, device: torch.device, precision: str
) -> float | None:
    """Compiles the network of a classifier in place, and runs it once on batches of every shape that it will see.

    Weights, buffers and gradients stay as they were. Where the network cannot be compiled, a warning says why, and it
    runs as it is.

    Args:
        classifier: Of the run.
        data: Its images.
        device: Where it trains.
        precision: As Lightning names it.

    Returns:
        Seconds that this took; None where it cannot be compiled.
    """
    network, started = classifier.network, time.perf_counter()
    log.info("compiling the network, which can take minutes")
    # It looks for CUDA whatever the device, and says so.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    torch.compiler.reset()  # what an earlier run of this process left
    classifier.to(device)
    buffers = {name: tensor.clone() for name, tensor in network.named_buffers()}
    trained, evaluated = _batches(data, device)
    network.compile()
    try:
        classifier.train().on_train_start()
        _run_once(network, trained, evaluated, precision)
    except torch.OutOfMemoryError:
        raise
    except Exception as error:  # of the compiler's own kinds, or of a missing C++ compiler's
        log.warning("the network cannot be compiled (%s): it is trained without", first_line(error))
        network.compile(disable=True)
        return None
    finally:
        for name, tensor in network.named_buffers():
            tensor.copy_(buffers[name])
        network.train().zero_grad()
    return time.perf_counter() - started


def _batches(data: SceneDataModule, device: torch.device) -> tuple[list[Tensor], list[Tensor]]:
    """A batch for each size that training sees, and one for each length that evaluation sees."""
    stored, _, indices = data.images.batch(data.train[: data.batch_size])
    epochs = {size: epoch for epoch, size in enumerate(data.train_sizes)}.values()
    trained = [data.augmented(stored.to(device), indices, epoch) for epoch in epochs]
    loaders = [data.evaluation(split) for split in ("val", "train_eval", "test")]
    of_each_size = {len(indices): (loader, indices) for loader in loaders for indices in loader.positions()}
    evaluated = [loader.stored.squares(indices)[0].to(device) for loader, indices in of_each_size.values()]
    return trained, [data.prepared(stored) for stored in evaluated]


def _run_once(network: nn.Module, trained: Sequence[Tensor], evaluated: Sequence[Tensor], precision: str) -> None:
    device = trained[0].device
    for images in trained:
        with autocast(device, precision):
            outputs = network(images)
            logits: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
        logits.sum().backward()  # type: ignore[no-untyped-call]
    network.eval()
    with torch.inference_mode(), autocast(device, precision):
        for images in evaluated:
            network(images)
