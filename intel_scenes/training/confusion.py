"""Confusion matrix as a PNG."""

import io
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw

from intel_scenes.errors import percentage
from intel_scenes.training.lettering import INK, LARGE, MARGIN, PAPER, SMALL, one_line, shortened

SIDE, MAX_SIDE = 560, 1600  # pixels of the matrix: preferred, and at most
CELL = 72  # largest side of a cell in pixels
NUMBERED, NAMED = 36, 14  # smallest sides in pixels at which a cell has room for its count, and a row for its name
NAME_WIDTH = 170  # largest width of a class name in pixels
LINE = 22  # height of a title line in pixels
DARK = np.array([8, 48, 107])  # color of a cell that holds all images of its class
TICKS = 15  # height of a text line in pixels


def render_confusion(confusion: npt.ArrayLike, classes: Sequence[str], title: str = "") -> bytes:
    """Render a confusion matrix with its counts as a PNG; the shade of a cell is its share of its true class.

    Pillow takes an eighth of the time of matplotlib, and every run of a sweep has such a figure.

    Args:
        confusion: (C, C) counts; rows are true classes, columns predicted ones.
        classes: C names.
        title: Title; the number of images and the accuracy stand below it.
    """
    counts = np.asarray(confusion, dtype=np.int64)
    num_classes, num_images = len(counts), int(counts.sum())
    is_named = num_classes * NAMED <= MAX_SIDE
    cell = max(min(CELL, SIDE // num_classes), NAMED) if is_named else max(MAX_SIDE // num_classes, 1)
    names = [shortened(name, SMALL, NAME_WIDTH) for name in classes] if is_named else []
    widest = round(max((SMALL.getlength(name) for name in names), default=0))
    left, top, side = 2 * MARGIN + TICKS + widest, 2 * MARGIN + 2 * LINE, num_classes * cell
    lines = [one_line(title), f"{num_images:,} images, accuracy {percentage(np.trace(counts) / max(num_images, 1))}"]
    width = max(left + side, *(round(MARGIN + LARGE.getlength(line)) for line in lines)) + MARGIN
    page = Image.new("RGB", (width, top + side + widest + TICKS + 2 * MARGIN), PAPER)
    pen = ImageDraw.Draw(page)
    for number, line in enumerate(lines):
        pen.text((MARGIN, MARGIN + number * LINE), line, INK, LARGE)

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    colors = np.rint(255 + shares[:, :, None] * (DARK - 255)).astype(np.uint8)
    cells = Image.fromarray(colors).resize((side, side), Image.Resampling.NEAREST)
    page.paste(cells, (left, top))
    pen.rectangle((left - 1, top - 1, left + side, top + side), outline=INK)
    for (row, column), count in np.ndenumerate(counts) if cell >= NUMBERED else ():
        if count:
            middle = left + (column + 0.5) * cell, top + (row + 0.5) * cell
            pen.text(middle, f"{count:,}", PAPER if shares[row, column] > 0.5 else INK, SMALL, anchor="mm")
    for place, name in enumerate(names):
        along = (place + 0.5) * cell
        pen.text((left - MARGIN // 2, top + along), name, INK, SMALL, anchor="rm")
        _write_upwards(page, name, left + along, top + side + MARGIN // 2)
    _write_upwards(page, "true class", MARGIN + TICKS / 2, top + side / 2, is_middle=True)
    pen.text((left + side / 2, page.height - MARGIN), "predicted class", INK, SMALL, anchor="ms")
    content = io.BytesIO()
    page.save(content, format="png")
    return content.getvalue()


def _write_upwards(page: Image.Image, text: str, across: float, down: float, *, is_middle: bool = False) -> None:
    """Write a text upwards, ending at `down`, or centered on it."""
    width = max(round(SMALL.getlength(text)), 1)
    line = Image.new("RGB", (width, TICKS + 2), PAPER)
    ImageDraw.Draw(line).text((0, line.height / 2), text, INK, SMALL, anchor="lm")
    page.paste(
        line.transpose(Image.Transpose.ROTATE_90),
        (round(across - line.height / 2), round(down - (width / 2 if is_middle else 0))),
    )
