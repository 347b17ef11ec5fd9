"""Runs with a backbone from timm or a custom one."""

import json
from importlib.metadata import version

import pytest
import torch
from lightning.pytorch import Trainer
from lightning.pytorch.callbacks import Callback

from intel_scenes import record
from intel_scenes.config import RunConfig, of_record
from intel_scenes.digests import Facts, digests, hashed
from intel_scenes.errors import UserError
from intel_scenes.inference import ensembles
from intel_scenes.inference.load_run import load_run, read_weights, rebuild_network
from intel_scenes.record import Origin, Summary
from intel_scenes.sections import as_plain, from_plain
from intel_scenes.training.build import check_parts
from intel_scenes.training.dry_run import dry_run
from tests.small import DRAWN, SMALL, asked, resolved

TIMM = ("model=timm", "model.name=test_resnet", "epochs=2")
SOURCE = """
from torch import nn

class Net(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(3, 8, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(8, num_classes))
"""


class Stopped(Callback):
    def on_train_epoch_start(self, trainer: Trainer, *_: object) -> None:
        if trainer.current_epoch == 1:
            raise KeyboardInterrupt


def test_a_run_with_timm_records_it_and_is_rebuilt_from_its_record(run, tmp_path):
    summary = run(*TIMM, "recipe.trains_norms=false")
    assert (summary.model_library, summary.model_name) == ("timm", "test_resnet")
    assert summary.versions["timm"] == version("timm")
    assert torch.load(tmp_path / "run" / record.BEST, weights_only=True)["state_dict"].keys()
    state = read_weights(load_run(tmp_path / "run"))
    assert torch.equal(state["bn1.running_var"], torch.ones_like(state["bn1.running_var"])), "norms were not trained"
    (again,), (once,) = (ensembles.evaluate_runs([tmp_path / "run"], "mean", views).rows for views in (1, None))
    assert again.test_loss == pytest.approx(once.test_loss, rel=1e-6)


def test_an_interrupted_run_with_timm_ends_like_an_uninterrupted_one(run, tmp_path):
    whole = run(*TIMM, folder=tmp_path / "whole")
    with pytest.raises(KeyboardInterrupt):
        run(*TIMM, folder=tmp_path / "cut", callbacks=[Stopped()])
    resumed = run(*TIMM, folder=tmp_path / "cut")
    assert resumed.val_loss == whole.val_loss
    states = [torch.load(tmp_path / name / record.BEST, weights_only=True)["state_dict"] for name in ("whole", "cut")]
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])


def test_a_linear_probe_of_a_timm_model_has_features_of_its_own(run, cache, tmp_path):
    run(*TIMM, "recipe=linear_probe", "data.batch_size=32", "epochs=1")
    folders = {path for path in cache.glob("features-*") if path.is_dir()}
    run(
        *TIMM,
        "recipe=linear_probe",
        "data.batch_size=32",
        "epochs=1",
        "+model.args.drop_path_rate=0.1",
        folder=tmp_path / "b",
    )
    assert {path for path in cache.glob("features-*") if path.is_dir()} > folders


def test_the_cost_of_a_run_with_timm_is_forecast(cache):
    typed = [*DRAWN, *SMALL, *TIMM, f"data.cache_dir={cache}"]
    assert any("GFLOP" in line for line in dry_run(asked(*typed), Origin(overrides=tuple(typed))))


def test_a_torchvision_model_has_the_digest_it_had_before_other_libraries():
    now = as_plain(resolved("model=resnet34"))
    before = now | {"model": {"name": "resnet34", "weights": "DEFAULT"}}
    facts = Facts(weights=None, data="d", precision="32-true", threads=1)
    pair = [digests(from_plain(RunConfig, plain), facts) for plain in (before, now)]
    assert pair[0] == pair[1]
    assert set(dict(hashed(resolved("model=resnet34").model))) == {"name", "weights"}
    assert pair[0] != digests(resolved("model=timm", "model.name=resnet34"), facts)


@pytest.fixture
def net(tmp_path, monkeypatch):
    """Return the overrides that choose a custom network in the current folder."""
    (tmp_path / f"net_{tmp_path.name}.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("/nowhere")  # restores sys.path after the import
    return ("model=custom", f"model._target_=net_{tmp_path.name}.Net")


def test_a_custom_network_trains_and_is_imported_again_only_if_trusted(run, net, tmp_path):
    summary = run(*net)
    source = tmp_path / f"net_{tmp_path.name}.py"
    assert (summary.model_library, summary.model_name) == ("custom", f"{source.stem}.Net")
    loaded = load_run(tmp_path / "run")
    with pytest.raises(UserError) as caught:
        rebuild_network(loaded)
    assert str(caught.value) == (
        f"the network of {tmp_path / 'run'} is built by {source.stem}.Net, which would be imported from {source}: add "
        "trust=true if you trust that file"
    )
    network = rebuild_network(loaded, trust=True)
    network.load_state_dict(read_weights(loaded))
    with pytest.raises(UserError, match="trust=true"):
        ensembles.evaluate_runs([tmp_path / "run"], "mean", "flip")
    ensembles.evaluate_runs([tmp_path / "run"], "mean", "flip", trust=True)
    source.write_text(SOURCE + "\n")
    with pytest.raises(UserError) as caught:
        rebuild_network(loaded, trust=True)
    assert str(caught.value) == (
        f"{source} has changed since {tmp_path / 'run'} was trained: restore the file, or train again"
    )
    with pytest.raises(UserError, match="another configuration: the weights, the source of the network, "):
        run(*net)  # another configuration


def test_a_misspelt_class_of_ones_own_is_refused_before_any_image_is_read(net):
    with pytest.raises(UserError, match=r"\.py has no Nett \(did you mean Net\?\): correct model\._target_="):
        check_parts(asked(*net, f"{net[1]}t"), ())


def test_a_record_without_a_library_is_of_torchvision_or_of_this_package(run, tmp_path):
    run("epochs=1", "model=resnet9_x0_5")
    path = tmp_path / "run" / record.SUMMARY
    values = json.loads(path.read_text())
    assert values.pop("model_library") == "intel_scenes"
    del values["model_source"]
    path.write_text(json.dumps(values))
    assert Summary.read(tmp_path / "run").architecture == "resnet9_x0_5"
    assert of_record(tmp_path / "run").model.library == "torchvision"
    rebuild_network(load_run(tmp_path / "run"))
