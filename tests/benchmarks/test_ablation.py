"""Each optimization is off inside its context and on again afterwards."""

import gc
import os

import pytest
import torch

from intel_scenes.benchmarks import ablation
from intel_scenes.data import scenes
from tests.small import DRAWN, SMALL, asked


@pytest.fixture
def config(cache):
    return asked(*DRAWN, *SMALL, "recipe=plain", "optim=sgd", "data.batch_size=8", f"data.cache_dir={cache}")


def test_a_start_without_cached_digests_reads_the_files_again_and_restores_the_cache(config, monkeypatch):
    monkeypatch.setattr(scenes, "CLOCK_SECONDS", 0)  # the images may have been drawn just now
    ablation._start_seconds(config)
    known = dict(scenes.known_digests)
    assert len(known) >= 150  # 120 and 30
    with ablation.STARTS["file digests cached"]():
        assert scenes.known_digests == {}
        ablation._start_seconds(config)
        assert len(scenes.known_digests) == 150
    assert scenes.known_digests == known


def test_without_the_freeze_collections_examine_imports():
    gc.freeze()
    try:
        assert gc.get_freeze_count() > 0
        with ablation.STARTS["imports not collected"]():
            assert gc.get_freeze_count() == 0
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


def test_a_step_of_another_process_is_timed_there(config, on_threads):
    assert ablation._in_new_process(os.getpid) != os.getpid()
    on_threads(3)  # a step sets the one thread of its configuration
    assert ablation._in_new_process(ablation._step_seconds, config, True) > 0
    assert torch.get_num_threads() == 3
