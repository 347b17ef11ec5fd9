"""Images: their sources, splits, the decoded cache, augmentation and batches."""
