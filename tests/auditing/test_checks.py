from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from intel_scenes.auditing import checks as audit
from intel_scenes.auditing.checks import Form
from intel_scenes.data.batches import Stored
from intel_scenes.data.scenes import Scenes, find_split, read_scenes


def scenes(paths: list[str], contents: list[str], classes: tuple[str, ...] = ("a", "b")) -> Scenes:
    labels = np.array([classes.index(path[0]) for path in paths])
    return Scenes(Path(), tuple(paths), labels, classes, tuple(contents))


def test_forms_are_read_from_the_files(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    Image.new("L", (7, 5)).save(tmp_path / "a/1.png")
    Image.new("RGB", (3, 4)).save(tmp_path / "a/2.jpg")
    found = audit.forms(Scenes(tmp_path, ("a/1.png", "a/2.jpg"), np.zeros(2, np.int64), ("a",), ("", "")))
    assert found == [Form((7, 5), "L"), Form((3, 4), "RGB")]


def test_the_common_size_is_that_of_at_least_half() -> None:
    wide, square = Form((9, 3), "RGB"), Form((3, 3), "RGB")
    assert audit.common_size([wide, square, square, Form((1, 1), "RGB")]) == (3, 3)
    assert audit.common_size([wide, square, Form((1, 1), "RGB")]) is None


def test_odd_images_are_named_with_what_is_odd() -> None:
    images = np.random.default_rng(0).integers(0, 256, (6, 9, 9, 3), dtype=np.uint8)
    images[1] = (200, 10, 10)  # one colour, however far its channels lie apart
    images[2] = images[2, :, :, :1]  # without colour
    usual, small = Form((9, 9), "RGB"), Form((5, 9), "RGB")
    stored = Stored(torch.from_numpy(images), torch.zeros(5, dtype=torch.int64), torch.tensor([0, 1, 2, 3, 5]))
    found = audit.odd([usual, usual, usual, small, Form((9, 9), "P")], stored, (9, 9))
    assert [(position, kind) for position, kind, _ in found] == [
        (1, "one colour"),
        (2, "grey"),
        (3, "size"),
        (4, "mode"),
    ]
    assert found[2][2] == "5 x 9 pixels"
    assert audit.odd([small], stored, None) == []


def test_identical_images_are_grouped_within_and_across_splits() -> None:
    train = scenes(["a/1", "a/2", "b/1", "b/2"], ["x", "y", "x", "z"])
    test = scenes(["a/1", "b/1"], ["z", "w"])
    assert audit.identical(train, test) == [[(0, 0), (0, 2)], [(0, 3), (1, 0)]]


@pytest.mark.parametrize("block", [1, 2, 1024])
def test_near_pairs_are_those_of_a_small_angle(monkeypatch: pytest.MonkeyPatch, block: int) -> None:
    monkeypatch.setattr(audit, "BLOCK", block)
    vectors = np.array([[1, 0], [3, 4], [0, 2], [-1, 0]], np.float32)  # cosines 3/5 and 4/5 with the second
    pairs, distances = audit.near_pairs(vectors, 0.5)
    assert pairs.tolist() == [[1, 2], [0, 1]]
    np.testing.assert_allclose(distances, [0.2, 0.4], atol=1e-6)
    assert audit.near_pairs(vectors, 0.5, most=1)[0].tolist() == [[1, 2]]
    assert len(audit.near_pairs(vectors, 0.1)[0]) == 0


def test_a_wrong_label_is_flagged_counted_and_ranked_first() -> None:
    """Five images of each class, all recognized with 0.9, but one of the second class bears the label of the first.

    By hand (Northcutt et al. 2021, equation 1): the thresholds are (4 * 0.9 + 0.1) / 5 = 0.74 and 0.9, so the confident
    joint is [[4, 1], [0, 5]], and one label of ten is wrong.
    """
    labels = np.array([0, 0, 0, 0, 0, 1, 1, 1, 1, 1])
    probabilities = np.array([[0.9, 0.1]] * 4 + [[0.1, 0.9]] * 6)
    found = audit.judged(labels, probabilities)
    assert np.flatnonzero(found.flagged).tolist() == [4]
    assert found.order[0] == 4
    assert found.suggested[4] == 1
    assert found.quality[4] == pytest.approx(0.1)
    assert found.confusion.tolist() == [[4, 1], [0, 5]]
    np.testing.assert_allclose(found.joint, [[0.4, 0.1], [0, 0.5]])
    assert found.noise == pytest.approx(0.1)


def test_flipped_labels_are_others_and_as_many_as_asked_for() -> None:
    labels = np.repeat([0, 1, 2], 100)
    flipped, changed = audit.flipped(labels, 0.1, 3, seed=1)
    assert changed.sum() == 30
    np.testing.assert_array_equal(flipped != labels, changed)
    assert set(flipped) == {0, 1, 2}
    assert (flipped != audit.flipped(labels, 0.1, 3, seed=2)[0]).any()
    assert not audit.flipped(labels, 0.0, 3, seed=1)[1].any()


def test_recovery_counts_what_is_flagged_and_what_comes_early() -> None:
    changed = np.array([True, False, True, False, False, False, False, False, False, False])
    flagged = np.array([True, True, False, True, True, False, False, False, False, False])
    nothing = np.zeros((2, 2))
    judged = audit.Judged(np.array([1, 0, 3, 4, 2, 5, 6, 7, 8, 9]), nothing, nothing, flagged, nothing, nothing)
    # One of four flagged was flipped, one of two flipped is flagged, and one of the two is among the first four.
    assert audit.recovery(judged, changed) == audit.Recovery(2, precision=0.25, recall=0.5, early=0.5, depth=0.4)


def test_the_real_images_hold_exactly_the_known_copies(real_data: Path) -> None:
    """The counts and names are those of the description of the data, found with sha256 beforehand."""
    train = read_scenes(find_split(real_data, "seg_train"))
    test = read_scenes(find_split(real_data, "seg_test"), classes=train.classes)
    splits, kinds, across = (train, test), Counter(), {}
    for group in audit.identical(train, test):
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
