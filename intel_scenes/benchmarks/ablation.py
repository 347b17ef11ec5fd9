"""What each of the package's own tricks is worth: steps and starts with it beside those without it, in turns.

A trick stays where it is worth at least 5 % of a training step or of a start. Counted are seconds of the processor: all
of these tricks spare it work, and other work on the machine hardly moves them.

Seconds without a trick over those with it, median and range of ten turns (nine of resnet18's steps) on two shared
virtual cores of an AMD EPYC, real images, torch 2.15.0, 29 November 2026, with other work beside them:

    step, freed memory kept          resnet18 1.11 (1.05 to 1.13), mobilenet_v3_small 1.11 (1.00 to 1.21)
    start, digests of files known    resnet18 2.06 (1.46 to 2.26), mobilenet_v3_small 2.32 (1.75 to 2.61)
    start, imports not collected     resnet18 1.38 (1.06 to 1.65), mobilenet_v3_small 1.62 (1.52 to 1.79)
"""

import contextlib
import gc
import io
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import AbstractContextManager
from functools import partial
from itertools import islice
from pathlib import Path
from unittest.mock import patch

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from intel_scenes.benchmarks.loop_rate import CASES, bare_loop, of_network
from intel_scenes.benchmarks.turns import Row, in_turns
from intel_scenes.config import RunConfig
from intel_scenes.data import scenes
from intel_scenes.record import Origin
from intel_scenes.training import memory
from intel_scenes.training.build import build_data
from intel_scenes.training.claim import Place
from intel_scenes.training.run import run

WARM_STEPS, NUM_STEPS = 4, 6


def measure_ablation(config: RunConfig, repeats: int) -> Iterator[Row]:
    """Seconds of the processor with and without each trick.

    Args:
        config: Of any network; composed as for the loop.
        repeats: How often each is measured.
    """
    for model, size in CASES:
        one = of_network(config, model, size)
        with_it, without = (partial(_in_new_process, _step_seconds, one, keeps) for keeps in (True, False))
        yield in_turns("ablation", f"step, freed memory kept, {model}", "s", with_it, without, repeats)
    one = of_network(config, *CASES[0])
    memory.spare_imports()
    _start_seconds(one)  # which no later one is like
    for name, taken_out in STARTS.items():
        with_it, without = (partial(_start_seconds, one), partial(_start_seconds_without, one, taken_out))
        yield in_turns("ablation", f"start, {name}", "s", with_it, without, repeats)


def _in_new_process(work: Callable[..., float], *arguments: object) -> float:
    """What a process of its own comes to: what it asks of the C library it cannot take back."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _step_seconds(config: RunConfig, keeps_memory: bool) -> float:
    """Of a bare training step, by a few."""
    torch.set_num_threads(config.threads or 1)
    if keeps_memory:
        memory.keep_freed()
    steps = bare_loop(build_data(config), config.model.name, config.optim.lr, config.optim.others["momentum"])
    for _ in islice(steps, 1 + WARM_STEPS):
        pass
    started = time.process_time()
    for _ in islice(steps, NUM_STEPS):
        pass
    return (time.process_time() - started) / NUM_STEPS


class _BegunError(Exception):
    """The first step is reached."""


class _EndAtFirstStep(Callback):
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        raise _BegunError


def _start_seconds(config: RunConfig) -> float:
    """From a configuration to its first step, in a process that has had such a run, as those of a sweep mostly have."""
    started, bars = time.process_time(), io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(bars),
        contextlib.redirect_stderr(bars),
        contextlib.suppress(_BegunError),
    ):
        run(config, Place(Path(folder) / "run"), Origin(), callbacks=[_EndAtFirstStep()])
    return time.process_time() - started


def _start_seconds_without(config: RunConfig, taken_out: Callable[[], AbstractContextManager[object]]) -> float:
    with taken_out():
        return _start_seconds(config)


@contextlib.contextmanager
def _thawed() -> Iterator[None]:
    """Garbage collections look at all that was imported."""
    gc.unfreeze()
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()


# What takes each trick of a start out, by its name.
STARTS: dict[str, Callable[[], AbstractContextManager[object]]] = {
    "digests of files known": lambda: patch.dict(scenes.known_digests, clear=True),
    "imports not collected": _thawed,
}
