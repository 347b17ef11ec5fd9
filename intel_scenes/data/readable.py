"""Decoding of the images of a split into the cache, and selection of those that could be decoded."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from intel_scenes.data.packed import Packed, StoreRule, pack, pack_whole
from intel_scenes.data.pipelines import View
from intel_scenes.data.scenes import Scenes
from intel_scenes.data.splits import Indices
from intel_scenes.data.store import Stored, shapes_of


@dataclass(frozen=True)
class Packing:
    """How images are decoded and stored for a network.

    Attributes:
        cache_dir: Folder of the cache.
        size: Side of the stored squares, or shorter side of whole images, in pixels.
        rule: Whether the center square of each image is stored, or the whole image.
        view: Input size, interpolation and normalization of the network.
        verify: Whether the cache is read, to check that it holds what was written.
    """

    cache_dir: Path
    size: int
    rule: StoreRule
    view: View
    verify: bool = False

    def pack(self, scenes: Scenes) -> Packed:
        """Return the decoded images, from the cache if they are in it.

        Raises:
            UserError: The cache cannot be written, or is corrupt.
        """
        if self.rule == "whole":
            return pack_whole(scenes, self.cache_dir, self.size, self.view.interpolation, verify=self.verify)
        return pack(scenes, self.cache_dir, self.size, verify=self.verify)

    def readable(self, scenes: Scenes, packed: Packed) -> tuple[Scenes, Stored, Indices]:
        """Return the images that can be decoded, their stored pixels, and their positions in `scenes`."""
        kept = np.setdiff1d(np.arange(len(scenes)), list(packed.unreadable))
        readable = scenes.select(kept)
        values, labels, rows = map(torch.from_numpy, (packed.images, readable.labels, kept))
        if packed.sizes is None:
            return readable, Stored(values, labels, rows), kept
        shapes = shapes_of(packed.sizes, self.size, self.view.crop_of(self.size))
        return readable, Stored(values, labels, rows, shapes.select(kept)), kept
