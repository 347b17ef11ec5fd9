"""Training, validation and test sets: stratified splits that keep byte-identical images together."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from intel_scenes.data.scenes import Scenes, duplicates, fingerprint, in_label_conflict
from intel_scenes.errors import UserError, counted

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Splits:
    """Training, validation and test sets, as positions in lists of images.

    Attributes:
        scenes: Usable images of the training folder, followed by those of a validation folder if there is one.
        test_scenes: Usable test images.
        train: Sorted positions of the training images in `scenes`.
        val: Sorted positions of the validation images in `scenes`.
        train_eval: Positions in `scenes` of the training images on which the training accuracy is evaluated.
        test: Positions of the test images in `test_scenes`.
        has_own_val: Whether the data set has a validation folder; if not, `val` was cut from the training images.
        num_whole: Number of training images before a subset was drawn; None if none was drawn.
    """

    scenes: Scenes
    test_scenes: Scenes
    train: Indices
    val: Indices
    train_eval: Indices
    test: Indices
    has_own_val: bool = False
    num_whole: int | None = None

    @property
    def classes(self) -> tuple[str, ...]:
        """Names of the classes, indexed by label."""
        return self.scenes.classes

    @property
    def fingerprint(self) -> str:
        """Digest of the names and contents of all usable images; see `scenes.fingerprint`."""
        return fingerprint(*self.scenes_by_split.values())

    @property
    def scenes_by_split(self) -> dict[str, Scenes]:
        """Usable images by the folder's own splits: "train", "val" if the folder has one, and "test"."""
        if not self.has_own_val:
            return {"train": self.scenes, "test": self.test_scenes}
        train = np.setdiff1d(np.arange(len(self.scenes)), self.val)
        return {"train": self.scenes.select(train), "val": self.scenes.select(self.val), "test": self.test_scenes}

    @property
    def test_duplicates(self) -> list[str]:
        """Paths of the test images whose bytes are also in the training or validation set."""
        return duplicates(self.test_scenes, self.scenes)

    @property
    def val_duplicates(self) -> list[str]:
        """Paths of the images in the validation folder whose bytes are also in the training folder."""
        scenes = self.scenes_by_split
        return duplicates(scenes["val"], scenes["train"]) if self.has_own_val else []

    def clean_test(self) -> npt.NDArray[np.bool_]:
        """Return the (N,) mask of the test images that are not duplicated in training and have no conflicting label."""
        duplicated = set(self.test_duplicates)
        _, in_conflict = in_label_conflict(self.scenes, self.test_scenes)
        return np.array([path not in duplicated for path in self.test_scenes.paths]) & ~in_conflict


def cut_splits(
    readable: Scenes,
    kept: npt.NDArray[np.bool_],
    test_scenes: Scenes,
    val_fraction: float | None,
    seed: int,
    own_val: npt.NDArray[np.bool_] | None = None,
) -> Splits:
    """Split off the validation set, and choose the training images on which the training accuracy is evaluated.

    Args:
        readable: N images of the training folder, and of a validation folder if there is one, that can be decoded.
        kept: (N,) mask of the images that are not excluded. Exclusions do not move the other images between the sets.
        test_scenes: Usable test images.
        val_fraction: Share of the images to split off for validation; None splits off none.
        seed: Seed of both choices.
        own_val: (N,) mask of the images of the validation folder; None if there is none.

    Raises:
        UserError: A class would have no image in one of the sets.
    """
    if own_val is not None:
        parts = np.flatnonzero(~own_val), np.flatnonzero(own_val)
    elif val_fraction is None:
        parts = np.arange(len(readable)), np.arange(0)
    else:
        parts = stratified_split(readable.labels, readable.contents, val_fraction, seed, readable.classes)
    place = np.cumsum(kept) - 1
    scenes = readable.select(np.flatnonzero(kept))
    train, val = (place[part[kept[part]]] for part in parts)
    if val_fraction is not None:
        _check_no_class_is_lost(scenes, train, val)
    train_eval = _slice(scenes, train, len(val) / len(train), seed)
    return Splits(scenes, test_scenes, train, val, train_eval, np.arange(len(test_scenes)), own_val is not None)


def with_subset(splits: Splits, fraction: float, subset_seed: int, split_seed: int) -> Splits:
    """Return the splits with a stratified subset of the training images, and `train_eval` chosen anew from it.

    Args:
        splits: Splits with all training images.
        fraction: Share of the training images to train on, above 0 and up to 1.
        subset_seed: Seed of the subset; with one seed, a smaller subset is part of a larger one.
        split_seed: Seed of the choice of `train_eval`.

    Raises:
        UserError: A class would have no training image.
    """
    if fraction == 1:
        return splits
    scenes, whole = splits.scenes, splits.train
    contents = [scenes.contents[index] for index in whole]
    train = whole[nested_mask(scenes.labels[whole], contents, fraction, subset_seed, scenes.classes)]
    train_eval = _slice(scenes, train, len(splits.val) / len(train), split_seed)
    return replace(splits, train=train, train_eval=train_eval, num_whole=len(whole))


def nested_mask(
    labels: npt.NDArray[np.int64], contents: Sequence[str], fraction: float, seed: int, classes: Sequence[str]
) -> npt.NDArray[np.bool_]:
    """Choose a stratified subset: the first images of each class in a shuffled order that does not depend on its size.

    Byte-identical images are kept together and count toward the class of the first of them, whatever their labels.
    The choice stops before a group that does not fit, so a class may have fewer images than its share.

    Args:
        labels: (N,) int64, class numbers.
        contents: N digests of the images' bytes.
        fraction: Share of each class, above 0 and up to 1, rounded to whole images.
        seed: Seed of the shuffle; with one seed, a smaller subset is part of a larger one.
        classes: Names of the classes, for the error message.

    Returns:
        (N,) mask of the subset.

    Raises:
        UserError: The share of a class rounds to no image.
    """
    _, first, group = np.unique(np.asarray(contents), return_index=True, return_inverse=True)
    sizes = np.bincount(group)
    generator = np.random.default_rng(seed)
    taken = np.zeros(len(first), dtype=bool)
    for label in np.unique(labels):
        # Sorted by position, because `first` has the order of the digests.
        shuffled = group[generator.permutation(np.sort(first[labels[first] == label]))]
        room = round(fraction * int(sizes[shuffled].sum()))
        if not room:
            raise UserError(
                f"data.train_fraction={fraction:g} leaves none of the {counted(int(np.sum(labels == label)), 'image')} "
                f"of the class {classes[label]} to train on: raise it, or add images to the class"
            )
        fitting = np.cumsum(sizes[shuffled]) <= room
        fitting[0] = True  # even if this group of identical images is larger than the share
        taken[shuffled[fitting]] = True
    mask: npt.NDArray[np.bool_] = taken[group]
    return mask


def _slice(scenes: Scenes, train: Indices, share: float, seed: int) -> Indices:
    """Choose a stratified share of the training images; all of them if the share is not between 0 and 1."""
    if not 0 < share < 1:
        return train
    contents = [scenes.contents[index] for index in train]
    chosen: Indices = train[stratified_mask(scenes.labels[train], contents, share, seed)]
    return chosen


def _check_no_class_is_lost(scenes: Scenes, *parts: Indices) -> None:
    for number, name in enumerate(scenes.classes):
        if not all((scenes.labels[part] == number).any() for part in parts):
            raise UserError(
                f"data.exclude leaves no image of the class {name} in the training or the validation set: "
                "remove some of its paths from that file"
            )


def stratified_split(
    labels: npt.NDArray[np.int64],
    contents: Sequence[str],
    fraction: float,
    seed: int,
    classes: Sequence[str] = (),
    fraction_key: str = "data.val_fraction",
) -> tuple[Indices, Indices]:
    """Split a labelled set in two with `stratified_mask`, and check that both parts have images of every class.

    Args:
        labels: (N,) int64, class numbers.
        contents: N digests of the images' bytes.
        fraction: Share of the second part, between 0 and 1, both excluded.
        seed: Seed of the shuffle.
        classes: Names of the classes, for the error message.
        fraction_key: Configuration key of the fraction, for the error message.

    Returns:
        Two sorted arrays of positions that hold each of 0..N-1 once: the first part and the part split off.

    Raises:
        UserError: The fraction is out of range, or one part has no image of a class.
    """
    if not 0 < fraction < 1:
        raise UserError(f"{fraction_key}={fraction} must be above 0 and below 1, such as 0.1")
    in_cut = stratified_mask(labels, contents, fraction, seed)
    for label in np.unique(labels):
        if in_cut[labels == label].all() or not in_cut[labels == label].any():
            name = classes[label] if classes else f"number {label}"
            raise UserError(
                f"{fraction_key}={fraction} leaves the class {name} without an image on one side of the split: "
                "change it, or add images to the class"
            )
    return np.flatnonzero(~in_cut), np.flatnonzero(in_cut)


def stratified_mask(
    labels: npt.NDArray[np.int64], contents: Sequence[str], fraction: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Choose the same share of the images of every class.

    Byte-identical images are kept together and count toward the class of the first of them, whatever their labels.

    Args:
        labels: (N,) int64, class numbers.
        contents: N digests of the images' bytes.
        fraction: Share of each class, between 0 and 1, both excluded; at least one image of each.
        seed: Seed of the shuffle.

    Returns:
        (N,) mask of the chosen images.
    """
    _, first, group = np.unique(np.asarray(contents), return_index=True, return_inverse=True)
    sizes = np.bincount(group)
    generator = np.random.default_rng(seed)
    taken = np.zeros(len(first), dtype=bool)
    for label in np.unique(labels):
        # Sorted by position, because `first` has the order of the digests.
        members = np.sort(first[labels[first] == label])
        shuffled = group[generator.permutation(members)]
        room = max(1, round(fraction * int(np.sum(labels == label))))
        for group_number in shuffled:
            if sizes[group_number] <= room:
                taken[group_number] = True
                room -= sizes[group_number]
    mask: npt.NDArray[np.bool_] = taken[group]
    return mask


def stratified_folds(labels: Indices, contents: Sequence[str], num_folds: int, seed: int) -> Indices:
    """Assign the images of a labelled set to stratified cross-validation folds.

    Byte-identical images are put into one fold and count toward the class of the first of them, whatever their labels.

    Args:
        labels: (N,) class numbers.
        contents: N digests of the images' bytes.
        num_folds: Number of folds.
        seed: Seed of the shuffle.

    Returns:
        (N,) fold number of each image.
    """
    _, first, group = np.unique(np.asarray(contents), return_index=True, return_inverse=True)
    generator = np.random.default_rng(seed)
    # Sorted by position, because `first` has the order of the digests; then shuffled within each class.
    shuffled = generator.permutation(np.sort(first))
    dealt = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(first), dtype=np.int64)
    fold[group[dealt]] = np.arange(len(first)) % num_folds
    folds: Indices = fold[group]
    return folds
