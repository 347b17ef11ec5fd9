"""Each optimization is off inside its context and on again afterwards."""

import gc
import os

import pytest
import torch

from intel_scenes.benchmarks import ablation
from tests.small import DRAWN, SMALL, asked


@pytest.fixture
def config(cache):
    return asked(*DRAWN, *SMALL, "recipe=plain", "optim=sgd", "data.batch_size=8", f"data.cache_dir={cache}")


def test_without_the_freeze_collections_examine_imports():
    gc.freeze()
    try:
        assert gc.get_freeze_count() > 0
        with ablation.thawed():
            assert gc.get_freeze_count() == 0
        assert gc.get_freeze_count() > 0
    finally:
        gc.unfreeze()


@pytest.mark.slow
def test_a_step_of_another_process_is_timed_there(config, on_threads):
    assert ablation._in_new_process(os.getpid) != os.getpid()
    on_threads(3)  # a step sets the one thread of its configuration
    assert ablation._in_new_process(ablation._step_seconds, config, True) > 0
    assert torch.get_num_threads() == 3
