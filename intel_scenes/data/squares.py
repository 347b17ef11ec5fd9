"""A single image as evaluation takes it: the middle square of its stored form, without a cache."""

from dataclasses import dataclass

import numpy as np
from PIL import Image

from intel_scenes.data.packed import Pixels, StoreRule, store, store_whole
from intel_scenes.data.store import shapes_of


@dataclass(frozen=True)
class Storing:
    """How images are stored, and which square evaluation takes of them.

    Attributes:
        rule: Whether the middle square of an image is stored, or all of it.
        size: Side, or shorter side, of what is stored, in pixels.
        interpolation: Of the network, which decides how whole images are resized.
        crop: Side of the middle that evaluation takes of the square; see `shapes_of`.
    """

    rule: StoreRule
    size: int
    interpolation: str
    crop: int

    def square(self, image: Image.Image) -> Pixels:
        """The (size, size, 3) uint8 square of an image, the same as `Stored.squares` takes from the cache.

        Raises:
            Exception: The image is damaged, and its decoder fails.
        """
        if self.rule == "square":
            return store(image, self.size)
        whole = store_whole(image, self.size, self.interpolation)
        shapes = shapes_of(np.array([whole.shape[:2]]), self.size, self.crop)
        top, left = shapes.corners[0].tolist()
        return whole[top : top + self.size, left : left + self.size]
