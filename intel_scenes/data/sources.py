"""Sources of images: Kaggle's Intel scenes, a folder of one's own, or drawn scenes."""

import logging
import os
import shutil
import socket
import textwrap
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import getproxies

import numpy as np
from filelock import FileLock

from intel_scenes.data import progress_bar
from intel_scenes.data.drawn_scenes import KINDS, draw_scene
from intel_scenes.data.file_digests import FileDigests
from intel_scenes.data.layouts import Layout, read_layout
from intel_scenes.data.scenes import kaggle_split_folder, read_scenes
from intel_scenes.errors import UserError

logger = logging.getLogger(__name__)

KAGGLE_PAGE = "https://www.kaggle.com/datasets/puneet6060/intel-image-classification"
# The version is pinned so that a copy in kagglehub's cache is found without a request for the newest version.
_KAGGLE_HANDLE = "puneet6060/intel-image-classification/versions/2"
_BY_HAND = (
    f"download the Intel scenes from {KAGGLE_PAGE}, unpack them and set data.root=FOLDER or INTEL_SCENES_DATA=FOLDER; "
    "or use data=synthetic, which needs no download"
)
_KAGGLE_ADDRESS = ("api.kaggle.com", 443)
_CONNECT_SECONDS = 5

# Increased whenever the drawn pixels change, so that folders drawn by earlier versions are not reused.
_DRAWING_VERSION = 1


@dataclass(frozen=True)
class Kaggle:
    """Kaggle's Intel scenes, in `root` or downloaded to it; see `kaggle_folder`."""

    root: Path | None

    def read(self, cache_dir: Path, digests: FileDigests) -> Layout:
        """Return the images of `seg_train` and `seg_test`, downloading them first if necessary."""
        return _of_kaggles_folders(kaggle_folder(self.root), digests)


@dataclass(frozen=True)
class Folder:
    """A folder of labelled images, or the images that a labels file lists; see `read_layout`."""

    root: Path | None
    labels: Path | None = None

    def read(self, cache_dir: Path, digests: FileDigests) -> Layout:
        """Return the images of the folder."""
        return read_layout(self.root, self.labels, digests)


@dataclass(frozen=True)
class Drawn:
    """Drawn scenes; see `drawn_folder`."""

    num_train: int
    num_test: int
    size: int
    seed: int

    def read(self, cache_dir: Path, digests: FileDigests) -> Layout:
        """Return the images of a folder below `cache_dir`, drawing them first if necessary."""
        folder = drawn_folder(
            cache_dir, num_train=self.num_train, num_test=self.num_test, size=self.size, seed=self.seed
        )
        return _of_kaggles_folders(folder, digests)


Source = Kaggle | Folder | Drawn


def _of_kaggles_folders(root: Path, digests: FileDigests) -> Layout:
    train = read_scenes(kaggle_split_folder(root, "seg_train"), digests=digests)
    test = read_scenes(kaggle_split_folder(root, "seg_test"), classes=train.classes, digests=digests)
    return Layout(train, test=test)


def kaggle_folder(root: Path | None) -> Path:
    """Return a folder that holds Kaggle's Intel scenes, downloading them first (350 MB) if necessary.

    Args:
        root: Folder that holds `seg_train`, or a missing or empty folder to download to; a download is complete or
            leaves nothing. None uses kagglehub's cache. (A Kaggle notebook mounts its own copy; that is returned.)

    Raises:
        UserError: `root` holds something else or cannot be written, or the download failed.
    """
    if root is None:
        return _cached_or_downloaded()
    if (root / "seg_train").is_dir():
        return root
    try:
        _check_nothing_else(root)
        root.mkdir(parents=True, exist_ok=True)
        # The processes of a sweep may all start here: one downloads, the others wait for it.
        with FileLock(root / ".download.lock"):
            return root if (root / "seg_train").is_dir() else _downloaded_into(root)
    except OSError as error:
        raise UserError(f"the folder {root} cannot be written ({error}): choose another data.root") from error


def drawn_folder(cache_dir: Path, *, num_train: int, num_test: int, size: int, seed: int) -> Path:
    """Return a folder of drawn scenes in Kaggle's layout, drawing them first if necessary.

    An image depends only on `seed`, its split, its kind and its number.

    Args:
        cache_dir: Folder in which the folder of scenes is created, complete or not at all.
        num_train: Number of images in `seg_train`, spread evenly over the kinds.
        num_test: Number of images in `seg_test`, spread evenly over the kinds.
        size: Side of the images in pixels.
        seed: Seed of the images, not negative.

    Raises:
        UserError: There are fewer images than kinds, or `cache_dir` cannot be written.
    """
    if min(num_train, num_test) < len(KINDS):
        raise UserError(
            f"data.num_train={num_train} and data.num_test={num_test} must each be at least {len(KINDS)}, so that "
            "every class has an image"
        )
    folder = cache_dir / f"drawn-{num_train}-{num_test}-{size}px-seed{seed}-v{_DRAWING_VERSION}"
    if folder.is_dir():
        return folder
    try:
        cache_dir.mkdir(parents=True, exist_ok=True)
        with TemporaryDirectory(dir=cache_dir, prefix=".drawing-") as temporary:
            unfinished = Path(temporary) / folder.name
            _draw_all(unfinished, {"seg_train": num_train, "seg_test": num_test}, size, seed)
            _publish(unfinished, folder)
    except OSError as error:
        raise UserError(
            f"drawn scenes cannot be written to {cache_dir} ({error}): choose another data.cache_dir"
        ) from error
    return folder


def _check_nothing_else(root: Path) -> None:
    # The other two parts are allowed, because an interrupted move leaves them there.
    names = {entry.name for entry in root.iterdir()} - {"seg_test", "seg_pred"} if root.is_dir() else set()
    if others := sorted(name for name in names if not name.startswith(".")):
        raise UserError(
            f"{root} holds {others[0]} but no seg_train: set data.root to the folder that holds seg_train and "
            "seg_test, or to an empty or new folder to download them; for images of your own, add data=folder"
        )


def _cached_or_downloaded() -> Path:
    from kagglehub.cache import Cache, get_cache_folder
    from kagglehub.handle import parse_dataset_handle

    cache = Path(get_cache_folder())
    try:
        cache.mkdir(parents=True, exist_ok=True)
        with FileLock(cache / "intel-scenes.lock"):
            cached = Cache().load_from_cache(parse_dataset_handle(_KAGGLE_HANDLE))
            return Path(cached) if cached else _downloaded(cache)
    except OSError as error:
        raise UserError(f"kagglehub's cache {cache} cannot be written ({error}): set data.root=FOLDER") from error


def _downloaded_into(root: Path) -> Path:
    incoming = root / ".download"
    try:
        folder = _downloaded(root, output_dir=incoming)
        if folder != incoming:
            return folder
        # seg_train is moved last: if it exists, everything does.
        for part in ("seg_pred", "seg_test", "seg_train"):
            if (incoming / part).exists() and not (root / part).exists():
                (incoming / part).rename(root / part)
        return root
    finally:
        shutil.rmtree(incoming, ignore_errors=True)


def _downloaded(place: Path, output_dir: Path | None = None) -> Path:
    import kagglehub

    # kagglehub prints its progress to stdout, which is reserved for the results of a command.
    logging.getLogger("kagglehub").setLevel(logging.WARNING)
    arguments = {"output_dir": str(output_dir), "force_download": True} if output_dir else {}
    try:
        _check_connection()
        # A warning, so that it reaches stderr even if logging is not configured.
        logger.warning("downloading the Intel scenes from Kaggle (350 MB) to %s", place)
        folder = Path(kagglehub.dataset_download(_KAGGLE_HANDLE, **arguments))
    except Exception as error:  # of a dozen unrelated classes: requests, kagglehub, zipfile, OSError
        reason = textwrap.shorten(f"{type(error).__name__}: {error}", 200)
        raise UserError(f"{place} has no images, and the download failed ({reason}): {_BY_HAND}") from error
    if not (folder / "seg_train").is_dir():
        raise UserError(f"the download from Kaggle in {folder} has no seg_train: {_BY_HAND}")
    return folder


def _check_connection() -> None:
    """Raise an OSError within seconds if there is no network, because kagglehub's requests have no timeout."""
    if "KAGGLE_KERNEL_RUN_TYPE" in os.environ:  # a Kaggle notebook may have the data set but no network
        return
    if not getproxies().keys() & {"http", "https", "all"}:
        socket.create_connection(_KAGGLE_ADDRESS, timeout=_CONNECT_SECONDS).close()


def _draw_all(folder: Path, counts: dict[str, int], size: int, seed: int) -> None:
    with progress_bar.bar(sum(counts.values()), "drawing scenes") as bar:
        for split_number, (split, count) in enumerate(counts.items()):
            for kind_number, kind in enumerate(KINDS):
                class_folder = folder / split / kind
                class_folder.mkdir(parents=True)
                for number in range(kind_number, count, len(KINDS)):
                    generator = np.random.default_rng([seed, split_number, kind_number, number])
                    draw_scene(kind, size, generator).save(class_folder / f"{number}.jpg", quality=90)
                    bar.update()


def _publish(unfinished: Path, folder: Path) -> None:
    try:
        unfinished.rename(folder)
    except OSError:
        if not folder.is_dir():  # otherwise another process has drawn the same images first
            raise
