"""Reading of image files that may be hostile: regular files of limited size, in formats that Pillow decodes itself."""

import errno
import io
import stat
from functools import cache
from pathlib import Path

from PIL import Image

# Formats that Pillow registers but that it cannot open as still images: EPS and WMF need Ghostscript, which would be
# started, or Windows; others are films, or are only recognized or written.
NO_IMAGES = frozenset({"EPS", "WMF", "MPEG", "FLI", "BUFR", "GRIB", "HDF5", "PDF", "PALM"})

MAX_BYTES = 2**30  # of a file: more than an uncompressed image of the most pixels that Pillow opens


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
