"""The mistakes of which a network is most certain, as a picture: what it has not understood, or is labelled wrong."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw, ImageOps

from intel_scenes.record import Predictions
from intel_scenes.training.lettering import INK, LARGE, MARGIN, PAPER, SMALL, SOFT, fitted

MOST = 12
COLUMNS = 4
SIDE = 176  # of a picture, in pixels
LINE = 17  # height of a line of text
TILE_WIDTH, TILE_HEIGHT = SIDE + MARGIN, SIDE + 3 * LINE + MARGIN


def most_confident_mistakes(predictions: Predictions) -> list[int]:
    """Positions of at most 12 images that are predicted wrong, those with the most probable prediction first."""
    wrong = np.flatnonzero(predictions.predicted != predictions.labels)
    chances = predictions.probabilities[wrong, predictions.predicted[wrong]]
    return [int(index) for index in wrong[np.argsort(-chances, kind="stable")[:MOST]]]


def draw_mistakes(root: Path, predictions: Predictions, classes: Sequence[str], title: str) -> bytes:
    """A PNG of the most confident mistakes, each with its true and its predicted class, the probability and the path.

    A file that is gone leaves its place gray.

    Args:
        root: Of the paths.
        predictions: Of a split, with probabilities.
        classes: Names by label.
        title: What the images are.
    """
    shown = most_confident_mistakes(predictions)
    num_wrong = int((predictions.predicted != predictions.labels).sum())
    rows = -(-len(shown) // COLUMNS)
    page = Image.new("RGB", (COLUMNS * TILE_WIDTH + MARGIN, rows * TILE_HEIGHT + 2 * LINE + MARGIN), PAPER)
    pen = ImageDraw.Draw(page)
    told = f"{num_wrong:,} of {len(predictions.labels):,} wrong"
    most = f", the {len(shown)} most confident" if len(shown) < num_wrong else ""
    pen.text((MARGIN, MARGIN), f"{title}: {told}{most}", INK, LARGE)
    for place, index in enumerate(shown):
        left = MARGIN + place % COLUMNS * TILE_WIDTH
        top = 2 * LINE + MARGIN + place // COLUMNS * TILE_HEIGHT
        path, predicted = predictions.paths[index], predictions.predicted[index]
        page.paste(_thumbnail(root / path), (left, top))
        lines = (
            (f"true: {classes[predictions.labels[index]]}", INK),
            (f"predicted: {classes[predicted]} {predictions.probabilities[index, predicted]:.1%}", INK),
            (path, SOFT),
        )
        for number, (text, color) in enumerate(lines):
            pen.text((left, top + SIDE + 2 + number * LINE), fitted(text, SMALL, SIDE), color, SMALL)
    content = io.BytesIO()
    # In 256 colours: a third of the bytes and of the time, and every run of a sweep has one.
    page.quantize(256, method=Image.Quantize.FASTOCTREE).save(content, format="png", compress_level=1)
    return content.getvalue()


def _thumbnail(path: Path) -> Image.Image:
    """A whole image in the middle of a square."""
    tile = Image.new("RGB", (SIDE, SIDE), "#dddddd")
    try:
        with Image.open(path) as image:
            image.draft("RGB", (SIDE, SIDE))
            picture = ImageOps.contain(ImageOps.exif_transpose(image).convert("RGB"), (SIDE, SIDE))
    except Exception:  # a damaged file fails anywhere in its decoder
        return tile
    tile.paste(picture, ((SIDE - picture.width) // 2, (SIDE - picture.height) // 2))
    return tile
