"""Unreadable and odd images, duplicates and near-duplicates."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt

from intel_scenes import safe_images
from intel_scenes.data import progress_bar
from intel_scenes.data.scenes import Scenes
from intel_scenes.data.splits import Indices
from intel_scenes.data.store import Stored

# Standard deviation of the pixels, of 255, below which an image is nearly of one colour. The flattest image of the
# Intel scenes that still shows something, a sea in mist, has 11.
FLAT_SPREAD = 6.0
# Largest difference of the channels, of 255, below which an image is grey. A grey JPEG decodes to equal channels; an
# old photograph that was scanned in colour does not.
GREY_DIFFERENCE = 8
BLOCK = 1024  # rows of one matrix product: 64 MB of similarities for 16,000 images
MAX_NEAR_PAIRS = 1000


@dataclass(frozen=True)
class Finding:
    """One row of `audit.csv`; a value that does not apply is None.

    Attributes:
        kind: `unreadable`, `odd`, `identical`, `near` or `label`.
        split: `train`, `test`, or `val` if the folder has one.
        path: `<class>/<file>`, or as a labels file writes it.
        label: Name of the image's class.
        other_split: Split of the duplicate or near-duplicate.
        other_path: Path of the duplicate or near-duplicate.
        other_label: Class of the duplicate or near-duplicate.
        suggested: Most probable class, for a label.
        score: Cosine distance of near-duplicates, or self-confidence of a label (its probability, 0 to 1).
        flagged: Whether the labels of a pair differ, or whether confident learning considers the label wrong.
        reason: Why the image is unreadable or odd, or whether its label was flipped for the check.
    """

    kind: str
    split: str
    path: str
    label: str
    other_split: str | None = None
    other_path: str | None = None
    other_label: str | None = None
    suggested: str | None = None
    score: float | None = None
    flagged: bool | None = None
    reason: str | None = None


def find_unreadable(reasons: Mapping[str, Mapping[str, str]], scenes: Mapping[str, Scenes]) -> Iterator[Finding]:
    """Find images that cannot be decoded.

    Args:
        reasons: Why an image cannot be decoded, by split and path.
        scenes: All images by split.
    """
    for split, of_split in reasons.items():
        classes = dict(map(partial(named, scenes[split]), range(len(scenes[split])))) if of_split else {}
        for path, reason in of_split.items():
            yield Finding("unreadable", split, path, classes[path], reason=reason)


def find_odd(scenes: Mapping[str, Scenes], images: Mapping[str, Stored]) -> Iterator[Finding]:
    """Find images that differ from the rest of all splits; one finding for each reason.

    Args:
        scenes: Readable images by split.
        images: Their stored pixels, in the same order.
    """
    forms = {split: forms_of(of_split) for split, of_split in scenes.items()}
    usual = common_size([form for of_split in forms.values() for form in of_split])
    for split, of_split in forms.items():
        for index, kind, detail in odd_images(of_split, images[split], usual):
            yield Finding("odd", split, *named(scenes[split], index), reason=f"{kind}: {detail}")


def find_identical(scenes: Mapping[str, Scenes]) -> list[Finding]:
    """Pair each byte-identical copy with the first image of its group; pairs with different labels come first."""
    pairs = []
    for first, *others in identical_groups(*scenes.values()):
        pairs += [_pair("identical", scenes, first, other) for other in others]
    return sorted(pairs, key=lambda pair: not pair.flagged)


def find_near(scenes: Mapping[str, Scenes], vectors: npt.NDArray[np.float32], within: float) -> Iterator[Finding]:
    """Find pairs of near-duplicates that are not byte-identical, the nearest first.

    Args:
        scenes: Images by split.
        vectors: (N, D) features of the images of all splits, one split after the other.
        within: Largest cosine distance.
    """
    places = [(number, index) for number, of_split in enumerate(scenes.values()) for index in range(len(of_split))]
    contents = [content for of_split in scenes.values() for content in of_split.contents]
    unique = np.sort(np.unique(contents, return_index=True)[1])  # identical copies would crowd out all other pairs
    for (first, other), distance in zip(*near_pairs(vectors[unique], within), strict=True):
        yield _pair("near", scenes, places[unique[first]], places[unique[other]], float(distance))


def named(scenes: Scenes, index: int) -> tuple[str, str]:
    """Return the path and the class of an image."""
    return scenes.paths[index], scenes.classes[scenes.labels[index]]


def _pair(
    kind: str, scenes: Mapping[str, Scenes], first: tuple[int, int], other: tuple[int, int], score: float | None = None
) -> Finding:
    splits = list(scenes)
    (split, (path, label)), (other_split, (other_path, other_label)) = (
        (splits[number], named(scenes[splits[number]], index)) for number, index in (first, other)
    )
    flagged = label != other_label
    return Finding(kind, split, path, label, other_split, other_path, other_label, score=score, flagged=flagged)


@dataclass(frozen=True)
class Form:
    """How an image file is stored.

    Attributes:
        size: Width and height in pixels.
        mode: Pillow's name of the mode, such as RGB or L.
    """

    size: tuple[int, int]
    mode: str


def forms_of(scenes: Scenes) -> list[Form]:
    """Return the size and mode of each image from its file's header; the files must be readable."""

    def form(index: int) -> Form:
        with safe_images.opened(safe_images.read(scenes.file(index))) as image:
            return Form(image.size, image.mode)

    with ThreadPoolExecutor() as pool, progress_bar.bar(len(scenes), "reading image sizes") as bar:
        forms = []
        for image_form in pool.map(form, range(len(scenes))):
            forms.append(image_form)
            bar.update()
        return forms


def common_size(forms: Sequence[Form]) -> tuple[int, int] | None:
    """Return the size that at least half of the images have; None if there is none."""
    size, count = Counter(form.size for form in forms).most_common(1)[0]
    return size if 2 * count >= len(forms) else None


def odd_images(forms: Sequence[Form], images: Stored, usual: tuple[int, int] | None) -> list[tuple[int, str, str]]:
    """Find images that differ from the rest in size, mode or colours.

    Args:
        forms: Size and mode of each image.
        images: Their stored pixels, in the same order; of whole images the center square is examined.
        usual: The usual size; None if any size is usual.

    Returns:
        Position, kind (`size`, `mode`, `one colour` or `grey`) and detail of each finding, sorted by position.
    """
    reasons = []
    usual_mode = Counter(form.mode for form in forms).most_common(1)[0][0]
    for start in range(0, len(forms), BLOCK):
        squares = images.squares(np.arange(start, min(start + BLOCK, len(forms)))).images
        # One pixel in nine is enough, and saves most of the time.
        pixels = squares[:, :, ::3, ::3].permute(0, 2, 3, 1).numpy().astype(np.float32)
        spread = pixels.std(axis=(1, 2)).max(axis=1)
        difference = np.ptp(pixels, axis=3).max(axis=(1, 2))
        for index, form in enumerate(forms[start : start + BLOCK]):
            if usual and form.size != usual:
                reasons.append((start + index, "size", f"{form.size[0]} x {form.size[1]} pixels"))
            if form.mode != usual_mode:
                reasons.append((start + index, "mode", f"stored as {form.mode}"))
            if spread[index] < FLAT_SPREAD:
                reasons.append((start + index, "one colour", f"spread {spread[index]:.1f} of 255"))
            elif difference[index] < GREY_DIFFERENCE and usual_mode != "L":
                reasons.append((start + index, "grey", "no colour"))
    return reasons


def identical_groups(*splits: Scenes) -> list[list[tuple[int, int]]]:
    """Return groups of byte-identical images within and across splits, as (number of the split, position)."""
    places = defaultdict(list)
    for number, scenes in enumerate(splits):
        for position, content in enumerate(scenes.contents):
            places[content].append((number, position))
    return [group for group in places.values() if len(group) > 1]


def near_pairs(
    vectors: npt.NDArray[np.float32], within: float, most: int = MAX_NEAR_PAIRS
) -> tuple[Indices, npt.NDArray[np.float32]]:
    """Return the pairs of vectors with a small cosine distance, computed in blocks to bound the memory.

    Args:
        vectors: (N, D) vectors.
        within: Largest distance, from 0 (same direction) to 2.
        most: Largest number of pairs; the nearest are kept.

    Returns:
        (P, 2) positions, the lower one first, and (P,) distances, both sorted by distance.
    """
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    unit = vectors / np.maximum(lengths, np.finfo(np.float32).tiny)
    pairs, distances = np.empty((0, 2), np.int64), np.empty(0, np.float32)
    with progress_bar.bar(len(unit), "comparing images for near-duplicates") as bar:
        for start in range(0, len(unit), BLOCK):
            block = unit[start : start + BLOCK]
            block_distances = 1 - block @ unit[start:].T
            rows, columns = np.nonzero(np.triu(block_distances <= within, k=1))
            pairs = np.concatenate([pairs, start + np.stack([rows, columns], axis=1)])
            distances = np.concatenate([distances, block_distances[rows, columns]])
            nearest = np.argsort(distances, kind="stable")[:most]
            pairs, distances = pairs[nearest], distances[nearest]
            bar.update(len(block))
    return pairs, distances
