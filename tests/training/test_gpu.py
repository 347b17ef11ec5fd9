"""Behavior that only a GPU can show; the other tests run the same code on the CPU."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.record import Origin
from intel_scenes.training.build import build_data
from intel_scenes.training.claim import Place
from intel_scenes.training.run import run
from tests.small import DRAWN, SMALL, asked

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU with CUDA")


@contextmanager
def no_waiting() -> Iterator[None]:
    torch.cuda.set_sync_debug_mode("error")
    try:
        yield
    finally:
        torch.cuda.set_sync_debug_mode("default")


class NoWaiting(Callback):
    """Raises if forward, backward, update or average wait for the device, except at the ends of an epoch."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        torch.cuda.set_sync_debug_mode("error" if batch_idx and not trainer.is_last_batch else "default")


def test_no_step_waits_for_the_device(cache: Path, tmp_path: Path) -> None:
    overrides = [*DRAWN, *SMALL, f"data.cache_dir={cache}", "trainer=gpu", "data.batch_size=16"]
    run(asked(*overrides), Place(tmp_path), Origin(), callbacks=[NoWaiting()])


@pytest.mark.parametrize("rule", ["square", "whole"])
def test_batches_are_put_together_and_augmented_without_waiting(rule: str, cache: Path) -> None:
    overrides = [*DRAWN, *SMALL, f"data.store_rule={rule}", f"data.cache_dir={cache}"]
    data = build_data(asked(*overrides))
    there, indices = data.on(torch.device("cuda")), data.splits.train[:16]

    def seen(data: SceneDataModule) -> torch.Tensor:
        return data.pipeline.train_batch(data.images.batch(indices), epoch=0, size=data.view.size, num_classes=6)[0]

    seen(there)
    with no_waiting():
        on_gpu = seen(there)
    expected = seen(data)  # rounds to whole levels where the device does not
    np.testing.assert_allclose(on_gpu.cpu().numpy(), expected.numpy(), atol=1.5 / 255 / 0.22)
