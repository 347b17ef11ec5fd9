"""Averages of the weights over windows, beside the same training without them and beside sums by hand."""

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import Callback
from torch import Tensor, nn
from torch.nn import functional

from intel_scenes import record
from intel_scenes.data.pipelines import FeaturePipeline
from intel_scenes.errors import UserError
from intel_scenes.record import Averages, Epoch, History, Summary
from intel_scenes.runtime import Runtime
from intel_scenes.training.build import build_data, check_devices
from intel_scenes.training.window_averages import WindowAverages, newest_share
from tests.small import DRAWN, SMALL, asked

WINDOWS = "averages=[0.5,1]"


class Net(nn.Sequential):
    """Small network with a batch norm, whose statistics are corrected after each step from random weights."""

    def __init__(self, num_classes: int) -> None:
        layers = (nn.Conv2d(3, 8, 4, stride=4), nn.BatchNorm2d(8), nn.ReLU(), nn.AdaptiveAvgPool2d(1), nn.Flatten())
        super().__init__(*layers, nn.Linear(8, num_classes))


SCRATCH = (
    *("recipe=plain", "model=custom", f"model._target_={__name__}.Net", "model.weights=null", "data.batch_size=16"),
    *("recipe.label_smoothing=0.1", "keep_last=true", "optim.lr=0.05", "epochs=2"),  # no score includes the smoothing
)


class Noted(Callback):
    """Notes the weights and statistics after each optimizer step, once all that corrects them has run."""

    def __init__(self) -> None:
        self.after: dict[int, dict[str, Tensor]] = {}

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        state = {name: value.clone() for name, value in pl_module.network.state_dict().items()}
        self.after.setdefault(trainer.global_step, state)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        self.on_train_batch_start(trainer, pl_module, None, 0)


class Interrupt(Callback):
    """Interrupts a run in its second epoch."""

    def on_train_batch_start(self, trainer: Trainer, pl_module: LightningModule, batch: object, batch_idx: int) -> None:
        if trainer.current_epoch == 1 and batch_idx == 1:
            raise KeyboardInterrupt


def without_time(folder: Path) -> list[Epoch]:
    return [replace(epoch, images_per_second=0) for epoch in History.read(folder).epochs]


def averages_in(folder: Path) -> list[dict[str, Tensor]]:
    callbacks: dict[str, Any] = torch.load(folder / record.LAST, weights_only=True)["callbacks"]
    found: list[dict[str, Tensor]] = callbacks["WindowAverages"]["averages"]
    return found


def weighted(noted: Noted, shares: list[float]) -> dict[str, Tensor]:
    """Return the sum of the noted weights after step 1, 2, ... times their shares; integers as after the last step."""
    states = [noted.after[step] for step in range(1, len(shares) + 1)]
    return {
        name: torch.stack([share * state[name] for share, state in zip(shares, states, strict=True)]).sum(0)
        if value.is_floating_point()
        else value
        for name, value in states[-1].items()
    }


@pytest.fixture(scope="module")
def whole(run_in, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Summary, Noted]:
    """Folder, summary and weights of a run of two epochs of six steps."""
    folder, noted = tmp_path_factory.mktemp("runs") / "whole", Noted()
    return folder, run_in(folder, *SCRATCH, WINDOWS, callbacks=[noted]), noted


def test_the_averages_are_those_by_hand_and_change_with_the_optimizer_steps_only() -> None:
    network = nn.BatchNorm1d(1)
    callback = WindowAverages((0.5, 1), Path(), Runtime(torch.device("cpu"), "32-true", 1))
    module = SimpleNamespace(network=network)
    optimizers = [torch.optim.SGD(network.parameters())]
    callback.on_train_start(SimpleNamespace(global_step=0, optimizers=optimizers), module)
    for batch in range(1, 7):  # two batches for each step
        with torch.no_grad():
            network.weight.fill_(batch // 2)
            network.running_mean.fill_(10 * (batch // 2))
        callback.on_train_batch_end(SimpleNamespace(global_step=batch // 2), module)
    # Weights 1, 2, 3: their mean, and 1, then 3/4 of 2 and 1/4 of 1, then 3/5 of 3 and 2/5 of that 1.75.
    for state, expected in zip(callback.state_dict()["averages"], (2.5, 2.0), strict=True):
        assert state["weight"].item() == pytest.approx(expected)
        assert state["running_mean"].item() == pytest.approx(10 * expected)


def test_weights_and_statistics_are_averaged_as_they_are_after_all_corrections(whole) -> None:
    folder, _, noted = whole
    steps = max(noted.after)
    assert steps == 12
    # 3 / (s + 2) of the newest, and what is left of the older ones, is s (s + 1) / (1 * 2 + 2 * 3 + ...): by hand.
    squares = [3 * step * (step + 1) / (steps * (steps + 1) * (steps + 2)) for step in range(1, steps + 1)]
    assert sum(squares) == pytest.approx(1)
    for found, shares in zip(averages_in(folder), (squares, [1 / steps] * steps), strict=True):
        expected = weighted(noted, shares)
        assert found.keys() == expected.keys()
        for name, value in found.items():
            torch.testing.assert_close(value, expected[name], rtol=1e-4, atol=1e-6)


def test_the_mean_age_is_that_of_a_uniform_average_over_the_last_share_of_the_steps() -> None:
    steps = 10_000
    for window in (0.02, 0.1, 0.5, 1):
        kept, age = 1.0, 0.0
        for step in range(steps, 0, -1):
            share = newest_share(window, step)
            age += kept * share * (steps - step)
            kept *= 1 - share
        assert kept == pytest.approx(0)
        assert age == pytest.approx(window * steps / 2, rel=0.02)


def test_the_live_weights_have_the_scores_of_the_history_and_of_the_summary(run, tmp_path: Path) -> None:
    summary = run(*SCRATCH, WINDOWS, "epochs=1")
    live, *_ = Averages.read(tmp_path / "run").rows
    epoch = History.read(tmp_path / "run").best
    assert (live.epoch, live.step, live.window) == (0, 6, 0)
    assert live.val_loss == pytest.approx(epoch.val_loss, rel=1e-6)
    assert live.val_accuracy == pytest.approx(epoch.val_accuracy)
    assert live.train_accuracy == pytest.approx(epoch.train_eval_accuracy), "a slice of the training images"
    assert live.test_loss == pytest.approx(summary.test_loss, rel=1e-6)
    assert live.test_accuracy == pytest.approx(summary.test_accuracy)
    state = torch.load(tmp_path / "run" / record.LAST, weights_only=True)["state_dict"]
    weights = [value.double().square().sum().item() for value in state.values() if value.ndim > 1]
    assert live.weight_norm == pytest.approx(math.sqrt(sum(weights))), "without biases and norms"


def test_an_average_has_the_scores_of_a_network_with_its_weights(whole, cache: Path) -> None:
    folder, *_ = whole
    data, network = build_data(asked(*DRAWN, *SMALL, *SCRATCH, f"data.cache_dir={cache}")), Net(6).eval()
    images = {
        "train": data.images.batch(data.splits.train_eval),
        "val": data.images.batch(data.splits.val),
        "test": data.test_images.batch(data.splits.test),
    }
    rows = Averages.read(folder).rows
    assert [(row.epoch, row.step, row.window) for row in rows] == [
        *((0, 6, window) for window in (0, 0.5, 1)),
        *((1, 12, window) for window in (0, 0.5, 1)),
    ]
    assert {(row.test_loss, row.test_accuracy) for row in rows[:3]} == {(None, None)}, "test is seen once"
    for row, state in zip(rows[4:], averages_in(folder), strict=True):
        network.load_state_dict(state)
        for split, batch in images.items():
            with torch.inference_mode():
                logits = network(data.pipeline.eval_view(batch.images))
            loss = functional.cross_entropy(logits, batch.labels).item()
            accuracy = (logits.argmax(1) == batch.labels).double().mean().item()
            assert getattr(row, f"{split}_loss") == pytest.approx(loss, rel=1e-4)
            assert getattr(row, f"{split}_accuracy") == pytest.approx(accuracy)


def test_the_average_of_recipe_ema_decay_does_not_change_the_file(run, whole, tmp_path: Path) -> None:
    folder, *_ = whole
    run(*SCRATCH, WINDOWS, "recipe.ema_decay=0.5")
    assert (tmp_path / "run" / record.AVERAGES).read_bytes() == (folder / record.AVERAGES).read_bytes()
    assert without_time(tmp_path / "run") != without_time(folder), "the history is that of the other average"


def test_averages_do_not_change_the_training(run, whole, tmp_path: Path) -> None:
    folder, summary, _ = whole
    plain, expected = tmp_path / "plain", run(*SCRATCH, folder=tmp_path / "plain")
    assert summary.configuration_digest != expected.configuration_digest, "a run with the file is another one"
    assert (summary.test_loss, summary.val_loss) == (expected.test_loss, expected.val_loss)
    assert without_time(folder) == without_time(plain)
    assert (folder / record.PREDICTIONS).read_bytes() == (plain / record.PREDICTIONS).read_bytes()
    best, same = (torch.load(place / record.BEST, weights_only=True) for place in (plain, folder))
    assert best.keys() == same.keys()
    assert all(torch.equal(value, same["state_dict"][name]) for name, value in best["state_dict"].items())
    assert not (plain / record.AVERAGES).exists()


def test_a_resumed_run_has_the_averages_of_an_uninterrupted_one(run, whole, tmp_path: Path) -> None:
    folder, *_ = whole
    with pytest.raises(KeyboardInterrupt):
        run(*SCRATCH, WINDOWS, callbacks=[Interrupt()])
    assert len(Averages.read(tmp_path / "run").rows) == 3, "it was interrupted in its second epoch"
    run(*SCRATCH, WINDOWS)
    assert (tmp_path / "run" / record.AVERAGES).read_bytes() == (folder / record.AVERAGES).read_bytes()
    for one, other in zip(averages_in(tmp_path / "run"), averages_in(folder), strict=True):
        assert all(torch.equal(value, other[name]) for name, value in one.items())


def test_a_head_is_scored_on_all_training_features(run, cache: Path, tmp_path: Path) -> None:
    head = ("recipe.trained=head", "augment=none")
    run(*SCRATCH, *head, WINDOWS, "epochs=1")
    data = build_data(asked(*DRAWN, *SMALL, *SCRATCH, *head, f"data.cache_dir={cache}"))
    (features,) = [values for path in cache.glob("features-*/train.npy") if (values := np.load(path)).shape[1] == 8]
    state = averages_in(tmp_path / "run")[1]
    weight, bias = (next(value for value in state.values() if value.ndim == ndim).double().numpy() for ndim in (2, 1))
    chosen = data.splits.train
    logits = features[chosen].astype(np.float64) @ weight.T + bias
    labels = data.splits.scenes.labels[chosen]
    row = Averages.read(tmp_path / "run").rows[-1]
    losses = np.log(np.exp(logits).sum(1)) - logits[np.arange(len(chosen)), labels]
    assert row.train_loss == pytest.approx(losses.mean(), rel=1e-4)
    assert row.train_accuracy == pytest.approx((logits.argmax(1) == labels).mean())
    assert row.weight_norm == pytest.approx(np.linalg.norm(weight)), "the bias is not decayed"


def test_features_are_gathered_once_for_all_epochs_unless_they_fill_the_memory(cache: Path, monkeypatch) -> None:
    data = build_data(asked(*DRAWN, *SMALL, f"data.cache_dir={cache}"))
    generator = np.random.default_rng(0)
    features = data.with_features(*(generator.normal(size=(n, 4)).astype(np.float32) for n in (120, 30)))
    assert isinstance(features.pipeline, FeaturePipeline)
    callback = WindowAverages((1,), cache, Runtime(torch.device("cpu"), "32-true", 1))
    first, again = (list(callback._batches(features, "train")) for _ in range(2))
    assert all(one.images is other.images for one, other in zip(first, again, strict=True))
    monkeypatch.setattr("intel_scenes.training.window_averages.MOST_KEPT", 4 * 4 * len(data.splits.val) - 1)
    first, again = (list(callback._batches(features, "val")) for _ in range(2))
    assert not any(one.images is other.images for one, other in zip(first, again, strict=True))
    assert torch.equal(first[0].images, features.images.values[data.splits.val])


def test_several_devices_are_refused(cache: Path) -> None:
    config = asked(*DRAWN, *SMALL, WINDOWS, f"data.cache_dir={cache}")
    with pytest.raises(UserError, match=r"^averages is for one device only: leave it out, or set trainer\.devices=1$"):
        check_devices(config, build_data(config), Runtime(torch.device("cpu"), "32-true", 1, num_devices=2))
