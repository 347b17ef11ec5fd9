"""Runs on a folder of photographs, and what they report about its files."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from intel_scenes import record
from intel_scenes.errors import UserError
from intel_scenes.inference.ensembles import evaluate_runs
from intel_scenes.models.weights import preprocessing_of
from intel_scenes.training import build

Run = Callable[..., dict[str, Any]]
COLOURS = {"dusk": (200, 90, 60), "noon": (60, 110, 220)}


@pytest.fixture
def photographs(tmp_path: Path) -> tuple[str, ...]:
    """Two classes of coloured noise, landscapes and portraits; returns the overrides that choose them."""
    generator = np.random.default_rng(0)
    for split, number in (("seg_train", 20), ("seg_test", 6)):
        for name, colour in COLOURS.items():
            folder = tmp_path / "photographs" / split / name
            folder.mkdir(parents=True)
            for index in range(number):
                size = (12, 8) if index % 2 else (9, 13)
                noise = generator.normal(colour, 40, (*size, 3)).clip(0, 255).astype(np.uint8)
                Image.fromarray(noise).resize((8 * size[1], 8 * size[0])).save(folder / f"{index:02}.jpg")
    folder = tmp_path / "photographs"
    images = ("data=folder", f"data.root={folder}", "data.image_size=32")
    return (*images, "data.batch_size=8", f"data.cache_dir={tmp_path / 'cache'}")


def test_the_record_says_how_photographs_are_stored(photographs: tuple[str, ...], run: Run, tmp_path: Path) -> None:
    by_default = run(*photographs, "epochs=1", folder=tmp_path / "1")
    larger = run(*photographs, "epochs=1", "data.store_size=48", folder=tmp_path / "2")
    square = run(*photographs, "epochs=1", "data.store_rule=square", "data.store_size=48", folder=tmp_path / "3")
    stored = [[summary.store_rule, summary.store_size] for summary in (by_default, larger, square)]
    assert stored == [["whole", 32], ["whole", 48], ["square", 48]]  # random weights see the whole of 32 px
    assert len({summary.config_digest for summary in (by_default, larger, square)}) == 3
    assert len({summary.data_fingerprint for summary in (by_default, larger, square)}) == 1
    assert by_default.status == "completed"


def test_the_resolved_size_and_interpolation_are_hashed(
    photographs: tuple[str, ...], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    overrides = (*photographs, "epochs=1", "augment=none")
    before = run(*overrides, folder=tmp_path / "before")
    published = preprocessing_of("mobilenet_v3_small", None)
    resized = replace(published, resize_size=published.crop_size + 32)
    for name, now in {"resized": resized, "bicubic": replace(published, interpolation="bicubic")}.items():
        monkeypatch.setattr(build.libraries, "preprocessing_of", lambda *_, now=now: now)  # as of another torchvision
        assert run(*overrides, folder=tmp_path / name).config_digest != before.config_digest


def test_a_run_on_photographs_is_reproducible_and_evaluated_alike_again(
    photographs: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    overrides = (*photographs, "augment=trivial", "data.crop_fraction=0.8")
    one, two = (run(*overrides, folder=tmp_path / name) for name in ("1", "2"))
    assert (tmp_path / "1" / record.PREDICTIONS).read_bytes() == (tmp_path / "2" / record.PREDICTIONS).read_bytes()
    (again,) = evaluate_runs([tmp_path / "1"], "mean", 1).rows
    assert again.test_loss == pytest.approx(one.test_loss, rel=1e-6)
    assert one.store_size == two.store_size == 40  # 32 / 0.8


def test_features_of_squares_and_of_whole_photographs_are_kept_apart(
    photographs: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    probe = ("recipe=linear_probe", "model=resnet18", "epochs=1", "data.store_size=32")
    for count, rule in enumerate(("whole", "square"), start=1):
        run(*photographs, *probe, f"data.store_rule={rule}", folder=tmp_path / rule)
        assert len([path for path in (tmp_path / "cache").glob("features-*") if path.is_dir()]) == count


def test_the_warm_up_of_compiling_sees_photographs_as_training_and_evaluation_do(
    photographs: tuple[str, ...], run: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shapes: list[torch.Size] = []

    def look(network: torch.nn.Module, **_: Any) -> None:
        network.register_forward_pre_hook(lambda _, inputs: shapes.append(inputs[0].shape))

    monkeypatch.setattr(torch.nn.Module, "compile", look)
    run(*photographs, "epochs=1", "compile=true", "data.crop_fraction=0.8", folder=tmp_path / "run")
    assert {shape[1:] for shape in shapes} == {(3, 32, 32)}
    assert len(shapes) > 4


def test_a_record_without_store_rule_is_evaluated_as_before(run: Run, tmp_path: Path) -> None:
    summary = run("epochs=1")
    path = tmp_path / "run" / record.CONFIG
    plain = yaml.safe_load(path.read_text())
    assert plain["data"].pop("store_rule") == "square"
    path.write_text(yaml.safe_dump(plain))
    (again,) = evaluate_runs([tmp_path / "run"], "mean", 1).rows
    assert again.test_loss == pytest.approx(summary.test_loss, rel=1e-6)
    assert run("epochs=1") == summary, "it is complete"


def test_stored_ignored_and_corrupt_files_are_reported(
    photographs: tuple[str, ...], run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    noon = tmp_path / "photographs" / "seg_train" / "noon"
    (noon / "notes.txt").touch()
    (noon / "more").mkdir()
    (noon / "00.jpg").write_bytes(b"no image")
    caplog.set_level(logging.INFO)
    run(*photographs, "epochs=1", "data.on_unreadable=skip")
    messages = [entry.getMessage() for entry in caplog.records]
    # Of 26 landscapes of 72 x 104 pixels, one of which is none, and 26 portraits of 96 x 64.
    num_bytes = 3 * 32 * (25 * 46 + 26 * 48)
    stored = "39 train and 12 test images are stored whole (of those longer than 2:1, the center), with a shorter side "
    stored += "of 32 px: "
    assert f"{stored}{num_bytes / 1e6:.1f} MB in {tmp_path / 'cache'}" in messages
    ignored = "ignored 2 entries in the class folders that are not image files"
    assert f"{ignored}: {noon}/more/, {noon}/notes.txt" in messages
    assert "1 image could not be decoded; skipped: noon/00.jpg" in messages


def with_splits(root: Path, val: str | None = "Valid", test: str | None = "test") -> Path:
    """The photographs as train, with other ones of the same names as val, and perhaps as test."""
    (root / "seg_train").rename(root / "Train")
    if val:
        (root / "seg_test").rename(root / val)
    if test:
        for name in COLOURS:
            (root / test / name).mkdir(parents=True)
            for index in (0, 1):
                (root / "Train" / name / f"{18 + index:02}.jpg").rename(root / test / name / f"{index:02}.jpg")
    return root


def paths_of(folder: Path, split: str) -> list[str]:
    return record.Predictions.read(folder, split).paths


def test_a_run_validates_on_its_own_val_folder_and_is_evaluated_alike_again(
    photographs: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    with_splits(tmp_path / "photographs")
    summary = run(*photographs, "recipe=linear_probe", "epochs=1")
    assert (summary.num_train, summary.num_val, summary.num_test) == (36, 12, 4)
    assert (summary.layout, summary.test_fraction) == ("train 36, val 12, test 4, 2 classes", None)
    of_class = [f"{index:02}.jpg" for index in range(6)]
    assert paths_of(tmp_path / "run", "val") == [f"{name}/{file}" for name in COLOURS for file in of_class]
    (again,) = evaluate_runs([tmp_path / "run"], "mean", 1).rows
    assert again.test_loss == pytest.approx(summary.test_loss, rel=1e-6)


def test_a_test_set_that_is_cut_is_reported_and_recorded(
    photographs: tuple[str, ...], run: Run, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with_splits(tmp_path / "photographs", val=None, test=None)
    (tmp_path / "photographs/seg_test").rename(tmp_path / "elsewhere")
    caplog.set_level(logging.INFO)
    network = ("model=resnet9_x0_5", "epochs=1")
    summary = run(*photographs, *network)
    assert (summary.num_train, summary.num_val, summary.num_test, summary.test_fraction) == (30, 4, 6, 0.15)
    cut = "there is no test split: 15 % of 40 images, split off with data.split_seed=0"
    assert summary.layout == f"train 34, val 10 % of train, test 6 ({cut}), 2 classes"
    assert f"found: {summary.layout}" in [entry.getMessage() for entry in caplog.records]
    paths = {split: set(paths_of(tmp_path / "run", split)) for split in ("val", "test")}
    assert paths["val"].isdisjoint(paths["test"])
    more = run(*photographs, *network, "data.test_fraction=0.3", folder=tmp_path / "more")
    assert (more.num_test, more.test_fraction) == (12, 0.3)
    assert more.configuration_digest != summary.configuration_digest


def test_the_fraction_of_a_split_that_is_not_cut_is_refused_if_typed(
    photographs: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    with_splits(tmp_path / "photographs")
    for key, split in (("data.val_fraction", "Valid"), ("data.test_fraction", "test")):
        with pytest.raises(UserError) as caught:
            run(*photographs, f"{key}=0.2")
        reason = f"{tmp_path}/photographs/{split} holds that split already: leave it out"
        assert str(caught.value) == f"{key} has no effect, because {reason}"


def test_a_run_on_a_labels_file_names_images_as_the_file_does(
    photographs: tuple[str, ...], run: Run, tmp_path: Path
) -> None:
    root = tmp_path / "photographs"
    lines = ["path,label,split"]
    for split in ("train", "test"):
        folder = root / f"seg_{split}"
        files = sorted(folder.rglob("*.jpg"))
        lines += [f"seg_{split}/{path.relative_to(folder)},it is {path.parent.name},{split}" for path in files]
    (root / "labels.csv").write_text("\n".join(lines))
    (tmp_path / "exclude.txt").write_text("seg_train/dusk/00.jpg\n")
    summary = run(
        *("data=folder", "data.labels=labels.csv", f"data.root={root}", "data.batch_size=8"),  # which is found there
        *(f"data.cache_dir={tmp_path / 'cache'}", "model=resnet9_x0_5", "epochs=1"),
        f"data.exclude={tmp_path / 'exclude.txt'}",
    )
    assert summary.classes == ("it is dusk", "it is noon")
    assert (summary.num_train, summary.num_val, summary.num_test) == (35, 4, 12)
    assert paths_of(tmp_path / "run", "test")[0] == "seg_test/dusk/00.jpg"
