"""Shards: parts of a sweep for machines that share no folder, and the plan file that keeps them comparable."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path

from intel_scenes import files
from intel_scenes.config import RunConfig, SweepConfig
from intel_scenes.digests import composed_digest, hashed
from intel_scenes.errors import UserError
from intel_scenes.record import PlannedRun, StudyBudget, StudyPlan, SweepPlan
from intel_scenes.sweeps.jobs import Compose
from intel_scenes.sweeps.names import run_name
from intel_scenes.sweeps.overrides import Overrides


def is_of_shard(name: str, shard: str) -> bool:
    """Return whether a run belongs to a shard, such as `3/8`: whether its hash lies in the third eighth of all hashes.

    The hash is the end of the run's name, so it does not depend on the other runs of the sweep.
    """
    number, of = map(int, shard.split("/"))
    return (int(name[-8:], 16) * of >> 32) + 1 == number


def shared_plan(options: SweepConfig, folder: Path, before: StudyPlan) -> SweepPlan | None:
    """Return the plan that the shards of a sweep share; None if there is none, or if this start makes it.

    Args:
        options: Section `sweep` of the configuration.
        folder: Folder of the study.
        before: Plan of the study in the folder.

    Raises:
        UserError: The plan is missing or damaged, or the folder was started without it.
    """
    if options.plan_file is None:
        return None
    path = Path(options.plan_file).expanduser()
    if not path.exists() and options.plan:
        return None
    if not path.exists():
        raise UserError(f"there is no {path}: make it once with this command and sweep.plan=true, and copy it here")
    shared = SweepPlan.read(path)
    if before.planned and before.plan_file != shared.digest:
        raise UserError(f"{folder} was started with another plan than {path}: set another sweep.name")
    return shared


def refuse_other_runs(jobs: Iterable[Overrides], shared: SweepPlan, path: str | None) -> None:
    """Refuse a command whose runs are not those of the plan file.

    Raises:
        UserError: A run is missing here or there.
    """
    here, there = {run_name(job) for job in jobs}, {run.name for run in shared.runs}
    if different := sorted(here ^ there):
        where = "only in this command" if different[0] in here else "only in the file"
        raise UserError(
            f"{path} is the plan of other runs ({different[0]} is {where}): repeat the command that made it, or remove "
            "it and make it again with sweep.plan=true"
        )


def refuse_other_configurations(
    jobs: Mapping[str, Overrides], shared: SweepPlan, path: str | None, compose: Compose
) -> None:
    """Refuse runs whose configuration or images are not those of the plan file.

    Args:
        jobs: Overrides of each run that is not finished, by its name.
        shared: Content of the plan file.
        path: Its name.
        compose: Makes the configuration of a job from its overrides.

    Raises:
        UserError: A run differs.
    """
    planned = {run.name: run for run in shared.runs}
    configs = {name: compose(job) for name, job in jobs.items()}
    for (name, config), data in zip(configs.items(), _fingerprints(configs.values()), strict=True):
        run = planned[run_name(jobs[name])]
        if run.configuration != composed_digest(config):
            raise UserError(
                f"{path} has a different configuration for {name}: use the same version of this package and the same "
                "configuration files as where it was made"
            )
        if run.data != data:
            raise UserError(f"{path} was made with other images: copy the images from there (data.root of {name})")


def refuse_own_budget(jobs: Iterable[Overrides], compose: Compose) -> None:
    """Refuse runs of a shard without a plan file that would fit their epochs to its machine.

    Raises:
        UserError: A run has a budget.
    """
    if any(compose(job).budget_minutes is not None for job in jobs):
        raise UserError(own_epochs("budget_minutes"))


def own_epochs(key: str) -> str:
    """Return the sentence that refuses a budget whose epochs would differ between shards."""
    return (
        f"{key} would give each shard a different number of epochs: make a plan once, with sweep.plan=true "
        "sweep.plan_file=FILE"
    )


def make_plan(
    path: Path, jobs: Iterable[Overrides], threads: int, budget: StudyBudget | None, compose: Compose
) -> SweepPlan:
    """Write the plan that shards share.

    Args:
        path: Path of the file.
        jobs: Overrides of each run.
        threads: CPU threads of each run.
        budget: Resolution of `study_minutes`; None without it.
        compose: Makes the configuration of a job from its overrides.
    """
    from intel_scenes.training.epoch_budget import epochs_by_budget  # imports torch

    configs = {run_name(job): compose(job) for job in jobs}
    digests = [composed_digest(config) for config in configs.values()]
    runs = tuple(map(PlannedRun, configs, digests, _fingerprints(configs.values())))
    epochs = epochs_by_budget(replace(config, threads=config.threads or threads) for config in configs.values())
    plan = SweepPlan(threads, runs, epochs, budget)
    plan.write(path)
    return plan


def _fingerprints(configs: Iterable[RunConfig]) -> Iterator[str]:
    """Yield the fingerprint of the images of each run; equal folders are read once."""
    from intel_scenes.training.build import build_data  # imports torch

    known: dict[str, str] = {}
    for config in configs:
        key = files.digest(dict(hashed(config.data)))
        if key not in known:
            known[key] = build_data(config, reports=False).splits.fingerprint
        yield known[key]


def what_follows(shard: str, folder: Path, *, confirms: bool) -> str:
    """Return the sentence that says what to do when the shards of a sweep have ended."""
    then = "; then repeat this command there without sweep.shard to confirm the choice" if confirms else ""
    return (
        f"only shard {shard} was run: when all shards have ended, copy their folders to one machine and run "
        f"intel-scenes compare folder=[A,B,...] output={folder}{then}"
    )
