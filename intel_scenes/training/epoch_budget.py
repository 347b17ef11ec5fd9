"""How long a training is: its epochs, which a budget of minutes may have to find out, and its steps."""

import logging
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from intel_scenes.config import RunConfig
from intel_scenes.data.datamodule import SceneDataModule
from intel_scenes.digests import Facts, digests
from intel_scenes.errors import UserError
from intel_scenes.models.weights import Weights
from intel_scenes.record import Summary
from intel_scenes.runtime import Runtime
from intel_scenes.training.claim import as_user_errors
from intel_scenes.training.cost_forecast import fitted_epochs, measure_run

log = logging.getLogger(__name__)

NUM_STEPS = 8  # measured at each size

EpochsOfBudget = Callable[[str, Callable[[], int]], int]  # a budget digest, and what measures the epochs, to the epochs


def measure_each_time(_budget_digest: str, measure: Callable[[], int]) -> int:
    """Measures, because no other run shares the answer."""
    return measure()


def at_equal_steps(config: RunConfig, data: SceneDataModule) -> RunConfig:
    """With `equal_steps`, as many epochs of a subset as take the steps that all images would take in those asked for.

    Args:
        config: As composed.
        data: The images.
    """
    return replace(config, epochs=max(1, round(config.epochs * epochs_ratio(config, data))))


def epochs_ratio(config: RunConfig, data: SceneDataModule) -> float:
    """Epochs of a subset for each epoch that is asked for: above 1 with `equal_steps` alone."""
    if not config.equal_steps:
        return 1.0
    num_whole = (data.splits.num_whole or len(data.splits.train)) // config.data.batch_size
    steps_of_all, steps = (
        config.trainer.num_steps(config.trainer.num_batches(number), 1) for number in (num_whole, data.num_batches)
    )
    return steps_of_all / steps


def known_epochs(config: RunConfig, facts: Facts, folder: Path) -> int | None:
    """The number of epochs; of a budget that of the record, None where it has not been measured yet."""
    if config.budget_minutes is None:
        return config.epochs
    summary = Summary.peek(folder)
    is_same = summary is not None and summary.budget_digest == digests(config, facts).budget
    return summary.epochs if summary is not None and is_same else None


def measured_epochs(config: RunConfig, weights: Weights | None, data: SceneDataModule, runtime: Runtime) -> int:
    """As many epochs as fit into `budget_minutes`, by a few steps.

    Raises:
        UserError: They are fewer than the sizes of the training crops.
    """
    assert config.budget_minutes is not None
    log.info("measuring how many epochs fit into budget_minutes=%g", config.budget_minutes)
    with as_user_errors():
        unfitted = with_steps(config, data, config.epochs, folder=None)
        costs = measure_run(unfitted, weights, data, runtime, NUM_STEPS).costs
    epochs = fitted_epochs(costs, data, config.budget_minutes)
    log.info("epochs=%d", epochs)
    return epochs


def with_steps(config: RunConfig, data: SceneDataModule, epochs: int, folder: Path | None) -> RunConfig:
    """The configuration of a run of so many epochs, with the number of steps that its images make.

    Args:
        config: As composed.
        data: The images.
        epochs: Of the training.
        folder: Of the record; None where there will be none.

    Raises:
        UserError: A budget is enough for fewer epochs than there are sizes of the training crops.
    """
    num_steps = config.trainer.num_steps(config.trainer.num_batches(data.num_batches), epochs)
    resolved = config.resolved(folder=str(folder or Path()), epochs=epochs, num_steps=num_steps)
    if config.budget_minutes is not None and epochs < (num_sizes := len(data.train_sizes)):
        raise UserError(
            f"budget_minutes={config.budget_minutes} is enough for epochs={epochs} only, fewer than the {num_sizes} "
            "sizes of recipe.train_size: give it more, or fewer sizes"
        )
    return resolved
