from types import SimpleNamespace

import numpy as np
import pytest
import torch

from intel_scenes.record import Epoch, History, Status, Summary
from intel_scenes.runtime import Runtime
from intel_scenes.training import console
from intel_scenes.training.console import RunSeries, TrainingProgress, describe, is_described

RUNTIME = Runtime(torch.device("cpu"), "32-true", 1)
SCENES = SimpleNamespace(labels=np.array([0, 0, 1, 1]))
SPLITS = SimpleNamespace(
    **{"scenes": SCENES, "test_scenes": SCENES, "classes": ["ice", "sea"], "num_whole": None},
    **{"train": np.arange(3), "val": np.arange(3, 4), "test": np.arange(4)},
)
SUMMARY = Summary(
    **{"status": Status.INTERRUPTED, "device": "cpu", "precision": "32-true", "threads": 1, "seed": 2, "lr": 0.1},
    **{"num_train": 3, "num_val": 1, "num_test": 4, "model_name": "resnet18", "parameters": 10, "image_size": 32},
    **{"optim": "sgd", "batch_size": 3, "epochs": 200},
)


@pytest.fixture
def described(caplog, monkeypatch):
    """Return a function that describes a run of a series and returns the lines it logs."""
    caplog.set_level("INFO")
    monkeypatch.setattr(console, "_described", set())

    def lines(series):
        caplog.clear()
        describe(SUMMARY, SPLITS, RUNTIME, series, batches_per_epoch=1, num_steps=200)
        return "\n".join(caplog.messages).splitlines()

    return lines


def test_a_sweep_describes_its_first_run_in_full_and_the_next_ones_on_one_line(described, tmp_path):
    series = RunSeries(tmp_path, "a")
    first, second = described(series), described(series)
    names = ["device", "images", "few", "classes", "network", "recipe", "epochs"]
    few = "         only 1 validation image, each worth 100.0 points of accuracy"
    assert [line.split(":")[0] for line in first] == [few if name == "few" else name for name in names]
    assert second == ["  resnet18, optim sgd, lr 0.1, batch size 3, 200 epochs of 1 batch"]
    assert len(described(RunSeries(tmp_path, "other images"))) == len(names)
    assert is_described(series)


def test_each_single_run_is_described_in_full(described):
    assert described(RunSeries(None, "a")) == described(RunSeries(None, "a"))
    assert not is_described(RunSeries(None, "a"))


def test_the_line_of_an_epoch_stands_under_its_heads_and_fits_80_columns(caplog):
    caplog.set_level("INFO")
    values = {"train_loss": 1.25, "train_accuracy": 1.0, "train_eval_accuracy": 0.5, "val_loss": 10.5}
    row = Epoch(epoch=98, step=9, lr=3.2e-05, val_accuracy=1.0, images_per_second=12345.0, **values)
    TrainingProgress(has_bar=False).epoch(History((row,)), 100, 600.0)
    header, line = caplog.messages
    assert line.split()[:5] == ["99", "of", "100", "1.2500", "10.5000"]
    assert line.split()[5:] == ["100.0", "%", "50.0", "%", "100.0", "%", "3.2e-05", "12345", "16.5", "h"]
    assert len(header) == len(line) == 80
