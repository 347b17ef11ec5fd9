"""`python -m intel_scenes.train`: train one run, or with `-m` or study=NAME a sweep of runs."""

from functools import partial

from intel_scenes import cli
from intel_scenes.config import RunConfig
from intel_scenes.sweeps import plan
from intel_scenes.sweeps.runner import Job


def train(config: RunConfig, job: Job) -> None:
    """Train, evaluate and record one configuration, and print the results."""
    # They import torch, which --help and a misspelled option need not wait for.
    from intel_scenes.training import memory
    from intel_scenes.training.claim import Place
    from intel_scenes.training.dry_run import dry_run
    from intel_scenes.training.epoch_budget import unshared_epochs
    from intel_scenes.training.run import run

    memory.spare_imports()
    if config.dry_run:
        cli.say("\n".join(dry_run(config, job.origin)))
        cli.leave_nothing(job.folder)
        return
    study = job.folder.parent if config.sweep.name else None
    place = Place(
        job.folder,
        siblings=study,
        replaces_changed=config.sweep.redo == "changed",
        is_of_shard=config.sweep.shard is not None,
    )
    epochs_of_budget = partial(plan.shared_epochs, study) if study else unshared_epochs
    summary = run(config, place, job.origin, epochs_of_budget=epochs_of_budget)
    if summary is not None:
        cli.show(summary, job.folder, is_one_of_many=study is not None)


if __name__ == "__main__":
    cli.start("train", train, can_sweep=True)
