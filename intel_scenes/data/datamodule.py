"""The LightningDataModule: a folder of scenes in, batches ready for a network out."""

from collections.abc import Collection, Sequence
from copy import copy
from functools import cached_property
from pathlib import Path
from typing import Literal, Self

import numpy as np
import numpy.typing as npt
import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from intel_scenes.data.batches import EvalBatches, TrainBatches
from intel_scenes.data.packed import Packed, StoreRule, pack, pack_whole
from intel_scenes.data.pipelines import FeaturePipeline, ImagePipeline, Pipeline, size_of
from intel_scenes.data.scenes import Scenes, find_split, read_scenes
from intel_scenes.data.sources import Source
from intel_scenes.data.splits import Splits, cut_splits, with_subset
from intel_scenes.data.store import Batch, Stored, shapes_of
from intel_scenes.errors import UserError, counted

# Of evaluation, where training has smaller batches: without gradients there is room, and few images take longer each.
EVAL_BATCH_SIZE = 64
MOST_TIMES = 4  # as large as a batch of training, which is lowered where memory is short


class SceneDataModule(LightningDataModule):
    """Scenes of a folder: stored images travel to the device as uint8 and are cropped and normalized there.

    It serves any LightningModule that takes batches of (images (B, 3, size, size) float32, labels (B,) int64); labels
    are (B, num_classes) shares where images are mixed, and a validation step takes a `dataloader_idx`.

    Attributes:
        splits: Which images are trained on, validated and tested on. This and the next three are there after `setup`.
        images: What is stored of `splits.scenes`, in their order.
        test_images: What is stored of `splits.test_scenes`.
        unreadable: Of "train" and "test", the images that cannot be decoded, by path, with the reason.
        pipeline: How what is stored is seen.
        view: How a network sees an image, also where what is stored are features.
    """

    splits: Splits
    images: Stored
    test_images: Stored
    unreadable: dict[str, dict[str, str]]

    def __init__(
        self,
        source: Source,
        pipeline: ImagePipeline,
        *,
        train_sizes: Sequence[int],
        batch_size: int,
        seed: int,
        val_fraction: float | None,
        split_seed: int,
        store_size: int,
        cache_dir: Path,
        store_rule: StoreRule = "square",
        on_unreadable: Literal["error", "skip"] = "error",
        exclude: Collection[str] = (),
        train_fraction: float = 1,
        subset_seed: int = 0,
    ) -> None:
        """Takes what the images depend on; none is read yet.

        Args:
            source: Where the images come from.
            pipeline: How they are seen.
            train_sizes: Sides of the training crops, which share out the epochs; see `size_of`.
            batch_size: Images of a step, over all devices.
            seed: Of the order.
            val_fraction: Share of `seg_train` that becomes the validation split; None cuts none.
            split_seed: Of that cut.
            store_size: Side, or shorter side, of the decoded images in the cache.
            cache_dir: Where decoded images are kept.
            store_rule: Whether the cache holds the middle square of each image, or the whole.
            on_unreadable: Whether an image that cannot be decoded is an error or left out.
            exclude: Images of `seg_train` that are left out, as `<class>/<file>`. The others lie on the same side of
                the cut with and without them.
            train_fraction: Share of the training images to train on, after that cut.
            subset_seed: Draws that share.
        """
        super().__init__()
        self.source, self.cache_dir = source, cache_dir
        self.store_rule, self.store_size = store_rule, store_size
        self.on_unreadable, self.exclude = on_unreadable, exclude
        self.val_fraction, self.split_seed = val_fraction, split_seed
        self.train_fraction, self.subset_seed = train_fraction, subset_seed
        self.pipeline: Pipeline = pipeline
        self.view, self.train_sizes = pipeline.view, train_sizes
        self.batch_size, self.seed = batch_size, seed
        self._is_set_up = False

    def prepare_data(self) -> None:
        """Downloads or draws the images and decodes them into the cache, where that is not done yet.

        Raises:
            UserError: The images are missing or cannot be read, or the cache cannot be written.
        """
        _ = self._packed

    def setup(self, stage: str | None = None) -> None:
        """Maps the cache into memory, splits the images and checks them; does nothing the second time.

        Raises:
            UserError: The images are missing, unreadable or too few.
        """
        if self._is_set_up:
            return
        (train, packed), (test, test_packed) = self._packed
        _check_known(self.exclude, train)
        if self.on_unreadable == "error":
            _check_all_readable([train, test], [packed, test_packed], self.exclude)
        self.unreadable = {
            split: {scenes.paths[index]: reason for index, reason in sorted(decoded.unreadable.items())}
            for split, (scenes, decoded) in zip(("train", "test"), self._packed, strict=True)
        }
        readable, stored = self._usable(train, packed)
        test_scenes, self.test_images = self._usable(test, test_packed)
        kept = np.array([path not in self.exclude for path in readable.paths])
        self.images = stored.select(kept)
        whole = cut_splits(readable, kept, test_scenes, self.val_fraction, self.split_seed)
        self.splits = with_subset(whole, self.train_fraction, self.subset_seed, self.split_seed)
        _check_batch_size(self.batch_size, self.splits, self.train_fraction)
        self._is_set_up = True

    @cached_property
    def _packed(self) -> list[tuple[Scenes, Packed]]:
        """The images of train and test as they lie there, and decoded in the cache."""
        root = self.source.folder(self.cache_dir)
        train = read_scenes(find_split(root, "seg_train"))
        test = read_scenes(find_split(root, "seg_test"), classes=train.classes)
        return [(scenes, self._pack(scenes)) for scenes in (train, test)]

    def _pack(self, scenes: Scenes) -> Packed:
        if self.store_rule == "whole":
            return pack_whole(scenes, self.cache_dir, self.store_size, self.view.interpolation)
        return pack(scenes, self.cache_dir, self.store_size)

    def _usable(self, scenes: Scenes, packed: Packed) -> tuple[Scenes, Stored]:
        """The images that can be decoded."""
        kept = np.setdiff1d(np.arange(len(scenes)), list(packed.unreadable))
        usable = scenes.select(kept)
        if lost := sorted(set(scenes.labels) - set(usable.labels)):
            folder = scenes.root / scenes.classes[lost[0]]
            raise UserError(
                f"no image in the class folder {folder} can be decoded: put some there, or remove the folder"
            )
        values, labels, rows = map(torch.from_numpy, (packed.images, usable.labels, kept))
        if packed.sizes is None:
            return usable, Stored(values, labels, rows)
        crop = self.view.size if self.view.resize == self.store_size else self.store_size
        return usable, Stored(values, labels, rows, shapes_of(packed.sizes, self.store_size, crop).select(kept))

    def with_features(self, train: npt.NDArray[np.float32], test: npt.NDArray[np.float32]) -> Self:
        """The same splits, with features in place of images.

        Args:
            train: (N, D), one row for each of `splits.scenes`.
            test: (M, D), one row for each of `splits.test_scenes`.
        """
        features = copy(self)
        features.images, features.test_images = (
            Stored(torch.from_numpy(values), images.labels, torch.arange(len(values)))
            for values, images in ((train, self.images), (test, self.test_images))
        )
        features.pipeline = FeaturePipeline()
        return features

    def on(self, device: torch.device) -> Self:
        """The same splits; what is stored of train and val lies on a device."""
        resident = copy(self)
        resident.images = self.images.to(device)
        return resident

    @property
    def num_batches(self) -> int:
        """Full batches of an epoch, over all devices."""
        return len(self.splits.train) // self.batch_size

    def train_dataloader(self) -> TrainBatches:
        """The training batches of the Trainer's current epoch."""
        return TrainBatches(
            self.images, self.splits.train, self.batch_size, self.seed, lambda: self._epoch, *self._ranks
        )

    def val_dataloader(self) -> list[EvalBatches]:
        """First the validation images, then the fixed slice of the training images."""
        return [
            EvalBatches(self.images, chosen, self._eval_batch_size, *self._ranks)
            for chosen in (self.splits.val, self.splits.train_eval)
        ]

    def test_dataloader(self) -> EvalBatches:
        """Every test image once."""
        return EvalBatches(self.test_images, self.splits.test, self._eval_batch_size, *self._ranks)

    def evaluation(self, split: Literal["train_eval", "val", "test"]) -> EvalBatches:
        """Every image of a split once, in order, for one process."""
        if split == "test":
            return EvalBatches(self.test_images, self.splits.test, self._eval_batch_size)
        chosen = self.splits.val if split == "val" else self.splits.train_eval
        return EvalBatches(self.images, chosen, self._eval_batch_size)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Takes what is stored to the device."""
        return batch.to(device)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Turns what is stored, on the device, into what the network takes, and its targets."""
        assert self.trainer is not None
        if not self.trainer.training:
            return self.pipeline.evaluate(batch.images), batch.labels
        num_classes = len(self.splits.classes)
        return self.pipeline.train(batch, epoch=self._epoch, size=self._train_size, num_classes=num_classes)

    @property
    def _eval_batch_size(self) -> int:
        return max(self.batch_size, min(EVAL_BATCH_SIZE, MOST_TIMES * self.batch_size))  # over all devices

    @property
    def _epoch(self) -> int:
        assert self.trainer is not None
        return self.trainer.current_epoch

    @property
    def _train_size(self) -> int:
        if len(self.train_sizes) == 1:
            return self.train_sizes[0]
        num_epochs = self.trainer.max_epochs if self.trainer else None
        if num_epochs is None or num_epochs < 0:
            raise UserError("several train_sizes share out the epochs: set max_epochs of the Trainer")
        return size_of(self.train_sizes, self._epoch, num_epochs)

    @property
    def _ranks(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size


def _check_known(exclude: Collection[str], train: Scenes) -> None:
    if unknown := sorted(set(exclude) - set(train.paths)):
        raise UserError(
            f"data.exclude names {counted(len(unknown), 'path')} with no image in {train.root}, such as {unknown[0]}: "
            "write CLASS/FILE, one on a line"
        )


def _check_batch_size(batch_size: int, splits: Splits, train_fraction: float) -> None:
    num_images = len(splits.train)
    if batch_size > num_images and batch_size <= (splits.num_whole or 0):
        raise UserError(
            f"data.batch_size={batch_size} is more than the {num_images} training images that "
            f"data.train_fraction={train_fraction:g} leaves of {splits.num_whole}: lower the one or raise the other"
        )
    if batch_size > num_images:
        raise UserError(f"data.batch_size={batch_size} is more than the {num_images} training images: lower it")


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
