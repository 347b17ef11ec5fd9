"""Load a finished run from its record: its images, its network and its weights, to predict again."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor, nn

from intel_scenes import record
from intel_scenes.config import PRECISIONS, RunConfig, Views, of_record
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.errors import UserError
from intel_scenes.inference.find_run import finished_summary
from intel_scenes.models import custom
from intel_scenes.models.libraries import build
from intel_scenes.models.weights import network_state
from intel_scenes.probabilities import Labels, Probabilities
from intel_scenes.record import Predictions, Summary
from intel_scenes.runtime import Runtime, runtime_of_machine
from intel_scenes.sections import not_one_of
from intel_scenes.training.best_epoch import SPLITS
from intel_scenes.training.build import build_data
from intel_scenes.training.checkpoints import read_best


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        folder: Folder of the run.
        summary: Content of `summary.json`.
        predictions: Predictions by split, "val" and "test"; empty if they were not loaded.
    """

    folder: Path
    summary: Summary
    predictions: Mapping[str, Predictions]

    @cached_property
    def config(self) -> RunConfig:
        """Configuration of the run, read at first use.

        Raises:
            UserError: `config.yaml` is missing or cannot be read.
        """
        return of_record(self.folder)

    @property
    def probabilities(self) -> dict[str, Probabilities]:
        """(N, C) probabilities of each split."""
        return {split: predictions.probabilities for split, predictions in self.predictions.items()}

    @property
    def labels(self) -> dict[str, Labels]:
        """(N,) labels of each split."""
        return {split: predictions.labels for split, predictions in self.predictions.items()}

    @property
    def runtime(self) -> Runtime:
        """Device of this machine with the precision of the run.

        Raises:
            UserError: The record names an unknown precision.
        """
        precision = self.summary.precision or "32-true"  # runs before this key used full precision
        if reason := not_one_of(precision, PRECISIONS):
            raise UserError(f"{self.folder / record.SUMMARY} is corrupt: precision={precision} {reason}")
        return runtime_of_machine(precision, torch.get_num_threads())


def load_run(folder: Path, *, with_predictions: bool = True) -> FinishedRun:
    """Read the record of a finished run.

    Args:
        folder: Folder of the run.
        with_predictions: Whether to read its predictions, too.

    Raises:
        UserError: The folder holds no finished run, or its predictions cannot be read.
    """
    summary = finished_summary(folder)
    splits = SPLITS if with_predictions else ()
    if with_predictions:
        summary.check_predictions(folder)
    return FinishedRun(folder, summary, {split: Predictions.read(folder, split) for split in splits})


def load_images(run: FinishedRun, views: Views | None = None, cache_dir: Path | None = None) -> SceneDataModule:
    """Rebuild the data module of a run.

    Args:
        run: A finished run.
        views: Test-time augmentation; None is that of the run.
        cache_dir: Cache of drawn and decoded images; None is that of the run.

    Raises:
        UserError: The images are missing or have changed.
    """
    config = run.config
    if views is not None:
        config = replace(config, recipe=replace(config.recipe, views=views))
    root = config.data.root
    # Checked here, because the images would be downloaded into a folder that is empty or missing.
    if config.data.source == "intel" and root is not None and not Path(root, "seg_train").expanduser().is_dir():
        raise UserError(f"{root} does not hold the images that {run.folder} was trained on: restore them")
    if cache_dir is not None:
        config = replace(config, data=replace(config.data, cache_dir=str(cache_dir)))
    data = build_data(config)
    if data.splits.fingerprint != run.summary.data_fingerprint:
        raise UserError(f"the images have changed since {run.folder} was trained: restore them, or train again")
    return data


def rebuild_network(run: FinishedRun, *, trust: bool = False) -> nn.Module:
    """Build the network of a run without its weights.

    Args:
        run: A finished run.
        trust: Whether to import the class of a custom network, which the record names.

    Raises:
        UserError: The network is a custom one that is not trusted or whose source has changed, its library is not
            installed, or the record lacks the classes or the image size.
    """
    summary, model = run.summary, run.config.model
    if summary.classes is None or summary.image_size is None:
        raise UserError(f"{run.folder / record.SUMMARY} lacks the key classes or image_size: train again")
    if model._target_ is not None:
        custom.refuse_untrusted(model._target_, run.folder, trust=trust)
        custom.check_unchanged(model._target_, run.folder, summary.model_source)
    transforms = summary.transform_input
    network = build(
        model,
        len(summary.classes),
        weights=None,
        image_size=summary.image_size,
        # Records without this key: pretrained weights implied the transformation.
        transform_input=summary.weights is not None if transforms is None else transforms,
    )
    return network.to(memory_format=torch.channels_last)


def read_weights(run: FinishedRun) -> dict[str, Tensor]:
    """Read the weights of the best epoch of a run, under their names in the network.

    Raises:
        UserError: The checkpoint is missing or corrupt.
    """
    return network_state(read_best(run.folder)["state_dict"])


def trained_network(run: FinishedRun, *, trust: bool = False) -> nn.Module:
    """Build the network of a run with the weights of its best epoch.

    Args:
        run: A finished run.
        trust: As in `rebuild_network`.

    Raises:
        UserError: The network cannot be rebuilt, or the checkpoint is missing, corrupt or does not fit.
    """
    network, state = rebuild_network(run, trust=trust), read_weights(run)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:  # other names or shapes, or no tensors at all
        raise UserError(
            f"{run.folder / record.BEST} does not fit {run.config.model.name}, so it is corrupt or of another run: "
            f"remove the folder {run.folder} and train again"
        ) from error
    return network
