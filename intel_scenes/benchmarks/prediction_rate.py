"""How fast `predict` is, beside a plain script: PIL, torchvision's transforms and a DataLoader with a worker a core."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from torchvision import transforms

from intel_scenes.benchmarks.turns import Row, in_turns
from intel_scenes.errors import UserError
from intel_scenes.inference.load_run import load_run
from intel_scenes.inference.predict import BATCH_SIZE, Predicted, predict
from intel_scenes.inference.trained import Trained, trained
from intel_scenes.probabilities import Labels
from intel_scenes.runtime import resolve_threads
from intel_scenes.training import memory


def measure_prediction(folder: Path, paths: Sequence[Path], repeats: int) -> Iterator[Row]:
    """Images a second of `predict` and of a plain script with the same network, and how many classes differ.

    Both read the files anew in each turn, and see each image once. The start of the script's workers counts, that of
    Python and the network does not.

    Args:
        folder: Of a finished run.
        paths: Of images that can be read.
        repeats: Turns.

    Raises:
        UserError: An image cannot be read.
    """
    memory.keep_freed()  # as the command does; the script has it, too
    one = trained(load_run(folder, with_predictions=False), views=1)
    script, predicted = PlainScript(one, paths), list[Predicted]()
    predict([one], paths[:BATCH_SIZE], _names(paths[:BATCH_SIZE]))  # kernels are chosen in the first batch

    def ours() -> float:
        started = time.perf_counter()
        predicted[:] = [predict([one], paths, _names(paths))]
        seconds = time.perf_counter() - started
        if predicted[0].unreadable:
            raise UserError(
                f"what=predict measures images that can be read: remove {paths[min(predicted[0].unreadable)]}"
            )
        return len(paths) / seconds

    row = in_turns(
        "predict", f"{folder.name[:20]}, {one.pipeline.view.size} px", "images/s", ours, script.rate, repeats
    )
    yield replace(row, note=_differing(predicted[0], script.classes))


def _names(paths: Sequence[Path]) -> list[str]:
    return [path.name for path in paths]


def _differing(ours: Predicted, classes: Labels) -> str:
    """How many images are of another class, and by which margin ours leads there."""
    differs = ours.probabilities.argmax(1) != classes
    two = np.sort(ours.probabilities[differs], axis=1)[:, -2:]
    margins = np.sort(two[:, 1] - two[:, 0])
    told = f"{len(margins):,} of {len(classes):,} images are of another class"
    if not len(margins):
        return told
    return f"{told}, with margins {margins[0]:.4f} to {margins[-1]:.4f} (median {np.median(margins):.4f})"


@dataclass(frozen=True)
class Files(Dataset[Tensor]):
    """What the plain script's workers read."""

    paths: Sequence[Path]
    transform: Callable[[Image.Image], Tensor]

    def __len__(self) -> int:
        """Number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """An image as the network takes it."""
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


class PlainScript:
    """What one writes by hand.

    Attributes:
        classes: (N,) that it predicted in its last turn.
    """

    def __init__(self, one: Trained, paths: Sequence[Path]) -> None:
        """Of the same network and files; photographs that are stored as squares are resized in one step less."""
        view = one.pipeline.view
        modes = {"bilinear": transforms.InterpolationMode.BILINEAR, "bicubic": transforms.InterpolationMode.BICUBIC}
        steps = [transforms.Resize(view.resize, modes[view.interpolation]), transforms.CenterCrop(view.size)]
        steps += [transforms.ToTensor(), transforms.Normalize(view.mean, view.std)]
        self._files = Files(paths, transforms.Compose(steps))
        self._network, self._runtime = one.network, one.runtime
        self.classes = np.zeros(0, np.int64)

    @torch.inference_mode()
    def rate(self) -> float:
        """Images a second."""
        started = time.perf_counter()
        loader = DataLoader(self._files, BATCH_SIZE, num_workers=resolve_threads(None))
        probabilities = []
        for images in loader:
            with self._runtime.autocast():
                logits = self._network(images.to(self._runtime.device))
            probabilities.append(logits.float().softmax(1).cpu())
        self.classes = torch.cat(probabilities).argmax(1).numpy()
        return len(self._files) / (time.perf_counter() - started)
