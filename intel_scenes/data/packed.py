"""Images decoded once into a uint8 memory map that all runs share.

The stored form of an image: upright (EXIF orientation applied) and RGB of eight bits (as torchvision's `ImageFolder`
converts; grey values of 16 or 32 bits are scaled first). Then, by the rule,

- square: where it is not `size` x `size` already, its shorter side is resized to `size` (bicubic, antialiased, the
  aspect ratio kept) and the middle square is stored.
- whole: its shorter side is resized to `size` as torchvision's `Resize` does, by the interpolation of the network, and
  all of it is stored; of one longer than 2:1, the middle of about that shape.
"""

import io
import json
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeVar

import numpy as np
import numpy.typing as npt
import PIL
from PIL import ExifTags, Image, UnidentifiedImageError, features

from intel_scenes.data import progress_bar
from intel_scenes.data.cache import arrays, make_once, reading
from intel_scenes.data.scenes import Scenes
from intel_scenes.data.splits import Indices
from intel_scenes.errors import UserError
from intel_scenes.files import digest

Pixels = npt.NDArray[np.uint8]
Kept = TypeVar("Kept")
StoreRule = Literal["square", "whole"]

# Part of the cache's name: change it with the rules above.
RULES: dict[StoreRule, str] = {"square": "shorter-side-bicubic-middle-square-1", "whole": "shorter-side-whole-1"}
# So are these: another decoder may read what this one cannot, or round otherwise.
DECODERS = ("jpg", "libjpeg_turbo", "jpg_2000", "webp", "avif", "libtiff", "zlib")
RESAMPLING = {"bilinear": Image.Resampling.BILINEAR, "bicubic": Image.Resampling.BICUBIC}
# Times as long as wide. Of such an image the middle alone is resized, which spares minutes and gigabytes, but rounds
# some pixels otherwise than a resize of the whole.
EXTREME = 16

# The value of white that grey images may have: the first that is not below their highest; by default of 16 bits.
WHITE = {"F": (1, 255), "I": (255, 65535)}

# The EXIF orientation, and what turns such an image upright.
UPRIGHT: dict[object, Image.Transpose] = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


@dataclass(frozen=True)
class Packed:
    """Decoded images.

    Attributes:
        images: uint8, mapped from the file: (N, size, size, 3) squares, zeros where an image cannot be decoded; or
            (P,), the pixels of whole pictures one after the other. What is written to it stays in this process.
        unreadable: For the position of each image that cannot be decoded, the reason.
        sizes: (N, 2) heights and widths of whole pictures, zeros where one cannot be decoded; None for squares.
    """

    images: Pixels
    unreadable: dict[int, str]
    sizes: Indices | None = None


def store(image: Image.Image, size: int) -> Pixels:
    """The stored form of one image as a square, (size, size, 3) uint8, by the rule at the top of this module."""
    upright = _upright(image)
    width, height = upright.size
    if (width, height) == (size, size):
        return np.asarray(upright)
    scale = size / min(width, height)
    resized = max(size, round(width * scale)), max(size, round(height * scale))
    corner = (resized[0] - size) // 2, (resized[1] - size) // 2
    return np.asarray(_resized_part(upright, resized, corner, (size, size), Image.Resampling.BICUBIC))


def store_whole(image: Image.Image, size: int, interpolation: str) -> Pixels:
    """The stored form of one image as a whole, (H, W, 3) uint8, by the rule at the top of this module."""
    upright = _upright(image)
    short, long = sorted(upright.size)
    full = int(size * long / short)
    # A multiple of four goes, so that the middle of what stays rounds to the same pixels as that of the whole.
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
    """What lies right and below of a corner in the resized image; all pairs are of columns and rows."""
    (left, top), (width, height) = corner, part
    if max(image.size) <= EXTREME * min(image.size):
        return image.resize(resized, resampling).crop((left, top, left + width, top + height))
    across, down = image.width / resized[0], image.height / resized[1]
    box = (left * across, top * down, (left + width) * across, (top + height) * down)
    return image.resize(part, resampling, box=box)


def _upright(image: Image.Image) -> Image.Image:
    """The image in RGB, its EXIF orientation applied."""
    image.load()
    try:
        turn = UPRIGHT.get(image.getexif().get(ExifTags.Base.Orientation))
    except Exception:  # malformed EXIF fails anywhere in its reader, and counts as none
        turn = None
    upright = _of_eight_bits(image if turn is None else image.transpose(turn))
    if isinstance(upright.info.get("transparency"), bytes):
        upright = upright.convert("RGBA")  # else Pillow warns of what RGB leaves out
    return upright.convert("RGB")


def _of_eight_bits(image: Image.Image) -> Image.Image:
    """Grey values of more bits brought to 0..255, where Pillow would cut them off; other images as they are.

    Raises:
        ValueError: The values have no range that is known.
    """
    if image.mode not in ("I", "F") and not image.mode.startswith("I;16"):
        return image
    values = np.asarray(image).astype(np.float64)
    low, high = values.min(), values.max()
    white = next((white for white in WHITE.get(image.mode, (65535,)) if high <= white), None)
    if white is None or low < 0:
        raise ValueError(f"grey values from {low:g} to {high:g}, of no range that is known")
    return Image.fromarray(np.rint(values * (255 / white)).astype(np.uint8))


def pack(scenes: Scenes, cache_dir: Path, size: int) -> Packed:
    """The decoded images of a split as squares, from the cache where the same contents were decoded before.

    The cache is named after the contents of all files, the rule and the decoders, so a changed file makes a new one.

    Raises:
        UserError: The cache cannot be written, or is damaged.
    """
    folder = cache_dir / f"packed-{digest([RULES['square'], size, _decoders(), scenes.contents])[:32]}"
    make_once(folder, lambda partial: _write(scenes, partial, lambda image: store(image, size), size))
    (images,) = arrays(folder, "images")
    return Packed(images, _unreadable(folder))


def pack_whole(scenes: Scenes, cache_dir: Path, size: int, interpolation: str) -> Packed:
    """The same of whole pictures, whose shorter side is `size`.

    Raises:
        UserError: The cache cannot be written, or is damaged.
    """
    key = [RULES["whole"], size, interpolation, _decoders(), scenes.contents]
    folder = cache_dir / f"packed-{digest(key)[:32]}"
    make_once(folder, lambda partial: _write(scenes, partial, lambda image: store_whole(image, size, interpolation)))
    images, sizes = arrays(folder, "images", "sizes")
    return Packed(images, _unreadable(folder), sizes)


def _decoders() -> list[str | None]:
    return [PIL.__version__, *(features.version(name) for name in DECODERS)]


def _unreadable(folder: Path) -> dict[int, str]:
    with reading(folder):
        listed = json.loads((folder / "unreadable.json").read_text())
        return {int(index): reason for index, reason in listed.items()}


def _write(scenes: Scenes, folder: Path, stored: Callable[[Image.Image], Pixels], side: int | None = None) -> None:
    """Writes the stored forms of all images, which are squares of that side, or of any shape."""
    unreadable, sizes = {}, []
    nothing = np.zeros((side or 0, side or 0, 3), np.uint8)
    header = {"descr": "|u1", "fortran_order": False, "shape": (len(scenes), side, side, 3) if side else (0,)}
    # Written as a stream: a full disk is then an error, where writing to a memory map is a crash.
    with (folder / "images.npy").open("wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for index, pixels in enumerate(_decoded(scenes, stored)):
            if isinstance(pixels, str):
                unreadable[index], pixels = pixels, nothing
            file.write(pixels.tobytes())
            sizes.append(pixels.shape[:2])
        if side is None:
            length = 3 * sum(height * width for height, width in sizes)
            file.seek(0)  # numpy leaves room in the header for a greater length
            np.lib.format.write_array_header_1_0(file, header | {"shape": (length,)})
    if side is None:
        np.save(folder / "sizes.npy", np.array(sizes, np.int64).reshape(-1, 2))
    (folder / "unreadable.json").write_text(json.dumps(unreadable))


def decoded(content: bytes, stored: Callable[[Image.Image], Kept]) -> Kept | str:
    """What is to be kept of an image, by the content of its file, or why it cannot be decoded."""
    if not content:
        return "the file is empty"
    try:
        with Image.open(io.BytesIO(content)) as image:
            return stored(image)
    except UnidentifiedImageError:  # whose words name the buffer
        return "no image format that Pillow knows"
    except Exception as error:  # a damaged file fails anywhere in its decoder
        return str(error) or type(error).__name__


def _decoded(scenes: Scenes, stored: Callable[[Image.Image], Pixels]) -> Iterator[Pixels | str]:
    def decode(index: int) -> Pixels | str:
        file = scenes.file(index)
        try:
            content = file.read_bytes()
        except OSError as error:
            unread = f"cannot read {file} ({error.strerror}): repair or remove the file"
            raise UserError(unread) from error
        return decoded(content, stored)

    chunk = 512  # bounds what waits in memory for the disk
    with (
        warnings.catch_warnings(),
        ThreadPoolExecutor() as pool,
        progress_bar.bar(len(scenes.paths), "decoding images") as bar,
    ):
        # Of damaged EXIF and the like, without the name of an image; here, because threads share the filters.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for start in range(0, len(scenes), chunk):
            for pixels in pool.map(decode, range(start, min(start + chunk, len(scenes)))):
                yield pixels
                bar.update()
