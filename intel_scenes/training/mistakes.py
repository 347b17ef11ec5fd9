"""The most confident mistakes of a network as a PNG: images that are hard, or mislabelled."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from intel_scenes import safe_images
from intel_scenes.errors import percentage
from intel_scenes.record import Predictions
from intel_scenes.training.lettering import INK, LARGE, MARGIN, PAPER, SMALL, SOFT, one_line, shortened

MAX_SHOWN = 12
COLUMNS = 4
SIDE = 176  # of an image in pixels
LINE = 17  # height of a text line in pixels
TILE_WIDTH, TILE_HEIGHT = SIDE + MARGIN, SIDE + 3 * LINE + MARGIN


def most_confident_mistakes(predictions: Predictions) -> list[int]:
    """Return the positions of at most 12 misclassified images, by descending predicted probability."""
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    confidences = predictions.probabilities[wrong, predictions.predicted[wrong]]
    return [int(index) for index in wrong[np.argsort(-confidences, kind="stable")[:MAX_SHOWN]]]


def render_mistakes(root: Path, predictions: Predictions, classes: Sequence[str], title: str) -> bytes:
    """Render the most confident mistakes as a PNG, each with true and predicted class, probability and path.

    An image file that is missing or corrupt is shown as a gray square.

    Args:
        root: Folder that the paths are relative to.
        predictions: Predictions of a split, with probabilities.
        classes: Names by label.
        title: Title; the number of misclassified images follows.
    """
    shown = most_confident_mistakes(predictions)
    num_wrong = int((predictions.predicted != predictions.labels).sum())
    rows = -(-len(shown) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * TILE_WIDTH + MARGIN, rows * TILE_HEIGHT + 2 * LINE + MARGIN), PAPER)
    pen = ImageDraw.Draw(page)
    counts = f"{num_wrong:,} of {len(predictions.labels):,} misclassified"
    subset = f", the {len(shown)} most confident" if len(shown) < num_wrong else ""
    pen.text((MARGIN, MARGIN), f"{one_line(title)}: {counts}{subset}", INK, LARGE)
    for place, index in enumerate(shown):
        left = MARGIN + place % COLUMNS * TILE_WIDTH
        top = 2 * LINE + MARGIN + place // COLUMNS * TILE_HEIGHT
        path, predicted = predictions.paths[index], predictions.predicted[index]
        page.paste(_thumbnail(root / path), (left, top))
        lines = (
            (f"true: {classes[predictions.labels[index]]}", INK),
            (f"predicted: {classes[predicted]} {percentage(predictions.probabilities[index, predicted])}", INK),
            (path, SOFT),
        )
        for number, (text, color) in enumerate(lines):
            pen.text((left, top + SIDE + 2 + number * LINE), shortened(text, SMALL, SIDE), color, SMALL)
    content = io.BytesIO()
    # 256 colors take a third of the bytes and of the time, and every run of a sweep has such a figure.
    page.quantize(256, method=Image.Quantize.FASTOCTREE).save(content, format="png", compress_level=1)
    return content.getvalue()


def _thumbnail(path: Path) -> Image.Image:
    """Return a whole image, scaled to the middle of a square."""
    tile = Image.new("RGB", (SIDE, SIDE), "#dddddd")
    try:
        with safe_images.opened(safe_images.read(path)) as image:
            image.draft("RGB", (SIDE, SIDE))
            picture = ImageOps.contain(safe_images.in_rgb(image), (SIDE, SIDE))
    except Exception:  # a corrupt file raises any kind of error in its decoder
        return tile
    tile.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    return tile
