from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from intel_scenes.auditing import findings
from intel_scenes.auditing.findings import Form, common_size, forms_of, identical_groups, near_pairs, odd_images
from intel_scenes.data.scenes import Scenes, kaggle_split_folder, read_scenes
from intel_scenes.data.store import Stored


def scenes(paths: list[str], contents: list[str], classes: tuple[str, ...] = ("a", "b")) -> Scenes:
    labels = np.array([classes.index(path[0]) for path in paths])
    return Scenes(Path(), tuple(paths), labels, classes, tuple(contents))


def test_forms_are_read_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (7, 5)).save(tmp_path / "a/1.png")
    Image.new("RGB", (3, 4)).save(tmp_path / "a/2.jpg")
    found = forms_of(Scenes(tmp_path, ("a/1.png", "a/2.jpg"), np.zeros(2, np.int64), ("a",), ("", "")))
    assert found == [Form((7, 5), "L"), Form((3, 4), "RGB")]


def test_the_common_size_is_that_of_at_least_half() -> None:
    wide, square = Form((9, 3), "RGB"), Form((3, 3), "RGB")
    assert common_size([wide, square, square, Form((1, 1), "RGB")]) == (3, 3)
    assert common_size([wide, square, Form((1, 1), "RGB")]) is None


def test_odd_images_are_found_with_their_kind() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 9, 3), dtype=np.uint8)
    images[1] = (200, 10, 10)  # one colour, however far its channels lie apart
    images[2] = images[2, :, :, :1]  # without colour
    usual, small = Form((9, 9), "RGB"), Form((5, 9), "RGB")
    stored = Stored(torch.from_numpy(images), torch.zeros(5, dtype=torch.int64), torch.tensor([0, 1, 2, 3, 5]))
    found = odd_images([usual, usual, usual, small, Form((9, 9), "P")], stored, (9, 9))
    assert [(position, kind) for position, kind, _ in found] == [
        (1, "one colour"),
        (2, "grey"),
        (3, "size"),
        (4, "mode"),
    ]
    assert found[2][2] == "5 x 9 pixels"
    assert odd_images([small], stored, None) == []


def test_identical_images_are_grouped_within_and_across_splits() -> None:
    train = scenes(["a/1", "a/2", "b/1", "b/2"], ["x", "y", "x", "z"])
    test = scenes(["a/1", "b/1"], ["z", "w"])
    assert identical_groups(train, test) == [[(0, 0), (0, 2)], [(0, 3), (1, 0)]]


@pytest.mark.parametrize("block", [1, 2, 1024])
def test_near_pairs_are_those_of_a_small_angle(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(findings, "BLOCK", block)
    vectors = np.array([[1, 0], [3, 4], [0, 2], [-1, 0]], np.float32)  # cosines 3/5 and 4/5 with the second
    pairs, distances = near_pairs(vectors, 0.5)
    assert pairs.tolist() == [[1, 2], [0, 1]]
    np.testing.assert_allclose(distances, [0.2, 0.4], atol=1e-6)
    assert near_pairs(vectors, 0.5, most=1)[0].tolist() == [[1, 2]]
    assert len(near_pairs(vectors, 0.1)[0]) == 0


def test_the_real_images_hold_exactly_the_known_copies(real_data: Path) -> None:
    """The counts and names are those of the description of the data, found with sha256 beforehand."""
    train = read_scenes(kaggle_split_folder(real_data, "seg_train"))
    test = read_scenes(kaggle_split_folder(real_data, "seg_test"), classes=train.classes)
    splits, kinds, across = (train, test), Counter(), {}
    for group in identical_groups(train, test):
        (one, first), (other, second) = group
        differ = splits[one].labels[first] != splits[other].labels[second]
        kinds[one, other, bool(differ)] += 1
        if one != other:
            across[splits[other].paths[second]] = splits[one].paths[first]
    assert (kinds[0, 0, True], kinds[0, 0, False]) == (10, 5)
    known = {
        "buildings/20805.jpg": "street/10408.jpg",
        "glacier/21469.jpg": "mountain/14341.jpg",
        "street/21170.jpg": "buildings/4634.jpg",
    }
    assert known.items() <= across.items()
    if len(test) == 1500:  # the class-balanced half of the test split
        assert across == known
        assert kinds[1, 1, True] + kinds[1, 1, False] + kinds[0, 1, False] == 0
