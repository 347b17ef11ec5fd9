"""Images that change between two runs of a study are named, and the runs are not compared with each other."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from intel_scenes.data import file_digests
from intel_scenes.data.sources import drawn_folder
from intel_scenes.record import Summary
from intel_scenes.studies.load import load
from intel_scenes.studies.notices import Kind

TINY = ("model=resnet9_x0_5", "recipe=plain", "epochs=1", "data.batch_size=32", "data.store_size=40")


def test_images_that_changed_between_two_runs_are_named_and_the_runs_are_kept_apart(
    run: Callable[..., Summary], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(file_digests, "CLOCK_SECONDS", -60)  # the images were drawn just now
    drawn = drawn_folder(tmp_path, num_train=60, num_test=12, size=40, seed=3)
    images = Path(shutil.copytree(drawn, tmp_path / "images"))
    own = ("data=intel", f"data.root={images}", f"data.cache_dir={tmp_path / 'cache'}", *TINY)
    study = tmp_path / "study"
    first = run(*own, "seed=1", folder=study / "seed=1", siblings=study)
    assert "since the last start" not in caplog.text
    replaced = images / "seg_train/sea/4.jpg"
    replaced.write_bytes((images / "seg_train/forest/1.jpg").read_bytes())
    second = run(*own, "seed=2", folder=study / "seed=2", siblings=study)
    assert f"{images / 'seg_train'} has changed since the last start: 1 file changed: sea/4.jpg" in caplog.messages
    assert second.data_fingerprint != first.data_fingerprint
    records = load(study)
    assert len(records.runs) == len(records.elsewhere) == 1
    assert [notice.kind for notice in records.notices] == [Kind.OTHER_IMAGES]
