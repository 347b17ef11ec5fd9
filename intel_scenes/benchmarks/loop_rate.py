"""How fast `Trainer.fit` is, with all that a run does, beside a bare loop that takes turns with it."""

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
# One epoch: the checkpoint of an earlier one would be written in the rival's turn, and none is hidden.
MEASURED = ("recipe=plain", "model.weights=null", "trainer=cpu", "epochs=1", "data.batch_size=64")
CASES = (("resnet18", 64), ("mobilenet_v3_small", 96))  # and the side of the images in pixels
MANY_DRAWN = ("data=synthetic", "data.num_train=4800")  # where there are no real images


def measure_loop(config: RunConfig, repeats: int) -> Iterator[Row]:
    """Images a second of `Trainer.fit` over an epoch, with all that a run does, against a bare loop.

    Args:
        config: Of any network; composed with `MEASURED`.
        repeats: How often each is measured.
    """
    for model, size in CASES:
        one = of_network(config, model, size)
        bare = partial(bare_loop, build_data(one), model, one.optim.lr, one.optim.others["momentum"])
        for _ in islice(bare(), 3):
            pass  # the first steps choose kernels
        yield row_of("loop", f"{model} {size} px", "images/s", [_rates(one, bare()) for _ in range(repeats)])


def of_network(config: RunConfig, model: str, size: int) -> RunConfig:
    """A configuration for another network and side of the images in pixels."""
    return replace(config, model=replace(config.model, name=model), data=replace(config.data, image_size=size))


def _rates(config: RunConfig, bare: Iterator[int]) -> tuple[float, float]:
    """Images a second of our run, and of the bare loop."""
    next(bare)
    turns = Turns(bare)
    bars = io.StringIO()  # drawn as into a file, and counted
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(bars), contextlib.redirect_stderr(bars):
        run(config, Place(Path(folder) / "run"), Origin(), callbacks=[turns])
    return turns.num_images / turns.ours, turns.num_images / turns.theirs


class Turns(Callback):
    """Stops our clock after every few steps for as many of the rival's: a busy machine slows both within seconds alike.

    Ours begins with half a turn, so that each is the first to read half of the training images, which the other then
    finds in the processor's caches. The evaluation passes belong to the turn in which the last step is. Ours goes from
    the first epoch's start to the end of the fit, when all that was to be written is on the disk.

    Attributes:
        ours: Seconds.
        theirs: Seconds.
        num_images: That the rival has trained on.
    """

    def __init__(self, rival: Iterator[int]) -> None:
        """Against a loop that gives way after every step, and says how many images it took."""
        self.ours = self.theirs = self._since = 0.0
        self.num_images = 0
        self._rival = rival

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts our clock."""
        self._since = time.perf_counter()

    def on_train_batch_end(
        self,
        trainer: Trainer,
        pl_module: LightningModule,
        outputs: object,
        batch: object,
        batch_idx: int,
    ) -> None:
        """Gives the rival its turn where it is due."""
        if trainer.global_step % TURN == TURN // 2:
            self._give(TURN)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Lets the rival end."""
        self._give(None)

    def _give(self, num_steps: int | None) -> None:
        now = time.perf_counter()
        self.ours += now - self._since
        self.num_images += sum(islice(self._rival, num_steps))
        self._since = time.perf_counter()
        self.theirs += self._since - now


def bare_loop(data: SceneDataModule, model_name: str, lr: float, momentum: float) -> Iterator[int]:
    """What one writes by hand: the same batches, layout and evaluation passes, plain SGD, and nothing else.

    Ours takes torch's fused SGD where that is faster. Gives way when all is ready, and after every step.
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
