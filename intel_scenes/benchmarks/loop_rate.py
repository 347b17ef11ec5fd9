"""Speed of `Trainer.fit` with everything a run does, compared with a bare loop that alternates with it."""

import contextlib
import io
import tempfile
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from torch.nn import functional

from intel_scenes.benchmarks.turns import Row, row_of
from intel_scenes.config import RunConfig
from intel_scenes.data.batches import TrainBatches
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.models.backbones import build
from intel_scenes.record import Origin
from intel_scenes.training.build import build_data
from intel_scenes.training.claim import Place
from intel_scenes.training.run import run

TURN = 20  # steps
# One epoch, because the checkpoint of an earlier one would be written during the rival's turn and not be counted.
LOOP_RUN = ("recipe=plain", "model.weights=null", "trainer=cpu", "epochs=1", "data.batch_size=64")
CASES = (("resnet18", 64), ("mobilenet_v3_small", 96))  # network and side of the images in pixels
MANY_DRAWN = ("data=synthetic", "data.num_train=4800")  # if there are no real images


def benchmark_loop(config: RunConfig, repeats: int) -> Iterator[Row]:
    """Measure images per second of `Trainer.fit` over an epoch, with everything a run does, and of a bare loop.

    Args:
        config: Configuration of any network, composed with `LOOP_RUN`.
        repeats: Number of turns.
    """
    for model, size in CASES:
        run_config = of_network(config, model, size)
        optim = run_config.optim
        bare = partial(bare_loop, build_data(run_config), model, optim.lr, optim.others["momentum"])
        for _ in islice(bare(), 3):
            pass  # the first steps choose kernels
        yield row_of("loop", f"{model} {size} px", "images/s", [_rates(run_config, bare()) for _ in range(repeats)])


def of_network(config: RunConfig, model: str, size: int) -> RunConfig:
    """Return the configuration with another network and side of the images in pixels."""
    return replace(config, model=replace(config.model, name=model), data=replace(config.data, image_size=size))


def _rates(config: RunConfig, bare: Iterator[int]) -> tuple[float, float]:
    """Return images per second of our run and of the bare loop."""
    next(bare)
    turns = Turns(bare)
    bars = io.StringIO()  # output costs time, as it does into a file
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(bars), contextlib.redirect_stderr(bars):
        run(config, Place(Path(folder) / "run"), Origin(), callbacks=[turns])
    return turns.num_images / turns.ours, turns.num_images / turns.theirs


class Turns(Callback):
    """Callback that alternates a few steps of ours and of the rival, so that a busy machine slows both alike.

    Ours starts with half a turn, so that each is the first to read half of the training images, which the other then
    finds in the CPU's caches. Evaluation belongs to the turn of the last step. Our time ends when the fit does, with
    all files on the disk.

    Attributes:
        ours: Our seconds.
        theirs: The rival's seconds.
        num_images: Number of images that the rival has trained on.
    """

    def __init__(self, rival: Iterator[int]) -> None:
        """Alternate with a loop that yields the number of images after every step."""
        self.ours = self.theirs = self._since = 0.0
        self.num_images = 0
        self._rival = rival

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Start our clock."""
        self._since = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Let the rival take its turn if it is due."""
        if trainer.global_step % TURN == TURN // 2:
            self._let_rival_run(TURN)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Let the rival finish."""
        self._let_rival_run(None)

    def _let_rival_run(self, num_steps: int | None) -> None:
        now = time.perf_counter()
        self.ours += now - self._since
        self.num_images += sum(islice(self._rival, num_steps))
        self._since = time.perf_counter()
        self.theirs += self._since - now


def bare_loop(data: SceneDataModule, model_name: str, lr: float, momentum: float) -> Iterator[int]:
    """Train like a plain script: the same batches, layout and evaluation passes, plain SGD, and nothing else.

    Our run uses torch's fused SGD where that is faster. Yields 0 before the first step, and the number of images after
    every step.
    """
    torch.manual_seed(1)
    network = build(model_name, len(data.splits.classes), weights=None, image_size=data.view.size)
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), lr, momentum=momentum)
    batches = TrainBatches(data.images, data.splits.train, data.batch_size, data.seed, lambda: 0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    network.train()
    yield 0
    for batch in batches:
        images, labels = data.pipeline.train_batch(
            batch, epoch=0, size=data.view.size, num_classes=len(data.splits.classes)
        )
        optimizer.zero_grad()
        functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        yield len(labels)
    network.eval()
    with torch.inference_mode():
        for loader in (data.eval_batches("val"), data.eval_batches("train_eval")):
            for batch in loader:
                (network(data.pipeline.eval_view(batch.images)).argmax(1) == batch.labels).sum()
