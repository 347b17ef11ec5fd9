from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import NearestCentroid
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from intel_scenes.data.drawn_scenes import KINDS, draw_scene

Images = npt.NDArray[np.uint8]
Features = npt.NDArray[np.float64]
NUM_TRAIN, NUM_TEST = 80, 40


def pixels(kind: str, *seed: int, size: int = 64) -> Images:
    return np.asarray(draw_scene(kind, size, np.random.default_rng([*seed])))


@pytest.fixture(scope="module")
def images() -> Images:
    """By kind and number, `(6, 120, 64, 64, 3)`."""
    numbers = range(NUM_TRAIN + NUM_TEST)
    return np.array([[pixels(kind, place, number) for number in numbers] for place, kind in enumerate(KINDS)])


def split(features: Features) -> tuple[npt.NDArray[Any], ...]:
    labels = np.arange(len(KINDS))[:, None] + np.zeros(features.shape[1], dtype=int)
    parts: list[npt.NDArray[Any]] = [features[:, :NUM_TRAIN], labels[:, :NUM_TRAIN]]
    parts += [features[:, NUM_TRAIN:], labels[:, NUM_TRAIN:]]
    return tuple(part.reshape(-1, *part.shape[2:]) for part in parts)


def edge_directions(images: Images) -> Features:
    """How much edge of each of eight directions lies in each cell of a 4 x 4 grid: a summary without any colour."""
    grey = images.mean(axis=-1)
    grey = (grey - grey.mean(axis=(-2, -1), keepdims=True)) / grey.std(axis=(-2, -1), keepdims=True)
    down, right = np.gradient(grey, axis=(-2, -1))
    direction = np.floor(np.arctan2(down, right) % np.pi / np.pi * 8) % 8
    edges = np.hypot(down, right)[..., None] * (direction[..., None] == np.arange(8))
    cells: Features = edges.reshape(*images.shape[:-3], 4, 16, 4, 16, 8).sum(axis=(-4, -2))
    return cells.reshape(*images.shape[:-3], 128)


def test_there_are_the_six_kinds_of_the_real_data_in_its_order() -> None:
    assert KINDS == ("buildings", "forest", "glacier", "mountain", "sea", "street")


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("size", [17, 150])
def test_a_scene_has_the_requested_size_in_rgb(kind: str, size: int) -> None:
    scene = draw_scene(kind, size, np.random.default_rng(1))
    assert scene.mode == "RGB"
    assert scene.size == (size, size)


@pytest.mark.parametrize("kind", KINDS)
def test_the_same_seed_draws_the_same_pixels_and_another_seed_others(kind: str) -> None:
    assert (pixels(kind, 5) == pixels(kind, 5)).all()
    assert len({pixels(kind, seed).tobytes() for seed in range(20)}) == 20


def test_the_mean_colour_hardly_tells_the_kinds_apart(images: Images) -> None:
    train, train_labels, test, test_labels = split(images.mean(axis=(2, 3)))
    accuracy = NearestCentroid().fit(train, train_labels).score(test, test_labels)
    assert accuracy < 0.4


def test_the_shapes_tell_the_kinds_apart(images: Images) -> None:
    train, train_labels, test, test_labels = split(edge_directions(images))
    classifier = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000))
    assert classifier.fit(train, train_labels).score(test, test_labels) > 0.9


def test_scenes_of_one_kind_vary_in_brightness_and_contrast(images: Images) -> None:
    brightness = images.mean(axis=(2, 3, 4))
    assert (brightness.std(axis=1) > 20).all()
    assert (images.std(axis=(2, 3, 4)).std(axis=1) > 8).all()
