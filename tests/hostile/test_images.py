"""Odd images, the same for training, prediction and thumbnails."""

import os
import subprocess
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intel_scenes import pages, safe_images
from intel_scenes.data.layouts import read_layout
from intel_scenes.data.packed import decoded, pack, store_square
from intel_scenes.data.scenes import read_scenes
from intel_scenes.errors import UserError
from intel_scenes.inference.image_files import find_images
from tests.hostile import odd

SIDE = 32
SECONDS = 10
SHOWN = {
    **{kind: (*of_kind, odd.picture()) for kind, of_kind in odd.IN_COLOR.items()},
    **{kind: (*of_kind, odd.grey()) for kind, of_kind in odd.IN_GREY.items()},
    **{kind: (*of_kind, Image.new("RGB", (SIDE, SIDE), odd.TEAL)) for kind, of_kind in odd.OF_ONE_COLOR.items()},
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two classes of odd images, `odd` with all kinds and `plain` with one picture."""
    root = tmp_path_factory.mktemp("images")
    (root / "odd").mkdir()
    (root / "plain").mkdir()
    odd.picture().save(root / "plain" / "picture.png")
    for kind, (suffix, content, *_) in {**SHOWN, **odd.SHOWING_NOTHING}.items():
        (root / "odd" / f"{kind}{suffix}").write_bytes(content())
    return root


def square(content: bytes) -> np.ndarray | str:
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # nothing of these kinds needs the silence that `pack` has for corrupt EXIF
        return decoded(content, lambda image: store_square(image, SIDE))


@pytest.mark.parametrize("kind", SHOWN)
def test_an_odd_image_is_stored_as_it_looks(kind: str) -> None:
    _, content, tolerance, look = SHOWN[kind]
    stored = square(content())
    assert not isinstance(stored, str), stored
    expected = store_square(look.convert("RGB"), SIDE)
    assert stored.shape == (SIDE, SIDE, 3)
    assert np.abs(stored.astype(int) - expected).mean() <= tolerance


@pytest.mark.parametrize("kind", odd.SHOWING_NOTHING)
def test_an_image_that_shows_nothing_is_left_out_with_its_reason(kind: str) -> None:
    _, content, reason = odd.SHOWING_NOTHING[kind]
    start = time.monotonic()
    told = square(content())
    assert isinstance(told, str)
    assert told.startswith(reason)
    assert time.monotonic() - start < SECONDS


def test_a_folder_of_odd_images_is_packed_without_those_that_show_nothing(folder: Path, tmp_path: Path) -> None:
    scenes = read_scenes(folder)
    packed = pack(scenes, tmp_path / "cache", SIDE)
    unreadable = {Path(scenes.paths[index]).stem for index in packed.unreadable}
    assert unreadable == set(odd.SHOWING_NOTHING)
    assert os.listdir(tmp_path) == ["cache"]
    for path in (folder / "odd").iterdir():
        assert (pages.picture(path) is None) == (path.stem in odd.SHOWING_NOTHING)


def test_ghostscript_is_not_started_for_postscript(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*arguments: object, **options: object) -> None:
        raise AssertionError(f"{arguments} would be started")

    for name in ("Popen", "check_call", "run", "check_output"):
        monkeypatch.setattr(subprocess, name, refuse)
    _, content, reason = odd.SHOWING_NOTHING["PostScript"]
    assert str(square(content())).startswith(reason)


PLACES: dict[str, tuple[Callable[[Path], object], str]] = {
    "pipe": (lambda path: os.mkfifo(path), "no regular file"),
    "device": (lambda path: path.symlink_to("/dev/zero"), "no regular file"),
    "endless link": (lambda path: path.symlink_to(path), "Too many levels of symbolic links"),
    "link to nowhere": (lambda path: path.symlink_to("gone.png"), "No such file or directory"),
    "huge": (lambda path: (path.touch(), os.truncate(path, 2**40)), "larger than 1,024 MiB"),
}


@pytest.mark.parametrize("place", PLACES)
def test_what_is_no_file_of_an_image_is_refused_by_name_at_once(place: str, folder: Path, tmp_path: Path) -> None:
    make, reason = PLACES[place]
    for name in ("a", "b"):
        (tmp_path / "photos" / name).mkdir(parents=True)
        odd.picture().save(tmp_path / "photos" / name / "picture.png")
    make(tmp_path / "photos" / "a" / "bad.png")
    start = time.monotonic()
    with pytest.raises(UserError, match=rf"a/bad.png cannot be read \({reason}\): repair or remove it$"):
        read_layout(tmp_path / "photos")
    for path in find_images(str(tmp_path / "photos")):
        if path.name == "bad.png":
            with pytest.raises(OSError, match=reason):
                safe_images.read(path)
    assert pages.picture(tmp_path / "photos" / "a" / "bad.png") is None
    assert time.monotonic() - start < SECONDS


def test_links_are_followed_for_reading_only_and_endless_ones_end(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    odd.picture().save(outside / "picture.png")
    photos = tmp_path / "photos"
    (photos / "a").mkdir(parents=True)
    odd.picture().save(photos / "a" / "picture.png")
    (photos / "a" / "again").symlink_to(photos)
    (photos / "b").symlink_to(outside)
    (photos / "c").symlink_to("c")
    scenes = read_layout(photos).train
    assert scenes.paths == ("a/picture.png", "b/picture.png")
    assert scenes.left_out == ("a/again/",)
    assert [path.relative_to(photos).as_posix() for path in find_images(str(photos))] == [
        "a/picture.png",
        "b/picture.png",
    ]
    assert os.listdir(outside) == ["picture.png"]
