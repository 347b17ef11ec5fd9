"""The stored square of a single image for evaluation, without a cache."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from intel_scenes.data.packed import Pixels, StoreRule, store_square, store_whole
from intel_scenes.data.store import shapes_of


@dataclass(frozen=True)
class Storing:
    """How images are stored, and which square evaluation takes of them.

    Attributes:
        rule: Whether the center square of an image is stored, or the whole image.
        size: Side of the stored square, or shorter side of the whole image, in pixels.
        interpolation: Interpolation of the network, by which whole images are resized.
        crop: Side of the center crop that evaluation takes of the square; see `shapes_of`.
    """

    rule: StoreRule
    size: int
    interpolation: str
    crop: int

    def square(self, image: Image.Image) -> Pixels:
        """Return the (size, size, 3) uint8 square of an image, identical to that of `Stored.squares` from the cache.

        Raises:
            Exception: The image is corrupt, and its decoder fails.
        """
        if self.rule == "square":
            return store_square(image, self.size)
        whole = store_whole(image, self.size, self.interpolation)
        shapes = shapes_of(np.array([whole.shape[:2]]), self.size, self.crop)
        top, left = shapes.corners[0].tolist()
        return whole[top : top + self.size, left : left + self.size]
