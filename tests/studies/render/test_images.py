"""Galleries of disputed test images, with their files in several layouts."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intel_scenes.studies.comparison import compare
from intel_scenes.studies.render.images import galleries
from tests.studies.simulated_records import leave_run


@pytest.mark.parametrize("place", ["seg_test/seg_test", "Test", "train", "pics", "."])
def test_pictures_are_found_in_any_layout_of_the_images(tmp_path: Path, place: str) -> None:
    """The folder may be a test set, or hold the images that the test set was split off."""
    for optim, right in (("sgd", np.ones(6, bool)), ("adam", np.arange(6) > 2)):
        for seed in (1, 2):
            leave_run(tmp_path / "study", f"{optim}-{seed}", {"optim": optim, "seed": seed}, right, optim=optim)
    comparison = compare(tmp_path / "study")
    for path in comparison.images.paths:
        file = tmp_path / "images" / place / path
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(file.with_suffix(".png"))
        file.with_suffix(".png").rename(file)
    (gallery,) = galleries(comparison, tmp_path / "images")
    assert [image.picture is not None for image in gallery.images] == [True] * 3


def test_pictures_listed_in_a_labels_file_are_found_below_folders_that_are_no_splits(tmp_path: Path) -> None:
    """The folders `train` and `test` hold images, and no folders of classes."""
    for optim, right in (("sgd", np.ones(6, bool)), ("adam", np.arange(6) > 2)):
        for seed in (1, 2):
            leave_run(tmp_path / "study", f"{optim}-{seed}", {"optim": optim, "seed": seed}, right, optim=optim)
    comparison = compare(tmp_path / "study")
    root = tmp_path / "images"
    paths = tuple(f"test/{number}.png" for number in range(len(comparison.images.paths)))
    for path in (*paths, "train/0.png"):
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (4, 4)).save(root / path)
    listed = replace(comparison, images=replace(comparison.images, paths=paths))
    (gallery,) = galleries(listed, root)
    assert [image.picture is not None for image in gallery.images] == [True] * 3
