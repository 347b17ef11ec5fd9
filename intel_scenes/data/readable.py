"""The images of a split folder, decoded in the cache: those that can be."""

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
        cache_dir: Where decoded images are kept.
        size: Side, or shorter side, of the decoded images.
        rule: Whether the cache holds the middle square of each image, or the whole.
        view: How the network sees them.
    """

    cache_dir: Path
    size: int
    rule: StoreRule
    view: View

    def pack(self, scenes: Scenes) -> Packed:
        """The decoded images, from the cache where they are there.

        Raises:
            UserError: The cache cannot be written, or is damaged.
        """
        if self.rule == "whole":
            return pack_whole(scenes, self.cache_dir, self.size, self.view.interpolation)
        return pack(scenes, self.cache_dir, self.size)

    def readable(self, scenes: Scenes, packed: Packed) -> tuple[Scenes, Stored, Indices]:
        """The images that can be decoded, what is stored of them, and their positions among all."""
        kept = np.setdiff1d(np.arange(len(scenes)), list(packed.unreadable))
        readable = scenes.select(kept)
        values, labels, rows = map(torch.from_numpy, (packed.images, readable.labels, kept))
        if packed.sizes is None:
            return readable, Stored(values, labels, rows), kept
        crop = self.view.size if self.view.resize == self.size else self.size
        return readable, Stored(values, labels, rows, shapes_of(packed.sizes, self.size, crop).select(kept)), kept
