"""Layouts of labelled images: split and class folders, class folders alone, or a labels file."""

import csv
import logging
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from intel_scenes.data.file_digests import READ_ALL, FileDigests
from intel_scenes.data.scenes import (
    Scenes,
    check_enough_classes,
    entries,
    image_suffixes,
    is_folder,
    num_images,
    read_scenes,
)
from intel_scenes.data.splits import stratified_split
from intel_scenes.errors import UserError, counted

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

# Names of the splits, in any capitalization, for folders and for the `split` column of a labels file.
SPLIT_NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "seg_train"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "seg_val"), "val"),
    **dict.fromkeys(("test", "seg_test"), "test"),
}
MAY_BE_A_CLASS = "train"  # a folder "train" beside "car" and "ship" may be a class; "test" and "val" never are
NOT_A_SPLIT = ("seg_pred", "__MACOSX")  # beside the splits in archives of Kaggle
COLUMNS = ("path", "label")

log = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Layout:
    """The labelled images of a folder or labels file, by split.

    Attributes:
        train: Training images; validation images are cut from them if `val` is None.
        val: Images of the folder's own validation split; None if it has none.
        test: Test images; None if there is no test split (yet).
        test_fraction: Share of the training images that was cut to become `test`; None if none was cut.
        split_seed: Seed of that cut.
    """

    train: Scenes
    val: Scenes | None = None
    test: Scenes | None = None
    test_fraction: float | None = None
    split_seed: int | None = None

    def with_test(self, fraction: float | None, seed: int) -> "Layout":
        """Return the layout with a test split; if there is none, cut it from the training images.

        Args:
            fraction: Share of the training images to cut (see `stratified_split`); None cuts none.
            seed: Seed of the cut.

        Raises:
            UserError: There is no test split and `fraction` is None, or a class would have no image on one side.
        """
        if self.test is not None:
            return self
        if fraction is None:
            raise UserError(
                f"{self.train.root} has no test split: set data.test_fraction, such as 0.15, to split one off"
            )
        train = self.train
        parts = stratified_split(
            train.labels, train.contents, fraction, seed, train.classes, fraction_key="data.test_fraction"
        )
        rest, cut = map(train.select, parts)
        return replace(self, train=rest, test=replace(cut, left_out=()), test_fraction=fraction, split_seed=seed)

    @property
    def by_split(self) -> dict[str, Scenes]:
        """Images of the splits that exist, by "train", "val" and "test"."""
        splits = {"train": self.train, "val": self.val, "test": self.test}
        return {split: scenes for split, scenes in splits.items() if scenes is not None}

    @property
    def train_and_val(self) -> Scenes:
        """Training images, followed by those of the folder's own validation split if it has one."""
        return self.train if self.val is None else concatenated(self.train, self.val)

    def summary(self, val_fraction: float | None) -> str:
        """Return the number of images of each split, as in `train 14,034, val 10 % of train, test 3,000, 6 classes`.

        Args:
            val_fraction: Share of the training images that is cut for validation if `val` is None; None cuts none.
        """
        of_each = [f"train {len(self.train):,}"]
        if self.val is not None:
            of_each.append(f"val {len(self.val):,}")
        elif val_fraction is not None:
            of_each.append(f"val {_percent(val_fraction)} of train")
        if self.test is not None:
            of_each.append(f"test {len(self.test):,}")
            if self.test_fraction is not None:
                share = f"{_percent(self.test_fraction)} of {counted(len(self.train) + len(self.test), 'image')}"
                of_each[-1] += f" (there is no test split: {share}, split off with data.split_seed={self.split_seed})"
        return ", ".join([*of_each, f"{len(self.train.classes)} classes"])


def concatenated(first: Scenes, second: Scenes) -> Scenes:
    """Return the images of two splits with the same classes as one list."""
    return Scenes(
        root=first.root,
        paths=first.paths + second.paths,
        labels=np.concatenate([first.labels, second.labels]),
        classes=first.classes,
        contents=first.contents + second.contents,
        left_out=first.left_out,
        files=tuple(str(scenes.file(index).absolute()) for scenes in (first, second) for index in range(len(scenes))),
    )


def read_layout(root: Path | None, labels: Path | None = None, digests: FileDigests = READ_ALL) -> Layout:
    """Read the images to train, validate and test on.

    Args:
        root: Folder with train, val and test folders or with class folders, directly or in its only subfolder; with
            `labels`, the folder that its paths are relative to (None for the folder of the labels file).
        labels: A labels file, in place of class folders; see `read_labels`.
        digests: Reads the files, or takes their digests from the cache.

    Raises:
        UserError: There are no images or no training images; or a class is empty, in some splits only, or spelled in
            two ways.
    """
    scenes = _read(root, labels, digests=digests)
    if None in scenes:
        return Layout(scenes[None])
    if "train" not in scenes:
        present = " and ".join(split for split in SPLITS if split in scenes)
        names = " or ".join(name for name, split in SPLIT_NAMES.items() if split == "train")
        raise UserError(f"{labels or root} has {present} images, but no training images: name their split {names}")
    return Layout(scenes["train"], scenes.get("val"), scenes.get("test"))


def read_labelled(
    folder: Path, split: Split | None = None, *, classes: Sequence[str] | None = None, labels: Path | None = None
) -> Scenes:
    """Read a whole labelled folder, or one split of it, to evaluate on.

    Args:
        folder: Folder in any layout that `read_layout` takes; it needs no training images.
        split: Split to read; None if the folder has no splits or only one.
        classes: Classes that the images must have, and no others; None takes those that are there.
        labels: A labels file, whose paths are relative to `folder`.

    Raises:
        UserError: There are no images; `split` does not exist, or is None although there are several; or the classes
            differ from `classes`.
    """
    scenes = _read(folder, labels, only=split, classes=classes)
    *others, last = map(str, scenes)
    present = f"{', '.join(others)} and {last}"
    if split is not None and None in scenes:
        raise UserError(
            f"{labels or folder} has no splits: leave out split={split} to evaluate on all of its images, or leave out "
            "data.root to evaluate on the splits that the run made itself"
        )
    if split is not None and split not in scenes:
        raise UserError(f"{labels or folder} has no {split} split: choose split={' or split='.join(map(str, scenes))}")
    if split is None and len(scenes) > 1:
        raise UserError(
            f"{labels or folder} has the splits {present}: choose one of them, such as split={list(scenes)[-1]}"
        )
    return scenes[split] if split in scenes else next(iter(scenes.values()))


def find_splits(root: Path) -> dict[Split, Path]:
    """Return the folder of class folders of each split; empty if there are no split folders.

    Split folders are recognized by name in any capitalization, in `root` or in its only subfolder, and may be nested
    as Kaggle's are (`seg_train/seg_train`).

    Raises:
        UserError: Two folders mean the same split, or a split folder has no class folders.
    """
    place = _place(root)
    split_folders: dict[Split, Path] = {}
    flat = []
    for name in _folders(place):
        split, folder = SPLIT_NAMES.get(name.lower()), place / name
        if split is None:
            continue
        if not _folders(folder):
            flat.append(name)
            continue
        if split in split_folders:
            raise UserError(
                f"{split_folders[split]} and {folder} are both the {split} split: rename one of them, or move it away"
            )
        nested = [name for name in _folders(folder) if SPLIT_NAMES.get(name.lower()) == split]
        nested = [name for name in nested if _folders(folder / name)]
        split_folders[split] = folder / nested[0] if nested else folder
    if flat and (split_folders or flat != [name for name in flat if name.lower() == MAY_BE_A_CLASS]):
        raise UserError(
            f"{place / flat[0]} has no class folders: put its images into one folder for each class, list them in a "
            "labels file (data.labels=FILE.csv), or move the folder away"
        )
    return {split: split_folders[split] for split in SPLITS if split in split_folders}


def count_test_images(root: Path | None, labels: Path | None, fraction: float | None) -> int:
    """Return about how many test images there will be, counted by file name; no file is opened.

    Args:
        root: As in `read_layout`.
        labels: As in `read_layout`.
        fraction: Share of the images that is cut for the test split if there is none.

    Raises:
        UserError: There would be none.
    """
    if labels is not None:
        splits = [row.split for row in _rows(labels)]
        number = splits.count("test") or round((fraction or 0) * (len(splits) - splits.count("val")))
    else:
        assert root is not None
        folders = find_splits(root)
        if "test" in folders:
            number = num_images(folders["test"])
        else:
            number = round((fraction or 0) * num_images(folders.get("train", _place(root))))
    if not number:
        raise UserError(f"{labels or root} has no test images: add a test split, or set data.test_fraction")
    return number


def _read(
    root: Path | None,
    labels: Path | None,
    *,
    only: Split | None = None,
    classes: Sequence[str] | None = None,
    digests: FileDigests = READ_ALL,
) -> dict[Split | None, Scenes]:
    """Return the images by split; the key is None if there are no splits."""
    if labels is not None:
        return read_labels(labels, root, only=only, classes=classes, digests=digests)
    assert root is not None
    if not root.is_dir():
        raise UserError(f"the folder {root} does not exist: set data.root to the folder of your images")
    folders: dict[Split | None, Path] = dict(find_splits(root).items())
    if folders:
        _warn_of_other_folders(_place(root))
    else:
        folders = {None: _place(root)}
        _check_has_folders(root)
    if only in folders:
        folders = {only: folders[only]}
    names = {split: _folders(folder) for split, folder in folders.items()}
    _check_classes(names, root, classes)
    return {split: read_scenes(folder, classes=names[split], digests=digests) for split, folder in folders.items()}


def _warn_of_other_folders(place: Path) -> None:
    """Warn of class folders in a folder beside the splits, which may be a split under an unknown name."""
    others = [name for name in _folders(place) if name.lower() not in SPLIT_NAMES and name not in NOT_A_SPLIT]
    if others := [name for name in others if _folders(place / name)]:
        log.warning("%s is not a split and is not used: if it is one, name it train, val or test", place / others[0])


def read_labels(
    file: Path,
    root: Path | None = None,
    *,
    only: Split | None = None,
    classes: Sequence[str] | None = None,
    digests: FileDigests = READ_ALL,
) -> dict[Split | None, Scenes]:
    """Read the images that a labels file lists.

    Args:
        file: CSV file with the columns `path`, `label` and optionally `split`, one image per line.
        root: Folder that its paths are relative to; None for the folder of the file.
        only: Split to read, if the file has it.
        classes: Classes that the images must have, and no others; None takes those that are there.
        digests: Reads the files, or takes their digests from the cache.

    Returns:
        The images by split, sorted by path, with `paths` as the file writes them; the key is None if there is no split.

    Raises:
        UserError: The file cannot be read, lacks a column or lists no image; an image is missing or listed twice; a
            split is unknown; a class is in some splits only, or spelled in two ways.
    """
    base = file.parent if root is None else root
    rows = list(_rows(file))
    if not rows:
        raise UserError(f"the labels file {file} lists no images: add one line for each image")
    _check_images(file, base, rows)
    by_split: dict[Split | None, list[_Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.path):
        by_split[row.split].append(row)
    if None in by_split and len(by_split) > 1:
        raise UserError(f"line {by_split[None][0].line} of {file} has no split, but other lines have one: fill it in")
    if only in by_split:
        by_split = {only: by_split[only]}
    names = {split: sorted({row.label for row in of_split}) for split, of_split in by_split.items()}
    _check_classes(names, file, classes)
    every_path = [row.path for of_split in by_split.values() for row in of_split]
    content_of = dict(zip(every_path, digests.of(base, every_path, listed_in=file), strict=True))
    scenes: dict[Split | None, Scenes] = {}
    for split in (None, *SPLITS):
        if of_split := by_split.get(split):
            paths = tuple(row.path for row in of_split)
            labels = np.array([names[split].index(row.label) for row in of_split], dtype=np.int64)
            check_enough_classes(file, names[split])
            contents = tuple(content_of[path] for path in paths)
            scenes[split] = Scenes(base, paths, labels, tuple(names[split]), contents)
    return scenes


@dataclass(frozen=True)
class _Row:
    """A line of a labels file."""

    line: int
    path: str
    label: str
    split: Split | None


def _rows(file: Path) -> Iterator[_Row]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as opened:
            reader = csv.DictReader(opened, skipinitialspace=True)
            columns = {name.strip().lower(): name for name in reader.fieldnames or () if name}
            if missing := [name for name in COLUMNS if name not in columns]:
                raise UserError(
                    f"{file} has no column {' and no column '.join(missing)} (its columns: "
                    f"{', '.join(columns) or 'none'}): its first line must be path,label or path,label,split"
                )
            for values in reader:
                path, label, split = ((values.get(columns.get(name, "")) or "").strip() for name in (*COLUMNS, "split"))
                if not path or not label:
                    raise UserError(f"line {reader.line_num} of {file} has no path or no label: fill it in")
                if split and split.lower() not in SPLIT_NAMES:
                    raise UserError(
                        f"line {reader.line_num} of {file} has the unknown split {split}: write train, val or test"
                    )
                yield _Row(reader.line_num, path, label, SPLIT_NAMES.get(split.lower()))
    except OSError as error:
        raise UserError(f"data.labels={file} cannot be read ({error.strerror}): give a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.labels={file} cannot be read ({error}): give a CSV file in UTF-8") from error


def _check_images(file: Path, base: Path, rows: Sequence[_Row]) -> None:
    """Raise a UserError if an image is missing or listed twice."""
    lines: dict[str, int] = {}
    for row in rows:
        place = os.path.normpath(base / row.path)
        if place in lines:
            raise UserError(
                f"{file} lists {row.path} twice, in lines {lines[place]} and {row.line}: remove one of these lines"
            )
        lines[place] = row.line
    if missing := [row for row in rows if not (base / row.path).is_file()]:
        first = missing[0]
        others = f" ({len(missing):,} of {len(rows):,} images are missing)" if len(missing) > 1 else ""
        raise UserError(
            f"line {first.line} of {file} lists {first.path}, but the file {base / first.path} does not exist{others}: "
            "correct the path, or set data.root to the folder that the paths are relative to"
        )


def _check_classes(
    names: Mapping[Split | None, Sequence[str]], where: Path, classes: Sequence[str] | None = None
) -> None:
    """Raise a UserError if a class is spelled in two ways, is missing in a split, or is not the expected one.

    Args:
        names: Class names by split.
        where: Folder or labels file that they come from.
        classes: Classes that there must be, and no others; None takes any.
    """
    everywhere = {name for of_split in names.values() for name in of_split}
    _check_spellings(everywhere | set(classes or ()), where)
    if classes is not None:
        if missing := sorted(set(classes) - everywhere):
            raise UserError(
                f"{where} has no images of {', '.join(missing)}: it needs images of each of the classes "
                f"{', '.join(classes)}"
            )
        if others := sorted(everywhere - set(classes)):
            raise UserError(
                f"{where} has images of {', '.join(others)}, but the classes are {', '.join(classes)}: "
                "move these images away, or rename their class"
            )
    apart = [
        f"{name} (in {' and '.join(str(split) for split in names if name in names[split])} only)"
        for name in sorted(everywhere)
        if not all(name in of_split for of_split in names.values())
    ]
    if apart:
        splits = ", ".join(str(split) for split in names)
        raise UserError(
            f"{where} has classes without images in some splits: {', '.join(apart)}; every class needs images in each "
            f"of {splits}: add some, or remove the class"
        )


def _check_spellings(names: Iterable[str], where: Path) -> None:
    spellings: dict[str, str] = {}
    for name in sorted(names):
        # Separators count between two digits and at the start: class_1_1 is not class_11, and -1 is not 1.
        plain = unicodedata.normalize("NFKC", name).casefold()
        plain = re.sub(r"(?<=\D)[\s_-]+|(?<=\d)[\s_-]+(?!\d)", "", plain)
        if plain in spellings:
            raise UserError(
                f"{where} has the classes {spellings[plain]!r} and {name!r}, which look like two spellings of one: "
                "rename one of them"
            )
        spellings[plain] = name


def _check_has_folders(root: Path) -> None:
    """Raise a UserError if a folder has no subfolders."""
    if _folders(root):
        return
    if any(Path(entry.name).suffix.lower() in image_suffixes() for entry in entries(root)):
        raise UserError(
            f"{root} has images but no class folders: put the images of each class into a folder of their own, or list "
            "them in a labels file (data.labels=FILE.csv)"
        )
    raise UserError(
        f"the folder {root} has no images: set data.root to a folder that holds train and test folders, or class "
        "folders"
    )


def _place(root: Path) -> Path:
    """Return the folder of the split or class folders: `root`, or its only subfolder."""
    names = _folders(root)
    if len(names) == 1 and names[0].lower() not in SPLIT_NAMES and _folders(root / names[0]):
        return root / names[0]
    return root


def _folders(folder: Path) -> list[str]:
    """Return the names of the visible subfolders, sorted."""
    return sorted(entry.name for entry in entries(folder) if is_folder(entry))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g} %"
