"""Scene images: where they come from, how they are split, packed and batched."""
