import csv
import math
import os
import resource
import threading
import time
from collections import OrderedDict, UserList
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
import yaml
from lightning.pytorch import Callback, LightningDataModule, LightningModule, Trainer
from torch import Tensor, nn
from torch.optim import SGD
from torch.optim.lr_scheduler import ConstantLR, ReduceLROnPlateau, StepLR

from intel_scenes import files, record
from intel_scenes.errors import Busy, UserError
from intel_scenes.keys import conf_folder
from intel_scenes.models.classifier import SceneClassifier
from intel_scenes.models.sign import SignSGD
from intel_scenes.training.averaging import WarmedEMA
from intel_scenes.training.build import unguarded
from intel_scenes.training.checkpoints import EpochRecorder, FiniteLoss, WholeCheckpointIO
from tests.small import QUIET

SCHEDULERS = sorted((conf_folder() / "scheduler").glob("*.yaml"))
WEIGHTS_ONLY = {"state_dict", "epoch", "global_step", "pytorch-lightning_version"}


class Batches(UserList[tuple[Tensor, Tensor]]):
    """Lightning takes a plain list for several loaders."""


class Noise(LightningDataModule):
    """Four training batches of five images, four validation images of class 0, one training image to evaluate."""

    batch_size = 5

    def train_dataloader(self) -> Batches:
        generator = torch.Generator().manual_seed(0)
        images = torch.randn(4, 5, 3, 4, 4, generator=generator)
        labels = torch.randint(3, (4, 5), generator=generator)
        return Batches(zip(images, labels, strict=True))

    def val_dataloader(self) -> list[Batches]:
        images = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(1))
        labels = torch.zeros(4, dtype=torch.int64)
        return [Batches([(images, labels)]), Batches([(images[:1], labels[:1])])]


class Scripted(nn.Module):
    """Trains; in evaluation it classifies a scripted number of images correctly, epoch by epoch."""

    def __init__(self, *num_right: int) -> None:
        super().__init__()
        self.fc = nn.Linear(48, 3)
        self.script = iter(num_right)

    def forward(self, images: Tensor) -> Tensor:
        if self.training:
            return self.fc(images.flatten(1))
        num_right = next(self.script) if len(images) > 1 else 1
        return torch.eye(3)[[0] * num_right + [1] * (len(images) - num_right)]


class Breaks(nn.Module):
    """From the given forward pass of the training on, only the logit of class 0 is finite."""

    def __init__(self, at: int, value: float = math.nan) -> None:
        super().__init__()
        self.fc = nn.Linear(48, 3)
        self.passes, self.at, self.value = 0, at, value

    def forward(self, images: Tensor) -> Tensor:
        logits = self.fc(images.flatten(1))
        if self.training:
            self.passes += 1
            if self.passes > self.at:
                return logits + torch.tensor([0.0, self.value, self.value])
        return logits


class Noted(Callback):
    """Keeps the parameters and statistics after every step."""

    def __init__(self) -> None:
        self.states: list[dict[str, Tensor]] = []

    def on_train_batch_end(self, trainer: Trainer, module: LightningModule, *_: object) -> None:
        self.states.append({name: tensor.clone() for name, tensor in module.state_dict().items()})


def tiny() -> nn.Sequential:
    torch.manual_seed(0)
    layers = {
        **{"conv": nn.Conv2d(3, 4, 3), "norm": nn.BatchNorm2d(4), "dropout": nn.Dropout(0.5)},
        **{"flatten": nn.Flatten(), "fc": nn.Linear(4 * 2 * 2, 3)},
    }
    return nn.Sequential(OrderedDict(layers))


def fit(
    folder: Path,
    network: nn.Module,
    *callbacks: Callback,
    epochs: int,
    resumed: bool = False,
    options: dict[str, Any] | None = None,
    before_writing: Callable[[], None] = lambda: None,
    **arguments: Any,
) -> EpochRecorder:
    """Train as a run does, with the record in `folder`."""
    usual = {"optimizer": partial(SGD, momentum=0.9), "scheduler": partial(ConstantLR, factor=1.0), "interval": "epoch"}
    numbers = {"num_classes": 3, "lr": 0.1, "head_lr_scale": 1.0, "label_smoothing": 0.0, "seed": 0}
    module = SceneClassifier(network, ["fc"], **(usual | numbers | (options or {})))
    recorder = EpochRecorder(folder)
    recorder.before_writing = before_writing
    trainer = Trainer(
        **QUIET,
        use_distributed_sampler=False,
        max_epochs=epochs,
        callbacks=[FiniteLoss(), recorder, *callbacks],
        plugins=[WholeCheckpointIO()],
        default_root_dir=folder,
        **arguments,
    )
    trainer.fit(module, Noise(), ckpt_path=folder / record.LAST if resumed else None, weights_only=True)
    return recorder


def loaded(folder: Path, name: str) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(folder / name, weights_only=True)
    return content


def history(folder: Path) -> list[dict[str, str]]:
    with (folder / record.HISTORY).open() as file:
        return list(csv.DictReader(file))


@contextmanager
def no_file_above(num_bytes: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def checkpoint(value: float, size: int = 1) -> dict[str, Any]:
    weights = {"state_dict": {"w": torch.full((size,), value)}, "epoch": 1, "global_step": 2}
    return {**weights, "pytorch-lightning_version": "2", "optimizer_states": [torch.full((size,), value)]}


def save(*arguments: Any) -> None:
    disk = WholeCheckpointIO()
    disk.save_checkpoint(*arguments)
    disk.wait()


def test_a_save_that_runs_out_of_space_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save(checkpoint(1), path)
    before = path.read_bytes()
    with no_file_above(len(before)), pytest.raises(OSError, match="File too large"):
        save(checkpoint(2, size=10_000), path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_what_cannot_be_pickled_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "last.ckpt"
    save(checkpoint(1), path)
    before = path.read_bytes()
    with pytest.raises(Exception, match=r"(?i)pickle"):
        save(checkpoint(2) | {"hook": lambda: None}, path)
    assert path.read_bytes() == before
    assert os.listdir(tmp_path) == ["last.ckpt"]


def test_the_best_weights_are_written_before_the_checkpoint_that_refers_to_them(tmp_path: Path) -> None:
    best, last = tmp_path / "best.ckpt", tmp_path / "last.ckpt"
    last.mkdir()  # cannot be replaced by a file
    with pytest.raises(OSError, match="directory"):
        save(checkpoint(1), last, {"weights": best})
    assert torch.load(best, weights_only=True)["state_dict"]["w"].item() == 1
    last.rmdir()
    best.unlink()
    best.mkdir()
    with pytest.raises(OSError, match="directory"):
        save(checkpoint(1), last, {"weights": best})
    assert not last.exists()


def test_a_checkpoint_holds_the_weights_of_its_step_however_long_the_disk_takes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go_on, write = threading.Event(), files.write_whole
    monkeypatch.setattr(files, "write_whole", lambda *arguments: (go_on.wait(30), write(*arguments)))
    disk, content = WholeCheckpointIO(), checkpoint(1) | {"callbacks": {"recorder": {"rows": [{"epoch": 0}]}}}
    disk.save_checkpoint(content, tmp_path / "last.ckpt")
    content["state_dict"]["w"].fill_(2)  # training continues
    content["callbacks"]["recorder"]["rows"].append({"epoch": 1})
    go_on.set()
    disk.teardown()
    written = loaded(tmp_path, "last.ckpt")
    assert written["state_dict"]["w"].item() == 1
    assert written["callbacks"]["recorder"]["rows"] == [{"epoch": 0}]


def test_a_checkpoint_that_cannot_be_written_raises_at_the_next_one_or_at_the_end(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    for is_end in (False, True):
        disk = WholeCheckpointIO()
        disk.save_checkpoint(checkpoint(1), tmp_path / "folder")
        with pytest.raises(OSError, match="directory"):
            disk.teardown() if is_end else disk.save_checkpoint(checkpoint(2), tmp_path / "last.ckpt")
        disk.teardown()  # raises once only


def test_the_best_file_holds_only_weights_and_their_epoch_and_step(tmp_path: Path) -> None:
    fit(tmp_path, tiny(), epochs=1)
    best, last = loaded(tmp_path, record.BEST), loaded(tmp_path, record.LAST)
    assert set(best) == WEIGHTS_ONLY
    assert {"optimizer_states", "lr_schedulers", "loops", "callbacks"} <= set(last)
    assert (best["epoch"], best["global_step"]) == (0, 4)
    other = tiny()
    other.load_state_dict({name.removeprefix("network."): tensor for name, tensor in best["state_dict"].items()})


def test_the_first_of_equally_good_epochs_is_the_best(tmp_path: Path) -> None:
    recorder = fit(tmp_path, Scripted(2, 3, 3, 1), epochs=4)
    assert recorder.history.best.epoch == 1
    assert loaded(tmp_path, record.BEST)["epoch"] == 1
    assert loaded(tmp_path, record.LAST)["epoch"] == 3
    assert [float(row["val_accuracy"]) for row in history(tmp_path)] == [0.5, 0.75, 0.75, 0.25]


def test_a_recorder_keeps_the_weights_of_the_epoch_that_its_metric_chooses(tmp_path: Path) -> None:
    rows = [{**vars(fit(tmp_path / "a", Scripted(2), epochs=1).history.best), "val_balanced_accuracy": 0.75}]
    recorder = EpochRecorder(tmp_path, primary_metric="balanced_accuracy")
    recorder.load_state_dict({"rows": [*rows, rows[0] | {"epoch": 1, "val_accuracy": 1.0}], "fit_seconds": 1.0})
    assert recorder.history.best.epoch == 0
    better = rows[0] | {"epoch": 2, "val_accuracy": 0.1, "val_balanced_accuracy": 0.8}
    recorder.load_state_dict({"rows": [*rows, better], "fit_seconds": 1.0})
    assert recorder.history.best.epoch == 2


def test_the_history_has_a_row_for_each_epoch_with_its_learning_rate(tmp_path: Path) -> None:
    options = {"scheduler": partial(StepLR, step_size=1, gamma=0.1)}
    recorder = fit(tmp_path, tiny(), epochs=3, options=options)
    written_rows = history(tmp_path)
    assert list(written_rows[0]) == list(record.HISTORY_COLUMNS)
    assert [(row["epoch"], row["step"]) for row in written_rows] == [("0", "4"), ("1", "8"), ("2", "12")]
    assert [float(row["lr"]) for row in written_rows] == pytest.approx([0.1, 0.01, 0.001])
    # 20 images an epoch: the training part is shorter than the whole
    assert all(float(row["images_per_second"]) > 20 / recorder.fit_seconds for row in written_rows)


def schedule_of(path: Path) -> dict[str, Any]:
    """Return a schedule of `conf/` for five epochs of four steps."""
    section = yaml.safe_load(path.read_text().replace("${num_steps}", "20"))
    factory = unguarded(hydra.utils.instantiate(section["factory"], _convert_="all"))
    return {"scheduler": factory, "interval": section["interval"]}


@pytest.mark.parametrize(
    ("options", "average"),
    [
        pytest.param({"scheduler": partial(StepLR, step_size=1, gamma=0.5)}, False, id="no average"),
        pytest.param({"scheduler": partial(StepLR, step_size=1, gamma=0.5)}, True, id="steps"),
        pytest.param(
            {"scheduler": partial(ReduceLROnPlateau, patience=0, factor=0.5), "interval": "validation", "lr": 1.0},
            True,
            id="no patience",
        ),
        pytest.param(
            {"optimizer": partial(SignSGD, lr=0), "lr": 0.01, "scheduler": partial(StepLR, step_size=1, gamma=0.5)},
            False,
            id="sign",
        ),
        *(pytest.param(schedule_of(path), True, id=path.stem) for path in SCHEDULERS),
    ],
)
def test_a_resumed_training_equals_an_uninterrupted_one(tmp_path: Path, options: dict[str, Any], average: bool) -> None:
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    fit(whole, tiny(), *([WarmedEMA(0.8)] if average else []), epochs=5, options=options)
    for epochs in (2, 3, 5):
        averaging = [WarmedEMA(0.8)] if average else []
        fit(parts, tiny(), *averaging, epochs=epochs, resumed=epochs > 2, options=options)
    for name in (record.BEST, record.LAST):
        expected, resumed_state = loaded(whole, name), loaded(parts, name)
        assert expected["epoch"] == resumed_state["epoch"]
        for key in expected.keys() & {"state_dict", "current_model_state"}:
            assert all(torch.equal(expected[key][tensor], resumed_state[key][tensor]) for tensor in expected[key])
    rows = [[{**row, "images_per_second": ""} for row in history(folder)] for folder in (whole, parts)]
    assert rows[0] == rows[1]


def test_a_run_that_another_process_took_over_writes_no_further_epoch(tmp_path: Path) -> None:
    held = iter([True, False])

    def check() -> None:
        if not next(held):
            raise Busy("taken over")

    with pytest.raises(Busy, match="taken over"):
        fit(tmp_path, tiny(), epochs=3, before_writing=check)
    assert [row["epoch"] for row in history(tmp_path)] == ["0"]
    assert loaded(tmp_path, record.LAST)["epoch"] == 0


def test_time_is_summed_over_resumes(tmp_path: Path) -> None:
    begun = time.perf_counter()
    fit(tmp_path, tiny(), epochs=1)
    last = loaded(tmp_path, record.LAST)
    (state,) = [state for state in last["callbacks"].values() if "fit_seconds" in state]
    assert 0 < state["fit_seconds"] < time.perf_counter() - begun
    state["fit_seconds"] = 1000.0
    torch.save(last, tmp_path / record.LAST)
    begun = time.perf_counter()
    found = fit(tmp_path, tiny(), epochs=2, resumed=True).fit_seconds
    assert 1000 < found < 1000 + time.perf_counter() - begun


def test_the_best_file_holds_the_averages_of_weights_and_statistics(tmp_path: Path) -> None:
    noted = Noted()
    fit(tmp_path, tiny(), noted, WarmedEMA(0.8), epochs=1)
    # the average starts with the state after the first step
    expected = noted.states[0]
    for state, kept in zip(noted.states[1:], (2 / 11, 3 / 12, 4 / 13), strict=True):
        expected = {name: kept * expected[name] + (1 - kept) * tensor for name, tensor in state.items()}
    averages = loaded(tmp_path, record.BEST)["state_dict"]
    assert averages.keys() == expected.keys()
    for name in averages:
        if averages[name].is_floating_point():
            torch.testing.assert_close(averages[name], expected[name])
    assert not torch.equal(averages["network.fc.weight"], noted.states[-1]["network.fc.weight"])
    live = loaded(tmp_path, record.LAST)["current_model_state"]
    assert torch.equal(live["network.fc.weight"], noted.states[-1]["network.fc.weight"])


def test_the_history_shows_the_accuracy_of_the_averages(tmp_path: Path) -> None:
    fit(tmp_path, tiny(), WarmedEMA(0.8), epochs=1)
    network = tiny()
    weights = loaded(tmp_path, record.BEST)["state_dict"]
    network.load_state_dict({name.removeprefix("network."): tensor for name, tensor in weights.items()})
    images, labels = Noise().val_dataloader()[0][0]
    with torch.no_grad():
        expected = nn.functional.cross_entropy(network.eval()(images), labels).item()
    assert float(history(tmp_path)[0]["val_loss"]) == pytest.approx(expected)


@pytest.mark.parametrize("value", [math.nan, -math.inf])  # a loss of nan, and of inf
@pytest.mark.parametrize(("at", "place"), [(0, "step 0 (epoch 1)"), (3, "step 3 (epoch 1)"), (6, "step 6 (epoch 2)")])
def test_a_loss_that_is_not_finite_ends_the_run_with_its_step(
    tmp_path: Path, at: int, place: str, value: float
) -> None:
    network = Breaks(at, value)
    with pytest.raises(UserError) as caught:
        fit(tmp_path, network, epochs=3)
    assert str(caught.value).startswith(f"the loss is not finite at {place}: lower optim.lr or")
    assert network.passes == at + 1


@pytest.mark.parametrize("at", [0, 1, 2, 3, 4])
def test_with_accumulated_gradients_the_step_is_the_one_that_the_batch_belongs_to(tmp_path: Path, at: int) -> None:
    network = Breaks(at)
    with pytest.raises(UserError, match=rf"not finite at step {at // 2} \(epoch {at // 4 + 1}\)"):
        fit(tmp_path, network, epochs=2, accumulate_grad_batches=2)
    assert network.passes == at + 1


def test_an_epoch_that_ends_in_a_loss_that_is_not_finite_is_not_recorded(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^the loss is not finite at step 7 \(epoch 2\)"):
        fit(tmp_path, Breaks(7), epochs=3)
    assert [row["epoch"] for row in history(tmp_path)] == ["0"]
    assert loaded(tmp_path, record.LAST)["epoch"] == 0
