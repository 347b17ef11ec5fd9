"""Fonts and colors of the figures that Pillow renders; matplotlib's font covers more alphabets than Pillow's own."""

from pathlib import Path

import matplotlib
from PIL import ImageFont

from intel_scenes.errors import printable

INK, SOFT, PAPER = "black", "#666666", "white"
MARGIN = 10  # pixels
_FILE = Path(matplotlib.get_data_path(), "fonts/ttf/DejaVuSans.ttf")
SMALL, LARGE = ImageFont.truetype(_FILE, 12), ImageFont.truetype(_FILE, 15)


def one_line(text: str) -> str:
    """Return text that Pillow can measure: a name of a file may have line breaks and control characters."""
    return printable(text).replace("\n", "\\n")


def shortened(text: str, font: ImageFont.FreeTypeFont, width: float) -> str:
    """Return a text on one line, with its middle replaced by an ellipsis if it is wider than a number of pixels."""
    text = one_line(text)
    kept = min(len(text), int(len(text) * width / max(font.getlength(text), 1)))
    while kept > 2 and font.getlength(_cut(text, kept)) > width:
        kept -= 1
    return _cut(text, kept)


def _cut(text: str, kept: int) -> str:
    return text if kept == len(text) else f"{text[: kept // 2]}…{text[len(text) - kept // 2 :]}"
