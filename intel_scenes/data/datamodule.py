"""The LightningDataModule: a folder of scenes in, batches ready for a network out."""

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
from intel_scenes.data.layouts import Layout
from intel_scenes.data.packed import Packed, StoreRule
from intel_scenes.data.pipelines import FeaturePipeline, ImagePipeline, Pipeline, size_of
from intel_scenes.data.readable import Packing
from intel_scenes.data.scenes import Scenes
from intel_scenes.data.sources import Source
from intel_scenes.data.splits import Splits, cut_splits, with_subset
from intel_scenes.data.store import Batch, Stored
from intel_scenes.errors import UserError, counted

# Of evaluation, where training has smaller batches: without gradients there is room, and few images take longer each.
EVAL_BATCH_SIZE = 64
MOST_TIMES = 4  # as large as a batch of training, which is lowered where memory is short


def eval_batch_size(batch_size: int) -> int:
    """Images of a batch of evaluation, given that of training."""
    return max(batch_size, min(EVAL_BATCH_SIZE, MOST_TIMES * batch_size))


class SceneDataModule(LightningDataModule):
    """Scenes of a folder: stored images travel to the device as uint8 and are cropped and normalized there.

    It serves any LightningModule that takes batches of (images (B, 3, size, size) float32, labels (B,) int64); labels
    are (B, num_classes) shares where images are mixed, and a validation step takes a `dataloader_idx`.

    Attributes:
        splits: Which images are trained on, validated and tested on. This and the next three are there after `setup`.
        images: What is stored of `splits.scenes`, in their order.
        test_images: What is stored of `splits.test_scenes`.
        unreadable: Of "train", "test", and a "val" that was there, the images that cannot be decoded, by path, with the
            reason.
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
        test_fraction: float | None = None,
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
            batch_size: Images of a step, over all devices; a subset that is smaller is a batch of its own.
            seed: Of the order.
            val_fraction: Share of train that becomes the validation split, where none was there; None cuts none.
            split_seed: Of that cut, and of the next.
            test_fraction: Share of train that becomes the test split, where none was there; None cuts none.
            store_size: Side, or shorter side, of the decoded images in the cache.
            cache_dir: Where decoded images are kept.
            store_rule: Whether the cache holds the middle square of each image, or the whole.
            on_unreadable: Whether an image that cannot be decoded is an error or left out.
            exclude: Images of train that are left out, by path. The others lie on the same side of the cut with and
                without them.
            train_fraction: Share of the training images to train on, after that cut.
            subset_seed: Draws that share.
        """
        super().__init__()
        self.source, self.cache_dir = source, cache_dir
        self.store_rule, self.store_size = store_rule, store_size
        self.packing = Packing(cache_dir, store_size, store_rule, pipeline.view)
        self.on_unreadable, self.exclude = on_unreadable, exclude
        self.val_fraction, self.split_seed, self.test_fraction = val_fraction, split_seed, test_fraction
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
        _check_known(self.exclude, self.layout)
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
        if self.batch_size <= (self.splits.num_whole or 0):  # a smaller subset trains in batches of all its images
            self.batch_size = min(self.batch_size, len(self.splits.train))
        _check_batch_size(self.batch_size, len(self.splits.train))
        self._is_set_up = True

    @cached_property
    def layout(self) -> Layout:
        """The images as they lie there, none of them decoded yet; a test split is cut where there is none.

        Raises:
            UserError: The images are missing or cannot be read, or a class would be left without test images.
        """
        return self.source.read(self.cache_dir).with_test(self.test_fraction, self.split_seed)

    @cached_property
    def _packed(self) -> list[tuple[Scenes, Packed]]:
        """The images to learn from and to test on, and what they are decoded to in the cache."""
        assert self.layout.test is not None
        return [(scenes, self.packing.pack(scenes)) for scenes in (self.layout.train_and_val, self.layout.test)]

    def _undecoded(self) -> dict[str, tuple[Scenes, dict[int, str]]]:
        """Of each split that was found its images, and by position why some of them cannot be decoded."""
        (_, packed), (test, test_packed) = self._packed
        train, val = self.layout.train, self.layout.val
        of_train = {index: reason for index, reason in packed.unreadable.items() if index < len(train)}
        of_val = {index - len(train): packed.unreadable[index] for index in packed.unreadable.keys() - of_train.keys()}
        between = {} if val is None else {"val": (val, of_val)}
        return {"train": (train, of_train), **between, "test": (test, test_packed.unreadable)}

    @property
    def images_by_split(self) -> dict[str, Stored]:
        """What is stored of each of `splits.scenes_by_split`."""
        if not self.splits.has_own_val:
            return {"train": self.images, "test": self.test_images}
        is_val = np.isin(np.arange(len(self.splits.scenes)), self.splits.val)
        return {"train": self.images.select(~is_val), "val": self.images.select(is_val), "test": self.test_images}

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

    def eval_batches(self, split: Literal["train_eval", "val", "test"]) -> EvalBatches:
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
            return self.pipeline.eval_view(batch.images), batch.labels
        num_classes = len(self.splits.classes)
        return self.pipeline.train_batch(batch, epoch=self._epoch, size=self._train_size, num_classes=num_classes)

    @property
    def _eval_batch_size(self) -> int:
        return eval_batch_size(self.batch_size)  # over all devices

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


def _check_known(exclude: Collection[str], layout: Layout) -> None:
    train, test = layout.train, layout.test
    unknown = sorted(set(exclude) - set(train.paths))
    if not unknown:
        return
    if layout.test_fraction is not None and test is not None and unknown[0] in test.paths:
        raise UserError(
            f"data.exclude names {unknown[0]}, which lies in the test split that was cut: take it out of that file, "
            "which leaves out training images alone, or move the image away"
        )
    form = "CLASS/FILE" if train.has_class_folders else "paths as data.labels does"
    raise UserError(
        f"data.exclude names {counted(len(unknown), 'path')} with no image in {train.root}, such as {unknown[0]}: "
        f"write {form}, one on a line"
    )


def _check_batch_size(batch_size: int, num_images: int) -> None:
    if batch_size > num_images:
        raise UserError(f"data.batch_size={batch_size} is more than the {num_images} training images: lower it")


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
            f"{counted(len(named), 'image')} cannot be decoded: {'; '.join(named)}: replace or remove {them}, "
            f"or set data.on_unreadable=skip to go on without {them}"
        )


def _check_some_readable(scenes: Scenes, reasons: Mapping[int, str]) -> None:
    readable = np.delete(scenes.labels, list(reasons))
    if lost := sorted(set(scenes.labels) - set(readable)):
        raise UserError(f"no image in {scenes.where(lost[0])} can be decoded: put some there, or remove the class")
