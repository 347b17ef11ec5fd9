"""Images decoded once into a uint8 memory map that all runs share.

The stored form of an image: upright (EXIF orientation applied) and RGB (as torchvision's `ImageFolder` converts); where
it is not `size` x `size` already, its shorter side is resized to `size` (bicubic, antialiased, the aspect ratio kept)
and the middle square is stored.
"""

import io
import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageOps

from intel_scenes.data import progress
from intel_scenes.data.cache import arrays, make_once, reading
from intel_scenes.data.scenes import Scenes
from intel_scenes.errors import UserError
from intel_scenes.record import digest

Pixels = npt.NDArray[np.uint8]

# Part of the cache's name: change it with the rule above.
RULE = "shorter-side-bicubic-middle-square-1"


@dataclass(frozen=True)
class Packed:
    """Decoded images.

    Attributes:
        images: (N, size, size, 3) uint8, mapped from the file; zeros where an image cannot be decoded. What is written
            to it stays in this process.
        unreadable: For the position of each image that cannot be decoded, the reason.
    """

    images: Pixels
    unreadable: dict[int, str]


def store(image: Image.Image, size: int) -> Pixels:
    """The stored form of one image, (size, size, 3) uint8, by the rule at the top of this module."""
    upright = ImageOps.exif_transpose(image)
    if isinstance(upright.info.get("transparency"), bytes):
        upright = upright.convert("RGBA")  # else Pillow warns of what RGB leaves out
    upright = upright.convert("RGB")
    width, height = upright.size
    if (width, height) != (size, size):
        scale = size / min(width, height)
        upright = upright.resize(
            (max(size, round(width * scale)), max(size, round(height * scale))), Image.Resampling.BICUBIC
        )
    left, top = (upright.width - size) // 2, (upright.height - size) // 2
    return np.asarray(upright.crop((left, top, left + size, top + size)))


def pack(scenes: Scenes, cache_dir: Path, size: int) -> Packed:
    """The decoded images of a split, from the cache where the same contents were decoded before.

    The cache is named after the contents of all files and the rule, so a changed file makes a new one.

    Raises:
        UserError: The cache cannot be written, or is damaged.
    """
    folder = cache_dir / f"packed-{digest([RULE, size, scenes.contents])[:32]}"
    make_once(folder, lambda partial: _write(scenes, partial, size))
    (images,) = arrays(folder, "images")
    with reading(folder):
        listed = json.loads((folder / "unreadable.json").read_text())
        unreadable = {int(index): reason for index, reason in listed.items()}
    return Packed(images, unreadable)


def _write(scenes: Scenes, folder: Path, size: int) -> None:
    unreadable = {}
    # Written as a stream: a full disk is then an error, where writing to a memory map is a crash.
    with (folder / "images.npy").open("wb") as file:
        header = {"descr": "|u1", "fortran_order": False, "shape": (len(scenes.paths), size, size, 3)}
        np.lib.format.write_array_header_1_0(file, header)
        for index, pixels in enumerate(_decoded(scenes, size)):
            if isinstance(pixels, str):
                unreadable[index] = pixels
                file.write(bytes(size * size * 3))
            else:
                file.write(pixels.tobytes())
    (folder / "unreadable.json").write_text(json.dumps(unreadable))


def _decoded(scenes: Scenes, size: int) -> Iterator[Pixels | str]:
    def decode(path: str) -> Pixels | str:
        try:
            content = (scenes.root / path).read_bytes()
        except OSError as error:
            unread = f"cannot read {scenes.root / path} ({error.strerror}): repair or remove the file"
            raise UserError(unread) from error
        try:
            with Image.open(io.BytesIO(content)) as image:
                return store(image, size)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            return str(error) or type(error).__name__

    chunk = 512  # bounds what waits in memory for the disk
    with ThreadPoolExecutor() as pool, progress.bar(len(scenes.paths), "decoding images") as bar:
        for start in range(0, len(scenes.paths), chunk):
            for pixels in pool.map(decode, scenes.paths[start : start + chunk]):
                yield pixels
                bar.update()
