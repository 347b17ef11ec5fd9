"""Experiment trackers beside the record."""

import os
from functools import wraps
from typing import Any

from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only


class WandbLogger(loggers.WandbLogger):
    """Lightning's logger with a W&B run for each training: Lightning continues one that the process has open."""

    def __init__(self, **options: Any) -> None:  # noqa: ANN401
        """Take Lightning's options; finish the W&B run of a training that failed before it began."""
        super().__init__(**options)
        import wandb

        if wandb.run is not None:
            wandb.finish(exit_code=1)

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Finish the W&B run."""
        super().finalize(status)
        self.experiment.finish(exit_code=0 if status == "success" else 1)


class MLFlowLogger(loggers.MLFlowLogger):
    """Lightning's logger with the environment variable without which MLflow 3 refuses to keep a run in files."""

    @wraps(loggers.MLFlowLogger.__init__)  # type: ignore[misc]  # so that its arguments are known
    def __init__(self, *arguments: Any, **options: Any) -> None:  # noqa: ANN401
        """Take Lightning's options."""
        os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
        super().__init__(*arguments, **options)
