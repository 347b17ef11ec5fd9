"""A finished run, loaded by its record; and its images, its network and its weights, to predict again."""

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
from intel_scenes.models import custom
from intel_scenes.models.libraries import build
from intel_scenes.models.weights import network_state
from intel_scenes.probabilities import Labels, Probabilities
from intel_scenes.record import Predictions, Status, Summary
from intel_scenes.runtime import Runtime, runtime_of_machine
from intel_scenes.sections import not_one_of
from intel_scenes.training.best_epoch import SPLITS
from intel_scenes.training.build import build_data
from intel_scenes.training.checkpoints import read_best


@dataclass(frozen=True)
class FinishedRun:
    """A finished run.

    Attributes:
        folder: Of the run.
        summary: What `summary.json` holds.
        predictions: By split, "val" and "test"; empty where they were not asked for.
    """

    folder: Path
    summary: Summary
    predictions: Mapping[str, Predictions]

    @cached_property
    def config(self) -> RunConfig:
        """The configuration, read when it is first asked for.

        Raises:
            UserError: The record holds none that can be read.
        """
        return of_record(self.folder)

    @property
    def probabilities(self) -> dict[str, Probabilities]:
        """Of each split, (N, C)."""
        return {split: one.probabilities for split, one in self.predictions.items()}

    @property
    def labels(self) -> dict[str, Labels]:
        """Of each split, (N,)."""
        return {split: one.labels for split, one in self.predictions.items()}

    @property
    def runtime(self) -> Runtime:
        """This machine, with the precision of the run.

        Raises:
            UserError: The record names none that there is.
        """
        precision = self.summary.precision or "32-true"  # a record from before it was kept is of full precision
        if reason := not_one_of(precision, PRECISIONS):
            raise UserError(f"{self.folder / record.SUMMARY} is no record: precision={precision} {reason}")
        return runtime_of_machine(precision, torch.get_num_threads())


def load_run(folder: Path, *, with_predictions: bool = True) -> FinishedRun:
    """Reads the record of a finished run.

    Args:
        folder: Of the run.
        with_predictions: Reads its predictions, too.

    Raises:
        UserError: There is none, or its predictions cannot be read.
    """
    if not folder.is_dir():
        raise UserError(f"there is no folder {folder}: run=FOLDER is that of a finished run")
    summary = Summary.peek(folder)
    if summary is None and any(folder.glob(f"*/{record.SUMMARY}")):
        raise UserError(f"{folder} holds several runs: name them, run=[{folder}/RUN1,{folder}/RUN2,...]")
    if summary is None:
        what = f"its {record.SUMMARY} is damaged" if (folder / record.SUMMARY).exists() else f"no {record.SUMMARY}"
        raise UserError(f"{folder} holds no run ({what}): name the folder of a finished run")
    if summary.status is not Status.COMPLETED:
        raise UserError(
            f"{folder} holds a run that is not finished ({summary.status}): repeat its command to go on, or name a "
            "finished one"
        )
    splits = SPLITS if with_predictions else ()
    return FinishedRun(folder, summary, {split: Predictions.read(folder, split) for split in splits})


def load_images(run: FinishedRun, views: Views | None = None) -> SceneDataModule:
    """Builds the data module of a run again.

    Args:
        run: A finished run.
        views: Test-time augmentation; None is that of the run.

    Raises:
        UserError: The images are gone, or no longer those of the run.
    """
    config = run.config
    if views is not None:
        config = replace(config, recipe=replace(config.recipe, views=views))
    data = build_data(config)
    if data.splits.fingerprint != run.summary.data_fingerprint:
        raise UserError(f"the images are no longer those of {run.folder}: put them back, or run it again")
    return data


def rebuild_network(run: FinishedRun, *, trust: bool = False) -> nn.Module:
    """Builds the network of a run, which has yet to take weights.

    Args:
        run: A finished run.
        trust: Whether the class of a custom network, which the record names, may be imported.

    Raises:
        UserError: The network is a custom one that is not trusted or whose source has changed, its library is not
            installed, or the record lacks classes or image size.
    """
    summary, model = run.summary, run.config.model
    if summary.classes is None or summary.image_size is None:
        raise UserError(f"{run.folder / record.SUMMARY} lacks classes or image_size: train again")
    if model._target_ is not None:
        custom.refuse_untrusted(model._target_, run.folder, trust=trust)
        custom.check_unchanged(model._target_, run.folder, summary.model_source)
    transforms = summary.transform_input
    network = build(
        model,
        len(summary.classes),
        weights=None,
        image_size=summary.image_size,
        # A record from before it was kept: as the network was built then.
        transform_input=summary.weights is not None if transforms is None else transforms,
    )
    return network.to(memory_format=torch.channels_last)


def read_weights(run: FinishedRun) -> dict[str, Tensor]:
    """Reads the weights of the best epoch of a run, under their names in the network.

    Raises:
        UserError: The checkpoint is missing or damaged.
    """
    return network_state(read_best(run.folder)["state_dict"])


def trained_network(run: FinishedRun, *, trust: bool = False) -> nn.Module:
    """Builds the network of a run with the weights of its best epoch.

    Args:
        run: A finished run.
        trust: As `rebuild_network` takes it.

    Raises:
        UserError: The record is not enough to build the network, or the checkpoint is missing, damaged or does not fit.
    """
    network, state = rebuild_network(run, trust=trust), read_weights(run)
    try:
        network.load_state_dict(state)
    except (RuntimeError, TypeError, AttributeError) as error:  # other names or shapes, or no tensors at all
        raise UserError(
            f"{run.folder / record.BEST} does not fit {run.config.model.name}: it is damaged or of another run, remove "
            f"the folder {run.folder} and run it again"
        ) from error
    return network
