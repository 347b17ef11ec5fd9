"""Trackers as they keep a run on this machine, without a server: what they wrote, read back, beside the record."""

import csv
import json
import struct
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.runs import trackers

Run = Callable[..., Any]
TINY = ("model=resnet9_x0_5", "epochs=2", "optim.lr=0.02", "++trainer.log_every_n_steps=1")
DIVERGES = ("optim.lr=1e30", "scheduler=constant")
METRICS = ("train_loss", "train_accuracy", "train_eval_accuracy", "val_loss", "val_accuracy", "val_balanced_accuracy")


def history(folder: Path) -> dict[str, list[float]]:
    """The columns of `history.csv` that a tracker has as well; it keeps them in single precision."""
    with (folder / record.HISTORY).open() as file:
        rows = list(csv.DictReader(file))
    columns = {name: [float(row[name]) for row in rows] for name in METRICS}
    assert len(set(columns["train_loss"])) == 2, "else a tracker that keeps one epoch for both would pass"
    return columns


def assert_kept(found: dict[str, list[float]], folder: Path) -> None:
    for name, values in history(folder).items():
        assert found[name] == pytest.approx(values, rel=1e-6), name


def test_tensorboard_has_the_metrics_of_each_epoch_and_the_configuration(run: Run, tmp_path: Path) -> None:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    run(*TINY, "logger=tensorboard")
    events = EventAccumulator(str(tmp_path / "run/logs"))
    events.Reload()
    assert_kept({name: [event.value for event in events.Scalars(name)] for name in METRICS}, tmp_path / "run")
    assert [event.value for event in events.Scalars("epoch")][-1] == 1
    assert yaml.safe_load((tmp_path / "run/logs/hparams.yaml").read_text())["optim.lr"] == 0.02


def test_a_csv_file_has_the_metrics_of_each_epoch(run: Run, tmp_path: Path) -> None:
    run(*TINY, "logger=csv")
    with (tmp_path / "run/logs/metrics.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert_kept({name: [float(row[name]) for row in rows if row[name]] for name in METRICS}, tmp_path / "run")


@pytest.fixture
def mlflow(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The package, in an environment in which nobody has allowed it anything."""
    mlflow = pytest.importorskip("mlflow", reason="needs the extra mlflow, which dev has")
    monkeypatch.setenv("MLFLOW_ALLOW_FILE_STORE", "")
    monkeypatch.delenv("MLFLOW_ALLOW_FILE_STORE")
    yield mlflow
    mlflow.set_tracking_uri(None)


def test_mlflow_has_the_metrics_of_each_epoch_the_configuration_and_how_a_run_ended(
    run: Run, mlflow: Any, tmp_path: Path
) -> None:
    run(*TINY, "logger=mlflow")
    with pytest.raises(UserError, match="not finite"):
        run(*TINY, *DIVERGES, "logger=mlflow", folder=tmp_path / "diverged")
    ended = {}
    for name in ("run", "diverged"):
        client = mlflow.MlflowClient(f"file:{tmp_path / name}/logs")
        experiment = client.get_experiment_by_name("intel_scenes")
        (tracked,) = client.search_runs([experiment.experiment_id])
        ended[name] = tracked.info.status
        if name == "run":
            values = {key: client.get_metric_history(tracked.info.run_id, key) for key in METRICS}
            assert_kept({key: [one.value for one in of_key] for key, of_key in values.items()}, tmp_path / name)
            assert (tracked.data.params["optim.lr"], tracked.data.params["epochs"]) == ("0.02", "2")
    assert ended == {"run": "FINISHED", "diverged": "FAILED"}


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """The package, which keeps its own files below the folder of the test and reaches nobody."""
    for name in ("WANDB_CONFIG_DIR", "WANDB_CACHE_DIR", "WANDB_DATA_DIR"):
        monkeypatch.setenv(name, str(tmp_path / "wandb"))
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    wandb = pytest.importorskip("wandb", reason="needs the extra wandb, which dev has")
    yield wandb
    wandb.teardown()


def records(path: Path) -> Iterator[Any]:
    """What W&B kept of a run, for `wandb sync`: messages in blocks of 32 KiB, as in the log of LevelDB."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, message = path.read_bytes(), 7, b""
    while place + 7 <= len(content):
        if (left := 32768 - place % 32768) < 7:
            place += left
        _, size, kind = struct.unpack("<IHB", content[place : place + 7])
        message += content[place + 7 : place + 7 + size]
        place += 7 + size
        if kind in (1, 4):  # whole, or the last part of one
            yield Record.FromString(message)
            message = b""


def kept_by_wandb(folder: Path) -> dict[str, Any]:
    """Of the one W&B run below a folder: its name, project, metrics by epoch, configuration and exit code."""
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    found: dict[str, Any] = {"metrics": {}, "config": {}}
    for message in records(path):
        kind = message.WhichOneof("record_type")
        if kind == "run":
            found |= {"id": message.run.run_id, "project": message.run.project}
        elif kind == "history":
            for item in message.history.item:
                found["metrics"].setdefault(item.key or "/".join(item.nested_key), []).append(
                    json.loads(item.value_json)
                )
        elif kind == "config":
            found["config"] |= {item.key: json.loads(item.value_json) for item in message.config.update}
        elif kind == "exit":
            found["exit_code"] = message.exit.exit_code
    return found


def test_each_training_is_a_run_of_wandb_that_ends_with_it_even_after_one_that_failed_before_it_began(
    run: Run, wandb: Any, tmp_path: Path
) -> None:
    begun = trackers.WandbLogger(project="p", save_dir=tmp_path / "begun", offline=True)
    begun.log_metrics({"val_loss": 1.0})  # its training is then refused, so nobody ends it
    run(*TINY, "logger=wandb", "logger.offline=true")
    assert wandb.run is None
    with pytest.raises(UserError, match="not finite"):
        run(*TINY, *DIVERGES, "logger=wandb", "logger.offline=true", folder=tmp_path / "diverged")
    assert wandb.run is None
    kept = {name: kept_by_wandb(tmp_path / name) for name in ("begun", "run", "diverged")}
    assert {name: one["exit_code"] for name, one in kept.items()} == {"begun": 1, "run": 0, "diverged": 1}
    assert len({one["id"] for one in kept.values()}) == 3
    assert kept["begun"]["metrics"]["val_loss"] == [1.0], "the next training adds nothing to it"
    assert_kept(kept["run"]["metrics"], tmp_path / "run")
    assert (kept["run"]["project"], kept["run"]["config"]["optim.lr"]) == ("intel_scenes", 0.02)


@pytest.mark.parametrize("name", ["wandb", "mlflow"])
def test_a_tracker_whose_extra_is_missing_is_named_and_nothing_is_trained(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    monkeypatch.setitem(sys.modules, name, None)
    advice = rf'run pip install "intel-scenes\[{name}\]", or set logger=none'
    with pytest.raises(UserError, match=rf"^\w+Logger cannot be used: .*{name}.*; {advice}$"):
        run(*TINY, f"logger={name}")
    assert not (tmp_path / "run" / record.SUMMARY).exists()
