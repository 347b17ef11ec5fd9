import hashlib
import os
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from intel_scenes.data.scenes import (
    Scenes,
    duplicates,
    fingerprint,
    in_label_conflict,
    kaggle_split_folder,
    read_scenes,
)
from intel_scenes.errors import UserError


def write(folder: Path, files: dict[str, bytes]) -> Path:
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def read(folder: Path, files: dict[str, bytes]) -> Scenes:
    return read_scenes(write(folder, files))


def test_kaggles_doubled_folder_is_preferred_to_the_plain_one(tmp_path: Path) -> None:
    write(tmp_path, {"seg_train/sea/1.jpg": b"", "seg_test/seg_test/sea/1.jpg": b""})
    assert kaggle_split_folder(tmp_path, "seg_train") == tmp_path / "seg_train"
    assert kaggle_split_folder(tmp_path, "seg_test") == tmp_path / "seg_test" / "seg_test"


def test_a_missing_split_is_a_user_error_that_names_both_places(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        kaggle_split_folder(tmp_path, "seg_test")
    assert str(caught.value) == (
        f"no images found in {tmp_path}: looked for {tmp_path}/seg_test/seg_test and {tmp_path}/seg_test; "
        "set data.root to the folder that holds seg_train and seg_test"
    )


def test_images_are_sorted_by_path_and_labelled_by_class(tmp_path: Path) -> None:
    scenes = read(tmp_path, {"sea/2.jpg": b"a", "forest/9.jpg": b"b", "sea/10.jpg": b"c"})
    assert scenes.classes == ("forest", "sea")
    assert scenes.paths == ("forest/9.jpg", "sea/10.jpg", "sea/2.jpg")
    assert scenes.labels.tolist() == [0, 1, 1]
    assert scenes.labels.dtype == np.int64
    assert (scenes.root / scenes.paths[2]).read_bytes() == b"a"


def test_an_empty_file_and_a_known_text_have_their_published_digests(tmp_path: Path) -> None:
    scenes = read(tmp_path, {"forest/abc.jpg": b"abc", "sea/empty.jpg": b""})
    # `printf abc | b2sum --length=128` and `printf "" | b2sum --length=128` of GNU coreutils 9.1
    assert scenes.contents == ("cf4ab791c62b8d2b2109c90275287816", "cae66941d9efbd404e4d88758ea67670")


def test_only_visible_files_with_an_images_suffix_count(tmp_path: Path) -> None:
    images = ["a.jpg", "b.JPEG", "c.Png", "d.bmp", "e.gif", "f.webp", "g.tif", "h.TIFF", "i.ppm"]
    images += ["j.jfif", "k.pgm", "l.jp2"]
    if ".avif" in Image.registered_extensions():  # since Pillow 11.3
        images.append("m.avif")
    others = ["Thumbs.db", ".DS_Store", ".hidden.jpg", "notes.txt", "jpg", "folder.jpg/inside.jpg"]
    others += ["film.mpg", "page.pdf", "drawing.eps"]
    files = {f"sea/{name}": b"" for name in images + others} | {"forest/1.jpg": b"", ".git/1.jpg": b"", "list.csv": b""}
    scenes = read(tmp_path, files)
    assert scenes.classes == ("forest", "sea")
    assert scenes.paths[1:] == tuple(f"sea/{name}" for name in images)
    left_out = ["Thumbs.db", "drawing.eps", "film.mpg", "folder.jpg/", "jpg", "notes.txt", "page.pdf"]
    assert scenes.left_out == tuple(f"sea/{name}" for name in left_out)


@pytest.mark.parametrize("name", [b"sea/caf\xe9.jpg", b"caf\xe9/1.jpg"])
def test_a_name_that_is_not_utf_8_is_refused(name: bytes, tmp_path: Path) -> None:
    write(tmp_path, {"sea/1.jpg": b"", "forest/1.jpg": b""})
    try:
        write(tmp_path, {os.fsdecode(name): b""})
    except OSError:
        pytest.skip("this file system has no such names")
    with pytest.raises(UserError) as caught:
        read_scenes(tmp_path)
    shown = "'caf\\udce9.jpg'" if name.startswith(b"sea") else "'caf\\udce9'"
    folder = tmp_path / "sea" if name.startswith(b"sea") else tmp_path
    assert str(caught.value) == f"the name {shown} in the folder {folder} is not UTF-8: rename it"


def test_the_test_split_takes_the_classes_of_train(tmp_path: Path) -> None:
    write(tmp_path, {"sea/1.jpg": b"", "forest/1.jpg": b""})
    assert read_scenes(tmp_path, classes=["forest", "sea"]).labels.tolist() == [0, 1]


@pytest.mark.parametrize(
    ("files", "classes", "sentence"),
    [
        (["sea/1.jpg"], None, "{0} has 1 class with images, but a classifier needs at least two"),
        (["sea/1.jpg", "forest/notes.txt"], None, "the class folder {0}/forest has no images: put some there, or "),
        (
            ["sea/1.jpg"],
            ["forest", "sea"],
            "the class folder {0}/forest is missing, but the training set has this class",
        ),
        (
            ["a/1.jpg", "b/1.jpg", "c/1.jpg"],
            ["a", "b"],
            "the class folder {0}/c is none of the classes of the training set (a, b)",
        ),
    ],
)
def test_wrong_class_folders_are_refused_with_their_message(
    files: list[str], classes: list[str] | None, sentence: str, tmp_path: Path
) -> None:
    write(tmp_path, dict.fromkeys(files, b""))
    with pytest.raises(UserError) as caught:
        read_scenes(tmp_path, classes=classes)
    assert str(caught.value).startswith(sentence.format(tmp_path))


def test_an_unreadable_file_is_a_user_error(tmp_path: Path) -> None:
    write(tmp_path, {"sea/1.jpg": b"", "forest/1.jpg": b""})
    (tmp_path / "sea" / "broken.jpg").symlink_to(tmp_path / "nowhere.jpg")
    with pytest.raises(
        UserError, match=r"^the file .*/sea/broken.jpg cannot be read \(No such file or directory\): repair or remove"
    ):
        read_scenes(tmp_path)


def test_a_folder_that_cannot_be_listed_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"^the folder .*/nowhere cannot be listed \(No such file or directory\)"):
        read_scenes(tmp_path / "nowhere")


def test_a_selection_keeps_the_given_order_and_all_classes(tmp_path: Path) -> None:
    scenes = read(tmp_path, {"a/1.jpg": b"x", "b/1.jpg": b"y", "b/2.jpg": b"z"})
    chosen = scenes.select(np.array([2, 1]))
    assert chosen.paths == ("b/2.jpg", "b/1.jpg")
    assert chosen.labels.tolist() == [1, 1]
    assert chosen.contents == (scenes.contents[2], scenes.contents[1])
    assert chosen.classes == ("a", "b")
    assert len(scenes.select([])) == 0


def test_the_fingerprint_does_not_depend_on_the_location(tmp_path: Path) -> None:
    files = {"a/1.jpg": b"x", "b/1.jpg": b"y"}
    assert fingerprint(read(tmp_path / "here", files)) == fingerprint(read(tmp_path / "there", files))


def test_the_fingerprint_changes_with_a_name_a_byte_and_the_order_of_splits(tmp_path: Path) -> None:
    train = read(tmp_path / "train", {"a/1.jpg": b"x", "b/1.jpg": b"y"})
    renamed = read(tmp_path / "renamed", {"a/2.jpg": b"x", "b/1.jpg": b"y"})
    changed = read(tmp_path / "changed", {"a/1.jpg": b"z", "b/1.jpg": b"y"})
    orders = [
        (train,),
        (renamed,),
        (changed,),
        (train, renamed),
        (renamed, train),
        (train.select([0]), train.select([1])),
    ]
    assert len({fingerprint(*splits) for splits in orders}) == len(orders)


def test_duplicates_are_test_images_whose_bytes_are_in_train_under_any_name(tmp_path: Path) -> None:
    train = read(tmp_path / "train", {"a/1.jpg": b"same", "b/1.jpg": b"other"})
    test = read(tmp_path / "test", {"a/7.jpg": b"new", "b/8.jpg": b"same", "b/9.jpg": b"new"})
    assert duplicates(test, train) == ["b/8.jpg"]


def test_a_label_conflict_needs_two_classes_and_is_found_across_splits(tmp_path: Path) -> None:
    train = read(
        tmp_path / "train", {"a/1.jpg": b"twice", "a/2.jpg": b"twice", "a/3.jpg": b"odd", "b/1.jpg": b"within"}
    )
    train = train.select([0, 1, 2, 3])
    test = read(tmp_path / "test", {"a/1.jpg": b"within", "b/1.jpg": b"odd", "b/2.jpg": b"alone"})
    in_train, in_test = in_label_conflict(train, test)
    assert in_train.tolist() == [False, False, True, True]
    assert in_test.tolist() == [True, True, False]
    assert not in_label_conflict(train)[0].any()


@pytest.fixture(scope="module")
def real_root() -> Path:
    if "INTEL_SCENES_DATA" not in os.environ:
        pytest.skip("INTEL_SCENES_DATA does not name the folder of the real images")
    return Path(os.environ["INTEL_SCENES_DATA"])


def test_the_real_images_have_their_published_counts_and_known_duplicates(real_root: Path) -> None:
    train = read_scenes(kaggle_split_folder(real_root, "seg_train"))
    assert np.bincount(train.labels).tolist() == [2191, 2271, 2404, 2512, 2274, 2382]
    assert len(train.contents) - len(set(train.contents)) == 15
    assert in_label_conflict(train)[0].sum() == 20  # ten pairs under two labels


def test_the_real_images_in_both_splits_are_those_with_equal_sha256(real_root: Path) -> None:
    by_digest = defaultdict(set)
    for split in ("seg_train", "seg_test"):
        for file in (real_root / split).rglob("*.jpg"):
            by_digest[hashlib.sha256(file.read_bytes()).hexdigest()].add((split, f"{file.parent.name}/{file.name}"))
    shared = [group for group in by_digest.values() if len({split for split, _ in group}) == 2]
    train = read_scenes(kaggle_split_folder(real_root, "seg_train"))
    test = read_scenes(kaggle_split_folder(real_root, "seg_test"), classes=train.classes)
    assert duplicates(test, train) == sorted(name for group in shared for split, name in group if split == "seg_test")
    in_train, in_test = in_label_conflict(train, test)
    conflicts = [group for group in by_digest.values() if len({name.split("/")[0] for _, name in group}) > 1]
    assert in_train.sum() + in_test.sum() == sum(len(group) for group in conflicts)
