import csv
import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
import torchvision

from intel_scenes import record

Run = Callable[..., dict[str, Any]]
TINY = ("epochs=1", "optim.lr=0.05")


def history(folder: Path) -> list[dict[str, float]]:
    with (folder / record.HISTORY).open() as file:
        return [{name: float(value) for name, value in row.items()} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_a_compiled_network_learns_what_an_eager_one_learns_and_its_warm_up_is_timed_separately(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The eager backend is used: other arithmetic would hide a weight or a buffer that the warm-up changed.
    compiled, compile_in_place = [], torch.nn.Module.compile

    def as_it_is(network: torch.nn.Module, **options: Any) -> None:
        compiled.append(options)
        compile_in_place(network, **({"backend": "eager"} | options))

    monkeypatch.setattr(torch.nn.Module, "compile", as_it_is)
    plain = run(*TINY, folder=tmp_path / "plain")
    summary = run(*TINY, "compile=true", folder=tmp_path / "compiled")
    assert compiled, "else nothing was compiled"
    assert plain.compile_seconds is None
    assert summary.compile_seconds > 0
    assert summary.init_digest == plain.init_digest
    assert summary.config_digest != plain.config_digest
    for ours, theirs in zip(history(tmp_path / "compiled"), history(tmp_path / "plain"), strict=True):
        assert {**ours, "images_per_second": 0} == {**theirs, "images_per_second": 0}


def test_the_warm_up_keeps_frozen_norms_in_evaluation_mode(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    modes: list[set[bool]] = []

    def look(network: torch.nn.Module, **_: Any) -> None:
        norms = [module for module in network.modules() if isinstance(module, torch.nn.BatchNorm2d)]
        network.register_forward_pre_hook(lambda *_: modes.append({norm.training for norm in norms}))

    monkeypatch.setattr(torch.nn.Module, "compile", look)
    weights = tmp_path / "weights.pth"
    torch.save(torchvision.models.resnet18(num_classes=6).state_dict(), weights)
    backbone = ("model=resnet18", f"model.weights={weights}", "recipe.trains_norms=false")
    run(*TINY, *backbone, "compile=true", folder=tmp_path / "run")
    assert len(modes) > 2
    assert modes == [{False}] * len(modes)


@pytest.mark.slow
def test_a_network_that_cannot_be_compiled_is_trained_eagerly_with_a_warning(
    run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("CXX", "/nowhere/c++")
    monkeypatch.setattr("torch._inductor.config.cpp.cxx", ("/nowhere/c++",))
    with caplog.at_level(logging.WARNING):
        summary = run(*TINY, "compile=true", folder=tmp_path / "run")
    assert "the network cannot be compiled (" in caplog.text
    assert "training without compile=true" in caplog.text
    assert summary.status == "completed"
    assert summary.compile_seconds is None
    run(*TINY, folder=tmp_path / "plain")
    for ours, theirs in zip(history(tmp_path / "run"), history(tmp_path / "plain"), strict=True):
        assert {**ours, "images_per_second": 0} == {**theirs, "images_per_second": 0}
