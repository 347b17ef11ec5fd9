import io
import math
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager, suppress
from functools import partial
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
from PIL import Image, ImageOps

from intel_scenes.data.packed import pack, pack_whole, store_square
from intel_scenes.data.scenes import Scenes, read_scenes
from intel_scenes.errors import UserError

Pixels = npt.NDArray[np.uint8]


def noise(height: int, width: int, channels: int = 3, seed: int = 0) -> Pixels:
    """Smooth enough that a jpeg keeps it, without symmetry."""
    coarse = np.random.default_rng(seed).integers(0, 256, (channels, 9, 9), dtype=np.uint8)
    planes = [Image.fromarray(plane).resize((width, height), Image.Resampling.BICUBIC) for plane in coarse]
    return np.stack([np.asarray(plane) for plane in planes], axis=2)


def encoded(image: Image.Image, kind: str = "png", **options: object) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def scenes_of(folder: Path, files: dict[str, bytes]) -> Scenes:
    """The files as images of class a, and one more image of class b."""
    for name, content in {f"a/{name}": content for name, content in files.items()}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    (folder / "b").mkdir(exist_ok=True)
    (folder / "b" / "last.png").write_bytes(encoded(Image.fromarray(noise(20, 20, seed=99))))
    return read_scenes(folder)


def palette() -> Image.Image:
    return Image.fromarray(noise(20, 20)).quantize(16)


def palette_with_one_transparent_colour() -> bytes:
    return encoded(palette(), transparency=3)


def palette_with_an_opacity_for_each_colour() -> bytes:
    return encoded(palette(), transparency=bytes(range(0, 256, 16)))


def cmyk() -> bytes:
    return encoded(Image.fromarray(noise(20, 20)).convert("CMYK"), "jpeg")


def of_mode(mode: str) -> bytes:
    if mode == "RGBA":
        return encoded(Image.fromarray(noise(20, 20, 4)))
    return encoded(Image.merge("LA", [Image.fromarray(plane) for plane in np.moveaxis(noise(20, 20, 2), 2, 0)]))


@pytest.mark.parametrize(
    "content",
    [
        pytest.param(lambda: encoded(Image.fromarray(noise(20, 20)[..., 0])), id="L"),
        pytest.param(lambda: of_mode("LA"), id="LA"),
        pytest.param(lambda: of_mode("RGBA"), id="RGBA"),
        pytest.param(lambda: encoded(palette()), id="P"),
        pytest.param(palette_with_one_transparent_colour, id="P with a transparent colour"),
        pytest.param(palette_with_an_opacity_for_each_colour, id="P with an opacity for each colour"),
        pytest.param(cmyk, id="CMYK"),
    ],
)
def test_an_image_of_another_mode_is_stored_as_pillow_converts_it(content: Callable[[], bytes], tmp_path: Path) -> None:
    scenes = scenes_of(tmp_path / "images", {"1.png": content()})
    packed = pack(scenes, tmp_path / "cache", 20)
    assert packed.unreadable == {}
    image = Image.open(io.BytesIO(content()))
    if isinstance(image.info.get("transparency"), bytes):
        image = image.convert("RGBA")  # the same colours without Pillow's advice
    assert np.array_equal(packed.images[0], np.asarray(image.convert("RGB")))


RAMP = np.linspace(0, 1, 400).reshape(20, 20)
SHORTS = np.rint(65535 * RAMP).astype(np.uint16)


def pgm(values: npt.NDArray[np.uint16]) -> bytes:
    return b"P5 20 20 65535\n" + values.astype(">u2").tobytes()


@pytest.mark.parametrize(
    ("mode", "content"),
    [
        ("I;16", lambda: encoded(Image.fromarray(SHORTS))),
        ("I;16", lambda: encoded(Image.fromarray(SHORTS), "tiff")),
        ("I;16B", lambda: encoded(Image.frombytes("I;16B", (20, 20), SHORTS.astype(">u2").tobytes()), "tiff")),
        ("I", lambda: pgm(SHORTS)),
        ("I", lambda: encoded(Image.fromarray(SHORTS.astype(np.int32)), "tiff")),
        ("I", lambda: encoded(Image.fromarray(np.rint(255 * RAMP).astype(np.int32)), "tiff")),
        ("F", lambda: encoded(Image.fromarray(RAMP.astype(np.float32)), "tiff")),
        ("F", lambda: encoded(Image.fromarray((255 * RAMP).astype(np.float32)), "tiff")),
    ],
)
def test_grey_values_of_more_bits_are_scaled_to_eight(mode: str, content: Callable[[], bytes], tmp_path: Path) -> None:
    assert Image.open(io.BytesIO(content())).mode == mode
    packed = pack(scenes_of(tmp_path / "images", {"1.tiff": content()}), tmp_path / "cache", 20)
    assert packed.unreadable == {}
    assert np.abs(packed.images[0].astype(float) - 255 * RAMP[..., None]).max() <= 0.51  # a rounding, or two


@pytest.mark.parametrize(
    "values",
    [
        np.array([[0, 70_000]], np.int32),
        np.array([[-1, 255]], np.int32),
        np.array([[0, 1000]], np.float32),
        np.array([[0, math.nan]], np.float32),
        np.array([[0, math.inf]], np.float32),
        np.array([[-0.5, 0.5]], np.float32),
    ],
)
def test_grey_values_of_an_unknown_range_cannot_be_decoded(values: npt.NDArray[np.generic], tmp_path: Path) -> None:
    content = encoded(Image.fromarray(values), "tiff")
    packed = pack(scenes_of(tmp_path / "images", {"1.tiff": content}), tmp_path / "cache", 20)
    assert re.match(r"its grey values, \S+ to \S+, are in no known range$", packed.unreadable[0])


def test_a_grey_photograph_of_sixteen_bits_is_turned_upright(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 8
    scenes = scenes_of(tmp_path / "images", {"1.png": encoded(Image.fromarray(SHORTS), exif=exif)})
    found = pack(scenes, tmp_path / "cache", 20).images[0, ..., 0]
    assert np.array_equal(found, np.rot90(np.rint(SHORTS / 257), 1))


@pytest.mark.parametrize("orientation", range(10))
def test_every_orientation_is_turned_as_pillow_does(orientation: int, tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(noise(20, 20)), exif=exif)
    expected = ImageOps.exif_transpose(Image.open(io.BytesIO(content)))
    packed = pack(scenes_of(tmp_path / "images", {"1.png": content}), tmp_path / "cache", 20)
    assert np.array_equal(packed.images[0], np.asarray(expected))


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow's remarks on damaged files
def test_corrupt_exif_does_not_make_an_image_unreadable() -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F], exif[0x011A] = 6, "a maker", 72.0
    content = encoded(Image.fromarray(noise(8, 8)), "jpeg", exif=exif)
    decoded = np.asarray(Image.open(io.BytesIO(content)))
    possible = [decoded, np.rot90(decoded, -1), *(np.rot90(decoded, turns)[:, ::-1] for turns in range(4))]
    possible += [np.rot90(decoded, turns) for turns in (1, 2)]
    begin = content.index(b"Exif")
    generator = np.random.default_rng(0)
    for _ in range(1500):
        damaged = bytearray(content)
        for place in generator.integers(begin, begin + len(exif.tobytes()), 2):
            damaged[place] = generator.integers(0, 256)
        with Image.open(io.BytesIO(damaged)) as image:
            found = store_square(image, 8)
        assert any(np.array_equal(found, one) for one in possible)


def test_a_photograph_on_its_side_is_stored_upright(tmp_path: Path) -> None:
    lying = Image.fromarray(noise(20, 30))
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate clockwise to see it upright
    scenes = scenes_of(tmp_path / "images", {"1.png": encoded(lying, exif=exif), "2.png": encoded(lying)})
    packed = pack(scenes, tmp_path / "cache", 20)
    assert np.array_equal(packed.images[0], np.rot90(noise(20, 30), -1)[5:25])
    assert np.array_equal(packed.images[1], noise(20, 30)[:, 5:25])


@pytest.mark.parametrize(
    ("width", "height", "resized", "box"),
    [
        (72, 150, (40, 83), (0, 21, 40, 61)),  # 150 * 40 / 72 = 83.3, and 43 rows too many
        (1000, 600, (67, 40), (13, 0, 53, 40)),  # 1000 * 40 / 600 = 66.7
        (150, 150, (40, 40), (0, 0, 40, 40)),
        (20, 10, (80, 40), (20, 0, 60, 40)),
        (40, 41, (40, 41), (0, 0, 40, 40)),
    ],
)
def test_an_image_of_another_shape_is_stored_as_its_resized_center_square(
    width: int, height: int, resized: tuple[int, int], box: tuple[int, int, int, int], tmp_path: Path
) -> None:
    original = Image.fromarray(noise(height, width))
    scenes = scenes_of(tmp_path / "images", {"1.png": encoded(original)})
    expected = np.asarray(original.resize(resized, Image.Resampling.BICUBIC).crop(box))
    assert np.array_equal(pack(scenes, tmp_path / "cache", 40).images[0], expected)


def test_an_image_of_one_row_becomes_a_square(tmp_path: Path) -> None:
    scenes = scenes_of(tmp_path / "images", {"1.png": encoded(Image.new("RGB", (2000, 1), (10, 20, 30)))})
    assert (pack(scenes, tmp_path / "cache", 8).images[0] == [10, 20, 30]).all()


@contextmanager
def no_more_memory_than(num_bytes: int) -> Iterator[None]:
    """Lets the process take so much beyond what it has; elsewhere than on Linux the system does not count."""
    pages = int(Path("/proc/self/statm").read_text().split()[0]) if sys.platform == "linux" else None
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    if pages:
        resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + num_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))


def test_a_line_of_60_000_pixels_is_stored_without_resizing_all_of_it(tmp_path: Path) -> None:
    """At 150 px it would have 9,000,000 columns: 5.4 GB, and a minute of work."""
    ramp = np.linspace(0, 255, 60_000, dtype=np.uint8)
    files = {"across.png": encoded(Image.fromarray(ramp[None])), "down.png": encoded(Image.fromarray(ramp[:, None]))}
    scenes = scenes_of(tmp_path / "images", files)
    with no_more_memory_than(2 * 2**30):
        squares = pack(scenes, tmp_path / "cache", 150)
        pictures = pack_whole(scenes, tmp_path / "cache", 150, "bilinear")
    assert np.abs(squares.images[:2].astype(int) - 127).max() <= 1
    assert pictures.sizes is not None
    assert pictures.sizes[:2].tolist() == [[150, 300], [300, 150]]
    assert np.abs(pictures.images[: 2 * 150 * 300 * 3].astype(int) - 127).max() <= 1


@pytest.mark.parametrize(("width", "height"), [(340, 20), (20, 340), (2000, 30)])
def test_of_a_very_long_image_the_same_middle_is_stored(width: int, height: int, tmp_path: Path) -> None:
    original = Image.fromarray(noise(height, width))
    scenes = scenes_of(tmp_path / "images", {"1.png": encoded(original)})
    scale = 40 / min(width, height)
    resized = original.resize((round(width * scale), round(height * scale)), Image.Resampling.BICUBIC)
    left, top = (resized.width - 40) // 2, (resized.height - 40) // 2
    expected = np.asarray(resized.crop((left, top, left + 40, top + 40)))
    found = pack(scenes, tmp_path / "cache", 40).images[0]
    assert np.abs(found.astype(int) - expected).max() <= 2  # rows before columns round otherwise


def test_an_image_of_the_stored_size_is_kept_pixel_by_pixel(tmp_path: Path) -> None:
    content = encoded(Image.fromarray(noise(20, 20)), "jpeg", quality=90)
    packed = pack(scenes_of(tmp_path / "images", {"1.jpg": content}), tmp_path / "cache", 20)
    assert packed.images.shape == (2, 20, 20, 3)
    assert packed.images.dtype == np.uint8
    assert np.array_equal(packed.images[0], np.asarray(Image.open(io.BytesIO(content))))
    assert np.array_equal(packed.images[1], noise(20, 20, seed=99))


def test_more_images_than_are_decoded_at_once_keep_their_order(tmp_path: Path) -> None:
    contents = {f"{n:04}.png": encoded(Image.new("RGB", (2, 2), (n % 256, n // 256, 7))) for n in range(1100)}
    packed = pack(scenes_of(tmp_path / "images", contents), tmp_path / "cache", 2)
    assert packed.images[:1100, 0, 0, :2].tolist() == [[n % 256, n // 256] for n in range(1100)]


def whole(scenes: Scenes, cache: Path, size: int = 20) -> tuple[bytes, dict[int, str]]:
    packed = pack(scenes, cache, size)
    return packed.images.tobytes(), packed.unreadable


def some(folder: Path, num: int = 6, side: int = 20) -> Scenes:
    return scenes_of(folder, {f"{n}.png": encoded(Image.fromarray(noise(side, side, seed=n))) for n in range(num)})


def folders(cache: Path) -> list[Path]:
    return [entry for entry in cache.iterdir() if entry.is_dir()]


def test_a_second_call_does_not_need_the_image_files(tmp_path: Path) -> None:
    scenes = scenes_of(tmp_path / "images", {"1.png": encoded(Image.fromarray(noise(20, 20))), "2.png": b"none"})
    first = whole(scenes, tmp_path / "cache")
    for path in scenes.paths:
        (scenes.root / path).unlink()
    assert whole(scenes, tmp_path / "cache") == first
    assert list(first[1]) == [1]


def test_a_changed_image_makes_another_cache_and_the_old_one_stays(tmp_path: Path) -> None:
    old = some(tmp_path / "images")
    before = whole(old, tmp_path / "cache")
    (tmp_path / "images" / "a" / "3.png").write_bytes(encoded(Image.fromarray(noise(20, 20, seed=50))))
    packed = pack(read_scenes(tmp_path / "images"), tmp_path / "cache", 20)
    assert np.array_equal(packed.images[3], noise(20, 20, seed=50))
    assert np.array_equal(packed.images[2], noise(20, 20, seed=2))
    assert len(folders(tmp_path / "cache")) == 2
    assert whole(old, tmp_path / "cache") == before


def test_each_size_has_its_cache(tmp_path: Path) -> None:
    scenes = some(tmp_path / "images")
    shapes = [pack(scenes, tmp_path / "cache", size).images.shape for size in (20, 10)]
    assert shapes == [(7, 20, 20, 3), (7, 10, 10, 3)]
    assert len(folders(tmp_path / "cache")) == 2


def test_another_decoder_version_leads_to_another_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    scenes = scenes_of(tmp_path / "images", {"1.png": b"of a format to come"})
    assert list(pack(scenes, tmp_path / "cache", 20).unreadable) == [0]
    opened = Image.open
    image = Image.fromarray(noise(20, 20))
    monkeypatch.setattr(
        Image,
        "open",
        lambda file, **options: image.copy() if file.getvalue() == b"of a format to come" else opened(file),
    )
    assert list(pack(scenes, tmp_path / "cache", 20).unreadable) == [0], "the same decoders are not asked again"
    monkeypatch.setattr("PIL.__version__", "99.0")
    assert pack(scenes, tmp_path / "cache", 20).unreadable == {}


def test_a_complete_cache_is_read_without_a_lock(tmp_path: Path) -> None:
    scenes = some(tmp_path / "images")
    before = whole(scenes, tmp_path / "cache")
    (folder,) = folders(tmp_path / "cache")
    lock = folder.with_name(f"{folder.name}.lock")
    lock.unlink(missing_ok=True)
    lock.mkdir()
    assert whole(scenes, tmp_path / "cache") == before


def test_images_that_cannot_be_decoded_are_reported_and_the_others_are_right(tmp_path: Path) -> None:
    good = encoded(Image.fromarray(noise(20, 20)), "jpeg")
    files = {
        "0.jpg": good,
        "1.jpg": b"",
        "2.jpg": b"not an image at all",
        "3.jpg": good[: len(good) // 2],
        "4.png": encoded(Image.fromarray(noise(20, 20)))[:200],
        "5.jpg": good,
    }
    packed = pack(scenes_of(tmp_path / "images", files), tmp_path / "cache", 20)
    assert list(packed.unreadable) == [1, 2, 3, 4]
    assert packed.unreadable[1] == "the file is empty"
    assert packed.unreadable[2] == "no image format that Pillow knows"
    assert "truncated" in packed.unreadable[3].lower()
    assert "truncated" in packed.unreadable[4].lower()
    expected = np.asarray(Image.open(io.BytesIO(good)))
    assert np.array_equal(packed.images[0], expected)
    assert np.array_equal(packed.images[5], expected)
    assert not packed.images[1:5].any()


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")  # Pillow's remarks on damaged files
@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("kind", ["jpeg", "png", "gif", "bmp", "webp", "tiff", "ppm"])
def test_a_corrupt_file_does_not_stop_the_others(kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10_000)  # damage may claim a size that fills the memory
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010F] = "a maker"
    options = {"exif": exif} if kind in ("jpeg", "png", "webp", "tiff") else {}
    good = encoded(Image.fromarray(noise(12, 12)), kind, **options)
    generator = np.random.default_rng(0)
    files = {}
    for number in range(150):
        damaged = np.frombuffer(good, dtype=np.uint8).copy()
        where = generator.integers(0, min(len(good), 300), 3)
        damaged[where] = generator.integers(0, 256, 3)
        files[f"{number:03}.png"] = damaged.tobytes()[: len(good) if number % 2 else where[0]]
    packed = pack(scenes_of(tmp_path / "images", files), tmp_path / "cache", 20)
    assert np.array_equal(packed.images[150], noise(20, 20, seed=99))
    assert set(range(0, 150, 2)) & set(packed.unreadable)


def test_two_processes_at_once_end_with_the_same_pixels_and_one_cache(tmp_path: Path) -> None:
    scenes = some(tmp_path / "images", num=300)  # decoded for long enough that both are at it
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        results = list(pool.map(partial(whole, scenes), [tmp_path / "cache"] * 2))
    seeds = [int(Path(path).stem) for path in scenes.paths[:-1]] + [99]
    expected = np.stack([noise(20, 20, seed=seed) for seed in seeds])
    assert results == [(expected.tobytes(), {})] * 2
    assert len(folders(tmp_path / "cache")) == 1
    assert not list(tmp_path.glob("cache/.*"))


SLOW_PROGRAM = """
import sys, time
from pathlib import Path
from intel_scenes.data import packed
from intel_scenes.data.scenes import read_scenes

store_square = packed.store_square

def slow(*arguments):
    time.sleep(0.1)
    return store_square(*arguments)

packed.store_square = slow
packed.pack(read_scenes(Path(sys.argv[1])), Path(sys.argv[2]), 400)
"""


def test_a_killed_process_leaves_no_cache_that_looks_complete(tmp_path: Path) -> None:
    scenes = some(tmp_path / "images", num=60, side=400)
    cache = tmp_path / "cache"
    arguments = [sys.executable, "-c", SLOW_PROGRAM, str(tmp_path / "images"), str(cache)]
    child = subprocess.Popen(arguments, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 60
    while not any(file.stat().st_size > 400 * 400 * 3 for file in cache.glob(".*/images.npy")):
        assert child.poll() is None
        assert time.monotonic() < deadline
        time.sleep(0.01)
    child.send_signal(signal.SIGKILL)
    assert child.wait() == -signal.SIGKILL
    assert list(cache.glob(".*/images.npy"))
    packed = pack(scenes, cache, 400)
    expected = [noise(400, 400, seed=int(Path(path).stem)) for path in scenes.paths[:-1]]
    assert np.array_equal(packed.images[:-1], expected)
    assert packed.unreadable == {}
    assert len(folders(cache)) == 1


def test_an_interrupted_packing_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(image: Image.Image, size: int) -> Pixels:
        raise KeyboardInterrupt

    monkeypatch.setattr("intel_scenes.data.packed.store_square", interrupted)
    with pytest.raises(KeyboardInterrupt):
        pack(some(tmp_path / "images"), tmp_path / "cache", 20)
    assert folders(tmp_path / "cache") == []


def test_a_missing_image_is_not_recorded_as_unreadable(tmp_path: Path) -> None:
    scenes = some(tmp_path / "images")
    hidden, shown = tmp_path / "hidden", tmp_path / "images"
    shown.rename(hidden)
    with suppress(UserError):
        pack(scenes, tmp_path / "cache", 20)
    hidden.rename(shown)
    assert pack(scenes, tmp_path / "cache", 20).unreadable == {}


@pytest.mark.parametrize("place", ["file", "file/below"])
def test_a_cache_folder_that_cannot_be_created_is_a_user_error(place: str, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match=rf"^the cache folder .*/{place} cannot be written \(.*\): set data.cache_dir "):
        pack(some(tmp_path / "images"), tmp_path / place, 20)


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device here that is always full")
def test_a_full_disk_is_a_user_error_and_leaves_no_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(self: Path, *arguments: str) -> io.BufferedWriter:
        return io.BufferedWriter(io.FileIO("/dev/full", "w"))

    scenes = some(tmp_path / "images")
    monkeypatch.setattr(Path, "open", full)
    with pytest.raises(UserError, match=r"^the cache folder .*/cache cannot be written \(.*No space left"):
        pack(scenes, tmp_path / "cache", 20)
    assert folders(tmp_path / "cache") == []


def test_a_truncated_list_of_unreadable_images_is_a_user_error(tmp_path: Path) -> None:
    scenes = some(tmp_path / "images")
    pack(scenes, tmp_path / "cache", 20)
    (folder,) = folders(tmp_path / "cache")
    (folder / "unreadable.json").write_text("")
    with pytest.raises(UserError, match=f"^the cache folder {folder} is corrupt .*: remove it$"):
        pack(scenes, tmp_path / "cache", 20)


def test_decoding_is_logged_in_one_line_without_a_terminal(
    tmp_path: Path, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", "intel_scenes"):
        pack(some(tmp_path / "images"), tmp_path / "cache", 20)
    assert capfd.readouterr() == ("", "")
    assert caplog.messages == ["decoding images (7 images)"]


@pytest.mark.filterwarnings("always")
def test_pillows_warnings_about_corrupt_images_are_hidden(tmp_path: Path, recwarn: pytest.WarningsRecorder) -> None:
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "a maker"
    whole = encoded(Image.fromarray(noise(20, 10)), "jpeg", exif=exif.tobytes())
    at = whole.index(b"Exif") + 6 + 8  # of the tags, in an order of bytes that Pillow chose
    damaged = whole[: at + 6] + b"\xff\xff\xff\x7f" + whole[at + 10 :]  # a length beyond the end
    packed = pack(scenes_of(tmp_path / "images", {"0.jpg": damaged}), tmp_path / "cache", 20)
    assert packed.unreadable == {}
    assert not recwarn.list
