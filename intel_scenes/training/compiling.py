"""Compilation of a run's network by torch.compile."""

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
    """Compile the network of a classifier in place, and run it once on batches of every shape that it will see.

    Weights, buffers and gradients are unchanged afterwards. If the network cannot be compiled, a warning gives the
    reason, and it is trained without compiling.

    Args:
        classifier: Classifier of the run.
        data: Its images.
        runtime: Device and precision of the training.

    Returns:
        Seconds spent; None if the network cannot be compiled.
    """
    network, started = classifier.network, time.perf_counter()
    log.info("compiling the network, which can take minutes")
    # It warns about a missing CUDA on a CPU, too.
    logging.getLogger("torch.utils.cpp_extension").setLevel(logging.ERROR)
    torch.compiler.reset()  # state of earlier runs of this process
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
    except Exception as error:  # the compiler's own kinds, or a missing C++ compiler
        log.warning("the network cannot be compiled (%s); training without compile=true", first_line(error))
        network.compile(disable=True)
        return None
    finally:
        for name, tensor in network.named_buffers():
            tensor.copy_(buffers[name])
        network.train().zero_grad()
    return time.perf_counter() - started


def _batches(data: SceneDataModule, device: torch.device) -> tuple[list[tuple[Tensor, Tensor]], list[Tensor]]:
    """Return a batch with targets for each training size, and a batch for each batch length of evaluation."""
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
