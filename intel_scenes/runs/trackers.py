"""Trackers beside the record."""

from lightning.pytorch import loggers
from lightning.pytorch.utilities import rank_zero_only


class WandbLogger(loggers.WandbLogger):
    """Lightning's logger, each training a W&B run of its own: Lightning goes on with one that the process has open."""

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Ends the W&B run."""
        super().finalize(status)
        self.experiment.finish(exit_code=0 if status == "success" else 1)
