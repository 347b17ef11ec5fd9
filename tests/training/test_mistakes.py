import io

import numpy as np
from PIL import Image

from intel_scenes.record import Predictions
from intel_scenes.training.mistakes import (
    COLUMNS,
    LINE,
    MARGIN,
    SIDE,
    TILE_WIDTH,
    draw_mistakes,
    most_confident_mistakes,
)

CLASSES = ("ice", "sea", "street")


def predictions(num: int) -> Predictions:
    """Of images that are all ice: each third one right, the others taken for the sea, ever more surely."""
    certain = np.linspace(0.5, 0.9, num)
    rows = [[share, 1 - share, 0] if place % 3 == 0 else [1 - share, share, 0] for place, share in enumerate(certain)]
    probabilities = np.array(rows)
    paths = [f"ice/{place}.png" for place in range(num)]
    return Predictions(paths, np.zeros(num, dtype=np.int64), probabilities.argmax(1), probabilities)


def tiles(content: bytes) -> list[np.ndarray]:
    """The pixels of the places for pictures."""
    page = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    height = (page.shape[0] - 2 * LINE - MARGIN) // 3
    corners = [
        (2 * LINE + MARGIN + row * height, MARGIN + column * TILE_WIDTH) for row in range(3) for column in range(4)
    ]
    return [page[top : top + SIDE, left : left + SIDE] for top, left in corners]


def test_the_surest_of_the_wrong_images_come_first() -> None:
    assert most_confident_mistakes(predictions(9)) == [8, 7, 5, 4, 2, 1]
    assert most_confident_mistakes(predictions(30)) == [29, 28, 26, 25, 23, 22, 20, 19, 17, 16, 14, 13]
    assert most_confident_mistakes(predictions(1)) == []


def test_each_is_shown_whole_in_its_place_and_a_file_that_is_gone_or_damaged_is_gray(tmp_path) -> None:
    (tmp_path / "ice").mkdir()
    for place in range(30):
        Image.new("RGB", (60, 30), (200, 8 * place, 0)).save(tmp_path / f"ice/{place}.png")
    (tmp_path / "ice/28.png").unlink()
    (tmp_path / "ice/26.png").write_bytes(b"damaged")
    shown = tiles(draw_mistakes(tmp_path, predictions(30), CLASSES, "test split"))
    for tile, place in zip(shown, most_confident_mistakes(predictions(30)), strict=True):
        expected = (0xDD, 0xDD, 0xDD) if place in (26, 28) else (200, 8 * place, 0)
        assert np.abs(tile[SIDE // 2] - expected).max() < 8  # of 256 colours, the nearest
        assert np.abs(tile[SIDE // 8] - 0xDD).max() < 8, "above a wide image"


def test_no_mistake_is_a_picture_too(tmp_path) -> None:
    page = Image.open(io.BytesIO(draw_mistakes(tmp_path, predictions(1), CLASSES, "test split")))
    assert page.size == (COLUMNS * TILE_WIDTH + MARGIN, 2 * LINE + MARGIN)
    assert len(page.convert("L").getcolors()) > 1, "it says so"
