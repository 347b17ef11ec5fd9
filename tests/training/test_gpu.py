"""What only a GPU can show; the same code runs on the CPU in the other tests."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from hydra import compose, initialize_config_dir
from lightning.pytorch import Callback, LightningModule, Trainer

from intel_scenes.sweeps.names import conf_folder
from intel_scenes.training import run as experiment
from tests.small import DRAWN, SMALL

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")


@contextmanager
def no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class NoWaiting(Callback):
    """Forward, backward, update and average may not wait for the device, but at both ends of an epoch."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        torch.cuda.set_sync_debug_mode("error" if batch_idx and not trainer.is_last_batch else "default")


def test_no_step_waits_for_the_device(cache: Path, tmp_path: Path) -> None:
    overrides = [*DRAWN, *SMALL, f"data.cache_dir={cache}", "trainer=gpu", "data.batch_size=16"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        cfg = compose("train", overrides)
    experiment.run(cfg, tmp_path, choices={}, overrides=overrides, composition_digest="", callbacks=[NoWaiting()])


@pytest.mark.parametrize("rule", ["square", "whole"])
def test_batches_are_put_together_and_augmented_without_waiting(rule: str, cache: Path) -> None:
    overrides = [*DRAWN, *SMALL, f"data.store_rule={rule}", f"data.cache_dir={cache}"]
    with initialize_config_dir(str(conf_folder()), version_base="1.3"):
        data = experiment.data_module_of(compose("train", overrides))
    there, indices = data.resident(torch.device("cuda")), data.train[:16]

    def seen() -> torch.Tensor:
        stored, _, positions = there.images.batch(indices)
        return there.augmented(stored, positions, epoch=0)

    seen()
    with no_waiting():
        found = seen()
    stored, _, positions = data.images.batch(indices)
    expected = data.augmented(stored, positions, epoch=0)  # rounds to whole levels where the device does not
    np.testing.assert_allclose(found.cpu().numpy(), expected.numpy(), atol=1.5 / 255 / 0.22)
