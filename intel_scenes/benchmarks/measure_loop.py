"""How fast `Trainer.fit` is, with all that a run does, beside a bare loop that takes turns with it."""

import contextlib
import io
import tempfile
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from omegaconf import DictConfig
from torch.nn import functional

from intel_scenes.benchmarks.measure import Compose, Row, row_of
from intel_scenes.data.batches import TrainBatches, prepare
from intel_scenes.models.backbones import build
from intel_scenes.training import run as experiment

TURN = 20  # steps
NUM_DRAWN = 4800  # where there are no real images


def measure_loop(compose: Compose, repeats: int) -> Iterator[Row]:
    """Images a second of `Trainer.fit` over an epoch, with all that a run does, against a bare loop."""
    for model, size in (("resnet18", 64), ("mobilenet_v3_small", 96)):
        how = (
            # One epoch: the checkpoint of an earlier one would be written in the rival's turn, and none is hidden.
            *(f"model={model}", "model.weights=null", "recipe=plain", "trainer=cpu", "epochs=1"),
            *(f"data.image_size={size}", "data.batch_size=64"),
        )
        cfg = compose(*how)
        if cfg.data.source == "synthetic":
            cfg.data.num_train = NUM_DRAWN
        for _ in islice(_bare_loop(cfg), 3):
            pass  # the first steps choose kernels
        yield row_of("loop", f"{model} {size} px", "images/s", [_rates(cfg) for _ in range(repeats)])


def _rates(cfg: DictConfig) -> tuple[float, float]:
    """Ours, and the bare loop's."""
    bare = _bare_loop(cfg)
    next(bare)
    turns = Turns(bare)
    bars = io.StringIO()  # drawn as into a file, and counted
    with tempfile.TemporaryDirectory() as folder, contextlib.redirect_stdout(bars), contextlib.redirect_stderr(bars):
        experiment.run(cfg, Path(folder) / "run", choices={}, overrides=(), composition_digest="", callbacks=[turns])
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


def _bare_loop(cfg: DictConfig) -> Iterator[int]:
    """What one writes by hand: the same batches, layout and evaluation passes, plain SGD, and nothing else.

    Ours takes torch's fused SGD where that is faster. Gives way when all is ready, and after every step.
    """
    data = experiment.data_module_of(cfg)
    torch.manual_seed(1)
    network = build(cfg.model.name, len(data.classes), weights=None, image_size=data.view.size)
    network.to(memory_format=torch.channels_last)
    optimizer = torch.optim.SGD(network.parameters(), cfg.optim.lr, momentum=cfg.optim.momentum)
    batches = TrainBatches(data.images, data.train, data.batch_size, data.seed, lambda: 0)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, len(batches))
    network.train()
    yield 0
    for stored, labels, indices in batches:
        images = data.augmented(stored, indices, epoch=0)
        optimizer.zero_grad()
        functional.cross_entropy(network(images), labels).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        scheduler.step()
        yield len(labels)
    network.eval()
    with torch.inference_mode():
        for loader in (data.evaluation("val"), data.evaluation("train_eval")):
            for pixels, labels, _ in loader:
                (network(prepare(pixels, data.view)).argmax(1) == labels).sum()
