"""How a folder of labelled images is laid out: by split and class folders, class folders alone, or a labels file."""

import csv
import os
import re
import unicodedata
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from intel_scenes.data.scenes import Scenes, check_enough_classes, entries, image_suffixes, num_images, read_scenes
from intel_scenes.data.scenes import digests as digests_of
from intel_scenes.data.splits import stratified_split
from intel_scenes.errors import UserError, counted

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

# What folders and the `split` column of a labels file call a split, in any capitalization.
NAMES: dict[str, Split] = {
    **dict.fromkeys(("train", "seg_train"), "train"),
    **dict.fromkeys(("val", "valid", "validation", "dev", "seg_val"), "val"),
    **dict.fromkeys(("test", "seg_test"), "test"),
}
MAY_BE_A_CLASS = "train"  # beside car and ship, say; no class is called test or val
COLUMNS = ("path", "label")


@dataclass(frozen=True, eq=False)
class Layout:
    """The labelled images that were found, by split.

    Attributes:
        train: What is trained on, and validated on where `val` is None.
        val: The images of a validation split that was there.
        test: The test images; None where there is no such split (yet).
        test_fraction: Share of the images found as train that became `test`; None where nothing was cut.
        split_seed: Of that cut.
    """

    train: Scenes
    val: Scenes | None = None
    test: Scenes | None = None
    test_fraction: float | None = None
    split_seed: int | None = None

    def with_test(self, fraction: float | None, seed: int) -> "Layout":
        """The same with a test split, which is cut from train where there is none: see `stratified_split`.

        Args:
            fraction: Share of the images in train; None cuts none.
            seed: Of the cut.

        Raises:
            UserError: There is none and none is to be cut, or a class would be left without images.
        """
        if self.test is not None:
            return self
        if fraction is None:
            raise UserError(f"{self.train.root} has no test split: set data.test_fraction=0.15 to cut one")
        train = self.train
        parts = stratified_split(
            train.labels, train.contents, fraction, seed, train.classes, fraction_key="data.test_fraction"
        )
        rest, cut = map(train.select, parts)
        return replace(self, train=rest, test=replace(cut, left_out=()), test_fraction=fraction, split_seed=seed)

    @property
    def by_split(self) -> dict[str, Scenes]:
        """The images of "train", "val" and "test", those that are there."""
        found = {"train": self.train, "val": self.val, "test": self.test}
        return {split: scenes for split, scenes in found.items() if scenes is not None}

    @property
    def train_and_val(self) -> Scenes:
        """The images of train, then those of a validation split that was there."""
        return self.train if self.val is None else joined(self.train, self.val)

    def told(self, val_fraction: float | None) -> str:
        """What was found, as in `train 14,034, val 10 % of train, test 3,000, 6 classes`.

        Args:
            val_fraction: Share of train that validates, where no validation split was there; None for none.
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
                of_each[-1] += f" (no test split was there: {share}, cut with data.split_seed={self.split_seed})"
        return ", ".join([*of_each, f"{len(self.train.classes)} classes"])


def joined(first: Scenes, second: Scenes) -> Scenes:
    """The images of two splits with the same classes, those of the first before those of the second."""
    return Scenes(
        root=first.root,
        paths=first.paths + second.paths,
        labels=np.concatenate([first.labels, second.labels]),
        classes=first.classes,
        contents=first.contents + second.contents,
        left_out=first.left_out,
        files=tuple(str(one.file(index).absolute()) for one in (first, second) for index in range(len(one))),
    )


def read_layout(root: Path | None, labels: Path | None = None) -> Layout:
    """Finds and reads the images to train on.

    Args:
        root: Holds train, val and test folders or class folders, itself or in the one folder in it; or what the paths
            of `labels` are relative to, by default the folder of that file.
        labels: A labels file, in place of class folders; see `read_labels`.

    Raises:
        UserError: There are no images, or none of train; or a class is empty, in some splits only or spelt in two ways.
    """
    found = _read(root, labels)
    if None in found:
        return Layout(found[None])
    if "train" not in found:
        there = " and ".join(split for split in SPLITS if split in found)
        names = " or ".join(name for name, split in NAMES.items() if split == "train")
        raise UserError(f"{labels or root} has images of {there}, but none of train: name their split {names}")
    return Layout(found["train"], found.get("val"), found.get("test"))


def read_labelled(
    folder: Path, split: Split | None = None, *, classes: Sequence[str] | None = None, labels: Path | None = None
) -> Scenes:
    """Reads a whole labelled folder, or one split of it, to evaluate on.

    Args:
        folder: In any layout that `read_layout` takes; train need not be there.
        split: Which of its splits; None for a folder that has none, or no other than one.
        classes: The classes that the images must have, and no others; by default whatever is there.
        labels: A labels file, whose paths are relative to `folder`.

    Raises:
        UserError: There are no images, no such split, or several where none is named; or the classes are others.
    """
    found = _read(folder, labels, only=split, classes=classes)
    there = " and ".join(str(one) for one in found)
    if split is not None and None in found:
        raise UserError(
            f"{labels or folder} has no splits: leave split={split} out to take all of its images; evaluate run=RUN "
            "without data.root shows the figures of a split that the run cut itself"
        )
    if split is not None and split not in found:
        raise UserError(f"{labels or folder} has no {split} split, but {there}: choose one of these")
    if split is None and len(found) > 1:
        raise UserError(f"{labels or folder} has the splits {there}: choose one, such as split={list(found)[-1]}")
    return found[split] if split in found else next(iter(found.values()))


def find_splits(root: Path) -> dict[Split, Path]:
    """The folder of class folders of each split, by its name in any capitalization; empty where there are no splits.

    They lie in `root` or in the one folder in it, and may be doubled, as Kaggle's are (`train/train`).

    Raises:
        UserError: Two folders mean one split, or one has no class folders.
    """
    place = _place(root)
    found: dict[Split, Path] = {}
    flat = []
    for name in _folders(place):
        split, folder = NAMES.get(name.lower()), place / name
        if split is None:
            continue
        if not _folders(folder):
            flat.append(name)
            continue
        if split in found:
            raise UserError(f"{found[split]} and {folder} both mean {split}: keep one of them, or rename the other")
        found[split] = _doubled(folder, split)
    if flat and (found or flat != [name for name in flat if name.lower() == MAY_BE_A_CLASS]):
        raise UserError(
            f"{place / flat[0]} has no class folders: put its images into a folder for each class, name them in a "
            "labels file (data.labels=FILE.csv), or move the folder away"
        )
    return {split: found[split] for split in SPLITS if split in found}


def count_test(root: Path | None, labels: Path | None, fraction: float | None) -> int:
    """About how many test images there will be: images are counted by their names, and none is opened.

    Args:
        root: As `read_layout` takes it.
        labels: As `read_layout` takes it.
        fraction: Share of the images that is cut as the test split, where there is none.

    Raises:
        UserError: There are none.
    """
    if labels is not None:
        splits = [row.split for row in _rows(labels)]
        number = splits.count("test") or round((fraction or 0) * (len(splits) - splits.count("val")))
    else:
        assert root is not None
        found = find_splits(root)
        folder, share = (found["test"], 1.0) if "test" in found else (found.get("train", _place(root)), fraction or 0)
        number = round(share * num_images(folder))
    if not number:
        raise UserError(f"{labels or root} has no test images")
    return number


def _read(
    root: Path | None, labels: Path | None, *, only: Split | None = None, classes: Sequence[str] | None = None
) -> dict[Split | None, Scenes]:
    """The images by split, those of no split under None."""
    if labels is not None:
        return read_labels(labels, root, only=only, classes=classes)
    assert root is not None
    if not root.is_dir():
        raise UserError(f"no images found: there is no folder {root}, set data.root to the one that holds them")
    folders: dict[Split | None, Path] = dict(find_splits(root).items())
    if not folders:
        folders = {None: _place(root)}
        _check_not_bare(root)
    if only in folders:
        folders = {only: folders[only]}
    names = {split: _folders(folder) for split, folder in folders.items()}
    _check_classes(names, root, classes)
    return {split: read_scenes(folder, classes=names[split]) for split, folder in folders.items()}


def read_labels(
    file: Path, root: Path | None = None, *, only: Split | None = None, classes: Sequence[str] | None = None
) -> dict[Split | None, Scenes]:
    """Reads the images that a labels file names, by split; those of a file without splits under None.

    Args:
        file: CSV with the columns `path`, `label` and perhaps `split`, one image on a line.
        root: What its paths are relative to; None for the folder of the file.
        only: The split to read, where the file has it.
        classes: The classes that the images must have, and no others; by default whatever is there.

    Returns:
        The images, sorted by path; `paths` are as the file writes them.

    Raises:
        UserError: The file cannot be read, lacks a column or names no image; an image is missing or named twice; a
            split is unknown; a class is in some splits only or spelt in two ways.
    """
    base = file.parent if root is None else root
    rows = list(_rows(file))
    if not rows:
        raise UserError(f"no images found: {file} has no line below its heading")
    _check_images(file, base, rows)
    by_split: dict[Split | None, list[_Row]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row.path):
        by_split[row.split].append(row)
    if None in by_split and len(by_split) > 1:
        raise UserError(f"{file}, line {by_split[None][0].line}, has no split, but others have: fill it in")
    if only in by_split:
        by_split = {only: by_split[only]}
    names = {split: sorted({row.label for row in of_split}) for split, of_split in by_split.items()}
    _check_classes(names, file, classes)
    found: dict[Split | None, Scenes] = {}
    for split in (None, *SPLITS):
        if of_split := by_split.get(split):
            paths = tuple(row.path for row in of_split)
            labels = np.array([names[split].index(row.label) for row in of_split], dtype=np.int64)
            check_enough_classes(file, names[split])
            found[split] = Scenes(base, paths, labels, tuple(names[split]), digests_of(base, paths))
    return found


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
                    f"{file} has no column {' and none '.join(missing)}, but {', '.join(columns) or 'none at all'}: "
                    "its first line must be path,label or path,label,split"
                )
            for values in reader:
                path, label, split = ((values.get(columns.get(name, "")) or "").strip() for name in (*COLUMNS, "split"))
                if not path or not label:
                    raise UserError(f"{file}, line {reader.line_num}, lacks its path or label: fill it in")
                if split and split.lower() not in NAMES:
                    raise UserError(
                        f"{file}, line {reader.line_num}, has the unknown split {split}: write {', '.join(SPLITS)}"
                    )
                yield _Row(reader.line_num, path, label, NAMES.get(split.lower()))
    except OSError as error:
        raise UserError(f"data.labels={file} cannot be read ({error.strerror}): give a CSV file") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise UserError(f"data.labels={file} cannot be read ({error}): give a CSV file in UTF-8") from error


def _check_images(file: Path, base: Path, rows: Sequence[_Row]) -> None:
    """Refuses an image that is missing or named twice."""
    lines: dict[str, int] = {}
    for row in rows:
        place = os.path.normpath(base / row.path)
        if place in lines:
            raise UserError(f"{file} names {row.path} twice, in lines {lines[place]} and {row.line}: keep one of them")
        lines[place] = row.line
    if missing := [row for row in rows if not (base / row.path).is_file()]:
        first = missing[0]
        others = f" ({counted(len(missing), 'image')} of {len(rows):,} are missing)" if len(missing) > 1 else ""
        raise UserError(
            f"{file}, line {first.line}, names {first.path}, but there is no file {base / first.path}{others}: "
            "mend the path, or set data.root to the folder that the paths are relative to"
        )


def _check_classes(
    names: Mapping[Split | None, Sequence[str]], where: Path, classes: Sequence[str] | None = None
) -> None:
    """Refuses two spellings of one class, and classes that some splits have and others have not.

    Args:
        names: Of the classes of each split.
        where: They were found.
        classes: That there must be.
    """
    everywhere = {name for of_split in names.values() for name in of_split}
    _check_spellings(everywhere | set(classes or ()), where)
    if classes is not None:
        if missing := sorted(set(classes) - everywhere):
            raise UserError(f"{where} has no images of {', '.join(missing)}: the classes are {', '.join(classes)}")
        if others := sorted(everywhere - set(classes)):
            raise UserError(
                f"{where} has images of {', '.join(others)}, which is none of the classes {', '.join(classes)}: "
                "move them away, or rename the class"
            )
    apart = [
        f"{name} (in {' and '.join(str(split) for split in names if name in names[split])} only)"
        for name in sorted(everywhere)
        if not all(name in of_split for of_split in names.values())
    ]
    if apart:
        splits = ", ".join(str(split) for split in names)
        raise UserError(
            f"{where} has images of a class in some splits only: {', '.join(apart)}: each class needs images in each "
            f"of {splits}; move some there, or remove the class"
        )


def _check_spellings(names: Iterable[str], where: Path) -> None:
    spelt: dict[str, str] = {}
    for name in sorted(names):
        # Not between two digits, and not as a sign: class_1_1 is not class_11, and -1 is not 1.
        plain = unicodedata.normalize("NFKC", name).casefold()
        plain = re.sub(r"(?<=\D)[\s_-]+|(?<=\d)[\s_-]+(?!\d)", "", plain)
        if plain in spelt:
            raise UserError(
                f"{where} has {spelt[plain]!r} and {name!r}, two spellings of one class: rename one of them"
            )
        spelt[plain] = name


def _check_not_bare(root: Path) -> None:
    """Refuses a folder without folders."""
    if _folders(root):
        return
    if any(Path(entry.name).suffix.lower() in image_suffixes() for entry in entries(root)):
        raise UserError(
            f"{root} has images but no class folders: put the images of each class into a folder of their own, or name "
            "them in a labels file (data.labels=FILE.csv)"
        )
    raise UserError(
        f"no images found in {root}: set data.root to a folder that holds train and test folders, or class folders"
    )


def _place(root: Path) -> Path:
    """Where splits or classes lie: in the root, or in the one folder in it."""
    names = _folders(root)
    if len(names) == 1 and names[0].lower() not in NAMES and _folders(root / names[0]):
        return root / names[0]
    return root


def _doubled(folder: Path, split: Split) -> Path:
    """The folder of the same split in a split's folder, where there is one."""
    inner = [name for name in _folders(folder) if NAMES.get(name.lower()) == split and _folders(folder / name)]
    return folder / inner[0] if inner else folder


def _folders(folder: Path) -> list[str]:
    """Names of the visible folders in one, sorted."""
    return sorted(entry.name for entry in entries(folder) if entry.is_dir())


def _percent(fraction: float) -> str:
    return f"{100 * fraction:g} %"
