"""Preprocessing of stored images for training, for evaluation, and for test-time augmentation (TTA)."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from intel_scenes.config import AugmentConfig
from intel_scenes.data.augment import NUM_DRAWS, augment, uniform_draws
from intel_scenes.data.jitter import NUM_DRAWS as NUM_JITTER_DRAWS
from intel_scenes.data.mixing import NUM_DRAWS as NUM_MIXING_DRAWS
from intel_scenes.data.mixing import Mixing, mix
from intel_scenes.data.resize import normalize, resize_center, resize_square
from intel_scenes.data.store import Batch

TTA = {1: 1, "flip": 2, "flip_crops": 10}  # kinds of test-time augmentation, and their number of views per image


@dataclass(frozen=True)
class View:
    """Preprocessing that a network expects.

    Attributes:
        size: Side of its input in pixels.
        resize: Side to which evaluation resizes an image before it takes the center crop of side `size`.
        interpolation: "bilinear" or "bicubic".
        mean: Mean of each channel, for values in 0..1.
        std: Standard deviation of each channel, for values in 0..1.
    """

    size: int
    resize: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def crop_of(self, stored: int) -> int:
        """Return the side of the center that evaluation takes of an image stored with this shorter side."""
        return self.size if self.resize == stored else stored


@dataclass(frozen=True)
class ImagePipeline:
    """Preprocessing of stored images into network inputs, (B, 3, size, size) normalized float32.

    Attributes:
        view: Preprocessing that the network expects.
        augmentation: Augmentation of the training images.
        mixing: Mixup and CutMix, applied after the augmentation.
        tta: Test-time augmentation, one of `TTA`: 1 is none; "flip" adds the horizontal flip; "flip_crops" is the
            ten-crop of Krizhevsky et al. 2012, the center and the four corners of the image resized to 8/7 of the
            input, each with its horizontal flip.
        seed: Seed of augmentation and mixing.
    """

    view: View
    augmentation: AugmentConfig
    mixing: Mixing
    tta: int | str
    seed: int

    @property
    def mixes(self) -> bool:
        """Whether images of a training batch are mixed with each other."""
        return bool(self.mixing)

    def train_batch(self, batch: Batch, *, epoch: int, size: int, num_classes: int) -> tuple[Tensor, Tensor]:
        """Augment and mix the images of a training batch.

        Args:
            batch: Stored training images, on the device that computes.
            epoch: Epoch, from 0; an image's random numbers depend only on it, the seed and the image.
            size: Side of the crops in pixels.
            num_classes: Number of classes, for the targets of mixed images.

        Returns:
            (B, 3, size, size) images without the neighbours of the batch, and targets: (B,) labels, or (B, num_classes)
            shares of mixed images.
        """
        # New operations append their draws, so that those of the others, and all earlier results, stay the same.
        counts = (NUM_DRAWS, NUM_MIXING_DRAWS, NUM_JITTER_DRAWS)
        draws = uniform_draws(self.seed, epoch, batch.indices, sum(counts))
        crop_draws, mixing_draws, jitter_draws = np.split(draws, np.cumsum(counts)[:-1], axis=1)
        view, normalization = self.view, (self.view.mean, self.view.std)
        images = augment(
            batch.images,
            crop_draws,
            self.augmentation,
            size,
            view.interpolation,
            normalization,
            batch.sizes,
            jitter_draws,
        )
        if not self.mixing:
            return images, batch.labels
        images, targets = mix(images, batch.labels, mixing_draws, self.mixing, num_classes)
        own = len(images) - batch.neighbours
        return images[:own], targets[:own]

    def eval_view(self, images: Tensor) -> Tensor:
        """Return stored (B, 3, S, S) uint8 images preprocessed for evaluation, without augmentation."""
        view = self.view
        resized = resize_center(images, view.resize, view.size, view.interpolation)
        return normalize(resized, view.mean, view.std)

    def tta_views(self, images: Tensor) -> Iterator[Tensor]:
        """Yield the views of test-time augmentation, over which probabilities are averaged."""
        for crop in self._five_crops(images) if self.tta == "flip_crops" else [self.eval_view(images)]:
            yield crop
            if self.tta != 1:
                yield crop.flip(-1)

    def _five_crops(self, images: Tensor) -> Iterator[Tensor]:
        view, side = self.view, round(self.view.size * 8 / 7)
        resized, rest = resize_square(images, side, view.interpolation), side - view.size
        for top, left in ((rest // 2, rest // 2), (0, 0), (0, rest), (rest, 0), (rest, rest)):
            yield normalize(resized[..., top : top + view.size, left : left + view.size], view.mean, view.std)


@dataclass(frozen=True)
class FeaturePipeline:
    """Features of a frozen backbone, (B, D) float32, passed on unchanged; has the methods of `ImagePipeline`."""

    mixes = False

    def train_batch(self, batch: Batch, *, epoch: int, size: int, num_classes: int) -> tuple[Tensor, Tensor]:
        """Return the features and labels of a batch, the same in every epoch."""
        return batch.images, batch.labels

    def eval_view(self, features: Tensor) -> Tensor:
        """Return the features."""
        return features

    def tta_views(self, features: Tensor) -> Iterable[Tensor]:
        """Return the features as the only view."""
        return [features]


Pipeline = ImagePipeline | FeaturePipeline


def size_of(sizes: Sequence[int], epoch: int, num_epochs: int) -> int:
    """Return the side of the training crops in an epoch; each size is used for an equal part of the epochs, in turn."""
    return sizes[epoch * len(sizes) // num_epochs]
