"""Runs whose batch is the whole training set, or whose epoch is several passes over it."""

from pathlib import Path

import pytest
import torch

from intel_scenes import record
from intel_scenes.config import of_record
from intel_scenes.record import Origin
from intel_scenes.training.dry_run import dry_run
from tests.small import DRAWN, SMALL, asked
from tests.training.test_frozen_features import history

# 108 of 120 drawn images are trained on.
PROBE = ("recipe=linear_probe", "optim=sgd", "optim.lr=0.01", "scheduler=cosine", "keep_last=true")


def weights(folder: Path) -> list[torch.Tensor]:
    return list(torch.load(folder / record.LAST, weights_only=True)["state_dict"].values())


def test_full_is_the_same_run_as_the_number_of_training_images(run, tmp_path):
    options = (*PROBE, "lr_scaling=linear", "epochs=2")
    full = run(*options, "data.batch_size=full", folder=tmp_path / "full")
    assert (full.batch_size, full.num_train, full.lr) == (108, 108, pytest.approx(0.01 * 108 / 32))
    assert of_record(tmp_path / "full").data.batch_size == 108
    assert [row["step"] for row in history(tmp_path / "full")] == [1, 2]
    assert run(*options, "data.batch_size=108", folder=tmp_path / "full") == full, "the folder holds that run already"
    number = run(*options, "data.batch_size=108", folder=tmp_path / "number")
    assert number.config_digest == full.config_digest
    assert all(map(torch.equal, weights(tmp_path / "number"), weights(tmp_path / "full")))


def test_epochs_of_several_passes_train_as_shorter_epochs_do(run, tmp_path):
    options = (*PROBE, "data.batch_size=16")  # six batches in a pass
    run(*options, "epochs=4", folder=tmp_path / "single")
    run(*options, "epochs=2", "data.passes_per_epoch=2", folder=tmp_path / "double")
    steps = [[row["step"] for row in history(tmp_path / name)] for name in ("single", "double")]
    assert steps == [[6, 12, 18, 24], [12, 24]]
    assert of_record(tmp_path / "double").num_steps == 24
    assert all(map(torch.equal, weights(tmp_path / "single"), weights(tmp_path / "double")))
    single, double = history(tmp_path / "single"), history(tmp_path / "double")
    assert [row["val_loss"] for row in double] == [row["val_loss"] for row in single[1::2]]
    assert double[0]["train_loss"] == pytest.approx((single[0]["train_loss"] + single[1]["train_loss"]) / 2)


def test_a_forecast_counts_full_batches_and_passes(cache):
    options = (*DRAWN, *SMALL, "recipe=linear_probe", f"data.cache_dir={cache}", "data.batch_size=full")
    first, *_ = dry_run(asked(*options, "data.passes_per_epoch=3", "lr_scaling=sqrt"), Origin())
    assert first.startswith("108 training images in 3 batches of 108 (3 passes), 3 steps with epochs=1; ")
