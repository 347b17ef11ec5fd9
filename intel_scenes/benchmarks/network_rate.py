"""Training speed of networks, compared with this machine's matrix products."""

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
SLOW_RATE = 10  # GFLOP/s at which three products of 1536 x 1536 matrices take two seconds


@dataclass(frozen=True)
class Computation:
    """Settings of `what=models`.

    Attributes:
        size: Side of the images in pixels.
        channels_last: Whether images and weights are in the channels-last memory format.
        compiled: Whether the networks are compiled by torch.compile.
    """

    size: int
    channels_last: bool
    compiled: bool


def benchmark_models(names: Sequence[str], how: Computation, runtime: Runtime, repeats: int) -> Iterator[Row]:
    """Measure GFLOP per second of forward and backward passes, and of this machine's matrix products.

    Raises:
        UserError: A model does not exist, or cannot take images of this size.
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
        shares = [rate_of_turn * gflop / peak for rate_of_turn in rates]
        note = f"training takes {gflop:.3g} GFLOP per image, {rate:.3g} images/s"
        values = (rate * gflop, peak, rate * gflop / peak, min(shares), max(shares))
        yield Row("models", f"{name}, {described}", "GFLOP/s", *values, note)


def _pass(network: nn.Module, images: Tensor, runtime: Runtime) -> None:
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    forward_backward(network, images, labels, runtime)
    network.zero_grad()


def _matrix_side(runtime: Runtime) -> int:
    """Return the side of matrices that keep the device busy; large ones take minutes in an emulated precision."""
    if runtime.device.type == "cuda":
        return 8192
    return 1536 if _matrix_rate(runtime, 512) > SLOW_RATE else 512


def _matrix_rate(runtime: Runtime, side: int) -> float:
    """Return the GFLOP per second of products of square matrices."""
    device = runtime.device
    with runtime.autocast():
        a, b = (torch.randn(side, side, device=device) for _ in range(2))
        dtype = (a @ b).dtype
    a, b = a.to(dtype), b.to(dtype)
    a @ b
    return 3 * 2 * side**3 / seconds_of(lambda: [a @ b for _ in range(3)], device) / 1e9
