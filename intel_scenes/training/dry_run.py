"""Report of what a run would cost, before it starts."""

import torch

from intel_scenes.config import RunConfig, warn_of_late_steps
from intel_scenes.data.pipelines import TTA
from intel_scenes.models.libraries import resolve_weights
from intel_scenes.record import Origin
from intel_scenes.runtime import runtime_of_trainer
from intel_scenes.training.build import build_data, check_devices, check_parts
from intel_scenes.training.cost_forecast import forecast, time_run
from intel_scenes.training.epoch_budget import (
    at_equal_steps,
    epochs_within_budget,
    with_growing_batches,
    with_steps,
)


def dry_run(config: RunConfig, origin: Origin) -> list[str]:
    """Return what a run would cost, one sentence for each part; no record is written.

    Args:
        config: The composed configuration.
        origin: Overrides that were typed and files of `conf/` that were chosen.

    Raises:
        UserError: The run could not start for a reason that the user can fix.
    """
    check_parts(config, origin.typed)
    runtime = runtime_of_trainer(config.trainer, config.threads)
    torch.set_num_threads(runtime.threads)
    weights = resolve_weights(config.model)
    data = build_data(config, origin.typed)
    config = at_equal_steps(config, data).with_batch_size(data.batch_size)
    check_devices(config, data, runtime)
    is_budget = config.budget_minutes is not None
    epochs = epochs_within_budget(config, weights, data, runtime) if is_budget else config.epochs
    config = with_steps(config, data, epochs, folder=None)
    data = with_growing_batches(data, config)
    assert config.num_steps is not None
    warn_of_late_steps(config)
    timed = time_run(config, weights, data, runtime)
    lines = forecast(
        timed.costs,
        timed.classifier,
        timed.network,
        data,
        num_epochs=epochs,
        num_steps=config.num_steps,
        num_views=TTA[config.recipe.views],
        runtime=runtime,
    )
    return [*lines, f"the time does not include that of {config.untimed}"] if config.untimed else lines
