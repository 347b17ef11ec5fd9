"""Ablation of the package's own optimizations: steps and starts with and without each, in alternation.

An optimization is kept if it saves at least 5 % of a training step or of a start. CPU time is measured, because each of
them saves CPU work, and other processes on the machine hardly affect it.

CPU seconds without an optimization divided by those with it, median and range of ten turns (nine for the steps of
resnet18), on two shared virtual cores of an AMD EPYC, real images, torch 2.15.0, 29 November 2026, on a busy machine
(digests were kept in the memory of the process then, now they are in the cache):

    step, freed memory kept           resnet18 1.11 (1.05 to 1.13), mobilenet_v3_small 1.11 (1.00 to 1.21)
    start, file digests kept          resnet18 2.06 (1.46 to 2.26), mobilenet_v3_small 2.32 (1.75 to 2.61)
    start, imports not collected      resnet18 1.38 (1.06 to 1.65), mobilenet_v3_small 1.62 (1.52 to 1.79)
"""

import contextlib
import gc
import io
import multiprocessing
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from functools import partial
from itertools import islice
from pathlib import Path

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from intel_scenes.benchmarks.loop_rate import CASES, bare_loop, of_network
from intel_scenes.benchmarks.turns import Row, in_turns
from intel_scenes.config import RunConfig
from intel_scenes.record import Origin
from intel_scenes.training import memory
from intel_scenes.training.build import build_data
from intel_scenes.training.claim import Place
from intel_scenes.training.run import run

WARM_STEPS, NUM_STEPS = 4, 6


def benchmark_ablation(config: RunConfig, repeats: int) -> Iterator[Row]:
    """Measure the CPU seconds with and without each optimization.

    Args:
        config: Configuration of any network, composed as for the loop.
        repeats: Number of turns.
    """
    for model, size in CASES:
        run_config = of_network(config, model, size)
        with_it, without = (partial(_in_new_process, _step_seconds, run_config, keeps) for keeps in (True, False))
        yield in_turns("ablation", f"step, freed memory kept, {model}", "s", with_it, without, repeats)
    run_config = of_network(config, *CASES[0])
    memory.spare_imports()
    _start_seconds(run_config)  # the first start of a process is slower
    with_it = partial(_start_seconds, run_config)
    reads_all = replace(run_config, data=replace(run_config.data, verify=True))
    for name, without in (
        ("file digests kept", partial(_start_seconds, reads_all)),
        ("imports not collected", partial(_start_seconds_thawed, run_config)),
    ):
        yield in_turns("ablation", f"start, {name}", "s", with_it, without, repeats)


def _in_new_process(work: Callable[..., float], *arguments: object) -> float:
    """Return the result of a function in a process of its own, because settings of the C library cannot be undone."""
    with ProcessPoolExecutor(1, multiprocessing.get_context("spawn")) as pool:
        return pool.submit(work, *arguments).result()


def _step_seconds(config: RunConfig, keeps_memory: bool) -> float:
    """Return the CPU seconds of a bare training step, averaged over a few."""
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


class _FirstStepError(Exception):
    """Raised at the first step to stop a run."""


class _EndAtFirstStep(Callback):
    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        raise _FirstStepError


def _start_seconds(config: RunConfig) -> float:
    """Return the CPU seconds from a configuration to its first step, in a process that has had a run, as in a sweep."""
    started, bars = time.process_time(), io.StringIO()
    with (
        tempfile.TemporaryDirectory() as folder,
        contextlib.redirect_stdout(bars),
        contextlib.redirect_stderr(bars),
        contextlib.suppress(_FirstStepError),
    ):
        run(config, Place(Path(folder) / "run"), Origin(), callbacks=[_EndAtFirstStep()])
    return time.process_time() - started


def _start_seconds_thawed(config: RunConfig) -> float:
    with thawed():
        return _start_seconds(config)


@contextlib.contextmanager
def thawed() -> Iterator[None]:
    """Let garbage collections examine imported objects."""
    gc.unfreeze()
    try:
        yield
    finally:
        gc.collect()
        gc.freeze()
