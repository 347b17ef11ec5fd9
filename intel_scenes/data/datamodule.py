"""The LightningDataModule: from a folder of images to batches for a network."""

from collections.abc import Collection, Mapping, Sequence
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
from intel_scenes.data.file_digests import FileDigests
from intel_scenes.data.layouts import Layout
from intel_scenes.data.packed import Packed, StoreRule
from intel_scenes.data.pipelines import FeaturePipeline, ImagePipeline, Pipeline, size_of
from intel_scenes.data.readable import Packing
from intel_scenes.data.scenes import Scenes
from intel_scenes.data.sources import Source
from intel_scenes.data.splits import Splits, cut_splits, with_subset
from intel_scenes.data.store import Batch, Stored
from intel_scenes.errors import UserError, counted, few

# Least batch size of evaluation: without gradients there is memory for it, and small batches take longer per image.
EVAL_BATCH_SIZE = 64
MAX_EVAL_FACTOR = 4  # largest multiple of the training batch size, which may have been lowered for lack of memory
FEW_BATCHES = 4  # an epoch should have; suggested where a batch is larger than the training set
MAX_EVAL_BATCH_SIZE = 256  # larger batches save no time, and a batch of frozen features that trains a head may be huge


def eval_batch_size(batch_size: int) -> int:
    """Return the batch size of evaluation, given that of training."""
    return min(MAX_EVAL_BATCH_SIZE, max(batch_size, min(EVAL_BATCH_SIZE, MAX_EVAL_FACTOR * batch_size)))


class SceneDataModule(LightningDataModule):
    """A labelled data set; images are moved to the device as uint8, then cropped and normalized there.

    It serves any LightningModule that takes batches of (images (B, 3, size, size) float32, labels (B,) int64). Labels
    are (B, num_classes) shares if images are mixed. A validation step takes a `dataloader_idx`.

    Attributes:
        splits: Training, validation and test sets; available after `setup`, as are the next four.
        batch_size: Number of images in a step, over all devices; at first, if the batch grows.
        sizes: Numbers of images in each batch, by pass over all epochs, if the batch grows; else empty.
        images: Stored images of `splits.scenes`, in their order.
        test_images: Stored images of `splits.test_scenes`, in their order.
        unreadable: Why images cannot be decoded, by split ("train", "test", and "val" if the folder has one) and path.
        pipeline: Preprocessing of the stored images or features.
        view: Preprocessing that the network expects, also if features are stored.
    """

    splits: Splits
    batch_size: int
    sizes: Sequence[Sequence[int]] = ()
    images: Stored
    test_images: Stored
    unreadable: dict[str, dict[str, str]]

    def __init__(
        self,
        source: Source,
        pipeline: ImagePipeline,
        *,
        train_sizes: Sequence[int],
        batch_size: int | Literal["full"],
        seed: int,
        val_fraction: float | None,
        split_seed: int,
        test_fraction: float | None = None,
        store_size: int,
        cache_dir: Path,
        store_rule: StoreRule = "square",
        on_unreadable: Literal["error", "skip"] = "error",
        exclude: Collection[str] = (),
        train_fraction: float = 1,
        subset_seed: int = 0,
        passes_per_epoch: int = 1,
        verify: bool = False,
    ) -> None:
        """Store the settings; no image is read yet.

        Args:
            source: Source of the images.
            pipeline: Preprocessing of the images.
            train_sizes: Sides of the training crops, each for an equal part of the epochs; see `size_of`.
            batch_size: Number of images in a step, over all devices; a smaller training subset becomes one batch;
                "full" is one batch of all training images.
            seed: Seed of the order of the training images.
            val_fraction: Share of the training images to split off for validation if the folder has no validation
                split; None splits off none.
            split_seed: Seed of the validation and the test split.
            test_fraction: Share of the training images to split off for the test if the folder has no test split; None
                splits off none.
            store_size: Side of the stored squares, or shorter side of the whole images, in pixels.
            cache_dir: Folder of the cache of decoded images.
            store_rule: Whether the cache holds the center square of each image, or the whole image.
            on_unreadable: Whether an image that cannot be decoded is an error or skipped.
            exclude: Paths of training images to leave out. This does not move the others between the sets.
            train_fraction: Share of the training images to train on, after the splits.
            subset_seed: Seed of that subset.
            passes_per_epoch: Passes over the training images in an epoch; more than one is for unaugmented images,
                because an image is augmented once per epoch.
            verify: Whether every image file is read, also those that the cache knows to be unchanged (see
                `FileDigests`), and whether the cache is read to check that it holds what was written.
        """
        super().__init__()
        self.source, self.cache_dir, self.digests = source, cache_dir, FileDigests(cache_dir, verify)
        self.store_rule, self.store_size = store_rule, store_size
        self.packing = Packing(cache_dir, store_size, store_rule, pipeline.view, verify)
        self.on_unreadable, self.exclude = on_unreadable, exclude
        self.val_fraction, self.split_seed, self.test_fraction = val_fraction, split_seed, test_fraction
        self.train_fraction, self.subset_seed = train_fraction, subset_seed
        self.pipeline: Pipeline = pipeline
        self.view, self.train_sizes = pipeline.view, train_sizes
        self.asked_batch_size, self.passes_per_epoch, self.seed = batch_size, passes_per_epoch, seed
        self._is_set_up = False

    def prepare_data(self) -> None:
        """Download or draw the images and decode them into the cache, unless that is done.

        Raises:
            UserError: The images are missing or cannot be read, or the cache cannot be written.
        """
        _ = self._packed

    def setup(self, stage: str | None = None) -> None:
        """Map the cache into memory, check the images and split them; does nothing when called again.

        Raises:
            UserError: The images are missing, unreadable or too few.
        """
        if self._is_set_up:
            return
        (train, packed), (test, test_packed) = self._packed
        _check_excluded_paths(self.exclude, self.layout)
        undecoded = self._undecoded()
        if self.on_unreadable == "error":
            _check_all_readable(undecoded, self.exclude)
        for scenes, reasons in undecoded.values():
            _check_some_readable(scenes, reasons)
        self.unreadable = {
            split: {scenes.paths[index]: reason for index, reason in sorted(reasons.items())}
            for split, (scenes, reasons) in undecoded.items()
        }
        readable, stored, places = self.packing.readable(train, packed)
        test_scenes, self.test_images, _ = self.packing.readable(test, test_packed)
        is_val = places >= len(self.layout.train)
        kept = np.array([path not in self.exclude for path in readable.paths]) | is_val
        self.images = stored.select(kept)
        own_val = None if self.layout.val is None else is_val
        whole = cut_splits(readable, kept, test_scenes, self.val_fraction, self.split_seed, own_val)
        self.splits = with_subset(whole, self.train_fraction, self.subset_seed, self.split_seed)
        num_train = len(self.splits.train)
        self.batch_size = num_train if self.asked_batch_size == "full" else self.asked_batch_size
        if self.batch_size <= (self.splits.num_whole or 0):  # a subset smaller than a batch becomes one batch
            self.batch_size = min(self.batch_size, num_train)
        if self.batch_size > num_train:
            raise UserError(
                f"data.batch_size={self.batch_size} is larger than the training set of {counted(num_train, 'image')}: "
                f"lower it, for example to {max(1, num_train // FEW_BATCHES)}"
            )
        self._is_set_up = True

    @cached_property
    def layout(self) -> Layout:
        """Images by split, none of them decoded yet; a test split is cut if the source has none.

        Raises:
            UserError: The images are missing or cannot be read, or a class would have no test image.
        """
        return self.source.read(self.cache_dir, self.digests).with_test(self.test_fraction, self.split_seed)

    @cached_property
    def _packed(self) -> list[tuple[Scenes, Packed]]:
        """Training and validation images with their decoded form in the cache, then the test images with theirs."""
        assert self.layout.test is not None
        return [(scenes, self.packing.pack(scenes)) for scenes in (self.layout.train_and_val, self.layout.test)]

    def _undecoded(self) -> dict[str, tuple[Scenes, dict[int, str]]]:
        """Return by split its images, and why some of them cannot be decoded, by position."""
        (_, packed), (test, test_packed) = self._packed
        train, val = self.layout.train, self.layout.val
        in_train = {index: reason for index, reason in packed.unreadable.items() if index < len(train)}
        in_val = {index - len(train): packed.unreadable[index] for index in packed.unreadable.keys() - in_train.keys()}
        val_entry = {} if val is None else {"val": (val, in_val)}
        return {"train": (train, in_train), **val_entry, "test": (test, test_packed.unreadable)}

    @property
    def images_by_split(self) -> dict[str, Stored]:
        """Stored images of each of `splits.scenes_by_split`."""
        if not self.splits.has_own_val:
            return {"train": self.images, "test": self.test_images}
        is_val = np.isin(np.arange(len(self.splits.scenes)), self.splits.val)
        return {"train": self.images.select(~is_val), "val": self.images.select(is_val), "test": self.test_images}

    def with_features(self, train: npt.NDArray[np.float32], test: npt.NDArray[np.float32]) -> Self:
        """Return a copy with features in place of images.

        Args:
            train: (N, D) features of `splits.scenes`, in their order.
            test: (M, D) features of `splits.test_scenes`, in their order.
        """
        features = copy(self)
        features.images, features.test_images = (
            Stored(torch.from_numpy(values), images.labels, torch.arange(len(values)))
            for values, images in ((train, self.images), (test, self.test_images))
        )
        features.pipeline = FeaturePipeline()
        return features

    def with_sizes(self, sizes: Sequence[Sequence[int]]) -> Self:
        """Return a copy whose training batches have these numbers of images, by pass over all epochs."""
        grown = copy(self)
        grown.sizes = sizes
        return grown

    def with_batch_size(self, batch_size: int) -> Self:
        """Return a copy with another number of images in a step."""
        resized = copy(self)
        resized.batch_size = batch_size
        return resized

    def on(self, device: torch.device) -> Self:
        """Return a copy whose stored training and validation images are resident on a device."""
        resident = copy(self)
        resident.images = self.images.to(device)
        return resident

    @property
    def num_batches(self) -> int:
        """Number of full batches of an epoch, over all devices; without growth."""
        return self.passes_per_epoch * (len(self.splits.train) // self.batch_size)

    def train_dataloader(self) -> TrainBatches:
        """Return the training batches of the Trainer's current epoch."""
        return TrainBatches(
            self.images,
            self.splits.train,
            self.batch_size,
            self.seed,
            lambda: self._epoch,
            *self._ranks,
            passes=self.passes_per_epoch,
            sizes=self.sizes,
            with_neighbours=self.pipeline.mixes,
        )

    def val_dataloader(self) -> list[EvalBatches]:
        """Return the batches of the validation images, and those of the training images in `splits.train_eval`."""
        return [
            EvalBatches(self.images, chosen, self._eval_batch_size, *self._ranks)
            for chosen in (self.splits.val, self.splits.train_eval)
        ]

    def test_dataloader(self) -> EvalBatches:
        """Return batches with every test image once."""
        return EvalBatches(self.test_images, self.splits.test, self._eval_batch_size, *self._ranks)

    def eval_batches(self, split: Literal["train_eval", "val", "test"]) -> EvalBatches:
        """Return batches with every image of a split once, in order, for a single process."""
        if split == "test":
            return EvalBatches(self.test_images, self.splits.test, self._eval_batch_size)
        chosen = self.splits.val if split == "val" else self.splits.train_eval
        return EvalBatches(self.images, chosen, self._eval_batch_size)

    def transfer_batch_to_device(self, batch: Batch, device: torch.device, dataloader_idx: int) -> Batch:
        """Move a batch of stored images to the device."""
        return batch.to(device)

    def on_after_batch_transfer(self, batch: Batch, dataloader_idx: int) -> tuple[Tensor, Tensor]:
        """Preprocess a batch of stored images on the device; return the inputs of the network and the targets."""
        assert self.trainer is not None
        if not self.trainer.training:
            return self.pipeline.eval_view(batch.images), batch.labels
        num_classes = len(self.splits.classes)
        return self.pipeline.train_batch(batch, epoch=self._epoch, size=self._train_size, num_classes=num_classes)

    @property
    def _eval_batch_size(self) -> int:
        return eval_batch_size(self.batch_size)  # global, as `batch_size`

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
            raise UserError(
                f"train_sizes={list(self.train_sizes)} divide the epochs equally: set max_epochs of the Trainer"
            )
        return size_of(self.train_sizes, self._epoch, num_epochs)

    @property
    def _ranks(self) -> tuple[int, int]:
        assert self.trainer is not None
        return self.trainer.global_rank, self.trainer.world_size


def _check_excluded_paths(exclude: Collection[str], layout: Layout) -> None:
    train, test = layout.train, layout.test
    unknown = sorted(set(exclude) - set(train.paths))
    if not unknown:
        return
    if layout.test_fraction is not None and test is not None and unknown[0] in test.paths:
        raise UserError(
            f"data.exclude lists {unknown[0]}, which was split off as a test image; only training images can be "
            "excluded: remove it from that file, or move the image away"
        )
    form = "CLASS/FILE" if train.has_class_folders else "paths as in data.labels"
    raise UserError(
        f"data.exclude lists {counted(len(unknown), 'path')} without an image in {train.root}, such as {unknown[0]}: "
        f"write {form}, one per line"
    )


def _check_all_readable(undecoded: Mapping[str, tuple[Scenes, Mapping[int, str]]], exclude: Collection[str]) -> None:
    named = [
        f"{scenes.file(index)} ({reason})"
        for split, (scenes, reasons) in undecoded.items()
        for index, reason in reasons.items()
        if not (split == "train" and scenes.paths[index] in exclude)
    ]
    if named:
        them = "it" if len(named) == 1 else "them"
        raise UserError(
            f"{counted(len(named), 'image')} cannot be decoded: {few(named, separator='; ')}: replace or remove "
            f"{them}, or set data.on_unreadable=skip to train without {them}"
        )


def _check_some_readable(scenes: Scenes, reasons: Mapping[int, str]) -> None:
    readable = np.delete(scenes.labels, list(reasons))
    if lost := sorted(set(scenes.labels) - set(readable)):
        raise UserError(f"no image of {scenes.where(lost[0])} can be decoded: replace its images, or remove the class")
