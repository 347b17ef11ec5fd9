"""How fast networks train, beside this machine's own matrix products."""

import statistics
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor, nn

from intel_scenes.benchmarks.turns import Row
from intel_scenes.models.backbones import build, check_image_size
from intel_scenes.models.classifier import forward_backward
from intel_scenes.runtime import Runtime
from intel_scenes.training.cost_forecast import forward_gflop, seconds_of, training_gflop

BATCH_SIZE = 16
SLOW_RATE = 10  # GFLOP/s, at which three products of matrices of 1536 x 1536 take two seconds


@dataclass(frozen=True)
class Computation:
    """How `what=models` computes.

    Attributes:
        size: Side of the images in pixels.
        channels_last: Whether memory holds an image's channels side by side.
        compiled: Whether by torch.compile.
    """

    size: int
    channels_last: bool
    compiled: bool


def measure_models(names: Sequence[str], how: Computation, runtime: Runtime, repeats: int) -> Iterator[Row]:
    """GFLOP a second of forward and backward passes, against this machine's own matrix products.

    Raises:
        UserError: A model does not exist, or not for images of this size.
    """
    device, side = runtime.device, _matrix_side(runtime)
    peak = statistics.median(_matrix_rate(runtime, side) for _ in range(max(repeats, 3)))
    layout = "channels last" if how.channels_last else "contiguous"
    described = f"{how.size} px, {runtime.precision}, {layout}, {'compiled' if how.compiled else 'eager'}"
    for name in names:
        torch.compiler.reset()
        network = build(name, 6, weights=None, image_size=how.size)
        check_image_size(network, name, how.size)
        network.train().to(device)
        gflop = training_gflop(forward_gflop(network, how.size))
        images = torch.randn(BATCH_SIZE, 3, how.size, how.size, device=device)
        if how.channels_last:
            network.to(memory_format=torch.channels_last)  # in place
            images = images.to(memory_format=torch.channels_last)
        if how.compiled:
            network.compile()
        step = partial(_pass, network, images, runtime)
        seconds_of(step, device)  # the first one chooses kernels, and compiles
        rates = [BATCH_SIZE / seconds_of(step, device) for _ in range(repeats)]
        rate = statistics.median(rates)
        share = [one * gflop / peak for one in rates]
        note = f"{gflop:.3g} GFLOP and {rate:.3g} images/s of training"
        values = (rate * gflop, peak, rate * gflop / peak, min(share), max(share))
        yield Row("models", f"{name}, {described}", "GFLOP/s", *values, note)


def _pass(network: nn.Module, images: Tensor, runtime: Runtime) -> None:
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    forward_backward(network, images, labels, runtime)
    network.zero_grad()


def _matrix_side(runtime: Runtime) -> int:
    """Side of matrices that keep the device busy; large ones take minutes without instructions for the precision."""
    if runtime.device.type == "cuda":
        return 8192
    return 1536 if _matrix_rate(runtime, 512) > SLOW_RATE else 512


def _matrix_rate(runtime: Runtime, side: int) -> float:
    """GFLOP a second of products of square matrices."""
    device = runtime.device
    with runtime.autocast():
        one, other = (torch.randn(side, side, device=device) for _ in range(2))
        dtype = (one @ other).dtype
    one, other = one.to(dtype), other.to(dtype)
    one @ other
    return 3 * 2 * side**3 / seconds_of(lambda: [one @ other for _ in range(3)], device) / 1e9
