from pathlib import Path

import pytest

from intel_scenes.errors import UserError
from intel_scenes.inference.image_files import find_images, name_of


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in (
        "b.JPG",
        "a.png",
        "notes.txt",
        ".hidden.jpg",
        "deep/er/c.webp",
        "deep/d.jpg",
        ".git/e.jpg",
        "x[1].jpg",
    ):
        path = tmp_path / "photos" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    (tmp_path / "empty").mkdir()
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.mark.parametrize(
    ("images", "names"),
    [
        ("photos", ["a.png", "b.JPG", "x[1].jpg", "deep/d.jpg", "deep/er/c.webp"]),
        ("photos/b.JPG", ["b.JPG"]),
        ("photos/notes.txt", ["notes.txt"]),  # named itself: that it is none is told when it is read
        ("photos/x[1].jpg", ["x[1].jpg"]),  # a file's own name comes before a pattern
        ("photos/*.jpg", ["x[1].jpg"]),
        ("photos/*", ["a.png", "b.JPG", "deep/d.jpg", "deep/er/c.webp", "x[1].jpg"]),
        ("photos/**/*.*", ["a.png", "b.JPG", "deep/d.jpg", "deep/er/c.webp", "x[1].jpg"]),
        (["photos/deep", "photos/a.png", "photos/deep/d.jpg"], ["deep/d.jpg", "deep/er/c.webp", "a.png"]),
    ],
)
def test_folders_files_and_patterns_are_listed_each_image_once(root: Path, images: str, names: list[str]) -> None:
    assert find_images(images) == [Path("photos", name) for name in names]


@pytest.mark.parametrize(
    ("images", "said"),
    [
        ("none", "images=none: there is no such file or folder; give a folder, a file or a pattern"),
        ("empty", "images=empty: no image matches; give a folder, a file or a pattern of images"),
        ("photos/*.gif", "images=photos/*.gif: no image matches; give a folder, a file or a pattern of images"),
        (["photos", "none"], "images=none: there is no such file or folder; give a folder, a file or a pattern"),
        ([], "images=[] names no image: give a folder, a file or a pattern"),
    ],
)
def test_no_image_is_one_sentence(root: Path, images: str, said: str) -> None:
    with pytest.raises(UserError) as error:
        find_images(images)
    assert str(error.value) == said


def test_links_are_followed_once(root: Path) -> None:
    (root / "linked").mkdir()
    (root / "linked" / "photos").symlink_to(root / "photos" / "deep")
    (root / "linked" / "back").symlink_to(root / "linked")
    assert find_images("linked") == [Path("linked/photos/d.jpg"), Path("linked/photos/er/c.webp")]


def test_a_name_of_any_bytes_can_be_written() -> None:
    assert name_of(Path("a\udcff.jpg")) == "a\\udcff.jpg"
