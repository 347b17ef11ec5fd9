"""The images of a run, from its resolved configuration."""

import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from intel_scenes.data.augment import Augmentation
from intel_scenes.data.batches import View
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.data.mixing import Mixing
from intel_scenes.data.sources import drawn_folder, kaggle_folder
from intel_scenes.errors import UserError, counted
from intel_scenes.models.weights import preprocessing_of

log = logging.getLogger(__name__)

NUM_NAMED = 5  # of what is left out


def data_module(plain: dict[str, Any]) -> SceneDataModule:
    """The images of a resolved configuration, as a network with its weights sees them.

    Raises:
        UserError: They cannot be had or read, or the augmentation is out of range.
    """
    data = plain["data"]
    cache_dir, view = Path(data["cache_dir"]).expanduser(), view_of(plain)
    module = SceneDataModule(
        _root(data, cache_dir),
        view=view,
        augmentation=augmentation(plain),
        mixing=Mixing(plain["recipe"]["mixup"], plain["recipe"]["cutmix"]),
        train_sizes=train_sizes(plain, view.size, plain["epochs"]),
        test_views=plain["recipe"]["views"],
        batch_size=data["batch_size"],
        seed=plain["seed"],
        val_fraction=data["val_fraction"],
        split_seed=data["split_seed"],
        store_size=data["store_size"] or view.resize,
        store_rule=data["store_rule"],
        cache_dir=cache_dir,
        on_unreadable=data["on_unreadable"],
        exclude=_excluded(data["exclude"]),
    )
    _tell(module, cache_dir)
    return module


def _tell(module: SceneDataModule, cache_dir: Path) -> None:
    """Says how photographs are stored, and which files are not what one may think."""
    if module.store_rule == "whole":
        log.info(
            "%s train and %s test images are stored whole, up to 2:1, with a shorter side of %d px: %s in %s",
            f"{len(module.images.labels):,}",
            f"{len(module.test_images.labels):,}",
            module.store_size,
            _readable(module.images.values.nbytes + module.test_images.values.nbytes),
            cache_dir,
        )
    if others := module.left_out:
        few = ", ".join(others[:NUM_NAMED]) + (", ..." if len(others) > NUM_NAMED else "")
        few = few.encode(errors="backslashreplace").decode()  # any name may be among them
        what = counted(len(others), "entry", "entries")
        log.warning("left out %s of the class folders that are no image files: %s", what, few)
    if lost := [path for reasons in module.unreadable.values() for path in reasons]:
        log.warning("%s could not be decoded; skipped: %s", counted(len(lost), "image"), ", ".join(lost))
    if twins := module.test_duplicates:
        are = "is" if len(twins) == 1 else "are"
        log.warning("%s %s also in train: %s", counted(len(twins), "test image"), are, ", ".join(twins))


def _readable(num_bytes: int) -> str:
    return f"{num_bytes / 1e9:.1f} GB" if num_bytes >= 1e9 else f"{num_bytes / 1e6:.1f} MB"


def _excluded(path: object) -> frozenset[str]:
    """The images that a file lists, one `<class>/<file>` on a line; lines that begin with # say nothing."""
    if path is None:
        return frozenset()
    if not isinstance(path, str):
        raise UserError(f"data.exclude={path} must be the name of a text file")
    try:
        lines = [line.strip() for line in Path(path).expanduser().read_text().splitlines()]
    except (OSError, UnicodeDecodeError) as error:
        raise UserError(
            f"data.exclude={path} cannot be read ({getattr(error, 'strerror', None) or error}): give a text file"
        ) from error
    return frozenset(line.removeprefix("seg_train/") for line in lines if line and not line.startswith("#"))


def augmentation(plain: dict[str, Any]) -> Augmentation:
    """What a training image goes through.

    Raises:
        UserError: It is out of range.
    """
    try:
        return Augmentation(**plain["augment"])
    except (TypeError, ValueError) as error:
        raise UserError(f"augment: {error}") from error


def _root(data: dict[str, Any], cache_dir: Path) -> Path:
    root = Path(data["root"]).expanduser() if data["root"] else None
    if data["source"] == "synthetic":
        return drawn_folder(
            cache_dir,
            num_train=data["num_train"],
            num_test=data["num_test"],
            size=data["store_size"],
            seed=data["drawing_seed"],
        )
    if data["source"] == "folder":
        if root is None:
            raise UserError("data=folder needs data.root=FOLDER, which holds seg_train/CLASS and seg_test/CLASS")
        return root
    return kaggle_folder(root)


def train_sizes(plain: dict[str, Any], size: int, epochs: int) -> list[int]:
    """Of the crops in each epoch: those that are given, one after the other for equal parts of the training."""
    sizes = given_sizes(plain, size)
    return [sizes[epoch * len(sizes) // epochs] for epoch in range(epochs)]


def given_sizes(plain: dict[str, Any], size: int) -> list[int]:
    """Of the training crops, in the order of the epochs that they are shared out to; by default that of evaluation."""
    given = plain["recipe"]["train_size"] or size
    return given if isinstance(given, list) else [given]


def view_of(plain: Mapping[str, Any]) -> View:
    """How the network of a resolved configuration sees the stored images.

    Raises:
        UserError: There is no such network.
    """
    seen = preprocessing_of(plain["model"]["name"], plain["model"]["weights"])
    size = plain["data"]["image_size"] or seen.crop_size
    fraction = plain["data"]["crop_fraction"] or seen.crop_size / seen.resize_size
    return View(size, round(size / fraction), seen.interpolation, seen.mean, seen.std)
