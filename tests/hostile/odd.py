"""Odd and hostile images and names, by kind."""

import io
import struct
import zlib
from collections.abc import Callable
from functools import cache

import numpy as np
from PIL import Image

SIZE = (60, 40)  # width and height
TEAL = (0, 128, 128)


@cache
def picture() -> Image.Image:
    """A smooth picture whose corners differ, so that a turned one is noticed."""
    across, down = np.meshgrid(np.linspace(0, 1, SIZE[0]), np.linspace(0, 1, SIZE[1]))
    return Image.fromarray(np.stack([220 * across + 20, 180 * down + 30, 200 - 150 * across * down], 2).astype("uint8"))


def saved(image: Image.Image, kind: str, **options: object) -> bytes:
    content = io.BytesIO()
    image.save(content, kind, **options)
    return content.getvalue()


def grey() -> Image.Image:
    return picture().convert("L")


def sixteen_bit() -> bytes:
    return saved(Image.fromarray(np.asarray(grey()).astype(np.uint16) * 257), "PNG")


def see_through() -> bytes:
    palette = picture().quantize(64)
    return saved(palette, "PNG", transparency=bytes([0, 128] + [255] * 62))


def animated(kind: str) -> bytes:
    others = [Image.new("RGB", SIZE, color) for color in ("red", "lime")]
    return saved(picture(), kind, save_all=True, append_images=others, lossless=True)


def turned() -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return saved(picture().transpose(Image.Transpose.ROTATE_90), "PNG", exif=exif)


def png(width: int, height: int, data: bytes, *chunks: tuple[bytes, bytes]) -> bytes:
    """An RGB PNG whose header and data need not agree."""
    header = (b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))
    parts = [header, *chunks, (b"IDAT", data), (b"IEND", b"")]
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(content)) + name + content + struct.pack(">I", zlib.crc32(name + content))
        for name, content in parts
    )


def bomb() -> bytes:
    """60,000 x 60,000 pixels, which would take 10 GB, in a few kilobytes."""
    return png(60_000, 60_000, zlib.compress(bytes(1_000_000), 9))


def text_bomb() -> bytes:
    """A small picture with a comment of 10 MB when unpacked."""
    packer = zlib.compressobj(9)
    comment = b"".join([*(packer.compress(bytes(2**20)) for _ in range(10)), packer.flush()])
    return png(2, 2, zlib.compress(bytes(2 * 7)), (b"zTXt", b"Comment\0\0" + comment))


# Content that shows `picture`, or it in grey: suffix, content, and how far the stored pixels may be from it on average.
IN_COLOR: dict[str, tuple[str, Callable[[], bytes], float]] = {
    "wrong suffix": (".jpg", lambda: saved(picture(), "PNG"), 0),
    "suffix of another kind": (".gif", lambda: saved(picture(), "TIFF"), 0),
    "CMYK": (".jpg", lambda: saved(picture().convert("CMYK"), "JPEG", quality=95), 4),
    "palette with transparency": (".png", see_through, 8),
    "transparent": (".png", lambda: saved(picture().convert("RGBA"), "PNG"), 0),
    "animated GIF": (".gif", lambda: animated("GIF"), 8),
    "animated WebP": (".webp", lambda: animated("WEBP"), 0),
    "animated PNG": (".png", lambda: animated("PNG"), 0),
    "turned by EXIF": (".png", turned, 0),
}
IN_GREY: dict[str, tuple[str, Callable[[], bytes], float]] = {
    "grey": (".png", lambda: saved(grey(), "PNG"), 0),
    "16-bit": (".png", sixteen_bit, 0),
    "grey with transparency": (".png", lambda: saved(grey().convert("LA"), "PNG"), 0),
}
OF_ONE_COLOR: dict[str, tuple[str, Callable[[], bytes], float]] = {
    "1 x 4000": (".png", lambda: saved(Image.new("RGB", (1, 4000), TEAL), "PNG"), 0),
    "4000 x 1": (".jpg", lambda: saved(Image.new("RGB", (4000, 1), TEAL), "JPEG"), 2),
    "1 x 1": (".bmp", lambda: saved(Image.new("RGB", (1, 1), TEAL), "BMP"), 0),
}

# Content that shows nothing, and the beginning of the reason.
SHOWING_NOTHING: dict[str, tuple[str, Callable[[], bytes], str]] = {
    "zero bytes": (".jpg", lambda: b"", "the file is empty"),
    "text": (".png", lambda: b"no image", "no image format that Pillow knows"),
    "truncated JPEG": (".jpg", lambda: saved(picture(), "JPEG")[:700], "image file is truncated"),
    "truncated PNG": (".png", lambda: saved(picture(), "PNG")[:400], "image file is truncated"),
    "header alone": (".png", lambda: saved(picture(), "PNG")[:40], "no image format that Pillow knows"),
    "decompression bomb": (".png", bomb, "Image size (3600000000 pixels) exceeds limit"),
    "comment bomb": (".png", text_bomb, "Decompressed data too large"),
    "PostScript": (".jpg", lambda: saved(picture(), "EPS"), "no image format that Pillow knows"),
    "SVG": (".png", lambda: b"<svg xmlns='http://www.w3.org/2000/svg' onload='alert(1)'/>", "no image format"),
}

# Names of files or folders.
NAMES = (
    "=1+1",
    "+1",
    "-1 and more",
    "@SUM(1)",
    "\t=1",
    "\r=1",
    "line\nbreak",
    "carriage\rreturn",
    "# comment",
    '"quoted"',
    "it's",
    "'=1",
    "a,b;c",
    "<script>alert(1)<",
    "{{ 7*7 }}",
    "${oc.env:HOME}",
    "$\\frac{1}{0}$",
    "\x1b[31mred",
    "\u202egnp",
    "\u2028",
    " blank ",
    "%s%n",
    "x" * 200,
)
NOT_UTF8 = b"latin-\xe9".decode(errors="surrogateescape")
