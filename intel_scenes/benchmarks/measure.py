"""How fast the package is: each figure beside a rival that is measured in turns with it, in the same run."""

import os
import platform
import statistics
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from omegaconf import DictConfig
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from intel_scenes.data.batches import TrainBatches
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.splits import Indices
from intel_scenes.models.backbones import build, check_image_size
from intel_scenes.training import run as experiment
from intel_scenes.training.cost_forecast import forward_gflop, seconds_of, training_gflop
from intel_scenes.training.identity import circumstances
from intel_scenes.training.inference import autocast

Compose = Callable[..., DictConfig]  # overrides to the configuration of a run
INPUT_IMAGES, INPUT_BATCH = 4096, 64
MODEL_BATCH = 16
SLOW_RATE = 10  # GFLOP/s, at which three products of matrices of 1536 x 1536 take two seconds


@dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        what: The part that was measured.
        case: Which case of it.
        unit: Of `ours` and `rival`.
        ours: Median.
        rival: Median.
        ratio: Median of ours / rival of one turn.
        ratio_low: The least of them.
        ratio_high: The greatest.
        note: What else was found.
    """

    what: str
    case: str
    unit: str
    ours: float
    rival: float
    ratio: float
    ratio_low: float
    ratio_high: float
    note: str = ""


def in_turns(
    what: str, case: str, unit: str, ours: Callable[[], float], rival: Callable[[], float], repeats: int
) -> Row:
    """Measures both again and again, one after the other, so that a busy machine slows both alike."""
    return row_of(what, case, unit, [(ours(), rival()) for _ in range(repeats)])


def row_of(what: str, case: str, unit: str, pairs: Sequence[tuple[float, float]]) -> Row:
    """The figure of several turns, each of which measured (ours, the rival)."""
    ratios = [mine / theirs for mine, theirs in pairs]
    mine, theirs = (statistics.median(values) for values in zip(*pairs, strict=True))
    return Row(what, case, unit, mine, theirs, statistics.median(ratios), min(ratios), max(ratios))


def machine(threads: int) -> dict[str, Any]:
    """What it was measured on."""
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    known = {"processor": _processor(), "cores": os.cpu_count(), "threads": threads, "torch": torch.__version__}
    return {**known, **circumstances(device)}


def _processor() -> str:
    info = Path("/proc/cpuinfo")  # of Linux
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.partition(":")[2].strip() for line in lines if "model name" in line]
    return names[0] if names else platform.processor()


def measure_input(compose: Compose, repeats: int) -> Iterator[Row]:
    """Images a second of the training pipeline, against torchvision's ImageFolder and a DataLoader, a worker a core."""
    for size in (224, 128):
        cfg = compose(
            "model=resnet18", "model.weights=null", f"data.image_size={size}", f"data.batch_size={INPUT_BATCH}"
        )
        data = experiment.data_module_of(cfg)
        yield in_turns("input", f"{size} px", "images/s", partial(_our_input, data), _their_input(data), repeats)


def _input_images(data: SceneDataModule) -> Indices:
    num_batches = min(INPUT_IMAGES, len(data.train)) // INPUT_BATCH
    chosen: Indices = data.train[: num_batches * INPUT_BATCH]
    return chosen


def _our_input(data: SceneDataModule) -> float:
    chosen = _input_images(data)
    batches = TrainBatches(data.images, chosen, INPUT_BATCH, data.seed, lambda: 0)

    def seconds() -> float:
        started = time.perf_counter()
        for images, _, indices in batches:
            data.augmented(images, indices, epoch=0)
        return time.perf_counter() - started

    seconds()  # finds all caches cold; the rival's workers have started before its clock does
    return len(chosen) / seconds()


def _their_input(data: SceneDataModule) -> Callable[[], float]:
    view, augmentation = data.view, data.augmentation
    modes = {"bilinear": transforms.InterpolationMode.BILINEAR, "bicubic": transforms.InterpolationMode.BICUBIC}
    crop = transforms.RandomResizedCrop(
        view.size, augmentation.scale, augmentation.ratio, interpolation=modes[view.interpolation], antialias=True
    )
    steps = [crop, transforms.RandomHorizontalFlip(augmentation.flip), transforms.ToTensor()]
    transform = transforms.Compose([*steps, transforms.Normalize(view.mean, view.std)])
    folder = datasets.ImageFolder(str(data.scenes.root), transform)
    chosen = _input_images(data)
    loader = DataLoader(
        Subset(folder, chosen.tolist()),
        INPUT_BATCH,
        shuffle=True,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,  # their start is not counted
    )

    def rate() -> float:
        for _ in loader:
            break
        started = time.perf_counter()
        for _ in loader:
            pass
        return len(chosen) / (time.perf_counter() - started)

    return rate


@dataclass(frozen=True)
class Computation:
    """How `what=models` computes.

    Attributes:
        size: Side of the images in pixels.
        precision: As Lightning names it.
        channels_last: Whether memory holds an image's channels side by side.
        compiled: Whether by torch.compile.
    """

    size: int
    precision: str
    channels_last: bool
    compiled: bool

    def __str__(self) -> str:
        """As a person names it."""
        layout = "channels last" if self.channels_last else "contiguous"
        return f"{self.size} px, {self.precision}, {layout}, {'compiled' if self.compiled else 'eager'}"


def measure_models(names: Sequence[str], how: Computation, repeats: int) -> Iterator[Row]:
    """GFLOP a second of forward and backward passes, against this machine's own matrix products.

    Raises:
        UserError: A model does not exist, or not for images of this size.
    """
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    side = _matrix_side(device, how.precision)
    peak = statistics.median(_matrix_rate(device, how.precision, side) for _ in range(max(repeats, 3)))
    for name in names:
        torch.compiler.reset()
        network = build(name, 6, weights=None, image_size=how.size)
        check_image_size(network, name, how.size)
        network.train().to(device)
        gflop = training_gflop(forward_gflop(network, how.size))
        images = torch.randn(MODEL_BATCH, 3, how.size, how.size, device=device)
        if how.channels_last:
            network.to(memory_format=torch.channels_last)  # in place
            images = images.to(memory_format=torch.channels_last)
        if how.compiled:
            network.compile()
        step = partial(_pass, network, images, how.precision)
        seconds_of(step, device)  # the first one chooses kernels, and compiles
        rates = [MODEL_BATCH / seconds_of(step, device) for _ in range(repeats)]
        rate = statistics.median(rates)
        share = [one * gflop / peak for one in rates]
        note = f"{gflop:.3g} GFLOP and {rate:.3g} images/s of training"
        values = (rate * gflop, peak, rate * gflop / peak, min(share), max(share))
        yield Row("models", f"{name}, {how}", "GFLOP/s", *values, note)


def _pass(network: nn.Module, images: Tensor, precision: str) -> None:
    labels = torch.zeros(len(images), dtype=torch.int64, device=images.device)
    with autocast(images.device, precision):
        outputs = network(images)
        logits = outputs if isinstance(outputs, Tensor) else outputs[0]
        loss = functional.cross_entropy(logits, labels)
    loss.backward()  # type: ignore[no-untyped-call]
    network.zero_grad()


def _matrix_side(device: torch.device, precision: str) -> int:
    """Side of matrices that keep the device busy; large ones take minutes without instructions for the precision."""
    if device.type == "cuda":
        return 8192
    return 1536 if _matrix_rate(device, precision, 512) > SLOW_RATE else 512


def _matrix_rate(device: torch.device, precision: str, side: int) -> float:
    """GFLOP a second of products of square matrices."""
    with autocast(device, precision):
        one, other = (torch.randn(side, side, device=device) for _ in range(2))
        dtype = (one @ other).dtype
    one, other = one.to(dtype), other.to(dtype)
    one @ other
    return 3 * 2 * side**3 / seconds_of(lambda: [one @ other for _ in range(3)], device) / 1e9


def as_json(rows: list[Row], known: Mapping[str, Any]) -> dict[str, Any]:
    """What `bench.json` holds."""
    return {"machine": dict(known), "rows": [asdict(row) for row in rows]}
