"""Unreadable and odd images, and one image twice: what is wrong whatever the labels say."""

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
import numpy.typing as npt
from PIL import Image

from intel_scenes.data import progress_bar
from intel_scenes.data.scenes import Scenes
from intel_scenes.data.splits import Indices
from intel_scenes.data.store import Stored

# Of 255. The flattest image of the Intel scenes that still shows something, a sea in mist, spreads by 11.
FLAT_SPREAD = 6.0
# Of 255. A grey JPEG decodes to equal channels; an old photograph that was scanned in colour does not.
GREY_DIFFERENCE = 8
BLOCK = 1024  # images of one product: 64 MB of similarities at 16,000 images
MAX_NEAR_PAIRS = 1000


@dataclass(frozen=True)
class Finding:
    """One row of `audit.csv`; what does not apply is None.

    Attributes:
        kind: `unreadable`, `odd`, `identical`, `near` or `label`.
        split: `train`, `test`, or `val` where that was there.
        path: `<class>/<file>`, or as a labels file writes it.
        label: Name of its class.
        other_split: Of the image that it is the same as, or nearly.
        other_path: Of that image.
        other_label: Of that image.
        suggested: The class that is more likely.
        score: Of a near pair the cosine distance; of a label the self-confidence, from 0 (surely wrong) to 1.
        flagged: Of a pair, whether the labels differ; of a label, whether confident learning takes it to be wrong.
        reason: Why it is unreadable or odd; of a label, whether it was flipped for a check.
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


def find_unreadable(reasons: Mapping[str, Mapping[str, str]], found: Mapping[str, Scenes]) -> Iterator[Finding]:
    """Images that cannot be decoded.

    Args:
        reasons: Of each, by split and path.
        found: The images by split.
    """
    for split, of_split in reasons.items():
        classes = dict(map(partial(named, found[split]), range(len(found[split])))) if of_split else {}
        for path, reason in of_split.items():
            yield Finding("unreadable", split, path, classes[path], reason=reason)


def find_odd(scenes: Mapping[str, Scenes], images: Mapping[str, Stored]) -> Iterator[Finding]:
    """Images that are not like the rest of all splits; one for each reason.

    Args:
        scenes: The readable images by split.
        images: The decoded ones, in that order.
    """
    of_split = {split: forms_of(of_this) for split, of_this in scenes.items()}
    usual = common_size([form for each in of_split.values() for form in each])
    for split, each in of_split.items():
        for index, kind, seen in odd_images(each, images[split], usual):
            yield Finding("odd", split, *named(scenes[split], index), reason=f"{kind}: {seen}")


def find_identical(scenes: Mapping[str, Scenes]) -> list[Finding]:
    """Pairs of byte-identical images by split, those under two labels first: each copy with the first of its group."""
    pairs = []
    for first, *others in identical_groups(*scenes.values()):
        pairs += [_pair("identical", scenes, first, other) for other in others]
    return sorted(pairs, key=lambda pair: not pair.flagged)


def find_near(scenes: Mapping[str, Scenes], vectors: npt.NDArray[np.float32], within: float) -> Iterator[Finding]:
    """Pairs of images that are nearly the same but no two copies of one file, the nearest first.

    Args:
        scenes: By split.
        vectors: (N, D) features of the images of all splits, one split after the other.
        within: Largest cosine distance.
    """
    places = [(number, index) for number, of_split in enumerate(scenes.values()) for index in range(len(of_split))]
    contents = [content for of_split in scenes.values() for content in of_split.contents]
    once = np.sort(np.unique(contents, return_index=True)[1])  # copies would crowd out all other pairs
    for (first, other), distance in zip(*near_pairs(vectors[once], within), strict=True):
        yield _pair("near", scenes, places[once[first]], places[once[other]], float(distance))


def named(scenes: Scenes, index: int) -> tuple[str, str]:
    """Path and class of an image."""
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
        mode: Pillow's name of it, such as RGB or L.
    """

    size: tuple[int, int]
    mode: str


def forms_of(scenes: Scenes) -> list[Form]:
    """The form of each image, from the heads of files that are known to be readable."""

    def form(index: int) -> Form:
        with Image.open(scenes.file(index)) as image:
            return Form(image.size, image.mode)

    with ThreadPoolExecutor() as pool, progress_bar.bar(len(scenes), "sizes") as bar:
        of_each = []
        for one in pool.map(form, range(len(scenes))):
            of_each.append(one)
            bar.update()
        return of_each


def common_size(forms: Sequence[Form]) -> tuple[int, int] | None:
    """The size that at least half of the images have; None where there is none."""
    size, count = Counter(form.size for form in forms).most_common(1)[0]
    return size if 2 * count >= len(forms) else None


def odd_images(forms: Sequence[Form], images: Stored, usual: tuple[int, int] | None) -> list[tuple[int, str, str]]:
    """The images that are not like the rest.

    Args:
        forms: Form of each image.
        images: The decoded ones, in that order; of whole pictures the middle square is looked at.
        usual: The size that is not odd; None where every size is as good.

    Returns:
        Position, kind (`size`, `mode`, `one colour` or `grey`) and what was seen, by position.
    """
    reasons = []
    usual_mode = Counter(form.mode for form in forms).most_common(1)[0][0]
    for start in range(0, len(forms), BLOCK):
        squares = images.squares(np.arange(start, min(start + BLOCK, len(forms)))).images
        # One pixel in nine is enough to tell, and spares most of the time.
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
    with progress_bar.bar(len(unit), "near-duplicates") as bar:
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
