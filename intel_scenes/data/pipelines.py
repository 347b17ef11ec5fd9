"""How stored images are seen: as training shows them, as evaluation does, and with test-time augmentation."""

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from torch import Tensor

from intel_scenes.config import AugmentConfig
from intel_scenes.data.augment import NUM_DRAWS, augment, draw
from intel_scenes.data.jitter import NUM_DRAWS as NUM_JITTER_DRAWS
from intel_scenes.data.mixing import NUM_DRAWS as NUM_MIXING_DRAWS
from intel_scenes.data.mixing import Mixing, mix
from intel_scenes.data.resize import normalize, resize_center, resize_square
from intel_scenes.data.store import Batch

TTA = {1: 1, "flip": 2, "flip_crops": 10}  # kinds of test-time augmentation, and the number of views of each


@dataclass(frozen=True)
class View:
    """How a network sees the stored images.

    Attributes:
        size: Side of its input, in pixels.
        resize: Side to which evaluation resizes an image before it takes the middle `size`.
        interpolation: "bilinear" or "bicubic".
        mean: Of each channel, for values in 0..1.
        std: Of each channel, for values in 0..1.
    """

    size: int
    resize: int
    interpolation: str
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


@dataclass(frozen=True)
class ImagePipeline:
    """Turns stored images into what a network takes: (B, 3, size, size) float32, normalized.

    Attributes:
        view: How the network sees an image.
        augmentation: What a training image goes through.
        mixing: How training images are mixed after that.
        tta: Test-time augmentation, one of `TTA`: 1 is what evaluation shows alone; "flip" adds the horizontal flip;
            "flip_crops" is the ten-crop of Krizhevsky et al. 2012, the middle and the four corners of the image resized
            to 8/7 of the input, each with its flip.
        seed: Of augmentation and mixing.
    """

    view: View
    augmentation: AugmentConfig
    mixing: Mixing
    tta: int | str
    seed: int

    def train(self, batch: Batch, *, epoch: int, size: int, num_classes: int) -> tuple[Tensor, Tensor]:
        """The images of a batch as an epoch sees them, augmented and mixed.

        Args:
            batch: Stored images of the training split, on the device that computes.
            epoch: From 0; an image's random numbers depend on it, the seed and the image alone.
            size: Side of the crops.
            num_classes: Of the targets of mixed images.

        Returns:
            (B, 3, size, size) images, and targets: (B,) labels, or (B, num_classes) shares of mixed images.
        """
        counts = (NUM_DRAWS, NUM_MIXING_DRAWS, NUM_JITTER_DRAWS)  # what came later is drawn later: see `draw`
        draws = draw(self.seed, epoch, batch.indices, sum(counts))
        of_crop, of_mixing, of_jitter = np.split(draws, np.cumsum(counts)[:-1], axis=1)
        view, normalization = self.view, (self.view.mean, self.view.std)
        images = augment(
            batch.images, of_crop, self.augmentation, size, view.interpolation, normalization, batch.sizes, of_jitter
        )
        if not self.mixing:
            return images, batch.labels
        return mix(images, batch.labels, of_mixing, self.mixing, num_classes)

    def evaluate(self, images: Tensor) -> Tensor:
        """Stored (B, 3, S, S) uint8 images as evaluation shows them."""
        view = self.view
        resized = resize_center(images, view.resize, view.size, view.interpolation)
        return normalize(resized, view.mean, view.std)

    def evaluate_tta(self, images: Tensor) -> Iterator[Tensor]:
        """The views of test-time augmentation, over which probabilities are averaged; each as `evaluate` has it."""
        for crop in self._crops(images) if self.tta == "flip_crops" else [self.evaluate(images)]:
            yield crop
            if self.tta != 1:
                yield crop.flip(-1)

    def _crops(self, images: Tensor) -> Iterator[Tensor]:
        view, side = self.view, round(self.view.size * 8 / 7)
        resized, rest = resize_square(images, side, view.interpolation), side - view.size
        for top, left in ((rest // 2, rest // 2), (0, 0), (0, rest), (rest, 0), (rest, rest)):
            yield normalize(resized[..., top : top + view.size, left : left + view.size], view.mean, view.std)


@dataclass(frozen=True)
class FeaturePipeline:
    """Shows features of a frozen backbone, (B, D) float32, as they are stored; has the methods of `ImagePipeline`."""

    def train(self, batch: Batch, *, epoch: int, size: int, num_classes: int) -> tuple[Tensor, Tensor]:
        """The features and labels of a batch, the same in every epoch."""
        return batch.images, batch.labels

    def evaluate(self, features: Tensor) -> Tensor:
        """The features."""
        return features

    def evaluate_tta(self, features: Tensor) -> Iterable[Tensor]:
        """The one view that there is of them."""
        return [features]


Pipeline = ImagePipeline | FeaturePipeline


def size_of(sizes: Sequence[int], epoch: int, num_epochs: int) -> int:
    """Side of the training crops in an epoch: the sizes share out the epochs in equal parts, one after the other."""
    return sizes[epoch * len(sizes) // num_epochs]
