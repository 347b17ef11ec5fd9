"""torch.compile, where it can."""

import logging
import time

import torch
from torch import Tensor, nn

from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.errors import first_line
from intel_scenes.models.classifier import SceneClassifier
from intel_scenes.runs.inference import autocast

log = logging.getLogger(__name__)


def compile_network(
    classifier: SceneClassifier, data: SceneDataModule, *, device: torch.device, precision: str
) -> float | None:
    """Compiles the network of a classifier in place, and runs it once on batches of every shape that it will see.

    Weights, buffers and gradients stay as they were. Where the network cannot be compiled, a warning says why, and it
    stays as it was.

    Args:
        classifier: Of the run.
        data: Its images.
        device: Where it trains.
        precision: As Lightning names it.

    Returns:
        Seconds that this took; None where it cannot be compiled.
    """
    network, started = classifier.network, time.perf_counter()
    torch.compiler.reset()  # what an earlier run of this process left
    classifier.to(device)
    buffers = {name: tensor.clone() for name, tensor in network.named_buffers()}
    network.compile()
    try:
        _train_once(network, data, device, precision)
        _evaluate_once(network, data, device, precision)
    except Exception as error:  # of the compiler's own kinds, or of a missing C++ compiler's
        log.warning("the network cannot be compiled (%s): it is trained without", first_line(error))
        network.compile(disable=True)
        return None
    finally:
        for name, tensor in network.named_buffers():
            tensor.copy_(buffers[name])
        network.train().zero_grad()
    return time.perf_counter() - started


def _train_once(network: nn.Module, data: SceneDataModule, device: torch.device, precision: str) -> None:
    stored, _, indices = data.images.batch(data.train[: data.batch_size])
    images = data.augmented(stored.to(device), indices, epoch=0)
    with autocast(device, precision):
        outputs = network.train()(images)
    logits: Tensor = outputs if isinstance(outputs, Tensor) else outputs[0]
    logits.sum().backward()  # type: ignore[no-untyped-call]


@torch.inference_mode()
def _evaluate_once(network: nn.Module, data: SceneDataModule, device: torch.device, precision: str) -> None:
    loaders = [data.evaluation(split) for split in ("val", "train_eval", "test")]
    of_each_size = {len(labels): stored for loader in loaders for stored, labels, _ in loader}
    for stored in of_each_size.values():
        with autocast(device, precision):
            network.eval()(data.prepared(stored.to(device)))
