"""Speed of `predict`, compared with a plain script: PIL, torchvision, and a DataLoader with a worker per core."""

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


def benchmark_prediction(folder: Path, paths: Sequence[Path], repeats: int) -> Iterator[Row]:
    """Measure images per second of `predict` and of a plain script with the same network, and compare their classes.

    Both read the files in each turn and evaluate each image once. The start of the script's workers is timed, that of
    Python and the network is not.

    Args:
        folder: Folder of a complete run.
        paths: Images that can be read.
        repeats: Number of turns.

    Raises:
        UserError: An image cannot be read.
    """
    memory.keep_freed()  # as in the command; the script benefits, too
    network = trained(load_run(folder, with_predictions=False), views=1)
    script, predicted = PlainScript(network, paths), list[Predicted]()
    predict([network], paths[:BATCH_SIZE], _names(paths[:BATCH_SIZE]))  # the first batch chooses kernels

    def ours() -> float:
        started = time.perf_counter()
        predicted[:] = [predict([network], paths, _names(paths))]
        seconds = time.perf_counter() - started
        if predicted[0].unreadable:
            unreadable = paths[min(predicted[0].unreadable)]
            raise UserError(f"what=predict needs readable images, but {unreadable} cannot be read: remove it")
        return len(paths) / seconds

    row = in_turns(
        "predict", f"{folder.name[:20]}, {network.pipeline.view.size} px", "images/s", ours, script.rate, repeats
    )
    yield replace(row, note=_differing(predicted[0], script.classes))


def _names(paths: Sequence[Path]) -> list[str]:
    return [path.name for path in paths]


def _differing(ours: Predicted, classes: Labels) -> str:
    """Return how many images the two predict differently, and our margins between the top two classes there."""
    differs = ours.probabilities.argmax(1) != classes
    two = np.sort(ours.probabilities[differs], axis=1)[:, -2:]
    margins = np.sort(two[:, 1] - two[:, 0])
    counts = f"{len(margins):,} of {len(classes):,} images get another class"
    if not len(margins):
        return counts
    return f"{counts}, with margins {margins[0]:.4f} to {margins[-1]:.4f} (median {np.median(margins):.4f})"


@dataclass(frozen=True)
class Files(Dataset[Tensor]):
    """Image files, as the workers of the plain script read them."""

    paths: Sequence[Path]
    transform: Callable[[Image.Image], Tensor]

    def __len__(self) -> int:
        """Return the number of images."""
        return len(self.paths)

    def __getitem__(self, index: int) -> Tensor:
        """Return the input of the network for an image."""
        with Image.open(self.paths[index]) as image:
            return self.transform(image.convert("RGB"))


class PlainScript:
    """Plain prediction script.

    Attributes:
        classes: (N,) classes that it predicted in its last turn.
    """

    def __init__(self, network: Trained, paths: Sequence[Path]) -> None:
        """Use the same network and files; images that ours stores as squares are resized in one step less here."""
        view = network.pipeline.view
        modes = {"bilinear": transforms.InterpolationMode.BILINEAR, "bicubic": transforms.InterpolationMode.BICUBIC}
        steps = [transforms.Resize(view.resize, modes[view.interpolation]), transforms.CenterCrop(view.size)]
        steps += [transforms.ToTensor(), transforms.Normalize(view.mean, view.std)]
        self._files = Files(paths, transforms.Compose(steps))
        self._network, self._runtime = network.network, network.runtime
        self.classes = np.zeros(0, np.int64)

    @torch.inference_mode()
    def rate(self) -> float:
        """Return images per second."""
        started = time.perf_counter()
        loader = DataLoader(self._files, BATCH_SIZE, num_workers=resolve_threads(None))
        probabilities = []
        for images in loader:
            with self._runtime.autocast():
                logits = self._network(images.to(self._runtime.device))
            probabilities.append(logits.float().softmax(1).cpu())
        self.classes = torch.cat(probabilities).argmax(1).numpy()
        return len(self._files) / (time.perf_counter() - started)
