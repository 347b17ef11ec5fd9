"""The jobs of a sweep before the first one runs: their names, which are finished, and whether they can run."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

from tqdm import tqdm

from intel_scenes.config import RunConfig
from intel_scenes.digests import DEVICE_KEYS
from intel_scenes.errors import UserError
from intel_scenes.files import shown
from intel_scenes.record import Status, Summary, keys_of
from intel_scenes.sections import as_plain
from intel_scenes.sweeps.names import run_name
from intel_scenes.sweeps.overrides import Overrides, composition_digest

Compose = Callable[[Overrides], RunConfig]  # from the overrides of a job to its configuration


def named_jobs(jobs: Sequence[Overrides], folder: Path) -> dict[str, Overrides]:
    """Return each job by the name of its run in the folder of a study; of jobs that compose alike, only one.

    Raises:
        UserError: Jobs that differ only in neutral keys would share a folder.
    """
    named: dict[str, Overrides] = {}
    for job in jobs:
        name = run_name(job, folder)
        if name in named and composition_digest(named[name]) != composition_digest(job):
            one, other = set(named[name]), set(job)
            raise UserError(
                f"{' '.join(sorted(one - other))} and {' '.join(sorted(other - one))} do not change the result, so "
                f"their runs would share the folder {name}: start a sweep for each, with its own sweep.name"
            )
        named[name] = job
    return named


def finished_jobs(named: Mapping[str, Overrides], folder: Path, compose: Compose) -> set[str]:
    """Return the names of the complete runs that would be composed in the same way, on the same images."""
    complete: dict[tuple[str, ...], list[tuple[str, str | None]]] = {}
    for name, job in named.items():
        summary = Summary.peek(folder / name)
        if summary is None or summary.status is not Status.COMPLETED:
            continue
        if summary.composition_digest == composition_digest(job) and _has_its_source(summary, job, compose):
            of_data = tuple(sorted(text for text in job if text.lstrip("+").startswith("data")))
            complete.setdefault(of_data, []).append((name, summary.data_fingerprint))
    finished = set()
    for runs in complete.values():
        from intel_scenes.training.build import build_data  # imports torch, which nothing else here needs

        try:
            present = build_data(compose(named[runs[0][0]])).splits.fingerprint
        except (UserError, OSError):  # the jobs themselves report it
            continue
        finished |= {name for name, fingerprint in runs if fingerprint == present}
    return finished


def _has_its_source(summary: Summary, job: Overrides, compose: Compose) -> bool:
    """Return whether the source of a custom network is unchanged since a run was trained."""
    if summary.model_source is None:
        return True
    from intel_scenes.models.libraries import source_digest  # imports torch, which other networks do not need here

    try:
        return source_digest(compose(job).model) == summary.model_source
    except UserError:  # the job itself reports it
        return False


def check(jobs: Iterable[Overrides], compose: Compose) -> None:
    """Compose every job before the first one runs, then check the configurations.

    Raises:
        UserError: A job cannot run.
    """
    progress = tqdm(list(jobs), desc="checking", unit="run", leave=False, disable=None, delay=2)
    configs = [(compose(job), job) for job in progress]
    if any(config.dry_run for config, _ in configs):
        raise UserError("dry_run=true is for a single run: set sweep.plan=true to see what a sweep would cost")
    if configs:
        # They import torch, which a misspelled name need not wait for.
        from intel_scenes.runtime import num_devices
        from intel_scenes.training.build import check_parts

        for config, job in configs:
            if num_devices(config.trainer) > 1:
                arguments = as_plain(config.trainer)
                values = {key: arguments.get(key.removeprefix("trainer.")) for key in DEVICE_KEYS}
                texts = [f"{key}={shown(value)}" for key, value in values.items() if value]
                raise UserError(
                    f"{' with '.join(texts)} starts several processes for each run, which a sweep does not support: "
                    "set trainer.devices=1, and start the same command once for each GPU instead"
                )
            check_parts(config, keys_of(job))
