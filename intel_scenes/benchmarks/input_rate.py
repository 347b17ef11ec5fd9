"""Speed of the training input pipeline, compared with torchvision's ImageFolder and a DataLoader."""

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

from torch.utils.data import DataLoader, Subset
from torchvision import datasets, transforms

from intel_scenes.benchmarks.images import read_images
from intel_scenes.benchmarks.turns import Row, in_turns
from intel_scenes.config import AugmentConfig, DataConfig
from intel_scenes.data.batches import TrainBatches
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.pipelines import ImagePipeline
from intel_scenes.data.splits import Indices
from intel_scenes.training import memory

NUM_IMAGES, BATCH_SIZE = 4096, 64


def benchmark_input(images: DataConfig, augmentation: AugmentConfig, repeats: int) -> Iterator[Row]:
    """Measure images per second of the input pipeline, and of ImageFolder and a DataLoader with a worker per core."""
    memory.keep_freed()  # as in a run
    for size in (224, 128):
        sized = replace(images, image_size=size, batch_size=BATCH_SIZE)
        data = read_images(sized, "resnet18", augmentation)
        yield in_turns("input", f"{size} px", "images/s", partial(_our_rate, data), _their_rate(data), repeats)


def _images(data: SceneDataModule) -> Indices:
    num_batches = min(NUM_IMAGES, len(data.splits.train)) // BATCH_SIZE
    chosen: Indices = data.splits.train[: num_batches * BATCH_SIZE]
    return chosen


def _our_rate(data: SceneDataModule) -> float:
    chosen = _images(data)
    batches = TrainBatches(data.images, chosen, BATCH_SIZE, data.seed, lambda: 0)

    def seconds() -> float:
        started = time.perf_counter()
        for batch in batches:
            data.pipeline.train_batch(batch, epoch=0, size=data.view.size, num_classes=len(data.splits.classes))
        return time.perf_counter() - started

    seconds()  # warm-up: the rival's workers start before its clock, too
    return len(chosen) / seconds()


def _their_rate(data: SceneDataModule) -> Callable[[], float]:
    assert isinstance(data.pipeline, ImagePipeline)
    view, augmentation = data.view, data.pipeline.augmentation
    modes = {"bilinear": transforms.InterpolationMode.BILINEAR, "bicubic": transforms.InterpolationMode.BICUBIC}
    crop = transforms.RandomResizedCrop(
        view.size, augmentation.scale, augmentation.ratio, interpolation=modes[view.interpolation], antialias=True
    )
    steps = [crop, transforms.RandomHorizontalFlip(augmentation.flip), transforms.ToTensor()]
    transform = transforms.Compose([*steps, transforms.Normalize(view.mean, view.std)])
    folder = datasets.ImageFolder(str(data.splits.scenes.root), transform)
    chosen = _images(data)
    loader = DataLoader(
        Subset(folder, chosen.tolist()),
        BATCH_SIZE,
        shuffle=True,
        num_workers=os.cpu_count() or 1,
        persistent_workers=True,  # their start is not timed
    )

    def rate() -> float:
        for _ in loader:
            break
        started = time.perf_counter()
        for _ in loader:
            pass
        return len(chosen) / (time.perf_counter() - started)

    return rate
