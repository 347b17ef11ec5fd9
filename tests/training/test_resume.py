"""A killed run is resumed and ends like an uninterrupted one.

`INTEL_SCENES_KILLS=50` sets the number of kills; by default there are a few of each kind.
"""

import csv
import itertools
import json
import multiprocessing
import os
import random
import shutil
import time
from pathlib import Path

import pytest
import torch

from intel_scenes import record
from intel_scenes.record import Origin
from intel_scenes.training.claim import Place
from tests.small import asked

NUM_KILLS = int(os.environ.get("INTEL_SCENES_KILLS", "12"))
EPOCHS = 6
COMMON = (
    *("data=synthetic", "data.num_train=150", "data.num_test=60", "data.store_size=40", "model.weights=null"),
    *(f"epochs={EPOCHS}", "threads=1", "keep_last=true"),
    *("trainer=cpu", "trainer.enable_progress_bar=false"),
)
HALF = "plateau, average, dropout"
VARIANTS = {
    "plain": ("recipe=plain", "model=resnet18", "data.image_size=32", "optim=adamw", "scheduler=onecycle"),
    "steps by epoch": (
        *("recipe=plain", "model=resnet18", "data.image_size=32", "optim.lr=0.005", "scheduler=exponential"),
    ),
    HALF: (
        *("model=mobilenet_v2", "data.image_size=40", "data.batch_size=16", "optim=sgd", "optim.lr=0.02"),
        *("scheduler=plateau", "scheduler.factory.patience=1", "recipe.ema_decay=0.8", "averages=[0.1,1]"),
        *("recipe.cutmix=0.5", "recipe.train_size=[32,40]", "recipe.views=flip"),
    ),
    "head alone": ("recipe=linear_probe", "model=resnet18", "data.image_size=32", "data.batch_size=8", "lr_scale=10"),
}
TURNS = ("plain", HALF, "steps by epoch", HALF, "head alone", HALF)  # half of the kills
TIMING = {"started", "ended", "fit_seconds", "features_seconds", "images_per_second", "peak_memory_bytes"}


def train(folder: Path, cache: Path, variant: str) -> None:
    from intel_scenes.training.run import run

    config = asked(*COMMON, *VARIANTS[variant], f"data.cache_dir={cache}")
    run(config, Place(folder), Origin())


@pytest.fixture(scope="module")
def processes():
    """Start processes that have imported everything, so that a kill at a random moment does not hit an import."""
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["intel_scenes.training.run"])
    return context


@pytest.fixture(scope="module")
def uninterrupted(processes, tmp_path_factory):
    """Return for each variant the folder of an uninterrupted run and its seconds."""
    place = tmp_path_factory.mktemp("uninterrupted")
    references = {}
    for variant in VARIANTS:
        folder = place / variant
        run = processes.Process(target=train, args=(folder, place / "cache", variant))
        run.start()
        wait_for(lambda folder=folder: (folder / record.SUMMARY).exists(), run)
        begun = time.monotonic()
        run.join()
        assert run.exitcode == 0
        references[variant] = (folder, time.monotonic() - begun)
    return place / "cache", references


def wait_for(condition, run):
    while not condition() and run.is_alive():
        time.sleep(0.0005)


def is_writing_a_checkpoint(folder):
    return any((folder / "checkpoints").glob(".*.ckpt-*"))


def kill_once(processes, folder, cache, variant, moment, during_checkpoint):
    """Start the run and kill it; return whether the kill hit it, and whether a checkpoint was being written."""
    run = processes.Process(target=train, args=(folder, cache, variant))
    run.start()
    wait_for((folder / record.SUMMARY).exists, run)
    time.sleep(moment)
    if during_checkpoint:
        wait_for(lambda: is_writing_a_checkpoint(folder), run)
    run.kill()
    run.join()
    return run.exitcode == -9, is_writing_a_checkpoint(folder)


def history(folder):
    with (folder / record.HISTORY).open() as file:
        return [{k: v for k, v in row.items() if k != "images_per_second"} for row in csv.DictReader(file)]


def num_epochs(folder):
    return len(history(folder)) if (folder / record.HISTORY).exists() else 0


def best_epoch(folder):
    return json.loads((folder / record.SUMMARY).read_text())["best_epoch"]


def tensors(value):
    """Return all tensors in a checkpoint, in order: weights, averages, the optimizer's state."""
    if isinstance(value, torch.Tensor):
        return [value]
    if isinstance(value, dict):
        value = list(value.values())
    return list(itertools.chain.from_iterable(map(tensors, value))) if isinstance(value, list | tuple) else []


def assert_equal_runs(folder, expected, variant):
    assert history(folder) == history(expected)
    assert (folder / record.PREDICTIONS).read_bytes() == (expected / record.PREDICTIONS).read_bytes()
    averages = [place / record.AVERAGES for place in (folder, expected)]
    assert [path.exists() for path in averages] == [variant == HALF] * 2
    assert variant != HALF or averages[0].read_bytes() == averages[1].read_bytes()
    ours, theirs = (json.loads((place / record.SUMMARY).read_text()) for place in (folder, expected))
    assert {k: v for k, v in ours.items() if k not in TIMING} == {k: v for k, v in theirs.items() if k not in TIMING}
    for name in (record.BEST, record.LAST):
        a, b = (tensors(torch.load(place / name, weights_only=True)) for place in (folder, expected))
        least = 5 if (name, variant) == (record.LAST, "head alone") else 100
        assert len(a) == len(b) > least
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.slow
def test_killed_runs_end_like_an_uninterrupted_one(processes, uninterrupted, tmp_path, record_property):
    cache, references = uninterrupted
    chance = random.Random(1)
    kills = kills_while_writing = kills_after_best = runs = 0
    while kills < NUM_KILLS:
        assert runs < 2 * NUM_KILLS, "most kills missed their run"
        variant = TURNS[runs % len(TURNS)]
        expected, seconds = references[variant]
        folder = tmp_path / str(runs)
        if variant == "head alone":  # a kill may hit the features as well
            for path in cache.glob("features-*/"):
                shutil.rmtree(path)
        for attempt in range(2):
            moment = chance.uniform(0, seconds / 2)
            hit, while_writing = kill_once(processes, folder, cache, variant, moment, attempt == 1)
            kills += hit
            kills_while_writing += hit and while_writing
            kills_after_best += hit and best_epoch(expected) < num_epochs(folder) < EPOCHS
        run = processes.Process(target=train, args=(folder, cache, variant))
        run.start()
        run.join()
        assert run.exitcode == 0
        assert_equal_runs(folder, expected, variant)
        assert not list(folder.rglob(".*")), "nothing is left of what a kill left half-written"
        runs += 1
    record_property("kills", kills)
    print(f"\n{kills} kills in {runs} runs, {kills_while_writing} while a checkpoint was written: all ended equal")
    assert kills_while_writing >= NUM_KILLS // 5
    assert kills_after_best > 0, "else a lost best would not show: a later epoch takes its place"
