"""What a sweep over the heads of a frozen backbone takes, beside its forward pass in every epoch."""

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
)  # a hundred; of one seed, for random weights are others with another
PROBE_EPOCHS = 30


def measure_probe(images: DataConfig, overrides: Sequence[str], size: int, threads: int) -> Iterator[Row]:
    """Seconds of a hundred heads on features that are there, against the backbone's forward pass in every epoch.

    Args:
        images: Which images.
        overrides: That choose them in a process of its own.
        size: Side of the images in pixels.
        threads: Of torch on the CPU.
    """
    data = read_images(replace(images, image_size=size), "mobilenet_v2")
    network = build("mobilenet_v2", len(data.splits.classes), weights=None, image_size=size)
    network.to(memory_format=torch.channels_last).eval()
    on_cpu = Runtime(torch.device("cpu"), "32-true", threads)
    started = time.perf_counter()
    for _ in features_of(network, data.images, data.pipeline.eval_view, on_cpu):
        pass
    an_image = (time.perf_counter() - started) / len(data.splits.scenes)
    in_an_epoch = sum(map(len, (data.splits.train, data.splits.train_eval, data.splits.val)))
    with tempfile.TemporaryDirectory() as place:
        probe = ("recipe=linear_probe", "model=mobilenet_v2", "model.weights=null", f"data.image_size={size}")
        quiet = (f"threads={threads}", "trainer=cpu", "trainer.enable_progress_bar=false")
        train = [sys.executable, "-m", "intel_scenes.train", *probe, *overrides, *quiet, f"epochs={PROBE_EPOCHS}"]
        process_seconds([*train, "epochs=1"], place)  # computes the features
        ours = process_seconds([*train, "-m", *PROBES], place)
    rival = 100 * PROBE_EPOCHS * in_an_epoch * an_image
    ratio = ours / rival
    note = f"one turn; the rival is one pass over {len(data.splits.scenes):,} images, counted for every run and epoch"
    yield Row("probe", f"100 heads of {PROBE_EPOCHS} epochs, {size} px", "s", ours, rival, ratio, ratio, ratio, note)
