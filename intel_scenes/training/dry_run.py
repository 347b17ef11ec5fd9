"""What a run would cost, said before it starts."""

import torch

from intel_scenes.config import RunConfig, warn_of_late_steps
from intel_scenes.data.pipelines import TTA
from intel_scenes.models.libraries import resolve_weights
from intel_scenes.record import Origin
from intel_scenes.runtime import runtime_of_trainer
from intel_scenes.training.build import build_data, check_devices, check_parts
from intel_scenes.training.cost_forecast import forecast, measure_run
from intel_scenes.training.epoch_budget import at_equal_steps, measured_epochs, with_steps


def dry_run(config: RunConfig, origin: Origin) -> list[str]:
    """What a run would cost, a sentence for each part; nothing is written.

    Args:
        config: As composed.
        origin: What was typed and chosen.

    Raises:
        UserError: Something that the user can mend.
    """
    check_parts(config, origin.typed)
    runtime = runtime_of_trainer(config.trainer, config.threads)
    torch.set_num_threads(runtime.threads)
    weights = resolve_weights(config.model)
    data = build_data(config, origin.typed)
    config = at_equal_steps(config, data)
    check_devices(config, data, runtime)
    is_budget = config.budget_minutes is not None
    epochs = measured_epochs(config, weights, data, runtime) if is_budget else config.epochs
    config = with_steps(config, data, epochs, folder=None)
    warn_of_late_steps(config)
    measured = measure_run(config, weights, data, runtime)
    return forecast(
        measured.costs,
        measured.classifier,
        measured.network,
        data,
        num_epochs=epochs,
        num_views=TTA[config.recipe.views],
        runtime=runtime,
    )
