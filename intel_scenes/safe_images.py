"""Reading of image files that may be hostile: regular files of limited size, in formats that Pillow decodes itself.

Any image becomes eight-bit RGB, upright.
"""

import errno
import io
import stat
from functools import cache
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image

# Formats that Pillow registers but that it cannot open as still images: EPS and WMF need Ghostscript, which would be
# started, or Windows; others are videos, or are only recognized or written.
NO_IMAGES = frozenset({"EPS", "WMF", "MPEG", "FLI", "BUFR", "GRIB", "HDF5", "PDF", "PALM"})

MAX_BYTES = 2**30  # of a file; the largest image that Pillow opens takes less in uncompressed RGB

# Possible values of white in grey images by Pillow mode: the first that is at least their maximum is used. Other modes
# have 65535.
WHITE = {"F": (1, 255), "I": (255, 65535)}

# The operation that turns an image upright, by EXIF orientation.
UPRIGHT: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def read(path: Path) -> bytes:
    """Return the content of an image file.

    Raises:
        OSError: The file cannot be read, is larger than `MAX_BYTES`, or is a pipe or a device, whose reading would wait
            or never end.
    """
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "no regular file", str(path))
    if status.st_size > MAX_BYTES:
        raise OSError(errno.EFBIG, f"larger than {MAX_BYTES // 2**20:,} MiB", str(path))
    return path.read_bytes()


def opened(content: bytes) -> Image.Image:
    """Open the content of an image file; the pixels are decoded later.

    Raises:
        Exception: It is no image, or corrupt, and its decoder fails.
    """
    return Image.open(io.BytesIO(content), formats=_formats())


@cache
def _formats() -> tuple[str, ...]:
    """Return Pillow's names of the formats to open, the most common first."""
    Image.init()
    return tuple(name for name in Image.ID if name not in NO_IMAGES)


def in_rgb(image: Image.Image) -> Image.Image:
    """Return the image in RGB with its EXIF orientation applied."""
    image.load()
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # malformed EXIF raises various exceptions, and is ignored
        turn = None
    upright = _of_eight_bits(image if turn is None else image.transpose(turn))
    if isinstance(upright.info.get("transparency"), bytes):
        upright = upright.convert("RGBA")  # otherwise Pillow warns about the palette's transparency
    return upright.convert("RGB")


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """Return grey images of more than eight bits scaled to 0..255, where Pillow would clip; others unchanged.

    Raises:
        ValueError: The range of the values is unknown.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    white = next((white for white in WHITE.get(image.mode, (65535,)) if high <= white), None)
    if white is None or low < 0:
        raise ValueError(f"its grey values, {low:g} to {high:g}, are in no known range")
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))
