import io

import numpy as np
import pytest
from PIL import Image

from intel_scenes.training.confusion import CELL, DARK, render_confusion


def opened(content: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(content))
    image.load()
    assert image.format == "PNG"
    return image


def cells(image: Image.Image, num: int, side: int) -> np.ndarray:
    """(num, num, side, side, 3) pixels of each cell, found by the black frame around them."""
    pixels = np.asarray(image).astype(int)
    is_black = (pixels == 0).all(axis=2)
    (top, bottom), (left, right) = (np.flatnonzero(is_black.sum(axis) > num * side * 0.99)[[0, -1]] for axis in (1, 0))
    inner = pixels[top + 1 : bottom, left + 1 : right]
    assert inner.shape == (num * side, num * side, 3)
    return inner.reshape(num, side, num, side, 3).swapaxes(1, 2)


def test_each_cell_is_as_dark_as_its_share_of_the_true_class_and_has_its_count_unless_it_is_0() -> None:
    confusion = [[6, 2, 0], [0, 10, 0], [1, 1, 2]]
    pixels = cells(opened(render_confusion(confusion, ["ice", "sea", "street"], "test set")), 3, CELL)
    shares = {(0, 0): 0.75, (0, 1): 0.25, (0, 2): 0, (1, 0): 0, (1, 1): 1, (2, 0): 0.25, (2, 2): 0.5}
    for (row, column), share in shares.items():
        cell = pixels[row, column]
        assert np.abs(cell[3, 3] - (255 + share * (DARK - 255))).max() <= 0.5
        has_count = bool((cell != cell[3, 3]).any())
        assert has_count is (confusion[row][column] > 0)


def test_a_class_without_images_is_a_white_row() -> None:
    pixels = cells(opened(render_confusion([[3, 1], [0, 0]], ["a", "b"])), 2, CELL)
    assert (pixels[1] == 255).all()


@pytest.mark.parametrize(("num", "side"), [(1, 72), (20, 28), (50, 14), (300, 5), (1700, 1)])
def test_many_classes_have_small_cells(num: int, side: int) -> None:
    names = [f"{place} " + "very long name " * 9 for place in range(num)]
    image = opened(render_confusion(np.eye(num, dtype=int), names, "test set"))
    pixels = cells(image, num, side)
    assert max(image.size) < max(1600, num) + 300
    assert (pixels[np.arange(num), np.arange(num), 0, 0] == DARK).all()
