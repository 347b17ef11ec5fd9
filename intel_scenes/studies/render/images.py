"""Galleries of the test images on which arms differ."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intel_scenes import pages
from intel_scenes.data.layouts import find_splits
from intel_scenes.errors import UserError
from intel_scenes.studies.choose import Arm, comparable
from intel_scenes.studies.comparison import Comparison

NUM_IMAGES = 24  # of a gallery
MAX_ARMS = 40  # that vote
MAX_NAMED = 3  # arms with the same vote that are listed by label; of more, only their number


@dataclass(frozen=True)
class DisputedImage:
    """A test image and the predictions of the arms.

    Attributes:
        path: `<class>/<file>`.
        label: Name of its true class.
        votes: Predictions of the arms, the most common first, such as `sea: sgd, adam`.
        picture: Data URL of a thumbnail; None if the image file was not found.
    """

    path: str
    label: str
    votes: list[str]
    picture: str | None


@dataclass(frozen=True)
class Gallery:
    """Test images with a title.

    Attributes:
        title: Heading of the gallery.
        text: Sentence that says how the images were selected.
        images: At most `NUM_IMAGES` images.
    """

    title: str
    text: str
    images: list[DisputedImage]


def shares_correct(arm: Arm) -> npt.NDArray[np.float32]:
    """Return the share of seeds that classify each test image correctly, of shape `(N,)`."""
    correct: npt.NDArray[np.float32] = arm.tested.table.mean(axis=0)
    return correct


def galleries(comparison: Comparison, root: Path | None) -> list[Gallery]:
    """Return the images on which leader and runner-up differ, and, with three or more arms, those disputed most.

    Args:
        comparison: The compared arms.
        root: Folder of the images; None uses the folder that the runs recorded.
    """
    arms = comparable(comparison.arms)[:MAX_ARMS]
    if len(arms) < 2:
        return []
    folder = _test_folder(comparison, root)
    picture = lru_cache(maxsize=None)(lambda path: pages.picture(folder / path) if folder else None)
    shares = np.stack([shares_correct(arm) for arm in arms])
    selected = []
    leader, runner_up = arms[:2]
    ahead, behind = ((first > 0.5) & (second < 0.5) for first, second in (shares[:2], shares[1::-1]))
    order = np.argsort(-np.abs(shares[0] - shares[1]), kind="stable")
    if differing := [int(index) for index in order if ahead[index] or behind[index]]:
        title = f"Leader and runner-up differ on {len(differing)} of {len(order):,} test images"
        text = (
            f"On {int(ahead.sum())} images most seeds of {leader.label} are correct and most of {runner_up.label} are "
            f"not; on {int(behind.sum())} images it is the reverse."
        )
        selected.append(Gallery(title, text, _disputed(comparison, [leader, runner_up], differing, picture)))
    spread = shares.std(axis=0)
    disputed = [int(index) for index in np.argsort(-spread, kind="stable") if spread[index] > 0]
    if (len(arms) > 2 or not selected) and (images := _disputed(comparison, arms, disputed, picture)):
        text = "Classes that most seeds of an arm predict. First: the share of correct seeds varies most over the arms."
        selected.append(Gallery("Test images on which the arms disagree most", text, images))
    return selected


def _disputed(
    comparison: Comparison, arms: Sequence[Arm], indices: Iterable[int], picture: Callable[[str], str | None]
) -> list[DisputedImage]:
    """Return the first images for which the arms do not all predict the same class."""
    images: list[DisputedImage] = []
    for index in indices:
        if len(images) == NUM_IMAGES:
            break
        votes = _votes(comparison, arms, index)
        if len(votes) > 1:
            path, label = comparison.images.paths[index], comparison.images.classes[comparison.images.labels[index]]
            images.append(DisputedImage(path, label, votes, picture(path)))
    return images


def _votes(comparison: Comparison, arms: Sequence[Arm], index: int) -> list[str]:
    """Return each predicted class with the arms of which most seeds predict it."""
    votes: dict[int, list[str]] = {}
    for arm in arms:
        counts: npt.NDArray[np.intp] = np.bincount(arm.tested.predicted[:, index])
        votes.setdefault(int(counts.argmax()), []).append(arm.label)
    ordered = sorted(votes.items(), key=lambda vote: (-len(vote[1]), vote[0]))
    return [
        f"{comparison.images.classes[label]}: "
        + (", ".join(labels) if len(labels) <= MAX_NAMED else f"{len(labels)} of {len(arms)} arms")
        for label, labels in ordered
    ]


def _test_folder(comparison: Comparison, root: Path | None) -> Path | None:
    """Return the folder that the paths of the test images are relative to: below `root` in any layout, or recorded."""
    if root is not None:
        # A test set may be split off other images or listed in a labels file: take the folder that has its first image.
        folders = [root, *(folder for folder in sorted(root.iterdir()) if folder.is_dir())]
        with suppress(UserError):  # folders that are no splits, beside a labels file
            folders = [*(place for _, place in sorted(find_splits(root).items())), *folders]  # test first
        return next((folder for folder in folders if (folder / comparison.images.paths[0]).is_file()), folders[0])
    recorded = [run.summary.test_folder for run in comparison.runs if run.summary.test_folder]
    return Path(recorded[0]) if recorded else None
