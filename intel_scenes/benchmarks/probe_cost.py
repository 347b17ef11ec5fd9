"""Time of a sweep over heads of a frozen backbone, compared with a forward pass of the backbone in every epoch."""

import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace

import torch

from intel_scenes.benchmarks.images import read_images
from intel_scenes.benchmarks.process_start import process_seconds
from intel_scenes.benchmarks.turns import Row
from intel_scenes.config import DataConfig
from intel_scenes.models.backbones import build
from intel_scenes.runtime import Runtime
from intel_scenes.training.frozen_features import features_of

PROBES = (
    "optim=sgd,adam,adamw,nadam,rmsprop",
    "scheduler=constant,cosine,warmup_cosine,onecycle,wsd",
    "lr_scale=0.1,0.3,1,3",
)  # 100 runs with one seed, because random weights, and so the features, differ between seeds
PROBE_EPOCHS = 30


def benchmark_probe(images: DataConfig, overrides: Sequence[str], size: int, threads: int) -> Iterator[Row]:
    """Measure the seconds of 100 heads on cached features, and estimate those of a forward pass in every epoch.

    Args:
        images: The images.
        overrides: Overrides that choose the same images in another process.
        size: Side of the images in pixels.
        threads: Torch's threads on the CPU.
    """
    data = read_images(replace(images, image_size=size), "mobilenet_v2")
    network = build("mobilenet_v2", len(data.splits.classes), weights=None, image_size=size)
    network.to(memory_format=torch.channels_last).eval()
    on_cpu = Runtime(torch.device("cpu"), "32-true", threads)
    started = time.perf_counter()
    for _ in features_of(network, data.images, data.pipeline.eval_view, on_cpu):
        pass
    seconds_per_image = (time.perf_counter() - started) / len(data.splits.scenes)
    images_per_epoch = sum(map(len, (data.splits.train, data.splits.train_eval, data.splits.val)))
    with tempfile.TemporaryDirectory() as folder:
        probe = ("recipe=linear_probe", "model=mobilenet_v2", "model.weights=null", f"data.image_size={size}")
        quiet = (f"threads={threads}", "trainer=cpu", "trainer.enable_progress_bar=false")
        train = [sys.executable, "-m", "intel_scenes.train", *probe, *overrides, *quiet, f"epochs={PROBE_EPOCHS}"]
        process_seconds([*train, "epochs=1"], folder)  # computes the features
        ours = process_seconds([*train, "-m", *PROBES], folder)
    rival = 100 * PROBE_EPOCHS * images_per_epoch * seconds_per_image
    ratio = ours / rival
    note = f"one turn; the rival is extrapolated from one pass over {len(data.splits.scenes):,} images"
    yield Row("probe", f"100 heads of {PROBE_EPOCHS} epochs, {size} px", "s", ours, rival, ratio, ratio, ratio, note)
