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
    most_confident_mistakes,
    render_mistakes,
)

CLASSES = ("ice", "sea", "street")


def predictions(num: int) -> Predictions:
    """Return predictions of images of ice: every third is correct, the others are sea with rising confidence."""
    certain = np.linspace(0.5, 0.9, num)
    rows = [[share, 1 - share, 0] if place % 3 == 0 else [1 - share, share, 0] for place, share in enumerate(certain)]
    probabilities = np.array(rows)
    paths = [f"ice/{place}.png" for place in range(num)]
    return Predictions(paths, np.zeros(num, dtype=np.int64), probabilities.argmax(1), probabilities)


def tiles(content: bytes) -> list[np.ndarray]:
    """Return the pixels of each tile."""
    page = np.asarray(Image.open(io.BytesIO(content)).convert("RGB")).astype(int)
    height = (page.shape[0] - 2 * LINE - MARGIN) // 3
    corners = [
        (2 * LINE + MARGIN + row * height, MARGIN + column * TILE_WIDTH) for row in range(3) for column in range(4)
    ]
    return [page[top : top + SIDE, left : left + SIDE] for top, left in corners]


def test_the_most_confident_mistakes_come_first() -> None:
    assert most_confident_mistakes(predictions(9)) == [8, 7, 5, 4, 2, 1]
    assert most_confident_mistakes(predictions(30)) == [29, 28, 26, 25, 23, 22, 20, 19, 17, 16, 14, 13]
    assert most_confident_mistakes(predictions(1)) == []


def test_each_image_is_shown_whole_and_a_missing_or_corrupt_file_is_gray(tmp_path) -> None:
    (tmp_path / "ice").mkdir()
    for place in range(30):
        Image.new("RGB", (60, 30), (200, 8 * place, 0)).save(tmp_path / f"ice/{place}.png")
    (tmp_path / "ice/28.png").unlink()
    (tmp_path / "ice/26.png").write_bytes(b"damaged")
    shown = tiles(render_mistakes(tmp_path, predictions(30), CLASSES, "test set"))
    for tile, place in zip(shown, most_confident_mistakes(predictions(30)), strict=True):
        expected = (0xDD, 0xDD, 0xDD) if place in (26, 28) else (200, 8 * place, 0)
        assert np.abs(tile[SIDE // 2] - expected).max() < 8  # of 256 colours, the nearest
        assert np.abs(tile[SIDE // 8] - 0xDD).max() < 8, "above a wide image"


def test_no_mistakes_give_a_figure_too(tmp_path) -> None:
    page = Image.open(io.BytesIO(render_mistakes(tmp_path, predictions(1), CLASSES, "test set")))
    assert page.size == (COLUMNS * TILE_WIDTH + MARGIN, 2 * LINE + MARGIN)
    assert len(page.convert("L").getcolors()) > 1, "it says so"
