"""What is wrong with the images of a data set, from arrays: odd ones, one image twice, labels that do not fit."""

import warnings
from collections import Counter, defaultdict
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image

from intel_scenes.data import progress
from intel_scenes.data.batches import Stored
from intel_scenes.data.scenes import Scenes
from intel_scenes.data.splits import Indices
from intel_scenes.predictions import Probabilities

Mask = npt.NDArray[np.bool_]

# Of 255. The flattest image of the Intel scenes that still shows something, a sea in mist, spreads by 11.
FLAT_SPREAD = 6.0
# Of 255. A grey JPEG decodes to equal channels; an old photograph that was scanned in colour does not.
GREY_DIFFERENCE = 8
BLOCK = 1024  # images of one product: 64 MB of similarities at 16,000 images
MAX_NEAR_PAIRS = 1000


@dataclass(frozen=True)
class Form:
    """How an image file is stored.

    Attributes:
        size: Width and height in pixels.
        mode: Pillow's name of it, such as RGB or L.
    """

    size: tuple[int, int]
    mode: str


def forms(scenes: Scenes) -> list[Form]:
    """The form of each image, from the heads of files that are known to be readable."""

    def form(path: str) -> Form:
        with Image.open(scenes.root / path) as image:
            return Form(image.size, image.mode)

    with ThreadPoolExecutor() as pool, progress.bar(len(scenes), "sizes") as bar:
        found = []
        for one in pool.map(form, scenes.paths):
            found.append(one)
            bar.update()
        return found


def common_size(found: Sequence[Form]) -> tuple[int, int] | None:
    """The size that at least half of the images have; None where there is none."""
    size, count = Counter(form.size for form in found).most_common(1)[0]
    return size if 2 * count >= len(found) else None


def odd(found: Sequence[Form], images: Stored, usual: tuple[int, int] | None) -> list[tuple[int, str, str]]:
    """The images that are not like the rest.

    Args:
        found: Form of each image.
        images: The decoded ones, in that order; of whole pictures the middle square is looked at.
        usual: The size that is not odd; None where every size is as good.

    Returns:
        Position, kind (`size`, `mode`, `one colour` or `grey`) and what was seen, by position.
    """
    reasons = []
    usual_mode = Counter(form.mode for form in found).most_common(1)[0][0]
    for start in range(0, len(found), BLOCK):
        squares, _, _ = images.squares(np.arange(start, min(start + BLOCK, len(found))))
        # One pixel in nine is enough to tell, and spares most of the time.
        pixels = squares[:, :, ::3, ::3].permute(0, 2, 3, 1).numpy().astype(np.float32)
        spread = pixels.std(axis=(1, 2)).max(axis=1)
        difference = np.ptp(pixels, axis=3).max(axis=(1, 2))
        for index, form in enumerate(found[start : start + BLOCK]):
            if usual and form.size != usual:
                reasons.append((start + index, "size", f"{form.size[0]} x {form.size[1]} pixels"))
            if form.mode != usual_mode:
                reasons.append((start + index, "mode", f"stored as {form.mode}"))
            if spread[index] < FLAT_SPREAD:
                reasons.append((start + index, "one colour", f"spread {spread[index]:.1f} of 255"))
            elif difference[index] < GREY_DIFFERENCE and usual_mode != "L":
                reasons.append((start + index, "grey", "no colour"))
    return reasons


def identical(*splits: Scenes) -> list[list[tuple[int, int]]]:
    """Groups of byte-identical images within and across splits: (number of the split, position) of each image."""
    places = defaultdict(list)
    for number, scenes in enumerate(splits):
        for position, content in enumerate(scenes.contents):
            places[content].append((number, position))
    return [group for group in places.values() if len(group) > 1]


def near_pairs(
    vectors: npt.NDArray[np.float32], within: float, most: int = MAX_NEAR_PAIRS
) -> tuple[Indices, npt.NDArray[np.float32]]:
    """The pairs of vectors whose cosine distance is small, in blocks that never hold all pairs.

    Args:
        vectors: (N, D).
        within: Largest distance, from 0 (one direction) to 2.
        most: Number of pairs that are kept, the nearest ones.

    Returns:
        (P, 2) positions, the lower one first, and (P,) distances, the nearest pair first.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    pairs, distances = np.empty((0, 2), np.int64), np.empty(0, np.float32)
    with progress.bar(len(unit), "near-duplicates") as bar:
        for start in range(0, len(unit), BLOCK):
            block = unit[start : start + BLOCK]
            apart = 1 - block @ unit[start:].T
            rows, columns = np.nonzero(np.triu(apart <= within, k=1))
            pairs = np.concatenate([pairs, start + np.stack([rows, columns], axis=1)])
            distances = np.concatenate([distances, apart[rows, columns]])
            nearest = np.argsort(distances, kind="stable")[:most]
            pairs, distances = pairs[nearest], distances[nearest]
            bar.update(len(block))
    return pairs, distances


@dataclass(frozen=True, eq=False)
class Judged:
    """What confident learning says of labels (Northcutt et al. 2021).

    Attributes:
        order: (N,) positions, the most doubtful label first.
        quality: (N,) self-confidence, the probability of the given class: from 0 (surely wrong) to 1 (surely right).
        suggested: (N,) the most likely class.
        flagged: (N,) mask of the labels that are likely wrong.
        confusion: (C, C) counts, rows the given and columns the most likely classes.
        joint: (C, C) estimated shares of all images, rows the given and columns the true classes.
    """

    order: Indices
    quality: Probabilities
    suggested: Indices
    flagged: Mask
    confusion: Indices
    joint: Probabilities

    @property
    def noise(self) -> float:
        """Estimated share of labels that are wrong."""
        return 1 - float(np.trace(self.joint))


def judged(labels: Indices, probabilities: Probabilities) -> Judged:
    """What confident learning says of labels.

    Args:
        labels: (N,) given classes.
        probabilities: (N, C) of a model that was not fitted to these labels.
    """
    from cleanlab import count, filter, rank  # an extra

    quality = rank.get_label_quality_scores(labels, probabilities, method="self_confidence")
    suggested, num_classes = probabilities.argmax(axis=1), probabilities.shape[1]
    confusion = np.bincount(labels * num_classes + suggested, minlength=num_classes**2)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "May not flag all label issues")  # the only image of a class is never flagged
        flagged = filter.find_label_issues(labels, probabilities, n_jobs=1)
    return Judged(
        order=np.argsort(quality, kind="stable"),
        quality=quality,
        suggested=suggested,
        flagged=flagged,
        confusion=confusion.reshape(num_classes, num_classes),
        joint=count.estimate_joint(labels, probabilities),
    )


def flipped(labels: Indices, share: float, num_classes: int, seed: int) -> tuple[Indices, Mask]:
    """Labels of which a share, chosen at random, is any other class; and the mask of those."""
    generator, changed = np.random.default_rng(seed), np.zeros(len(labels), dtype=bool)
    changed[generator.permutation(len(labels))[: round(share * len(labels))]] = True
    shifts = generator.integers(1, num_classes, len(labels))
    return np.where(changed, (labels + shifts) % num_classes, labels), changed


@dataclass(frozen=True)
class Recovery:
    """How many of the labels that were flipped are found.

    Attributes:
        flipped: Their number.
        precision: Share of flipped ones among those flagged; labels that were wrong before count as not flipped.
        recall: Share of those flagged among the flipped.
        early: Share of the flipped in as much of the ranking as `depth`.
        depth: Twice the share of flipped labels.
    """

    flipped: int
    precision: float
    recall: float
    early: float
    depth: float


def recovery(found: Judged, changed: Mask) -> Recovery:
    """How many of the labels of a mask (N,) are found; at least one of them is set."""
    number, hits = int(changed.sum()), int((changed & found.flagged).sum())
    return Recovery(
        flipped=number,
        precision=hits / max(1, int(found.flagged.sum())),
        recall=hits / number,
        early=float(changed[found.order[: 2 * number]].sum() / number),
        depth=2 * number / len(changed),
    )
