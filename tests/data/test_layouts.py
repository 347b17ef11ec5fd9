"""Which layouts of a folder are taken and which are refused: the two tables that open this file."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pytest

from intel_scenes.data.layouts import Layout, count_test_images, find_splits, read_labelled, read_labels, read_layout
from intel_scenes.data.scenes import fingerprint, read_scenes
from intel_scenes.errors import UserError


def write(root: Path, files: Iterable[str]) -> Path:
    """Files that each hold their own name; `sea/*4` stands for four of them."""
    root.mkdir(parents=True, exist_ok=True)
    for name in files:
        folder, star, count = name.partition("*")
        for file in [f"{folder}{number}.jpg" for number in range(int(count))] if star else [name]:
            (root / file).parent.mkdir(parents=True, exist_ok=True)
            (root / file).write_text(file)
    return root


def classes(*folders: str, count: int = 2) -> list[str]:
    return [f"{folder}/{name}/*{count}" for folder in folders for name in ("forest", "sea")]


TEN_OF_EACH = ["forest/*10", "sea/*10"]
CUT = (
    "train 16, val 10 % of train, test 4 (there is no test split: 20 % of 20 images, split off with data.split_seed=0)"
)

TAKEN = {
    "seg_train and seg_test": (classes("seg_train", "seg_test"), "train 4, val 10 % of train, test 4"),
    "doubled, as Kaggle's copy is": (
        [*classes("seg_train/seg_train", "seg_test/seg_test"), "seg_pred/seg_pred/*3"],
        "train 4, val 10 % of train, test 4",
    ),
    "train and test": (classes("train", "test"), "train 4, val 10 % of train, test 4"),
    "Train, Valid and TEST": (classes("Train", "Valid", "TEST"), "train 4, val 4, test 4"),
    "train, validation and test": (classes("train", "validation", "test"), "train 4, val 4, test 4"),
    "train, dev and test": (classes("train", "dev", "test"), "train 4, val 4, test 4"),
    "seg_train, seg_val and seg_test": (classes("seg_train", "seg_val", "seg_test"), "train 4, val 4, test 4"),
    "in a folder of an archive": (
        [*classes("archive/train", "archive/test"), "__MACOSX/archive/._1.jpg"],
        "train 4, val 10 % of train, test 4",
    ),
    "in a folder of an archive, and doubled": (
        classes("archive/train/train", "archive/test/test"),
        "train 4, val 10 % of train, test 4",
    ),
    "class folders alone": (TEN_OF_EACH, CUT),
    "class folders in a folder of an archive": ([f"flowers/{name}" for name in TEN_OF_EACH], CUT),
    "train alone": ([f"train/{name}" for name in TEN_OF_EACH], CUT),
    "train and val without test": (
        [*(f"train/{name}" for name in TEN_OF_EACH), *classes("val")],
        "train 16, val 4, test 4 (there is no test split: 20 % of 20 images, split off with data.split_seed=0)",
    ),
    "a class that is called train": (["train/*10", "ship/*10"], CUT),
    "files beside the folders": (["readme.txt", "list.csv", *classes("train", "test")], "train 4, val 10 % of train, "),
    "classes whose numbers differ by a hyphen": (["class_1_1/*10", "class_11/*10"], CUT),
    "classes whose numbers differ by a sign": (["-1/*10", "1/*10"], CUT),
}

REFUSED = {
    "no folder": ([], "the folder {0} has no images: set data.root to a folder that holds train and test folders, or "),
    "images without class folders": (
        ["1.jpg", "2.png"],
        "{0} has images but no class folders: put the images of each class into a folder of their own, or list them in "
        "a labels file (data.labels=FILE.csv)",
    ),
    "a test folder without class folders": (
        [*classes("train"), "test/*3"],
        "{0}/test has no class folders: put its images into one folder for each class, list them in a labels file "
        "(data.labels=FILE.csv), or move the folder away",
    ),
    "splits without class folders": (["train/*3", "test/*3"], "{0}/test has no class folders: put its images into"),
    "two folders that mean train": (
        classes("Train", "seg_train", "test"),
        "{0}/Train and {0}/seg_train are both the train split: rename one of them, or move it away",
    ),
    "two folders that mean val": (
        classes("train", "dev", "val", "test"),
        "{0}/dev and {0}/val are both the val split: rename one of them, or move it away",
    ),
    "no train": (
        classes("val", "test"),
        "{0} has val and test images, but no training images: name their split train or seg_train",
    ),
    "a class in train alone": (
        [*classes("train", "test"), "train/lake/1.jpg"],
        "{0} has classes without images in some splits: lake (in train only); every class needs images in each of "
        "train, test: add some, or remove the class",
    ),
    "classes in other splits": (
        [*classes("train", "val", "test"), "val/lake/1.jpg", "test/moor/1.jpg", "val/moor/1.jpg"],
        "{0} has classes without images in some splits: lake (in val only), moor (in val and test only); every class "
        "needs images in each of train, val, test: add some, or remove the class",
    ),
    "an empty class": (
        [*classes("train", "test"), "train/lake/notes.txt", "test/lake/1.jpg"],
        "the class folder {0}/train/lake has no images: put some there, or remove the folder",
    ),
    "two spellings in one split": (
        ["Ice Floe/1.jpg", "ice_floe/1.jpg", "sea/1.jpg"],
        "{0} has the classes 'Ice Floe' and 'ice_floe', which look like two spellings of one: rename one of them",
    ),
    "two spellings in two splits": (
        ["train/sea/1.jpg", "train/ice-floe/1.jpg", "test/sea/1.jpg", "test/icefloe/1.jpg"],
        "{0} has the classes 'ice-floe' and 'icefloe', which look like two spellings of one: rename one of them",
    ),
    "two spellings in Unicode": (
        ["caf\u00e9/1.jpg", "cafe\u0301/1.jpg"],
        "{0} has the classes 'cafe\u0301' and 'caf\u00e9', ",
    ),
    "a single class": (["sea/*3"], "{0} has 1 class with images, but a classifier needs at least two"),
    "classes that hold the splits": (
        ["forest/train/1.jpg", "sea/train/1.jpg"],
        "the class folder {0}/forest has no images: put some there, or remove the folder",
    ),
    "two folders of an archive": (
        classes("archive/archive/archive/train"),
        "{0}/archive has 1 class with images, but a classifier needs at least two",
    ),
    "a class too small to test": (
        ["forest/*10", "sea/*1"],
        "data.test_fraction=0.2 leaves the class sea without an image on one side of the split: change it, or add "
        "images to the class",
    ),
}


def found(root: Path, labels: Path | None = None) -> Layout:
    return read_layout(root, labels).with_test(0.2, seed=0)


@pytest.mark.parametrize("name", TAKEN)
def test_a_layout_is_accepted_and_summarized(name: str, tmp_path: Path) -> None:
    files, told = TAKEN[name]
    layout = found(write(tmp_path, files))
    assert layout.summary(0.1).startswith(told)
    assert layout.summary(0.1).endswith(", 2 classes")
    for scenes in layout.by_split.values():
        assert scenes.classes == layout.train.classes
        assert set(scenes.labels) == {0, 1}
        assert all((scenes.root / path).is_file() for path in scenes.paths)
        assert all(
            path.split("/")[0] == scenes.classes[label] for path, label in zip(scenes.paths, scenes.labels, strict=True)
        )


@pytest.mark.parametrize("name", REFUSED)
def test_a_layout_is_refused_with_its_message(name: str, tmp_path: Path) -> None:
    files, sentence = REFUSED[name]
    with pytest.raises(UserError) as caught:
        found(write(tmp_path, files))
    assert str(caught.value).startswith(sentence.format(tmp_path))


def test_a_missing_folder_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        read_layout(tmp_path / "nowhere")
    assert str(caught.value) == (
        f"the folder {tmp_path}/nowhere does not exist: set data.root to the folder of your images"
    )


def test_kaggles_folders_keep_their_paths_and_their_fingerprint(tmp_path: Path) -> None:
    write(tmp_path, classes("seg_train/seg_train", "seg_test/seg_test"))
    layout = read_layout(tmp_path)
    train, test = (read_scenes(tmp_path / name / name) for name in ("seg_train", "seg_test"))
    assert layout.train.paths == ("forest/0.jpg", "forest/1.jpg", "sea/0.jpg", "sea/1.jpg")
    assert layout.train.root == tmp_path / "seg_train" / "seg_train"
    # The rule of the records that are there: sha256 of a line for each split and each image, content and path.
    expected = hashlib.sha256()
    for scenes in (train, test):
        expected.update(b"split\n")
        for path, content in zip(scenes.paths, scenes.contents, strict=True):
            expected.update(f"{content} {path}\n".encode())
    assert layout.test is not None
    assert fingerprint(layout.train, layout.test) == expected.hexdigest()


def test_a_test_split_is_cut_by_class_with_identical_images_on_one_side(tmp_path: Path) -> None:
    write(tmp_path, ["forest/*40", "sea/*20"])
    for twin, original in (("forest/90.jpg", "forest/3.jpg"), ("sea/91.jpg", "sea/4.jpg"), ("sea/92.jpg", "sea/4.jpg")):
        (tmp_path / twin).write_bytes((tmp_path / original).read_bytes())
    cuts = {seed: read_layout(tmp_path).with_test(0.15, seed) for seed in range(5)}
    for layout in cuts.values():
        assert layout.test is not None
        assert np.bincount(layout.test.labels).tolist() == [6, 3]  # 0.15 of 41 and of 22, rounded
        assert set(layout.test.contents).isdisjoint(layout.train.contents)
        assert sorted(layout.train.paths + layout.test.paths) == sorted(read_scenes(tmp_path).paths)
    assert len({layout.test.paths for layout in cuts.values() if layout.test}) == 5
    again = read_layout(tmp_path).with_test(0.15, 1).test
    assert again is not None
    assert again.paths == cuts[1].test.paths  # type: ignore[union-attr]


def test_without_a_fraction_no_test_split_is_cut(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r" has no test split: set data.test_fraction, such as 0.15, to split one "):
        read_layout(write(tmp_path, TEN_OF_EACH)).with_test(None, seed=0)


def test_train_and_val_are_concatenated_with_the_paths_of_their_files(tmp_path: Path) -> None:
    layout = read_layout(write(tmp_path, classes("train", "val", "test")))
    both = layout.train_and_val
    assert both.paths == ("forest/0.jpg", "forest/1.jpg", "sea/0.jpg", "sea/1.jpg") * 2
    assert [both.file(index).read_text() for index in (0, 4)] == ["train/forest/0.jpg", "val/forest/0.jpg"]
    assert both.select([5]).file(0).read_text() == "val/forest/1.jpg"


def labels_file(root: Path, *lines: str, name: str = "labels.csv") -> Path:
    (root / name).write_text("\n".join(lines) + "\n")
    return root / name


def test_images_of_a_labels_file_have_the_paths_it_writes(tmp_path: Path) -> None:
    write(tmp_path, ["images/*4", "b.jpg"])
    lines = ("Path, Label ,split", "./images/2.jpg,sea,TRAIN", "images/0.jpg,forest,seg_train", "b.jpg,sea,test")
    file = labels_file(tmp_path, *lines, "images/3.jpg,forest,Test", "images/1.jpg,sea,test")
    layout = read_layout(None, file)
    assert layout.test is not None
    assert layout.train.paths == ("./images/2.jpg", "images/0.jpg")
    assert layout.train.labels.tolist() == [1, 0]
    assert layout.train.classes == ("forest", "sea")
    assert layout.test.paths == ("b.jpg", "images/1.jpg", "images/3.jpg")
    assert layout.train.file(0).read_text() == "images/2.jpg"
    assert layout.summary(0.1) == "train 2, val 10 % of train, test 3, 2 classes"


def test_the_paths_of_a_labels_file_are_relative_to_the_root_where_one_is_given(tmp_path: Path) -> None:
    root = write(tmp_path / "images", TEN_OF_EACH)
    lines = [f"{name}/{number}.jpg,{name}" for name in ("forest", "sea") for number in range(10)]
    layout = found(root, labels_file(tmp_path, "path,label", *lines))
    assert layout.summary(0.1).startswith(CUT)
    # Paths that begin with their class are those of class folders, and so is the fingerprint.
    folders = found(root)
    assert layout.test is not None
    assert folders.test is not None
    assert fingerprint(layout.train, layout.test) == fingerprint(folders.train, folders.test)


def test_another_label_of_an_image_without_class_folder_is_another_fingerprint(tmp_path: Path) -> None:
    write(tmp_path, ["*3"])
    files = [labels_file(tmp_path, "path,label", "0.jpg,a", "1.jpg,b", f"2.jpg,{label}", name=label) for label in "ab"]
    one, other = (fingerprint(read_layout(None, file).train) for file in files)
    assert one != other


@pytest.mark.parametrize(
    ("lines", "sentence"),
    [
        (
            ["path,class", "0.jpg,a"],
            "{0} has no column label (its columns: path, class): its first line must be path,label or ",
        ),
        (["0.jpg,a", "1.jpg,b"], "{0} has no column path and no column label (its columns: 0.jpg, a): its first "),
        ([""], "{0} has no column path and no column label (its columns: none): its first line must be "),
        (["path,label"], "the labels file {0} lists no images: add one line for each image"),
        (
            ["path,label", "0.jpg,a", "9.jpg,b", "8.jpg,b"],
            "line 3 of {0} lists 9.jpg, but the file {1}/9.jpg does not exist (2 of 3 images are missing): correct the "
            "path, or set data.root to the folder that the paths are relative to",
        ),
        (
            ["path,label,split", "0.jpg,a,train", "1.jpg,b,holdout"],
            "line 3 of {0} has the unknown split holdout: write train, val or test",
        ),
        (
            ["path,label,split", "0.jpg,a,train", "1.jpg,b,"],
            "line 3 of {0} has no split, but other lines have one: fill it in",
        ),
        (
            ["path,label", "0.jpg,a", "1.jpg,b", "./0.jpg,b"],
            "{0} lists ./0.jpg twice, in lines 2 and 4: remove one of these lines",
        ),
        (["path,label", "0.jpg,a", "1.jpg,"], "line 3 of {0} has no path or no label: fill it in"),
        (["path,label", "0.jpg,A b", "1.jpg,a_b"], "{0} has the classes 'A b' and 'a_b', which look like two "),
        (["path,label", "0.jpg,a", "1.jpg,a"], "{0} has 1 class with images, but a classifier needs at least two"),
        (
            ["path,label,split", "0.jpg,a,train", "1.jpg,b,train", "2.jpg,a,test"],
            "{0} has classes without images in some splits: b (in train only); every class needs images in each of ",
        ),
        (["path,label,split", "0.jpg,a,val", "1.jpg,b,val"], "{0} has val images, but no training images: name their"),
    ],
)
def test_a_faulty_labels_file_is_refused_with_its_message(lines: list[str], sentence: str, tmp_path: Path) -> None:
    file = labels_file(write(tmp_path, ["*3"]), *lines)
    with pytest.raises(UserError) as caught:
        read_layout(None, file)
    assert str(caught.value).startswith(sentence.format(file, tmp_path))


def test_an_unreadable_labels_file_is_a_user_error(tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match=r"^data.labels=.*none.csv cannot be read \(No such file or directory\): give a"
    ):
        read_labels(tmp_path / "none.csv")
    (tmp_path / "latin.csv").write_bytes("path,label\ncaf\u00e9.jpg,a\n".encode("latin-1"))
    with pytest.raises(UserError, match=r"^data.labels=.*latin.csv cannot be read \(.*\): give a CSV file in UTF-8$"):
        read_labels(tmp_path / "latin.csv")


def test_a_labelled_folder_is_read_whole_or_by_split(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole", classes("."))
    assert read_labelled(whole).paths == ("forest/0.jpg", "forest/1.jpg", "sea/0.jpg", "sea/1.jpg")
    parted = write(tmp_path / "parted", [*classes("Test", "val"), "val/lake/1.jpg"])
    assert read_labelled(parted, "test", classes=["forest", "sea"]).root == parted / "Test"
    assert len(read_labelled(parted, "val")) == 5
    assert len(read_labelled(write(tmp_path / "doubled", classes("seg_test/seg_test")))) == 4
    file = labels_file(whole, "path,label,split", "sea/0.jpg,wet,test", "sea/1.jpg,dry,test", "forest/0.jpg,odd,val")
    assert read_labelled(whole, "test", labels=file).classes == ("dry", "wet")


@pytest.mark.parametrize(
    ("folder", "split", "names", "sentence"),
    [
        ("parted", None, None, "{0} has the splits train and test: choose one of them, such as split=test"),
        ("parted", "val", None, "{0} has no val split: choose split=train or split=test"),
        ("whole", "test", None, "{0} has no splits: leave out split=test to evaluate on all of its images, or "),
        (
            "whole",
            None,
            ["forest", "lake", "sea"],
            "{0} has no images of lake: it needs images of each of the classes forest, lake, sea",
        ),
        ("whole", None, ["lake", "sea"], "{0} has no images of lake: it needs images of each of the classes lake, sea"),
        (
            "parted",
            "test",
            ["sea"],
            "{0} has images of forest, but the classes are sea: move these images away, or rename their class",
        ),
        ("whole", None, ["Forest", "sea"], "{0} has the classes 'Forest' and 'forest', which look like "),
        ("nowhere", None, None, "the folder {0} does not exist: set data.root to the folder of your images"),
    ],
)
def test_a_folder_that_cannot_be_evaluated_on_is_refused_with_its_message(
    folder: str, split: str | None, names: list[str] | None, sentence: str, tmp_path: Path
) -> None:
    write(tmp_path / "whole", classes("."))
    write(tmp_path / "parted", classes("train", "test"))
    with pytest.raises(UserError) as caught:
        read_labelled(tmp_path / folder, split, classes=names)  # type: ignore[arg-type]
    assert str(caught.value).startswith(sentence.format(tmp_path / folder))


def test_test_images_are_counted_without_opening_one(tmp_path: Path) -> None:
    assert (
        count_test_images(write(tmp_path / "a", [*classes("train"), "test/sea/*3", "test/forest/*4"]), None, 0.15) == 7
    )
    assert count_test_images(write(tmp_path / "b", TEN_OF_EACH), None, 0.15) == 3
    file = labels_file(tmp_path, "path,label,split", *(f"{number}.jpg,a,test" for number in range(5)))
    assert count_test_images(None, file, 0.15) == 5
    rows = [f"{number}.jpg,a,{'val' if number < 4 else 'train'}" for number in range(24)]
    assert count_test_images(None, labels_file(tmp_path, "path,label,split", *rows), 0.15) == 3, (
        "cut from the 20 of train"
    )
    with pytest.raises(UserError, match=r" has no test images: add a test split, or set data.test_fraction$"):
        count_test_images(tmp_path / "b", None, None)


def test_the_folders_of_the_splits_come_in_the_order_train_val_test(tmp_path: Path) -> None:
    assert find_splits(write(tmp_path, classes("test", "valid", "TRAIN"))) == {
        **{"train": tmp_path / "TRAIN", "val": tmp_path / "valid", "test": tmp_path / "test"}
    }
