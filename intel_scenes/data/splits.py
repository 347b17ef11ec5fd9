"""Which images are trained on, validated and tested on: stratified cuts, byte-identical images on one side."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from intel_scenes.data.scenes import Scenes, duplicates, fingerprint, in_label_conflict
from intel_scenes.errors import UserError

Indices = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Splits:
    """Which images a network is trained on, validated and tested on.

    Attributes:
        scenes: The usable images of train, and behind them those of a validation split that was there.
        test_scenes: Those of test.
        train: Sorted positions of the training images in `scenes`.
        val: Of the validation images, in `scenes` as well.
        train_eval: Of the slice of the training images on which the training accuracy is evaluated.
        test: Of the test images, in `test_scenes`.
        has_own_val: Whether the validation split was there, not cut from train.
        num_whole: Number of training images before a subset of them was taken; None where none was.
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
        """Names of the classes; a label is a position here."""
        return self.scenes.classes

    @property
    def fingerprint(self) -> str:
        """Digest of the names and contents of the usable images of train, of a val that was there, and of test."""
        return fingerprint(*self.scenes_by_split.values())

    @property
    def scenes_by_split(self) -> dict[str, Scenes]:
        """The usable images of "train" and "test" as they were found, and between them those of a "val" beside them."""
        if not self.has_own_val:
            return {"train": self.scenes, "test": self.test_scenes}
        train = np.setdiff1d(np.arange(len(self.scenes)), self.val)
        return {"train": self.scenes.select(train), "val": self.scenes.select(self.val), "test": self.test_scenes}

    @property
    def test_duplicates(self) -> list[str]:
        """Test images that are in train, or in what validates, as well, by path."""
        return duplicates(self.test_scenes, self.scenes)

    @property
    def val_duplicates(self) -> list[str]:
        """Images of a validation split that was there, and that are in train as well, by path."""
        found = self.scenes_by_split
        return duplicates(found["val"], found["train"]) if self.has_own_val else []

    def clean_test(self) -> npt.NDArray[np.bool_]:
        """(N,) mask of the test images that are not in train, nor anywhere under another label."""
        twice = set(self.test_duplicates)
        _, conflict = in_label_conflict(self.scenes, self.test_scenes)
        return np.array([path not in twice for path in self.test_scenes.paths]) & ~conflict


def cut_splits(
    readable: Scenes,
    kept: npt.NDArray[np.bool_],
    test_scenes: Scenes,
    val_fraction: float | None,
    seed: int,
    own_val: npt.NDArray[np.bool_] | None = None,
) -> Splits:
    """Cuts a validation split from the training images, and a slice of the rest that is evaluated as that is.

    Args:
        readable: The images of train that can be decoded, and of a validation split that was there.
        kept: (N,) mask of those that are not excluded; on which side of the cut one lies depends on no exclusion.
        test_scenes: The usable images of test.
        val_fraction: Share that becomes the validation split; None cuts none.
        seed: Of the cut and the slice.
        own_val: (N,) mask of the validation split that was there; None where it is to be cut.

    Raises:
        UserError: A class is left without an image on one side.
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
    """The same splits with a share of the training images, and of these a new slice that is evaluated.

    Args:
        splits: With all training images.
        fraction: Share to train on, above 0 and up to 1.
        subset_seed: Draws the subset: that of a smaller share is part of that of a larger one.
        split_seed: Of the slice.

    Raises:
        UserError: A class is left without an image to train on.
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
    """Which images a share of a labelled set holds: of each class the first ones of its shuffled order.

    Images with equal contents move together, counted with the class of the first of them, whatever their labels say;
    where they do not fit, a class gives fewer.

    Args:
        labels: (N,) int64, class numbers.
        contents: N digests of the images' bytes.
        fraction: Share of each class, above 0 and up to 1, rounded to whole images.
        seed: Of the shuffle, which no fraction changes: a smaller share is part of a larger one.
        classes: Names of the classes, for the error.

    Returns:
        (N,) mask of the subset.

    Raises:
        UserError: The share of a class is no image.
    """
    _, first, group = np.unique(np.asarray(contents), return_index=True, return_inverse=True)
    sizes = np.bincount(group)
    generator = np.random.default_rng(seed)
    taken = np.zeros(len(first), dtype=bool)
    for label in np.unique(labels):
        # In the order of the images, so that the subset does not depend on how digests sort.
        shuffled = group[generator.permutation(np.sort(first[labels[first] == label]))]
        room = round(fraction * int(sizes[shuffled].sum()))
        if not room:
            raise UserError(
                f"data.train_fraction={fraction:g} leaves no image of {classes[label]} to train on, of "
                f"{int(np.sum(labels == label))}: raise it, or give the class more images"
            )
        fitting = np.cumsum(sizes[shuffled]) <= room
        fitting[0] = True  # also where these are more equal images than there is room for
        taken[shuffled[fitting]] = True
    mask: npt.NDArray[np.bool_] = taken[group]
    return mask


def _slice(scenes: Scenes, train: Indices, share: float, seed: int) -> Indices:
    """As many training images as there are validation images; all where that is no share of them."""
    if not 0 < share < 1:
        return train
    contents = [scenes.contents[index] for index in train]
    chosen: Indices = train[stratified_mask(scenes.labels[train], contents, share, seed)]
    return chosen


def _check_no_class_is_lost(scenes: Scenes, *parts: Indices) -> None:
    for number, name in enumerate(scenes.classes):
        if not all((scenes.labels[part] == number).any() for part in parts):
            raise UserError(f"data.exclude leaves no image of {name} to train on, or none to validate on: shorten it")


def stratified_split(
    labels: npt.NDArray[np.int64],
    contents: Sequence[str],
    fraction: float,
    seed: int,
    classes: Sequence[str] = (),
    fraction_key: str = "data.val_fraction",
) -> tuple[Indices, Indices]:
    """Cuts a labelled set in two, as `stratified_mask` says, with images of every class in both parts.

    Args:
        labels: (N,) int64, class numbers.
        contents: N digests of the images' bytes.
        fraction: Share of the second part, between 0 and 1, both excluded.
        seed: Of the shuffle.
        classes: Names of the classes, for the error.
        fraction_key: The key of the fraction, for the error.

    Returns:
        Two sorted arrays of positions, the rest and the cut part, that hold each of 0..N-1 once.

    Raises:
        UserError: The fraction is out of range or leaves a class empty on one side.
    """
    if not 0 < fraction < 1:
        raise UserError(f"{fraction_key}={fraction} must lie between 0 and 1, such as 0.1")
    in_cut = stratified_mask(labels, contents, fraction, seed)
    for label in np.unique(labels):
        if in_cut[labels == label].all() or not in_cut[labels == label].any():
            name = classes[label] if classes else f"class number {label}"
            raise UserError(
                f"{fraction_key}={fraction} leaves {name} with no image on one side of the split: "
                "change it, or give the class more images"
            )
    return np.flatnonzero(~in_cut), np.flatnonzero(in_cut)


def stratified_mask(
    labels: npt.NDArray[np.int64], contents: Sequence[str], fraction: float, seed: int
) -> npt.NDArray[np.bool_]:
    """Which images are cut from a labelled set: every class gives the same share of its images.

    Images with equal contents move together, counted with the class of the first of them, whatever their labels say.

    Args:
        labels: (N,) int64, class numbers.
        contents: N digests of the images' bytes.
        fraction: Share of the cut part, between 0 and 1, both excluded; of each class at least one image.
        seed: Of the shuffle.

    Returns:
        (N,) mask of the cut part.
    """
    _, first, group = np.unique(np.asarray(contents), return_index=True, return_inverse=True)
    sizes = np.bincount(group)
    generator = np.random.default_rng(seed)
    taken = np.zeros(len(first), dtype=bool)
    for label in np.unique(labels):
        # In the order of the images, so that the split does not depend on how digests sort.
        members = np.sort(first[labels[first] == label])
        shuffled = group[generator.permutation(members)]
        room = max(1, round(fraction * int(np.sum(labels == label))))
        for one in shuffled:
            if sizes[one] <= room:
                taken[one] = True
                room -= sizes[one]
    mask: npt.NDArray[np.bool_] = taken[group]
    return mask


def stratified_folds(labels: Indices, contents: Sequence[str], num_folds: int, seed: int) -> Indices:
    """Deals a labelled set into folds: each gets the same share of every class, give or take an image or a group.

    Images with equal contents go to one fold, counted with the class of the first of them, whatever their labels say.

    Args:
        labels: (N,) class numbers.
        contents: N digests of the images' bytes.
        num_folds: Number of folds.
        seed: Of the shuffle.

    Returns:
        (N,) number of each image's fold.
    """
    _, first, group = np.unique(np.asarray(contents), return_index=True, return_inverse=True)
    generator = np.random.default_rng(seed)
    # In the order of the images, so that the folds do not depend on how digests sort; then by class, shuffled.
    shuffled = generator.permutation(np.sort(first))
    dealt = shuffled[np.argsort(labels[shuffled], kind="stable")]
    fold = np.empty(len(first), dtype=np.int64)
    fold[group[dealt]] = np.arange(len(first)) % num_folds
    found: Indices = fold[group]
    return found
