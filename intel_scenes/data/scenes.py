"""Find and check the images of a folder, and name what they hold by content."""

import hashlib
import os
import time
from collections import defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from intel_scenes.errors import UserError

# Pillow registers their suffixes, but shows no still image of them: it would need Ghostscript or Windows, or they are
# films, or data that it merely recognizes or writes.
NO_IMAGES = frozenset({"EPS", "WMF", "MPEG", "FLI", "BUFR", "GRIB", "HDF5", "PDF", "PALM"})

HIDDEN = (".", "__MACOSX")  # how names begin of what no one put there: archives of macOS hold the second

CLOCK_SECONDS = 2.0  # a file system's clock may be as coarse: a second change within it leaves no trace


@dataclass(frozen=True, eq=False)
class Scenes:
    """The images of one split, sorted by path.

    Attributes:
        root: The folder that holds the class folders, or what the paths of a labels file are relative to.
        paths: `<class>/<file>` of each image, with forward slashes on every system; or as a labels file writes them.
        labels: Position of each image's class in `classes`, `(N,)`, int64.
        classes: Names of the classes, sorted.
        contents: Digest of each file's bytes, 32 hexadecimal digits.
        left_out: `<class>/<name>` of what lies in the class folders and is no image by its suffix.
        files: Where each image lies, relative to `root` or absolute; None where that is `paths`.
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
        """Return where an image lies."""
        return self.root / (self.paths if self.files is None else self.files)[index]

    def where(self, label: int) -> str:
        """Return a class as an error names it: by its folder where it has one."""
        folder, name = self.root / self.classes[label], self.classes[label]
        return f"the class folder {folder}" if self.has_class_folders else f"the class {name} in {self.root}"

    @property
    def has_class_folders(self) -> bool:
        """Tell whether every path begins with the name of its class, as in a folder of class folders."""
        names = (self.classes[label] for label in self.labels)
        return all(path.startswith(f"{name}/") for path, name in zip(self.paths, names, strict=True))

    def select(self, indices: Sequence[int] | npt.NDArray[np.integer]) -> "Scenes":
        """Return the images at these positions, in the order given; the classes stay."""
        positions = np.asarray(indices, dtype=np.int64)
        return replace(
            self,
            paths=tuple(self.paths[position] for position in positions),
            labels=self.labels[positions],
            contents=tuple(self.contents[position] for position in positions),
            files=None if self.files is None else tuple(self.files[position] for position in positions),
        )


def find_split(root: Path, split: Literal["seg_train", "seg_test"]) -> Path:
    """Return the folder of class folders of a split, in Kaggle's doubled layout or a plain one.

    Raises:
        UserError: `root` has neither `<split>/<split>` nor `<split>`.
    """
    plain = root / split
    for folder in (plain / split, plain):
        if folder.is_dir():
            return folder
    raise UserError(
        f"no images found in {root}: looked for {plain / split} and {plain}; "
        "set data.root to the folder that holds seg_train and seg_test"
    )


def read_scenes(folder: Path, *, classes: Sequence[str] | None = None) -> Scenes:
    """List the images of all class folders and read each for its digest.

    Hidden files and folders are passed over, and what is no image by its suffix is left out.

    Args:
        folder: Holds one folder of images for each class.
        classes: The class folders that must be there, and no others; by default whatever is there.

    Raises:
        UserError: Fewer than two classes; a class folder that is missing, empty or not in `classes`; a folder or
            file that cannot be read, or whose name no record can hold.
    """
    found = _visible_folders(folder)
    names = tuple(sorted(found if classes is None else classes))
    _check_classes(folder, found, names)
    labelled, left_out = [], []
    for label, name in enumerate(names):
        images, others = _names(folder / name)
        labelled += [(f"{name}/{file}", label) for file in images]
        left_out += [f"{name}/{file}" for file in others]
    labelled.sort()
    paths = tuple(path for path, _ in labelled)
    labels = np.array([label for _, label in labelled], dtype=np.int64)
    return Scenes(folder, paths, labels, names, digests(folder, paths), tuple(sorted(left_out)))


def num_images(folder: Path) -> int:
    """Count the images of all class folders by their names; no file is opened.

    Raises:
        UserError: A class folder is empty, or a folder cannot be read.
    """
    return sum(len(_names(folder / name)[0]) for name in _visible_folders(folder))


def fingerprint(*splits: Scenes) -> str:
    """Return a SHA-256 over the relative names and contents of these splits, in this order, wherever they lie.

    The name of an image holds its class; where it does not, the class is hashed beside it.
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
    """Return the paths of the test images whose bytes are also in train."""
    known = set(train.contents)
    return [path for path, content in zip(test.paths, test.contents, strict=True) if content in known]


def in_label_conflict(*splits: Scenes) -> list[npt.NDArray[np.bool_]]:
    """Tell which images have a byte-identical twin of another class, in any of these splits.

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
    """The suffixes, in small letters, of the files that Pillow opens as still images."""
    return frozenset(suffix for suffix, kind in Image.registered_extensions().items() if kind not in NO_IMAGES)


def _visible_folders(folder: Path) -> list[str]:
    names = [entry.name for entry in entries(folder) if entry.is_dir()]
    _check_encoding(folder, names)
    return names


def _names(folder: Path) -> tuple[list[str], list[str]]:
    """Of the images in a class folder, and of what else is there."""
    # A dangling link counts as an image, so that reading it fails by name instead of leaving it out in silence.
    images: list[str] = []
    others: list[str] = []
    for entry in entries(folder):
        if entry.is_dir():
            others.append(f"{entry.name}/")
        else:
            is_image = Path(entry.name).suffix.lower() in image_suffixes()
            (images if is_image else others).append(entry.name)
    if not images:
        raise UserError(f"no images in the class folder {folder}: put some there, or remove the folder")
    _check_encoding(folder, images)
    return images, others


def _check_encoding(folder: Path, names: Sequence[str]) -> None:
    for name in names:
        try:
            name.encode()
        except UnicodeEncodeError as error:
            raise UserError(f"the name {name!r} in the folder {folder} is not UTF-8: rename it") from error


def entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder and is not hidden.

    Raises:
        UserError: It cannot be listed.
    """
    try:
        with os.scandir(folder) as found:
            return [entry for entry in found if not entry.name.startswith(HIDDEN)]
    except OSError as error:
        raise UserError(
            f"cannot list the folder {folder} ({error.strerror}): check its path and permissions"
        ) from error


def _check_classes(folder: Path, found: Sequence[str], names: Sequence[str]) -> None:
    check_enough_classes(folder, names)
    if missing := sorted(set(names) - set(found)):
        raise UserError(f"the class folder {folder / missing[0]} is missing: train has images of this class")
    if extra := sorted(set(found) - set(names)):
        raise UserError(f"the class folder {folder / extra[0]} is not among the classes of train: {', '.join(names)}")


def check_enough_classes(where: Path, names: Sequence[str]) -> None:
    """Check that there is something to tell apart.

    Raises:
        UserError: There are fewer than two classes.
    """
    if len(names) < 2:
        raise UserError(f"{where} needs at least two classes with images, but has {len(names)}")


def digests(folder: Path, paths: Sequence[str]) -> tuple[str, ...]:
    """Return the digest of each file's bytes, 32 hexadecimal digits.

    Raises:
        UserError: A file cannot be read.
    """
    # Threads hide the disk's latency; a task for each file would cost more than its hash.
    chunks = [paths[start : start + 256] for start in range(0, len(paths), 256)]
    with ThreadPoolExecutor(max_workers=8) as pool:
        digested = pool.map(lambda chunk: [_digest(folder / path) for path in chunk], chunks)
        return tuple(digest for digests in digested for digest in digests)


# The runs of a sweep mostly share their images: of a file that has not changed since, the digest is known (worth half
# of a start, `bench what=ablation`).
known_digests: dict[tuple[str, int, int, int, int], str] = {}


def _digest(path: Path) -> str:
    try:
        found = path.stat()
        key = (str(path.absolute()), found.st_ino, found.st_size, found.st_mtime_ns, found.st_ctime_ns)
        if key in known_digests:
            return known_digests[key]
        digest = hashlib.blake2b(path.read_bytes(), digest_size=16).hexdigest()
        if time.time() - found.st_ctime > CLOCK_SECONDS:
            known_digests[key] = digest
        return digest
    except OSError as error:
        raise UserError(f"cannot read {path} ({error.strerror}): repair or remove the file") from error
