"""Test images on which arms differ, as the page shows them."""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import numpy.typing as npt

from intel_scenes import pages
from intel_scenes.data.layouts import find_splits
from intel_scenes.studies.choose import Arm, comparable
from intel_scenes.studies.comparison import Comparison

NUM_IMAGES = 24  # of each kind
MAX_ARMS = 40  # that vote
MAX_NAMED = 3  # arms of one vote that are named


@dataclass(frozen=True)
class Shown:
    """A test image.

    Attributes:
        path: `<class>/<file>`.
        label: Name of its class.
        votes: What the arms say, most common first, such as `sea: sgd, adam`.
        picture: A data URL; None where the image was not found.
    """

    path: str
    label: str
    votes: list[str]
    picture: str | None


@dataclass(frozen=True)
class Gallery:
    """Test images of one kind.

    Attributes:
        title: What they have in common.
        text: More of it.
        images: At most 24.
    """

    title: str
    text: str
    images: list[Shown]


def shares(arm: Arm) -> npt.NDArray[np.float32]:
    """(N,) share of seeds that have each test image right."""
    right: npt.NDArray[np.float32] = arm.tested.table.mean(axis=0)
    return right


def galleries(found: Comparison, root: Path | None) -> list[Gallery]:
    """The images on which leader and runner-up differ, and of more arms those on which all disagree most.

    Args:
        found: The arms.
        root: Folder of the images; None takes what the runs recorded.
    """
    told = comparable(found.arms)[:MAX_ARMS]
    if len(told) < 2:
        return []
    folder = _test_folder(found, root)
    picture = lru_cache(maxsize=None)(lambda path: pages.picture(folder / path) if folder else None)
    of_arms = np.stack([shares(arm) for arm in told])
    made = []
    leader, runner_up = told[:2]
    ahead, behind = ((one > 0.5) & (other < 0.5) for one, other in (of_arms[:2], of_arms[1::-1]))
    order = np.argsort(-np.abs(of_arms[0] - of_arms[1]), kind="stable")
    if differing := [int(index) for index in order if ahead[index] or behind[index]]:
        title = f"Leader and runner-up differ on {len(differing)} of {len(order):,} test images"
        text = (
            f"Most seeds of {leader.label} are right and most of {runner_up.label} wrong on {int(ahead.sum())} images, "
            f"the other way round on {int(behind.sum())}."
        )
        made.append(Gallery(title, text, _shown(found, [leader, runner_up], differing, picture)))
    spread = of_arms.std(axis=0)
    disputed = [int(index) for index in np.argsort(-spread, kind="stable") if spread[index] > 0]
    if (len(told) > 2 or not made) and (images := _shown(found, told, disputed, picture)):
        text = "What most seeds of each arm predict; the largest spread over arms of the share of right seeds first."
        made.append(Gallery("Test images on which the arms disagree most", text, images))
    return made


def _shown(
    found: Comparison, arms: Sequence[Arm], indices: Iterable[int], picture: Callable[[str], str | None]
) -> list[Shown]:
    """The first images on which the arms do not all say the same."""
    shown: list[Shown] = []
    for index in indices:
        if len(shown) == NUM_IMAGES:
            break
        votes = _votes(found, arms, index)
        if len(votes) > 1:
            path, label = found.images.paths[index], found.images.classes[found.images.labels[index]]
            shown.append(Shown(path, label, votes, picture(path)))
    return shown


def _votes(found: Comparison, arms: Sequence[Arm], index: int) -> list[str]:
    """What most seeds of each arm say."""
    votes: dict[int, list[str]] = {}
    for arm in arms:
        counts: npt.NDArray[np.intp] = np.bincount(arm.tested.predicted[:, index])
        votes.setdefault(int(counts.argmax()), []).append(arm.label)
    ordered = sorted(votes.items(), key=lambda vote: (-len(vote[1]), vote[0]))
    return [f"{found.images.classes[label]}: {_named(labels, len(arms))}" for label, labels in ordered]


def _named(labels: Sequence[str], num_arms: int) -> str:
    return ", ".join(labels) if len(labels) <= MAX_NAMED else f"{len(labels)} of {num_arms} arms"


def _test_folder(found: Comparison, root: Path | None) -> Path | None:
    """What the paths of the test images are relative to, below a root in any layout, or as recorded."""
    if root is not None:
        splits = find_splits(root)
        if "test" in splits:
            return splits["test"]
        # The test images were cut from others, or a labels file names them: where the first one lies.
        places = [*splits.values(), root, *(place for place in sorted(root.iterdir()) if place.is_dir())]
        return next((place for place in places if (place / found.images.paths[0]).is_file()), root)
    recorded = [run.summary.test_folder for run in found.runs if run.summary.test_folder]
    return Path(recorded[0]) if recorded else None
