"""The LightningDataModule: a folder of scenes in, batches ready for a network out."""

from collections.abc import Collection, Iterable, Sequence
from copy import copy
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from intel_scenes.data.augment import NUM_DRAWS, Augmentation, augment, draw
from intel_scenes.data.batches import Batch, EvalBatches, Stored, TrainBatches, View, prepare, shapes_of, views
from intel_scenes.data.buffers import on_device
from intel_scenes.data.mixing import NUM_DRAWS as NUM_MIXING_DRAWS
from intel_scenes.data.mixing import Mixing, mix
from intel_scenes.data.packed import Packed, StoreRule, pack, pack_whole
from intel_scenes.data.scenes import Scenes, duplicates, find_split, fingerprint, in_label_conflict, read_scenes
from intel_scenes.data.splits import Indices, stratified_mask, stratified_split
from intel_scenes.errors import UserError, counted

# Of evaluation, where training has smaller batches: without gradients there is room, and few images take longer each.
EVAL_BATCH_SIZE = 64
MOST_TIMES = 4  # as large as a batch of training, which is lowered where memory is short


class SceneDataModule(LightningDataModule):
    """Scenes of a folder: stored images travel to the device as uint8 and are cropped and normalized there.

    Attributes:
        scenes: The usable images of `seg_train`.
        unreadable: Of "train" and "test", the images that cannot be decoded, by path, with the reason.
        left_out: Paths of what lies in the class folders and is no image by its suffix.
        store_rule, store_size: How the images are stored.
        train, train_eval, val, test: Sorted positions: of the training images, of the slice of them on which the
            training accuracy is evaluated, of the validation images (all in `scenes`), and of the test images.
    """

    def __init__(
        self,
        root: Path,
        *,
        view: View,
        augmentation: Augmentation,
        mixing: Mixing,
        train_sizes: Sequence[int],
        test_views: int | str,
        batch_size: int,
        seed: int,
        val_fraction: float | None,
        split_seed: int,
        store_size: int,
        cache_dir: Path,
        on_unreadable: Literal["error", "skip"],
        exclude: Collection[str] = (),
        store_rule: StoreRule = "square",
    ) -> None:
        """Reads, checks, decodes and splits the images.

        Args:
            root: Folder with `seg_train` and `seg_test`.
            view: How the network sees an image.
            augmentation: What a training image goes through.
            mixing: How training images are mixed after that.
            train_sizes: Side of the training crops in each epoch.
            test_views: How many ways evaluation sees the best epoch: one of `VIEWS`.
            batch_size: Images of a step, over all devices.
            seed: Of order and augmentation.
            val_fraction: Share of `seg_train` that becomes the validation split; None cuts none.
            split_seed: Of that cut.
            store_size: Side, or shorter side, of the decoded images in the cache.
            cache_dir: Where decoded images are kept.
            on_unreadable: Whether an image that cannot be decoded is an error or left out.
            exclude: Images of `seg_train` that are left out, as `<class>/<file>`. The others lie on the same side of
                the cut with and without them.
            store_rule: Whether the cache holds the middle square of each image, or the whole.

        Raises:
            UserError: The images are missing, unreadable or too few.
        """
        super().__init__()
        scenes = _read(root)
        packed = [
            pack_whole(one, cache_dir, store_size, view.interpolation)
            if store_rule == "whole"
            else pack(one, cache_dir, store_size)
            for one in scenes
        ]
        _check_known(exclude, scenes[0])
        if on_unreadable == "error":
            _check_all_readable(scenes, packed, exclude)
        self.unreadable = {
            split: {one.paths[index]: reason for index, reason in sorted(decoded.unreadable.items())}
            for split, one, decoded in zip(("train", "test"), scenes, packed, strict=True)
        }
        self.left_out = [f"{one.root}/{name}" for one in scenes for name in one.left_out]
        usable, stored = _usable(scenes[0], packed[0], store_size, view)
        kept = np.array([path not in exclude for path in usable.paths])
        self.scenes, self.images = usable.select(np.flatnonzero(kept)), stored.select(kept)
        self.test_scenes, self.test_images = _usable(scenes[1], packed[1], store_size, view)
        self.store_rule, self.store_size = store_rule, store_size
        self.view, self.augmentation, self.mixing = view, augmentation, mixing
        self.train_sizes, self.test_views = train_sizes, test_views
        self.batch_size, self.seed = batch_size, seed
        self.train, self.val = _cut(usable, kept, val_fraction, split_seed)
        if val_fraction is not None:
            _check_no_class_is_lost(self.scenes, self.train, self.val)
        self.train_eval = _slice(self.scenes, self.train, len(self.val) / len(self.train), split_seed)
        self.test = np.arange(len(self.test_scenes))
        _check_batch_size(batch_size, len(self.train))

    def of_features(self, train: npt.NDArray[np.float32], test: npt.NDArray[np.float32]) -> Self:
        """The same splits, with features in place of images.

        Args:
            train: (N, D), one row for each of `scenes`.
            test: (M, D), one row for each of `test_scenes`.
        """
        found = copy(self)
        found.images, found.test_images = (
            Stored(torch.from_numpy(values), images.labels, torch.arange(len(values)))
            for values, images in ((train, self.images), (test, self.test_images))
        )
        return found

    def resident(self, device: torch.device) -> Self:
        """The same splits; what is stored of train and valid images lies on a device."""
        found = copy(self)
        found.images = self.images.to(device)
        return found

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes; a label is a position here."""
        return self.scenes.classes

    @property
    def fingerprint(self) -> str:
        """Digest of the names and contents of the usable images of train and test."""
        return fingerprint(self.scenes, self.test_scenes)

    @property
    def test_duplicates(self) -> list[str]:
        """Test images that are in train as well, by path."""
        return duplicates(self.test_scenes, self.scenes)

    def clean_test(self) -> np.ndarray[tuple[int], np.dtype[np.bool_]]:
        """(N,) mask of the test images that are not in train, nor anywhere under another label."""
        twice = set(self.test_duplicates)
        _, conflict = in_label_conflict(self.scenes, self.test_scenes)
        return np.array([path not in twice for path in self.test_scenes.paths]) & ~conflict

    def train_dataloader(self) -> TrainBatches:
        """The training batches of the Trainer's current epoch."""
        return TrainBatches(self.images, self.train, self.batch_size, self.seed, lambda: self._epoch, *self._ranks)

    def val_dataloader(self) -> list[EvalBatches]:
        """First the validation images, then the fixed slice of the training images."""
        return [
            EvalBatches(self.images, chosen, self._eval_batch_size, *self._ranks)
            for chosen in (self.val, self.train_eval)
        ]

    def evaluation(self, split: Literal["train_eval", "val", "test"]) -> EvalBatches:
        """Every image of a split once, in order, for one process."""
        if split == "test":
            return EvalBatches(self.test_images, self.test, self._eval_batch_size)
        return EvalBatches(self.images, self.val if split == "val" else self.train_eval, self._eval_batch_size)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """What was stored, to the device; the positions stay."""
        images, labels, indices = batch
        return on_device(images, device), on_device(labels, device), indices

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Turns stored images on the device into what the network takes: (B, 3, size, size) float32 and labels.

        Labels are (B,) classes; those of mixed images (B, num_classes) shares.
        """
        images, labels, indices = batch
        assert self.trainer is not None
        if not self.trainer.training:
            return self.prepared(images), labels
        return self.seen_by(images, labels, indices, self._epoch)

    def seen_by(self, images: Tensor, labels: Tensor, indices: Indices, epoch: int) -> tuple[Tensor, Tensor]:
        """What was stored of training images and their labels as an epoch sees them, augmented and mixed."""
        images = self.augmented(images, indices, epoch)
        if not self.mixing:
            return images, labels
        draws = draw(self.seed, epoch, indices, NUM_DRAWS + NUM_MIXING_DRAWS)[:, NUM_DRAWS:]
        return mix(images, labels, draws, self.mixing, len(self.classes))

    def prepared(self, images: Tensor) -> Tensor:
        """What was stored as evaluation sees it: (B, 3, size, size) float32; features as they are."""
        return images if self.images.are_features else prepare(images, self.view)

    def views(self, images: Tensor) -> Iterable[Tensor]:
        """The ways in which the best epoch is shown what was stored: each as `prepared`."""
        return [images] if self.images.are_features else views(images, self.view, self.test_views)

    def augmented(self, images: Tensor, indices: Indices, epoch: int) -> Tensor:
        """What was stored of training images as an epoch sees it: (B, 3, size, size) float32, of that epoch's size."""
        if self.images.are_features:
            return images
        view, draws = self.view, draw(self.seed, epoch, indices)
        size = self.train_sizes[epoch]
        normalization, sizes = (view.mean, view.std), self.images.sizes(indices)
        return augment(images, draws, self.augmentation, size, view.interpolation, normalization, sizes)

    @property
    def _eval_batch_size(self) -> int:
        return max(self.batch_size, min(EVAL_BATCH_SIZE, MOST_TIMES * self.batch_size))  # over all devices

    @property
    def _epoch(self) -> int:
        assert self.trainer is not None
        return self.trainer.current_epoch

    @property
    def _ranks(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size


def _read(root: Path) -> list[Scenes]:
    """Train and test, as they lie there."""
    train = read_scenes(find_split(root, "seg_train"))
    return [train, read_scenes(find_split(root, "seg_test"), classes=train.classes)]


def _check_known(exclude: Collection[str], train: Scenes) -> None:
    if unknown := sorted(set(exclude) - set(train.paths)):
        raise UserError(
            f"data.exclude names {counted(len(unknown), 'path')} with no image in {train.root}, such as {unknown[0]}: "
            "write CLASS/FILE, one on a line"
        )


def _cut(usable: Scenes, kept: npt.NDArray[np.bool_], fraction: float | None, seed: int) -> tuple[Indices, Indices]:
    """Places of train and valid among the images that are kept; which side one lies on depends on no exclusion."""
    if fraction is None:
        parts = np.arange(len(usable)), np.arange(0)
    else:
        parts = stratified_split(usable.labels, usable.contents, fraction, seed, usable.classes)
    place = np.cumsum(kept) - 1
    train, val = (place[part[kept[part]]] for part in parts)
    return train, val


def _slice(scenes: Scenes, train: Indices, share: float, seed: int) -> Indices:
    """As many training images as there are valid ones, to be evaluated as those are; all where that is no share."""
    if not 0 < share < 1:
        return train
    contents = [scenes.contents[index] for index in train]
    chosen: Indices = train[stratified_mask(scenes.labels[train], contents, share, seed)]
    return chosen


def _check_batch_size(batch_size: int, num_images: int) -> None:
    if batch_size > num_images:
        raise UserError(f"data.batch_size={batch_size} is more than the {num_images} training images: lower it")


def _check_no_class_is_lost(scenes: Scenes, *parts: Indices) -> None:
    for number, name in enumerate(scenes.classes):
        if not all((scenes.labels[part] == number).any() for part in parts):
            raise UserError(f"data.exclude leaves no image of {name} to train on, or none to validate on: shorten it")


def _check_all_readable(splits: Sequence[Scenes], packed: Sequence[Packed], exclude: Collection[str]) -> None:
    named = [
        f"{scenes.root / scenes.paths[index]} ({reason})"
        for scenes, one in zip(splits, packed, strict=True)
        for index, reason in one.unreadable.items()
        if not (scenes is splits[0] and scenes.paths[index] in exclude)
    ]
    if named:
        them = "it" if len(named) == 1 else "them"
        raise UserError(
            f"{counted(len(named), 'image')} cannot be decoded: {'; '.join(named)}: replace or remove {them}, "
            f"or set data.on_unreadable=skip to go on without {them}"
        )


def _usable(scenes: Scenes, packed: Packed, store_size: int, view: View) -> tuple[Scenes, Stored]:
    kept = np.setdiff1d(np.arange(len(scenes)), list(packed.unreadable))
    usable = scenes.select(kept)
    if lost := sorted(set(scenes.labels) - set(usable.labels)):
        folder = scenes.root / scenes.classes[lost[0]]
        raise UserError(f"no image in the class folder {folder} can be decoded: put some there, or remove the folder")
    shapes = None if packed.sizes is None else shapes_of(packed.sizes, store_size, view).select(kept)
    values, labels, rows = map(torch.from_numpy, (packed.images, usable.labels, kept))
    return usable, Stored(values, labels, rows, shapes)
