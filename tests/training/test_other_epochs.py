import json
import logging
import re

import pytest
import torch
import yaml

from intel_scenes import record
from intel_scenes.models.backbones import build
from intel_scenes.models.weights import network_state, resolve_weights
from intel_scenes.record import Status, Summary
from intel_scenes.training.claim import Place
from intel_scenes.training.other_epochs import hint_of_other_epochs

TINY = ("model=resnet9_x0_5", "epochs=1")
TEN = Summary(status=Status.INTERRUPTED, epochs=10, data_fingerprint="a")


def leave(parent, name, overrides, **summary):
    (parent / name).mkdir()
    (parent / name / record.OVERRIDES).write_text(yaml.safe_dump(overrides))
    values = {"status": "completed", "val_accuracy": 0.5, "test_accuracy": 0.5, "epochs": 5, "data_fingerprint": "a"}
    values |= summary
    (parent / name / record.SUMMARY).write_text(json.dumps(values))


def test_the_hint_starts_a_longer_run_from_the_weights_and_the_head_of_the_shorter_one(
    run, tmp_path, caplog, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    with caplog.at_level(logging.INFO):
        run(*TINY, folder=tmp_path / "outputs/old")
        assert "new run" not in caplog.text
        run("model=resnet9_x0_5", "epochs=2", folder=tmp_path / "outputs/new")
    (hint,) = (message for message in caplog.messages if "new run" in message)
    assert hint.startswith(
        "epochs=2 is a new run, because schedules depend on the number of epochs; outputs/old differs only in epochs=1 "
        "and is kept;"
    )
    (path,) = re.findall(r"add \"model\.weights='(.+)'\"$", hint)
    weights = resolve_weights("resnet9_x0_5", path)
    network = build("resnet9_x0_5", 6, weights=weights, image_size=32)
    trained = network_state(torch.load(tmp_path / "outputs/old" / record.BEST, weights_only=True)["state_dict"])
    assert {"fc.weight", "fc.bias"} < trained.keys()
    assert all(torch.equal(tensor, trained[name]) for name, tensor in network.state_dict().items())


@pytest.mark.parametrize(
    ("overrides", "summary", "has_hint"),
    [
        (["epochs=5", "seed=2"], {}, True),
        (["seed=2", "epochs=5", "data.root=/elsewhere", "keep_last=true"], {}, True),  # these change no result
        (["seed=2"], {}, True),  # epochs from the recipe
        (["epochs=5"], {}, False),
        (["epochs=5", "seed=2", "optim=sgd"], {}, False),
        (["epochs=5", "seed=2"], {"status": "interrupted"}, False),
        (["seed=2"], {"epochs": 10}, False),
        (["seed=2", "data.root=/other/images"], {"data_fingerprint": "b"}, False),
    ],
)
def test_only_a_complete_run_that_differs_in_its_epochs_only_gives_a_hint(tmp_path, overrides, summary, has_hint):
    leave(tmp_path, "old", overrides, **summary)
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / record.OVERRIDES).write_text("{")
    (tmp_path / "binary").mkdir()
    (tmp_path / "binary" / record.OVERRIDES).write_bytes(b"\xff")
    hint = hint_of_other_epochs(Place(tmp_path / "new"), ["seed=2", "epochs=10"], TEN)
    assert (hint is not None) is has_hint


def test_the_longest_of_several_runs_is_named(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for epochs in (2, 20, 5):
        leave(tmp_path, f"of {epochs}", [f"epochs={epochs}"], epochs=epochs)
    assert "; of 20 differs only" in hint_of_other_epochs(Place(tmp_path / "new"), ["epochs=10"], TEN)


def test_runs_of_a_sweep_and_resumed_runs_give_no_hint(tmp_path):
    leave(tmp_path, "old", ["epochs=5"])
    assert hint_of_other_epochs(Place(tmp_path / "new", siblings=tmp_path), ["epochs=10"], TEN) is None
    leave(tmp_path, "new", ["epochs=10"], status="interrupted")
    assert hint_of_other_epochs(Place(tmp_path / "new"), ["epochs=10"], TEN) is None
