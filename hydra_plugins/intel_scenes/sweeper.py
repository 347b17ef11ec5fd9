"""Hydra's basic sweeper, extended to skip what is done and to compare the runs at the end."""

import copy
import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

# Private to Hydra, whose public interface can neither compose a job before it runs nor list the combinations of values.
# Each has a test in tests/sweeps/test_sweeper.py.
from hydra._internal.config_loader_impl import ConfigLoaderImpl, get_overrides_dirname
from hydra._internal.config_repository import CachingConfigRepository, ConfigRepository
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from intel_scenes import composition
from intel_scenes.config import CompareConfig, RunConfig, StudyConfig, SweepConfig
from intel_scenes.errors import UserError
from intel_scenes.hydra_errors import CannotCompose
from intel_scenes.record import Interval
from intel_scenes.sweeps import runner
from intel_scenes.sweeps.runner import Sweep
from intel_scenes.sweeps.search import interval_of, sampled

MOST_KEPT = 100  # composed jobs: beyond, composing again is cheaper than the memory to keep them


class Files(ConfigRepository):
    """Hydra's configuration files, each read once for all jobs of a sweep instead of once for each job."""

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Discard the files read so far: other folders may have other files of the same names."""
        super().initialize_sources(config_search_path)
        self._read: dict[str, ConfigResult | None] = {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        """Return the content of a file, as a copy that the caller may change."""
        if config_path not in self._read:
            self._read[config_path] = super().load_config(config_path)
        return copy.deepcopy(self._read[config_path])

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """Return a copy that shares the files read so far: Hydra copies the repository for each job it composes."""
        return copy.copy(self)


class Composer(ConfigLoaderImpl):
    """Composes jobs, and keeps each until its launcher asks for it, so that what was checked is what runs.

    Jobs that choose the same files differ only in single values. Hydra composes their files once, which takes most of
    the time, and each job gets a copy, in which Hydra sets its values.
    """

    def __init__(self, search_path: ConfigSearchPath) -> None:
        """Initialize with the files of a search path."""
        super().__init__(search_path)
        self.repository = Files(search_path)
        self.kept: dict[tuple[str, ...], DictConfig] = {}
        self._composed: dict[tuple[str, ...], DictConfig] = {}

    def keep(self, job: Sequence[str], composed: DictConfig) -> None:
        """Keep a composed job, unless there are many already."""
        if len(self.kept) < MOST_KEPT:
            self.kept[tuple(job)] = composed

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """Return the configuration of a job, for its launcher to complete."""
        kept = self.kept.pop(tuple(sweep_overrides), None)
        if kept is not None:
            return kept
        typed_before = OmegaConf.to_container(master_config.hydra.overrides.hydra)  # as Hydra does: nothing is resolved
        assert isinstance(typed_before, list)
        job, files = self._parse_overrides_and_create_caching_repo(
            master_config.hydra.job.config_name, [*typed_before, *sweep_overrides]
        )
        job = job[len(typed_before) :]
        values = [override for override in job if not _chooses_a_file(override, files)]
        choices = [str(override.input_line) for override in job if override not in values]
        config = self._of_files(master_config, typed_before, choices)
        self._apply_overrides_to_config(values, config)
        typed = [override for override in job if not override.is_hydra_override()]
        config.hydra.overrides.task = [override.input_line for override in typed]
        form = config.hydra.job.config.override_dirname
        config.hydra.job.override_dirname = get_overrides_dirname(
            typed, list(form.exclude_keys), form.item_sep, form.kv_sep
        )
        return config

    def _of_files(self, master_config: DictConfig, typed_before: Sequence[str], choices: Sequence[str]) -> DictConfig:
        """Return the configuration of a job that only chooses files, as a copy that the caller may change."""
        key = (*typed_before, *choices)
        if key not in self._composed:
            if len(self._composed) >= MOST_KEPT:
                self._composed.clear()
            self._composed[key] = super().load_sweep_config(master_config, list(choices))
        return copy.deepcopy(self._composed[key])


def _chooses_a_file(override: Override, files: CachingConfigRepository) -> bool:
    """Return what Hydra decides in its defaults list: whether an override is of a group and no set of values."""
    return override.is_hydra_override() or (
        files.group_exists(override.key_or_group) and not isinstance(override.value(), dict)
    )


class SceneSweeper(BasicSweeper):
    """Runs every combination that is not finished, and ends the process with the exit status of the sweep."""

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None, *, is_named: bool = True) -> None:
        """Initialize Hydra's basic sweeper; `is_named` is false where the name of the sweep was not typed."""
        super().__init__(max_batch_size, params)
        self.is_named = is_named

    def sweep(self, arguments: list[str]) -> None:
        """Plan and run a sweep, and compare its runs.

        Raises:
            SystemExit: Always.
            UserError: The sweep is refused before its first run.
        """
        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        typed = self._typed(arguments)
        intervals = [override for override in typed if override.is_interval_sweep()]
        if not intervals and any(override.key_or_group == "sweep.trials" for override in typed):
            raise UserError("sweep.trials has no effect, because no key is set to interval(LOW,HIGH): leave it out")
        for override in typed:
            is_of_sweep = override.key_or_group.startswith(("sweep.", "compare.", "study.", "study_minutes"))
            if override.is_sweep_override() and is_of_sweep:
                raise UserError(f"{override.input_line} applies to the whole sweep: give it one value")
        sweep = self._asked({override.key_or_group: interval_of(override) for override in intervals})
        points = sampled(intervals, sweep.options.trials)
        (grid,) = self.split_arguments([override for override in typed if override not in intervals], None)
        launcher = self.launcher
        if isinstance(launcher, BasicLauncher):  # the others compose in processes of their own
            composer = Composer(self.hydra_context.config_loader.get_search_path())
            self.hydra_context = launcher.hydra_context = HydraContext(composer, self.hydra_context.callbacks)
        status = runner.run(
            [[*job, *point] for point in points for job in grid],
            sweep,
            self.compose,
            lambda batch: launcher.launch(batch, initial_job_idx=0),
        )
        sys.exit(status)

    def _typed(self, arguments: list[str]) -> list[Override]:
        """Return the overrides of the study and those typed; the last setting of a key wins."""
        assert self.hydra_context is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides([*self._parse_config(), *arguments])
        return list({override.key_or_group: override for override in parsed}.values())

    def _asked(self, searched: dict[str, Interval]) -> Sweep:
        """Return what the sweep is asked to do with its jobs."""
        config = self.config
        assert config is not None
        sources = [source for source in config.hydra.runtime.config_sources if source.schema == "file"]
        threads, num_parallel = _threads(config)
        return Sweep(
            folder=Path(config.hydra.sweep.dir),
            options=composition.section(config, SweepConfig),
            study=composition.section(config, StudyConfig),
            compare=composition.section(config, CompareConfig),
            searched=searched,
            params=frozenset(self.params or {}),
            is_named=self.is_named,
            is_covered=len(sources) == 1,
            threads=threads,
            num_parallel=num_parallel,
            primary_metric=str(config.primary_metric),
            minutes=config.get("study_minutes"),
            num_workers=_num_workers(config),
        )

    def compose(self, overrides: Sequence[str]) -> RunConfig:
        """Return the configuration of one job.

        Raises:
            CannotCompose: Hydra refuses the overrides.
            UserError: A key is unknown or has no value, or a value is invalid.
        """
        assert self.config is not None
        assert self.hydra_context is not None
        composer = self.hydra_context.config_loader
        try:
            whole = composer.load_sweep_config(self.config, list(overrides))
        except HydraException as error:
            raise CannotCompose(overrides) from error
        if isinstance(composer, Composer):
            composer.keep(overrides, whole)
        return composition.configured(whole, RunConfig)


def _num_workers(config: DictConfig) -> int | None:
    """Return the number of runs at the same time; None where the launcher does not tell."""
    launcher = config.hydra.launcher
    if num_jobs := launcher.get("n_jobs"):
        return int(num_jobs) if num_jobs > 0 else os.cpu_count()
    return 1 if launcher._target_ == f"{BasicLauncher.__module__}.{BasicLauncher.__name__}" else None


def _threads(config: DictConfig) -> tuple[int | None, int]:
    """Return the threads of each run, None where they are open, and the number of runs that then share the cores."""
    launcher = config.hydra.launcher
    if config.threads is not None:
        return config.threads, 1
    if launcher.get("n_jobs"):
        return (None, launcher.n_jobs) if launcher.n_jobs > 0 else (1, 1)
    if launcher.get("cpus_per_task"):
        return int(launcher.cpus_per_task), 1
    if launcher.get("ray"):
        return max(1, int(OmegaConf.select(launcher, "ray.remote.num_cpus") or 1)), 1
    return None, 1
