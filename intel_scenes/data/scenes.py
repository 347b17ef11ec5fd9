"""Images of a split: listed and checked on the disk, and identified by digests of their contents."""

import hashlib
import os
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from intel_scenes import safe_images
from intel_scenes.data.file_digests import READ_ALL, FileDigests
from intel_scenes.errors import UserError, counted

HIDDEN = (".", "__MACOSX")  # prefixes of names to ignore; archives from macOS contain __MACOSX


@dataclass(frozen=True, eq=False)
class Scenes:
    """The images of one split, sorted by path.

    Attributes:
        root: Folder that holds the class folders, or that the paths of a labels file are relative to.
        paths: `<class>/<file>` of each image, with forward slashes on every system; or as a labels file writes them.
        labels: Position of each image's class in `classes`, `(N,)`, int64.
        classes: Names of the classes, sorted.
        contents: Digest of each file's bytes, 32 hexadecimal digits.
        left_out: `<class>/<name>` of everything in the class folders that has no suffix of an image format.
        files: Path of each image file, relative to `root` or absolute; None if these are `paths`.
    """

    root: Path
    paths: tuple[str, ...]
    labels: npt.NDArray[np.int64]
    classes: tuple[str, ...]
    contents: tuple[str, ...]
    left_out: tuple[str, ...] = ()
    files: tuple[str, ...] | None = None

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def file(self, index: int) -> Path:
        """Return the path of an image file."""
        return self.root / (self.paths if self.files is None else self.files)[index]

    def where(self, label: int) -> str:
        """Return a class as an error message names it: by its folder if it has one."""
        folder, name = self.root / self.classes[label], self.classes[label]
        return f"the class folder {folder}" if self.has_class_folders else f"the class {name} in {self.root}"

    @property
    def has_class_folders(self) -> bool:
        """Whether every path begins with the name of its class, as in a folder of class folders."""
        names = (self.classes[label] for label in self.labels)
        return all(path.startswith(f"{name}/") for path, name in zip(self.paths, names, strict=True))

    def select(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> "Scenes":
        """Return the images at these positions, in the order given, with the same classes."""
        positions = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            paths=tuple(self.paths[position] for position in positions),
            labels=self.labels[positions],
            contents=tuple(self.contents[position] for position in positions),
            files=None if self.files is None else tuple(self.files[position] for position in positions),
        )


def kaggle_split_folder(root: Path, split: Literal["seg_train", "seg_test"]) -> Path:
    """Return the folder of class folders of a split of Kaggle's Intel scenes: `<split>/<split>` or `<split>`.

    Raises:
        UserError: `root` has neither.
    """
    plain = root / split
    for folder in (plain / split, plain):
        if folder.is_dir():
            return folder
    raise UserError(
        f"no images found in {root}: looked for {plain / split} and {plain}; "
        "set data.root to the folder that holds seg_train and seg_test"
    )


def read_scenes(folder: Path, *, classes: Sequence[str] | None = None, digests: FileDigests = READ_ALL) -> Scenes:
    """List the images of all class folders and identify each by the digest of its content.

    Hidden files and folders are skipped; files without the suffix of an image format are listed in `left_out`.

    Args:
        folder: Folder that holds one folder of images for each class.
        classes: Classes that must be there, and no others; None takes every folder as a class.
        digests: Reads the files, or takes their digests from the cache.

    Raises:
        UserError: There are fewer than two classes; a class folder is missing, empty or not in `classes`; a folder or
            file cannot be read, or its name is not UTF-8.
    """
    folders = _visible_folders(folder)
    names = tuple(sorted(folders if classes is None else classes))
    _check_classes(folder, folders, names)
    labelled, left_out = [], []
    for label, name in enumerate(names):
        images, others = _names(folder / name)
        labelled += [(f"{name}/{file}", label) for file in images]
        left_out += [f"{name}/{file}" for file in others]
    labelled.sort()
    paths = tuple(path for path, _ in labelled)
    labels = np.array([label for _, label in labelled], dtype=np.int64)
    return Scenes(folder, paths, labels, names, digests.of(folder, paths), tuple(sorted(left_out)))


def num_images(folder: Path) -> int:
    """Count the images of all class folders by their names; no file is opened.

    Raises:
        UserError: A class folder is empty, or a folder cannot be read.
    """
    return sum(len(_names(folder / name)[0]) for name in _visible_folders(folder))


def fingerprint(*splits: Scenes) -> str:
    """Return a SHA-256 digest of the relative names and contents of these splits, in this order.

    If the paths do not begin with the names of the classes, the classes are hashed too.
    """
    digest = hashlib.sha256()
    for scenes in splits:
        digest.update(b"split\n")
        has_class_folders = scenes.has_class_folders
        for path, content, label in zip(scenes.paths, scenes.contents, scenes.labels, strict=True):
            name = path if has_class_folders else f"{path}\t{scenes.classes[label]}"
            digest.update(os.fsencode(f"{content} {name}\n"))
    return digest.hexdigest()


def duplicates(test: Scenes, train: Scenes) -> list[str]:
    """Return the paths of the test images whose bytes are also in the training set."""
    train_contents = set(train.contents)
    return [path for path, content in zip(test.paths, test.contents, strict=True) if content in train_contents]


def in_label_conflict(*splits: Scenes) -> list[npt.NDArray[np.bool_]]:
    """Return which images have a byte-identical copy of another class in any of these splits.

    Returns:
        One mask for each split, `(N,)`, bool.
    """
    classes_of = defaultdict(set)
    for scenes in splits:
        for content, label in zip(scenes.contents, scenes.labels, strict=True):
            classes_of[content].add(scenes.classes[label])
    return [np.array([len(classes_of[content]) > 1 for content in scenes.contents], dtype=bool) for scenes in splits]


@cache
def image_suffixes() -> frozenset[str]:
    """Return the file suffixes, in lower case, of the formats that Pillow opens as still images."""
    kinds = Image.registered_extensions().items()
    return frozenset(suffix for suffix, kind in kinds if kind not in safe_images.NO_IMAGES)


def _visible_folders(folder: Path) -> list[str]:
    names = [entry.name for entry in entries(folder) if is_folder(entry)]
    _check_encoding(folder, names)
    return names


def _names(folder: Path) -> tuple[list[str], list[str]]:
    """Return the names of the images in a class folder, and those of everything else in it."""
    # A dangling link counts as an image, so that it is reported as unreadable instead of being skipped silently.
    images: list[str] = []
    others: list[str] = []
    for entry in entries(folder):
        if is_folder(entry):
            others.append(f"{entry.name}/")
        else:
            is_image = Path(entry.name).suffix.lower() in image_suffixes()
            (images if is_image else others).append(entry.name)
    if not images:
        raise UserError(f"the class folder {folder} has no images: put some there, or remove the folder")
    _check_encoding(folder, images)
    return images, others


def _check_encoding(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"the name {name!r} in the folder {folder} is not UTF-8: rename it") from error


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """Return the files and folders in a folder that are not hidden.

    Raises:
        UserError: The folder cannot be listed.
    """
    try:
        with os.scandir(folder) as listing:
            return [entry for entry in listing if not entry.name.startswith(HIDDEN)]
    except OSError as error:
        raise UserError(
            f"the folder {folder} cannot be listed ({error.strerror}): check its path and permissions"
        ) from error


def is_folder(entry: os.DirEntry[str]) -> bool:
    """Return whether an entry is a folder or a link to one; a link that points to itself is not."""
    try:
        return entry.is_dir()
    except OSError:
        return False


def _check_classes(folder: Path, folders: Sequence[str], names: Sequence[str]) -> None:
    check_enough_classes(folder, names)
    if missing := sorted(set(names) - set(folders)):
        raise UserError(
            f"the class folder {folder / missing[0]} is missing, but the training set has this class: "
            "put its images there"
        )
    if extra := sorted(set(folders) - set(names)):
        raise UserError(
            f"the class folder {folder / extra[0]} is none of the classes of the training set "
            f"({', '.join(names)}): move it away, or rename it"
        )


def check_enough_classes(where: Path, names: Sequence[str]) -> None:
    """Check that there are at least two classes.

    Raises:
        UserError: There are fewer.
    """
    if len(names) < 2:
        raise UserError(
            f"{where} has {counted(len(names), 'class', 'classes')} with images, but a classifier needs at least two: "
            "add the images of another class"
        )
