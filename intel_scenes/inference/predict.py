"""Predicts images of any size and mode: threads read and decode the next ones while the networks compute."""

import itertools
import logging
import warnings
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from intel_scenes.data import progress_bar
from intel_scenes.data.packed import Pixels, decoded
from intel_scenes.data.squares import Storing
from intel_scenes.data.transfer import on_device
from intel_scenes.errors import UserError, counted
from intel_scenes.inference.trained import Trained, check_classes
from intel_scenes.models.predicting import logits_of, mean_over_views
from intel_scenes.probabilities import Probabilities, at_temperature
from intel_scenes.runtime import resolve_threads
from intel_scenes.table import Column, Table

log = logging.getLogger(__name__)

BATCH_SIZE = 64
CHUNK = 8  # images that a thread reads at a time: a task for each would cost more of the interpreter
BATCHES_AHEAD = 2  # that are read while the networks compute
FEW = 20  # images that need no progress bar, and are shown one by one
NUM_NAMED = 5  # unreadable images that a warning names
NOTHING = np.array(None, object)

Readable = Path | Image.Image
Squares = tuple[Pixels, ...]  # of one image, in the order of the ways to store it


@dataclass(frozen=True, eq=False)
class Predicted:
    """What networks say about images.

    Attributes:
        names: Of the images.
        classes: In the order of the probabilities.
        probabilities: (N, C) calibrated, rows sum to 1; NaN for an image that cannot be read.
        unreadable: For the position of each image that cannot be read, the reason.
    """

    names: Sequence[str]
    classes: tuple[str, ...]
    probabilities: Probabilities
    unreadable: dict[int, str]

    def table(self, abstain: float | None = None) -> Table:
        """A row for each image: its class, how probable that is, the next two, and what is odd.

        Args:
            abstain: The class is left open where it is less probable; the likeliest one then stands in `left_open`.

        Returns:
            Columns `path`, `class`, `probability`, `second`, `second_probability`, `third`, `third_probability`,
            `left_open` and `error`, the reason why an image cannot be read; None or NaN where there is nothing to say.
        """
        num_images, num_classes = self.probabilities.shape
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :3]
        errors = _objects([self.unreadable.get(place) for place in range(num_images)])
        is_read = np.array([place not in self.unreadable for place in range(num_images)], bool)
        classes, columns = _objects(self.classes), dict[str, Column]()
        for place, name in enumerate(("class", "second", "third")):
            chosen = order[:, min(place, num_classes - 1)]
            is_there = is_read & (place < num_classes)
            values = np.take_along_axis(self.probabilities, chosen[:, None], 1)[:, 0]
            columns[name] = np.where(is_there, classes[chosen], NOTHING)
            columns["probability" if name == "class" else f"{name}_probability"] = np.where(is_there, values, np.nan)
        is_open = is_read & (columns["probability"] < (abstain or 0))
        left_open = np.where(is_open, columns["class"], NOTHING)
        columns["class"] = np.where(is_open, NOTHING, columns["class"])
        return Table({"path": _objects(self.names)} | columns | {"left_open": left_open, "error": errors})


def _objects(values: Sequence[object]) -> Column:
    column: Column = np.empty(len(values), object)
    column[:] = list(values)
    return column


def predict(
    members: Sequence[Trained], images: Sequence[Readable], names: Sequence[str], *, batch_size: int = BATCH_SIZE
) -> Predicted:
    """Predicts images by one network, or by several whose calibrated probabilities are averaged.

    Args:
        members: The networks, on one device.
        images: Files, or images that are open already.
        names: Of the images.
        batch_size: Images that a network sees at once.

    Raises:
        UserError: The networks tell other classes apart, or no image can be read.
    """
    check_classes(list(members))
    storings = tuple(dict.fromkeys(one.storing for one in members))
    device = members[0].runtime.device
    logits: list[list[Tensor]] = [[] for _ in members]
    unreadable: dict[int, str] = {}
    with (
        warnings.catch_warnings(),
        progress_bar.bar(len(images), "predicting images", is_brief=len(images) <= FEW) as bar,
        torch.inference_mode(),
    ):
        # Of damaged EXIF and the like, without the name of an image; here, because threads share the filters.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for batch in _batches(_read(images, storings, batch_size, unreadable), batch_size):
            stacked = (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) for pixels in zip(*batch, strict=True))
            squares = {storing: on_device(one, device) for storing, one in zip(storings, stacked, strict=True)}
            for member, kept in zip(members, logits, strict=True):
                with member.runtime.autocast():
                    kept.append(logits_of(member.network, member.views(squares)))
            bar.update(len(batch))
        bar.update(len(unreadable))
    if len(unreadable) == len(images):
        raise UserError(f"no image can be read: {names[0]} ({unreadable[0]}) is the first of {len(images):,}")
    _warn_of_unreadable(names, unreadable)
    of_members = [
        at_temperature(mean_over_views(kept), one.temperature) for one, kept in zip(members, logits, strict=True)
    ]
    probabilities = np.full((len(images), len(members[0].classes)), np.nan)
    probabilities[[place for place in range(len(images)) if place not in unreadable]] = np.mean(of_members, axis=0)
    return Predicted(names, members[0].classes, probabilities, unreadable)


def _batches(read: Iterable[Squares], batch_size: int) -> Iterator[list[Squares]]:
    images = iter(read)
    while batch := list(itertools.islice(images, batch_size)):
        yield batch


def _read(
    images: Sequence[Readable], storings: Sequence[Storing], batch_size: int, unreadable: dict[int, str]
) -> Iterator[Squares]:
    """The squares of all images in their order; those that cannot be read are left out, and noted by position."""
    num_ahead = max(1, BATCHES_AHEAD * batch_size // CHUNK)
    parts = [images[start : start + CHUNK] for start in range(0, len(images), CHUNK)]
    waiting: deque[Future[list[Squares | str]]] = deque()
    position = 0
    pool = ThreadPoolExecutor(resolve_threads(None), "images")
    try:
        for number in range(len(parts) + num_ahead):
            if number < len(parts):
                waiting.append(pool.submit(_read_part, parts[number], storings))
            if number < num_ahead or not waiting:
                continue
            for squares in waiting.popleft().result():
                if isinstance(squares, str):
                    unreadable[position] = squares
                else:
                    yield squares
                position += 1
    finally:
        pool.shutdown(cancel_futures=True)


def _read_part(images: Sequence[Readable], storings: Sequence[Storing]) -> list[Squares | str]:
    def squares(image: Image.Image) -> Squares:
        return tuple(storing.square(image) for storing in storings)

    read: list[Squares | str] = []
    for one in images:
        try:
            read.append(squares(one) if isinstance(one, Image.Image) else decoded(one.read_bytes(), squares))
        except OSError as error:
            read.append(f"it cannot be read ({error.strerror or error})")
        except Exception as error:  # of an image that is open already, and damaged
            read.append(str(error) or type(error).__name__)
    return read


def _warn_of_unreadable(names: Sequence[str], unreadable: dict[int, str]) -> None:
    if unreadable:
        few = "; ".join(f"{names[place]} ({reason})" for place, reason in list(unreadable.items())[:NUM_NAMED])
        more = "; ..." if len(unreadable) > NUM_NAMED else ""
        log.warning("%s could not be read; skipped: %s%s", counted(len(unreadable), "image"), few, more)
