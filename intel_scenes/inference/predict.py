"""Predict images of any size and mode; threads read and decode the next images while the networks compute."""

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

from intel_scenes import safe_images
from intel_scenes.data import progress_bar
from intel_scenes.data.packed import Pixels, decoded
from intel_scenes.data.squares import Storing
from intel_scenes.data.transfer import on_device
from intel_scenes.errors import UserError, counted, few
from intel_scenes.inference.trained import Trained, check_classes
from intel_scenes.models.predicting import logits_of, mean_over_views
from intel_scenes.probabilities import Probabilities, at_temperature
from intel_scenes.runtime import resolve_threads
from intel_scenes.table import Column, Table

log = logging.getLogger(__name__)

BATCH_SIZE = 64
CHUNK = 8  # images per task of a thread: one task per image would cost more time in the interpreter
BATCHES_AHEAD = 2  # batches to read ahead while the networks compute
FEW = 20  # up to so many images are printed one by one, without a progress bar
NOTHING = np.array(None, object)

Readable = Path | Image.Image
Squares = tuple[Pixels, ...]  # of one image, one for each way to store it


@dataclass(frozen=True, eq=False)
class Predicted:
    """Predictions for images without labels.

    Attributes:
        names: Names of the images.
        classes: Names of the classes, in the order of the probabilities.
        probabilities: (N, C) calibrated, rows sum to 1; NaN for an image that cannot be read.
        unreadable: Reason why an image cannot be read, by its position.
    """

    names: Sequence[str]
    classes: tuple[str, ...]
    probabilities: Probabilities
    unreadable: dict[int, str]

    def table(self, abstain: float | None = None) -> Table:
        """Return a row for each image: its class and probability, the next two classes, and errors.

        Args:
            abstain: Leave the class open where its probability is lower; it then stands in `left_open` instead.

        Returns:
            Columns `path`, `class`, `probability`, `second`, `second_probability`, `third`, `third_probability`,
            `left_open` and `error` (why an image cannot be read); None or NaN where a cell is empty.
        """
        num_images, num_classes = self.probabilities.shape
        order = np.argsort(-self.probabilities, axis=1, kind="stable")[:, :3]
        errors = _objects([self.unreadable.get(position) for position in range(num_images)])
        is_read = np.array([position not in self.unreadable for position in range(num_images)], bool)
        classes, columns = _objects(self.classes), dict[str, Column]()
        for rank, name in enumerate(("class", "second", "third")):
            chosen = order[:, min(rank, num_classes - 1)]
            exists = is_read & (rank < num_classes)
            values = np.take_along_axis(self.probabilities, chosen[:, None], 1)[:, 0]
            columns[name] = np.where(exists, classes[chosen], NOTHING)
            columns["probability" if name == "class" else f"{name}_probability"] = np.where(exists, values, np.nan)
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
    """Predict images with one network, or with the mean of the calibrated probabilities of several.

    Args:
        members: Networks on one device.
        images: Files or opened images.
        names: Names of the images.
        batch_size: Number of images per forward pass.

    Raises:
        UserError: The networks have different classes, or no image can be read.
    """
    check_classes(list(members))
    storings = tuple(dict.fromkeys(member.storing for member in members))
    device = members[0].runtime.device
    logits: list[list[Tensor]] = [[] for _ in members]
    unreadable: dict[int, str] = {}
    with (
        warnings.catch_warnings(),
        progress_bar.bar(len(images), "predicting images", is_brief=len(images) <= FEW) as bar,
        torch.inference_mode(),
    ):
        # Pillow warns of corrupt EXIF and the like without naming the image. Set here: threads share the filters.
        warnings.filterwarnings("ignore", module=r"PIL\.")
        for batch in _batches(_read(images, storings, batch_size, unreadable), batch_size):
            stacked = (torch.from_numpy(np.stack(pixels)).permute(0, 3, 1, 2) for pixels in zip(*batch, strict=True))
            squares = {storing: on_device(pixels, device) for storing, pixels in zip(storings, stacked, strict=True)}
            for member, member_logits in zip(members, logits, strict=True):
                with member.runtime.autocast():
                    member_logits.append(logits_of(member.network, member.views(squares)))
            bar.update(len(batch))
        bar.update(len(unreadable))
    if len(unreadable) == len(images):
        more = f"; and {len(images) - 1:,} more" if len(images) > 1 else ""
        raise UserError(f"no image can be read ({names[0]}: {unreadable[0]}{more}): give other images")
    if unreadable:
        listed = few([f"{names[place]} ({reason})" for place, reason in unreadable.items()], separator="; ")
        log.warning("%s could not be read; skipped: %s", counted(len(unreadable), "image"), listed)
    of_members = [
        at_temperature(mean_over_views(member_logits), member.temperature)
        for member, member_logits in zip(members, logits, strict=True)
    ]
    is_read = [position not in unreadable for position in range(len(images))]
    probabilities = np.full((len(images), len(members[0].classes)), np.nan)
    probabilities[is_read] = np.mean(of_members, axis=0)
    return Predicted(names, members[0].classes, probabilities, unreadable)


def _batches(read: Iterable[Squares], batch_size: int) -> Iterator[list[Squares]]:
    images = iter(read)
    while batch := list(itertools.islice(images, batch_size)):
        yield batch


def _read(
    images: Sequence[Readable], storings: Sequence[Storing], batch_size: int, unreadable: dict[int, str]
) -> Iterator[Squares]:
    """Yield the squares of all images in order; put the reason into `unreadable` for images that cannot be read."""
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
    for image in images:
        try:
            read.append(squares(image) if isinstance(image, Image.Image) else decoded(safe_images.read(image), squares))
        except OSError as error:
            read.append(f"it cannot be read ({error.strerror or error})")
        except Exception as error:  # an opened image may be corrupt in any way
            read.append(str(error) or type(error).__name__)
    return read
