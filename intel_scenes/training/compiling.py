"""torch.compile, where it can."""

import logging
import time

import torch
from torch import Tensor

from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.errors import first_line
from intel_scenes.models.classifier import SceneClassifier, forward_backward
from intel_scenes.runtime import Runtime

log = logging.getLogger(__name__)


def compile_network(classifier: SceneClassifier, data: SceneDataModule, runtime: Runtime) -> float | None:
    """Compiles the network of a classifier in place, and runs it once on batches of every shape that it will see.

    Weights, buffers and gradients stay as they were. Where the network cannot be compiled, a warning says why, and it
    runs as it is.

    Args:
        classifier: Of the run.
        data: Its images.
        runtime: Where and how precisely it trains.

    Returns:
        Seconds that this took; None where it cannot be compiled.
    """
    network, started = classifier.network, time.perf_counter()
    log.info("compiling the network, which can take minutes")
    # It looks for CUDA whatever the device, and says so.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    torch.compiler.reset()  # what an earlier run of this process left
    classifier.to(runtime.device)
    buffers = {name: tensor.clone() for name, tensor in network.named_buffers()}
    trained, evaluated = _batches(data, runtime.device)
    network.compile()
    try:
        classifier.train().on_train_start()
        for images, targets in trained:
            forward_backward(network, images, targets, runtime)
        network.eval()
        with torch.inference_mode(), runtime.autocast():
            for images in evaluated:
                network(images)
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


def _batches(data: SceneDataModule, device: torch.device) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
    """A batch with targets for each size that training sees, and one for each length that evaluation sees."""
    splits = data.splits
    stored = data.images.batch(splits.train[: data.batch_size]).to(device)
    trained = [
        data.pipeline.train_batch(stored, epoch=0, size=size, num_classes=len(splits.classes))
        for size in dict.fromkeys(data.train_sizes)
    ]
    loaders = [data.eval_batches(split) for split in ("val", "train_eval", "test")]
    of_each_length = {len(indices): (loader, indices) for loader in loaders for indices in loader.positions()}
    evaluated = [loader.stored.squares(indices).images.to(device) for loader, indices in of_each_length.values()]
    return trained, [data.pipeline.eval_view(images) for images in evaluated]
