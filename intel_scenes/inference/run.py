"""The public class Run: a finished run in Python."""

import base64
import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import numpy as np
import numpy.typing as npt
from PIL import Image

from intel_scenes import pages, record
from intel_scenes.config import Views
from intel_scenes.errors import UserError, percentage
from intel_scenes.inference import load_run as records
from intel_scenes.inference.find_run import find_run
from intel_scenes.inference.image_files import find_images, name_of
from intel_scenes.inference.labelled import FolderEvaluation, evaluate_folder
from intel_scenes.inference.predict import BATCH_SIZE, Readable, predict
from intel_scenes.inference.scene_network import SceneNetwork
from intel_scenes.inference.trained import Trained, trained
from intel_scenes.record import HISTORY_COLUMNS, History, Predictions, Summary
from intel_scenes.table import Table, column_of
from intel_scenes.training.best_epoch import SPLITS

PNG = b"\x89PNG\r\n\x1a\n"  # first bytes of such a file
TEMPLATE = Path(__file__).parents[1] / "templates" / "notebook_run.html"

Array = npt.NDArray[Any]
Images = str | Path | Image.Image | Array | Sequence[str | Path | Image.Image | Array]


@dataclass(frozen=True, repr=False)
class Run:
    """A finished run: its record, its network, and predictions for other images.

    Attributes:
        folder: Folder of the run.
        summary: Content of `summary.json`: identity, settings, results, cost.
        trust: Whether the class of a custom network may be imported.
    """

    folder: Path
    summary: Summary
    trust: bool = False

    def history(self) -> Table:
        """Return a row for each epoch, with the columns of `history.csv`.

        Raises:
            UserError: The file is missing or corrupt.
        """
        epochs = History.read(self.folder).epochs
        if not epochs:
            raise UserError(f"{self.folder / record.HISTORY} is missing or corrupt: train again")
        return Table.of_rows(HISTORY_COLUMNS, ([getattr(row, key) for key in HISTORY_COLUMNS] for row in epochs))

    def predictions(self) -> Table:
        """Return a row for each validation and test image, with the columns of `predictions.csv`.

        `split` and `path` are str, `label` and `predicted` int64 in the order of `summary.classes`, and a column named
        after each class holds its predicted probability, not calibrated by the temperature.

        Raises:
            UserError: The file is missing or corrupt.
        """
        of_splits = Predictions.read_splits(self.folder, *SPLITS)
        parts, classes = list(of_splits.values()), self.summary.classes or ()
        if not parts or parts[0].probabilities.shape[1] != len(classes):
            raise UserError(f"{self.folder / record.PREDICTIONS} does not have the classes of the run: train again")
        probabilities = np.concatenate([part.probabilities for part in parts])
        columns = {
            "split": column_of([split for split, part in of_splits.items() for _ in part.paths]),
            "path": column_of([path for part in parts for path in part.paths]),
            "label": np.concatenate([part.labels for part in parts]),
            "predicted": np.concatenate([part.predicted for part in parts]),
        }
        return Table(columns | {name: probabilities[:, number].copy() for number, name in enumerate(classes)})

    def network(self) -> SceneNetwork:
        """Return the network of the best epoch in evaluation mode, preprocessing included; each call builds a new one.

        It takes (B, 3, H, W) RGB images of any size, uint8 or floats in 0..1, and returns (B, C) logits in the order
        of its `classes`; `(logits / network.temperature).softmax(1)` are calibrated probabilities.

        Raises:
            UserError: The checkpoint is missing or corrupt.
        """
        return SceneNetwork(self._trained(None))

    def predict(
        self, images: Images, *, abstain: float | None = None, views: Views | None = None, batch_size: int = BATCH_SIZE
    ) -> Table:
        """Predict images of any size and mode, as `intel-scenes predict` does.

        Args:
            images: A folder, a file or a pattern; a PIL image; an array (H, W), (H, W, 3) or (H, W, 4) of uint8, or of
                floats in 0..1; or several of these.
            abstain: Leave the class open if its probability is lower.
            views: Test-time augmentation: 1 (none), "flip" or "flip_crops" (ten-crop); None is that of the run.
            batch_size: Number of images per forward pass.

        Returns:
            A row for each image: `path` (the position of an image without a file), `class`, its calibrated
            `probability`, `second`, `second_probability`, `third`, `third_probability`, `left_open` and `error`.

        Raises:
            UserError: There are no images, or none can be read; the checkpoint is missing or corrupt.
        """
        if abstain is not None and not 0 <= abstain <= 1:
            raise UserError(f"abstain={abstain} must be a number from 0 to 1")
        named = list(_named(images))
        if not named:
            raise UserError("images is empty: give a folder, files, PIL images or arrays")
        names, readable = zip(*named, strict=True)
        return predict([self._trained(views)], readable, names, batch_size=batch_size).table(abstain)

    def evaluate(
        self,
        folder: str | Path,
        *,
        split: Literal["val", "test"] | None = None,
        views: Views | None = None,
        cache_dir: str | Path | None = None,
    ) -> FolderEvaluation:
        """Evaluate the run on a folder of labelled images, as `intel-scenes evaluate data.root=FOLDER` does.

        Args:
            folder: Folder of class folders, or of splits with class folders.
            split: "val" or "test"; None for a folder without splits, all of which is evaluated.
            views: Test-time augmentation; None is that of the run.
            cache_dir: Cache of decoded images; None is the cache of all commands, never the one that the record names.

        Raises:
            UserError: The folder lacks the split, has no images or a class that the run does not have; the checkpoint
                is missing or corrupt.
        """
        cache = Path(cache_dir or os.environ.get("INTEL_SCENES_CACHE") or "~/.cache/intel_scenes").expanduser()
        root = Path(folder).expanduser()
        return evaluate_folder([self._record], root, split, views, cache_dir=cache, trust=self.trust)

    def _trained(self, views: Views | None) -> Trained:
        return trained(self._record, views, trust=self.trust)

    @cached_property
    def _record(self) -> records.FinishedRun:
        return records.load_run(self.folder, with_predictions=False)

    def __repr__(self) -> str:
        """Return folder, model and test accuracy."""
        return f"Run({str(self.folder)!r}: {self.summary.model_name}, test accuracy {_test_accuracy(self.summary)})"

    def _repr_html_(self) -> str:
        """Return settings, results and curves as HTML, for a notebook."""
        summary, curves = self.summary, self.folder / record.CURVES
        rows = [
            ["run", self.folder.name],
            ["model", f"{summary.model_name}, {summary.weights or 'random'} weights, {summary.image_size} px"],
            ["optimizer", f"{summary.optim}, {summary.scheduler}, lr {summary.lr:g}" if summary.lr else summary.optim],
            ["recipe", f"{summary.recipe}, {summary.epochs} epochs, batch size {summary.batch_size}"],
            ["seed", summary.seed],
            ["validation accuracy", percentage(summary.val_accuracy)],
            ["test accuracy", _test_accuracy(summary)],
        ]
        if summary.metric == record.BALANCED:
            rows.append(["balanced test accuracy", percentage(summary.test_balanced_accuracy)])
        content = curves.read_bytes() if curves.is_file() else b""
        # In a run folder from elsewhere curves.png may be a link to any file: embed nothing but a PNG.
        picture = base64.b64encode(content).decode() if content.startswith(PNG) else ""
        return pages.render(TEMPLATE, rows=rows, curves=picture)


def load_run(name: str | Path, *, trust: bool = False) -> Run:
    """Load the record of a finished run; its other files are read on first use.

    Nothing in the folder is executed: networks are rebuilt by their names, and tensors are loaded with
    `weights_only=True`.

    Args:
        name: Folder of the run, the beginning of its name below `outputs/` or `multirun/`, or `latest`.
        trust: Whether to import the class of a custom network that the record names.

    Raises:
        UserError: The run does not exist or is not finished.
    """
    folder = find_run(str(name))
    return Run(folder, records.load_run(folder, with_predictions=False).summary, trust)


def _test_accuracy(summary: Summary) -> str:
    low, high = summary.test_accuracy_interval or (None, None)
    interval = "" if low is None or high is None else f" ({percentage(low)} to {percentage(high)})"
    return f"{percentage(summary.test_accuracy)}{interval}"


def _named(images: Images) -> Iterable[tuple[str, Readable]]:
    """Yield each image with its name: its file, else its position."""
    sources = [images] if isinstance(images, str | Path | Image.Image | np.ndarray) else images
    if isinstance(images, np.ndarray) and images.ndim == 4:
        sources = list(images)
    for position, source in enumerate(sources):
        if isinstance(source, str | Path):
            yield from ((name_of(path), path) for path in find_images(str(source)))
        elif isinstance(source, Image.Image):
            yield str(getattr(source, "filename", "") or position), source
        else:
            yield str(position), _of_array(source)


def _of_array(values: object) -> Image.Image:
    """Convert an array to an image.

    Raises:
        UserError: Shape, type or range are not those of an image.
    """
    array = np.asarray(values)
    has_image_shape = array.ndim == 2 or (array.ndim == 3 and array.shape[2] in (3, 4))
    is_float = np.issubdtype(array.dtype, np.floating)
    if not has_image_shape or 0 in array.shape or not (is_float or array.dtype == np.uint8):
        raise UserError(
            f"an array of shape {array.shape} and type {array.dtype} is not an image: give (H, W), (H, W, 3) or "
            "(H, W, 4) of uint8, or of floats in 0..1; pass tensors to run.network()"
        )
    if is_float and not (array.min() >= 0 and array.max() <= 1):
        raise UserError("an array of floats must lie in 0..1: divide it by its maximum value, or convert it to uint8")
    return Image.fromarray(np.rint(array * 255).astype(np.uint8) if is_float else array)
