"""A labelled set cut in two or dealt into folds, stratified, byte-identical images on one side."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from intel_scenes.errors import UserError

Indices = npt.NDArray[np.int64]


def stratified_split(
    labels: npt.NDArray[np.int64], contents: Sequence[str], fraction: float, seed: int, classes: Sequence[str] = ()
) -> tuple[Indices, Indices]:
    """Cuts a labelled set in two, as `stratified_mask` says, with images of every class in both parts.

    Args:
        labels: (N,) int64, class numbers.
        contents: N digests of the images' bytes.
        fraction: Share of the second part, between 0 and 1, both excluded.
        seed: Of the shuffle.
        classes: Names of the classes, for the error.

    Returns:
        Two sorted arrays of positions, the rest and the cut part, that hold each of 0..N-1 once.

    Raises:
        UserError: The fraction is out of range or leaves a class empty on one side.
    """
    if not 0 < fraction < 1:
        raise UserError(f"data.val_fraction={fraction} must lie between 0 and 1: 0.1 keeps a tenth for validation")
    in_cut = stratified_mask(labels, contents, fraction, seed)
    for label in np.unique(labels):
        if in_cut[labels == label].all() or not in_cut[labels == label].any():
            name = classes[label] if classes else f"class number {label}"
            raise UserError(
                f"data.val_fraction={fraction} leaves {name} with no image on one side of the split: "
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
