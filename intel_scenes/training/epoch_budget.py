"""Length of a training: its epochs, which may have to be fitted to `budget_minutes`, and its steps."""

import logging
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

import torch

from intel_scenes.config import RunConfig
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.digests import Facts, cost_digest, digests
from intel_scenes.errors import UserError
from intel_scenes.models.libraries import resolve_weights
from intel_scenes.models.weights import Weights
from intel_scenes.record import Summary
from intel_scenes.runtime import Runtime, resolve_threads, runtime_of_trainer
from intel_scenes.training.build import build_data, check_devices, growth_of
from intel_scenes.training.cost_forecast import fitted_epochs, time_run
from intel_scenes.training.identity import facts_of

log = logging.getLogger(__name__)

NUM_STEPS = 8  # timed at each training size

EpochsOfBudget = Callable[[str, Callable[[], int]], int]  # (budget digest, function that times the run) to epochs


def unshared_epochs(_budget_digest: str, epochs: Callable[[], int]) -> int:
    """Time the run anew, because no other run shares its number of epochs."""
    return epochs()


def at_equal_steps(config: RunConfig, data: SceneDataModule) -> RunConfig:
    """Return the configuration with as many epochs of a subset as have the steps of `epochs` epochs of all images.

    Without `equal_steps` it is unchanged.

    Args:
        config: The composed configuration.
        data: The images.
    """
    return replace(config, epochs=max(1, round(config.epochs * epochs_ratio(config, data))))


def epochs_ratio(config: RunConfig, data: SceneDataModule) -> float:
    """Return the epochs of a subset per epoch of the configuration: above 1 only with `equal_steps`.

    With `data.batch_size=full`, not yet replaced by a number, it is 1: an epoch takes the same steps on any subset.
    """
    if not config.equal_steps or config.data.batch_size == "full":
        return 1.0
    num_images = data.splits.num_whole or len(data.splits.train)
    num_whole = config.data.passes_per_epoch * (num_images // config.data.images_per_batch)
    steps_of_all, steps = (
        config.trainer.num_steps(config.trainer.num_batches(number), 1) for number in (num_whole, data.num_batches)
    )
    return steps_of_all / steps


def known_epochs(config: RunConfig, facts: Facts, folder: Path) -> int | None:
    """Return the number of epochs; of a run with a budget that of its record, None if there is none yet."""
    if config.budget_minutes is None:
        return config.epochs
    summary = Summary.peek(folder)
    is_same = summary is not None and summary.budget_digest == digests(config, facts).budget
    return summary.epochs if summary is not None and is_same else None


def epochs_within_budget(config: RunConfig, weights: Weights | None, data: SceneDataModule, runtime: Runtime) -> int:
    """Time a few steps, and return how many epochs fit into `budget_minutes`.

    Raises:
        UserError: Memory or disk space does not suffice for a step.
    """
    assert config.budget_minutes is not None
    log.info("measuring how many epochs fit into budget_minutes=%g", config.budget_minutes)
    unfitted = with_steps(config, data, config.epochs, folder=None)
    costs = time_run(unfitted, weights, data, runtime, NUM_STEPS).costs
    epochs = fitted_epochs(costs, data, config.budget_minutes)
    log.info("epochs=%d", epochs)
    return epochs


def epochs_by_budget(configs: Iterable[RunConfig]) -> dict[str, int]:
    """Return how many epochs fit into the `budget_minutes` of composed runs, by budget digest; each is timed once.

    Args:
        configs: The composed configurations, with the threads of the study; those without a budget are passed over.
    """
    epochs = {}
    for config in {cost_digest(config): config for config in configs if config.budget_minutes is not None}.values():
        torch.set_num_threads(resolve_threads(config.threads))
        weights, data = resolve_weights(config.model), build_data(config, reports=False)
        resolved = at_equal_steps(config, data).with_batch_size(data.batch_size)
        runtime = runtime_of_trainer(resolved.trainer, resolved.threads)
        check_devices(resolved, data, runtime)
        budget_digest = digests(resolved, facts_of(resolved, weights, data)).budget
        if budget_digest not in epochs:
            epochs[budget_digest] = epochs_within_budget(resolved, weights, data, runtime)
    return epochs


def with_growing_batches(data: SceneDataModule, config: RunConfig) -> SceneDataModule:
    """Return the data of a run with its growing batches; without `batch_growth`, the data unchanged.

    Args:
        data: The images, or their features.
        config: Configuration of the run, from `with_steps`.
    """
    growth = growth_of(config, len(data.splits.train))
    return data.with_sizes(growth.sizes) if growth else data


def with_steps(config: RunConfig, data: SceneDataModule, epochs: int, folder: Path | None) -> RunConfig:
    """Return the configuration of a run with its number of epochs and of steps.

    Args:
        config: The composed configuration.
        data: The images, which give the steps per epoch.
        epochs: Epochs of the training.
        folder: Folder of the record; None if none is written.

    Raises:
        UserError: A budget is enough for fewer epochs than there are training sizes.
    """
    num_steps = config.trainer.num_steps(config.trainer.num_batches(data.num_batches), epochs)
    resolved = config.resolved(folder=str(folder or Path()), epochs=epochs, num_steps=num_steps)
    if growth := growth_of(resolved, len(data.splits.train)):
        resolved = replace(resolved, num_steps=growth.num_steps)  # the schedule keeps the steps of a run without growth
    if config.budget_minutes is not None and epochs < (num_sizes := len(data.train_sizes)):
        raise UserError(
            f"budget_minutes={config.budget_minutes} is enough for epochs={epochs} only, fewer than the {num_sizes} "
            "sizes of recipe.train_size: raise budget_minutes, or use fewer sizes"
        )
    return resolved
