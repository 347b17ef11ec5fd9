"""`python -m intel_scenes.train`: one run, or with `-m` a sweep of runs."""

from pathlib import Path

from omegaconf import DictConfig

from intel_scenes import cli
from intel_scenes.sweeps.runner import Job


def train(cfg: DictConfig, job: Job) -> None:
    """Trains, evaluates and records one configuration, and shows what came out."""
    # They import torch, for which --help and a misspelt option need not wait.
    from intel_scenes.training import memory
    from intel_scenes.training import run as experiment

    memory.spare_imports()
    if cfg.dry_run:
        cli.say("\n".join(experiment.dry_run(cfg, job.overrides)))
        cli.leave_nothing(job.folder)
        return
    summary = experiment.run(
        cfg,
        Path(job.folder),
        choices=job.choices,
        overrides=job.overrides,
        composition_digest=job.composition_digest,
    )
    if summary:
        cli.show(summary, job.folder, is_one_of_many=bool(cfg.sweep.name))


if __name__ == "__main__":
    cli.start("train", train, can_sweep=True)
