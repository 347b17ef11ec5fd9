"""Images decoded once into a uint8 memory map that all runs share.

An image is stored upright (EXIF orientation applied) and as eight-bit RGB (converted as by torchvision's `ImageFolder`;
grey values of 16 or 32 bits are scaled first). Then, by the rule,

- square: unless it is `size` x `size` already, its shorter side is resized to `size` (bicubic, antialiased, aspect
  ratio kept) and the center square is stored.
- whole: its shorter side is resized to `size` as by torchvision's `Resize`, with the interpolation of the network, and
  the whole image is stored; of an image longer than 2:1, its center of about that shape.
"""

import json
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import PIL
from PIL import Image, UnidentifiedImageError, features

from intel_scenes import safe_images
from intel_scenes.data import progress_bar
from intel_scenes.data.cache import arrays, make_once, reading
from intel_scenes.data.file_digests import unreadable
from intel_scenes.data.scenes import Scenes
from intel_scenes.data.splits import Indices
from intel_scenes.files import digest

Pixels = npt.NDArray[np.uint8]
Converted = TypeVar("Converted")
StoreRule = Literal["square", "whole"]

# Part of the name of a cache folder: change it with the rules above.
RULES: dict[StoreRule, str] = {"square": "shorter-side-bicubic-middle-square-1", "whole": "shorter-side-whole-1"}
# Also part of it, with their versions: another decoder may read other files or round differently.
DECODERS = ("jpg", "libjpeg_turbo", "jpg_2000", "webp", "avif", "libtiff", "zlib")
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Aspect ratio above which only the center of an image is resized: this saves minutes and gigabytes, but rounds some
# pixels differently from a resize of the whole image.
EXTREME = 16


@dataclass(frozen=True)
class Packed:
    """Decoded images.

    Attributes:
        images: uint8, memory-mapped copy-on-write: (N, size, size, 3) squares, zero if an image cannot be decoded; or
            (P,), the pixels of whole images one after the other.
        unreadable: Why an image cannot be decoded, by its position.
        sizes: (N, 2) heights and widths of whole images, zero if an image cannot be decoded; None for squares.
    """

    images: Pixels
    unreadable: dict[int, str]
    sizes: Indices | None = None


def shape_around_square(shape: tuple[int, int], size: int) -> tuple[int, int]:
    """Return to which shape the rule `square` resizes an image before it takes the center."""
    scale = size / min(shape)
    return max(size, round(shape[0] * scale)), max(size, round(shape[1] * scale))


def longer_side(shape: tuple[int, int], size: int) -> int:
    """Return the longer side of an image whose shorter side the rule `whole` has resized to `size`."""
    return int(size * max(shape) / min(shape))


def store_square(image: Image.Image, size: int) -> Pixels:
    """Return the stored square of an image, (size, size, 3) uint8, by the rule at the top of this module."""
    upright = safe_images.in_rgb(image)
    if upright.size == (size, size):
        return np.asarray(upright)
    resized = shape_around_square(upright.size, size)
    corner = (resized[0] - size) // 2, (resized[1] - size) // 2
    return np.asarray(_resized_part(upright, resized, corner, (size, size), Image.Resampling.BICUBIC))


def store_whole(image: Image.Image, size: int, interpolation: str) -> Pixels:
    """Return the stored whole image, (H, W, 3) uint8, by the rule at the top of this module."""
    upright = safe_images.in_rgb(image)
    full = longer_side(upright.size, size)
    # A multiple of four pixels is cut, so that a center crop of the rest is that of the whole image.
    kept = full if full <= 2 * size else 2 * size + (full - 2 * size) % 4
    is_wide = upright.width > upright.height
    resized, part = ((full, size), (kept, size)) if is_wide else ((size, full), (size, kept))
    corner = (resized[0] - part[0]) // 2, (resized[1] - part[1]) // 2
    return np.asarray(_resized_part(upright, resized, corner, part, RESAMPLING[interpolation]))


def _resized_part(
    image: Image.Image,
    resized: tuple[int, int],
    corner: tuple[int, int],
    part: tuple[int, int],
    resampling: Image.Resampling,
) -> Image.Image:
    """Return the part of the resized image that begins at a corner; all pairs are (columns, rows)."""
    (left, top), (width, height) = corner, part
    if max(image.size) <= EXTREME * min(image.size):
        return image.resize(resized, resampling).crop((left, top, left + width, top + height))
    across, down = image.width / resized[0], image.height / resized[1]
    box = (left * across, top * down, (left + width) * across, (top + height) * down)
    return image.resize(part, resampling, box=box)


def pack(scenes: Scenes, cache_dir: Path, size: int, *, verify: bool = False) -> Packed:
    """Return the decoded images of a split as squares, from the cache if the same contents were decoded before.

    The name of the cache folder is a digest of the contents of all files, the rule and the versions of the decoders,
    so a changed file leads to a new one.

    Args:
        scenes: Images to decode.
        cache_dir: Folder of the cache.
        size: Side of the squares, in pixels.
        verify: Whether the cache is read, to check that it holds what was written.

    Raises:
        UserError: The cache cannot be written, or is corrupt.
    """
    folder = cache_dir / f"packed-{digest([RULES['square'], size, _decoders(), scenes.contents])[:32]}"
    write = partial(_write, scenes, convert=lambda image: store_square(image, size), side=size)
    make_once(folder, write, verify=verify)
    (images,) = arrays(folder, "images")
    return Packed(images, _unreadable(folder))


def pack_whole(scenes: Scenes, cache_dir: Path, size: int, interpolation: str, *, verify: bool = False) -> Packed:
    """Return the decoded images of a split as whole images whose shorter side is `size`; see `pack`.

    Raises:
        UserError: The cache cannot be written, or is corrupt.
    """
    key = [RULES["whole"], size, interpolation, _decoders(), scenes.contents]
    folder = cache_dir / f"packed-{digest(key)[:32]}"
    write = partial(_write, scenes, convert=lambda image: store_whole(image, size, interpolation))
    make_once(folder, write, verify=verify)
    images, sizes = arrays(folder, "images", "sizes")
    return Packed(images, _unreadable(folder), sizes)


def _decoders() -> list[str | None]:
    return [PIL.__version__, *(features.version(name) for name in DECODERS)]


def _unreadable(folder: Path) -> dict[int, str]:
    with reading(folder):
        reasons = json.loads((folder / "unreadable.json").read_text())
        return {int(index): reason for index, reason in reasons.items()}


def _write(scenes: Scenes, folder: Path, convert: Callable[[Image.Image], Pixels], side: int | None = None) -> None:
    """Decode all images and write their stored pixels.

    Args:
        scenes: Images to decode.
        folder: Cache folder.
        convert: Returns the stored pixels of an image.
        side: Side of the stored squares; None for whole images.
    """
    unreadable, sizes = {}, []
    nothing = np.zeros((side or 0, side or 0, 3), np.uint8)
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(scenes), side, side, 3) if side else (0,)}
    # Written as a stream, because a full disk is then an error; a write to a memory map would crash the process.
    with (folder / "images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for index, pixels in enumerate(_decode_all(scenes, convert)):
            if isinstance(pixels, str):
                unreadable[index], pixels = pixels, nothing
            file.write(pixels.tobytes())
            sizes.append(pixels.shape[:2])
        if side is None:
            length = 3 * sum(height * width for height, width in sizes)
            file.seek(0)  # numpy pads the header, so a longer shape still fits
            np.lib.format.write_array_header_1_0(file, header | {"shape": (length,)})
    if side is None:
        np.save(folder / "sizes.npy", np.array(sizes, np.int64).reshape(-1, 2))
    (folder / "unreadable.json").write_text(json.dumps(unreadable))


def decoded(content: bytes, convert: Callable[[Image.Image], Converted]) -> Converted | str:
    """Decode the content of an image file.

    Args:
        content: Bytes of the file.
        convert: Returns what is needed of the image.

    Returns:
        The result of `convert`, or the reason why the image cannot be decoded.
    """
    if not content:
        return "the file is empty"
    try:
        with safe_images.opened(content) as image:
            return convert(image)
    except UnidentifiedImageError:  # its message names the buffer, not the file
        return "no image format that Pillow knows"
    except Exception as error:  # a corrupt file may fail anywhere in its decoder
        return str(error) or type(error).__name__


def _decode_all(scenes: Scenes, convert: Callable[[Image.Image], Pixels]) -> Iterator[Pixels | str]:
    def decode(index: int) -> Pixels | str:
        file = scenes.file(index)
        try:
            content = safe_images.read(file)
        except OSError as error:
            raise unreadable(file, error) from error
        return decoded(content, convert)

    chunk = 512  # bounds the decoded images that wait in memory to be written
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor() as pool,
        progress_bar.bar(len(scenes.paths), "decoding images") as bar,
    ):
        # Pillow's warnings of corrupt EXIF do not name the file. Ignored here, because threads share the filters.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for start in range(0, len(scenes), chunk):
            for pixels in pool.map(decode, range(start, min(start + chunk, len(scenes)))):
                yield pixels
                bar.update()
