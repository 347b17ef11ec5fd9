"""SIGKILL while images are packed, and while a report is written; of runs and sweeps, see test_resume and test_runner.

The moments are random, between a fifth and the whole of what the work takes undisturbed.
"""

import csv
import random
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from intel_scenes.config import CompareConfig
from intel_scenes.data.packed import pack
from intel_scenes.data.scenes import read_scenes
from intel_scenes.data.sources import drawn_folder
from intel_scenes.studies.publish import compare_and_write
from tests.process import CONTEXT
from tests.studies.simulated_records import leave

NUM_KILLS = 4
OPTIONS = CompareConfig(baseline=None, rope=0.5)


def packing(images: Path, cache: Path) -> None:
    pack(read_scenes(images), cache, 96)


def comparing(study: Path) -> None:
    compare_and_write(study, OPTIONS)


def killed(work: Callable[..., None], *arguments: Path, seconds: float, chance: random.Random) -> bool:
    """Start the work and kill it at a random moment; return whether that hit it."""
    process = CONTEXT.Process(target=work, args=arguments)
    process.start()
    process.join(chance.uniform(0.2, 1) * seconds)
    process.kill()
    process.join()
    return process.exitcode == -9


def undisturbed(work: Callable[..., None], *arguments: Path) -> float:
    """Do the work in a process as those that are killed; return its seconds."""
    started = time.monotonic()
    process = CONTEXT.Process(target=work, args=arguments)
    process.start()
    process.join()
    assert process.exitcode == 0
    return time.monotonic() - started


@pytest.mark.slow
def test_killed_packings_leave_nothing_that_a_later_one_takes_for_complete(tmp_path: Path) -> None:
    images = drawn_folder(tmp_path, num_train=300, num_test=6, size=100, seed=1) / "seg_train"
    scenes, chance = read_scenes(images), random.Random(1)
    expected = pack(scenes, tmp_path / "undisturbed", 96)
    undisturbed(packing, images, tmp_path / "first")  # it waits for the imports of all
    seconds = undisturbed(packing, images, tmp_path / "second")
    hits = sum(
        killed(packing, images, tmp_path / f"cache{number % 2}", seconds=seconds, chance=chance)
        for number in range(NUM_KILLS)
    )
    assert hits > 0
    for number in range(2):
        packed = pack(scenes, tmp_path / f"cache{number}", 96)
        assert np.array_equal(packed.images, expected.images)
        assert len(list((tmp_path / f"cache{number}").glob("*packed-*/"))) == 1, "what was half packed is removed"


@pytest.mark.slow
def test_killed_comparisons_leave_whole_tables_and_the_next_one_writes_all(tmp_path: Path) -> None:
    study, chance = tmp_path / "study", random.Random(2)
    for optim, share in (("sgd", 0.7), ("adam", 0.9)):
        for seed in (1, 2):
            leave(study, optim, seed, share)
    undisturbed(comparing, study)  # the first process waits for the imports of all
    seconds = undisturbed(comparing, study)
    expected = {path.name: path.read_bytes() for path in study.iterdir() if path.is_file()}
    assert {"results.csv", "pairwise.csv", "report.html"} <= expected.keys()
    hits = 0
    for _ in range(NUM_KILLS):
        for name in expected:
            (study / name).unlink(missing_ok=True)
        hits += killed(comparing, study, seconds=seconds, chance=chance)
        for name in expected:
            assert not (study / name).exists() or (study / name).read_bytes() == expected[name]
    assert hits > 0
    comparing(study)
    assert {name: (study / name).read_bytes() for name in expected} == expected
    with (study / "results.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == 4
