"""Hydra's basic sweeper, which also knows what is done."""

import copy
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.core_plugins.basic_launcher import BasicLauncher
from hydra._internal.core_plugins.basic_sweeper import BasicSweeper
from hydra.core.config_search_path import ConfigSearchPath
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException
from hydra.plugins.config_source import ConfigResult
from hydra.types import HydraContext
from omegaconf import DictConfig, OmegaConf

from intel_scenes.errors import UserError
from intel_scenes.sweeps import runner as sweep
from intel_scenes.sweeps.names import CannotCompose, bounds, sampled

MOST_KEPT = 100


class Files(ConfigRepository):
    """Hydra's own, which reads each file once.

    Each composition copies it, and points its copy to other folders where `hydra.searchpath` names some.
    """

    def initialize_sources(self, config_search_path: ConfigSearchPath) -> None:
        """Forgets what it read: elsewhere there may be other files of the same names."""
        super().initialize_sources(config_search_path)
        self._read: dict[str, ConfigResult | None] = {}

    def load_config(self, config_path: str) -> ConfigResult | None:
        """The content of a file, which may be changed."""
        if config_path not in self._read:
            self._read[config_path] = super().load_config(config_path)
        return copy.deepcopy(self._read[config_path])

    def __deepcopy__(self, memo: dict[int, Any]) -> Self:
        """With the files that were read so far."""
        return copy.copy(self)


class Composer(ConfigLoaderImpl):
    """Hydra's own, which can keep what it composed until it is asked for it: what was checked is what runs."""

    def __init__(self, search_path: ConfigSearchPath) -> None:
        """Composes from the files of a search path."""
        super().__init__(search_path)
        self.repository = Files(search_path)
        self.kept: dict[tuple[str, ...], DictConfig] = {}

    def keep(self, sweep_overrides: Sequence[str], composed: DictConfig) -> None:
        """Keeps what was composed, of the first jobs alone: of many, composing costs little beside the memory."""
        if len(self.kept) < MOST_KEPT:
            self.kept[tuple(sweep_overrides)] = composed

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: list[str]) -> DictConfig:
        """The configuration of a job, for its launcher to fill in."""
        kept = self.kept.pop(tuple(sweep_overrides), None)
        return super().load_sweep_config(master_config, sweep_overrides) if kept is None else kept


class SceneSweeper(BasicSweeper):
    """Runs every combination that is not finished, and ends the process with the sweep's exit status."""

    def __init__(self, max_batch_size: int | None, params: dict[str, str] | None, *, is_named: bool = True) -> None:
        """As Hydra's own; `is_named` is false where nobody typed the name of the sweep."""
        super().__init__(max_batch_size, params)
        self.is_named = is_named

    def sweep(self, arguments: list[str]) -> None:
        """Plans, runs and sums up a sweep.

        Raises:
            SystemExit: Always.
            UserError: The sweep is refused before its first run.
        """
        assert self.config is not None
        assert self.hydra_context is not None
        assert self.launcher is not None
        parser = OverridesParser.create(config_loader=self.hydra_context.config_loader)
        parsed = parser.parse_overrides([*self._parse_config(), *arguments])
        typed = list({override.key_or_group: override for override in parsed}.values())  # what was set last holds
        intervals = [override for override in typed if override.is_interval_sweep()]
        if not intervals and any(override.key_or_group == "sweep.trials" for override in typed):
            raise UserError("sweep.trials has no effect where no key is set to interval(LOW,HIGH): leave it out")
        points = sampled(intervals, self.config.sweep.trials)
        (grid,) = self.split_arguments([override for override in typed if override not in intervals], None)
        launcher = self.launcher
        if isinstance(launcher, BasicLauncher):  # the others compose in processes of their own
            composer = Composer(self.hydra_context.config_loader.get_search_path())
            self.hydra_context = launcher.hydra_context = HydraContext(composer, self.hydra_context.callbacks)
        sys.exit(
            sweep.run(
                [[*job, *point] for point in points for job in grid],
                Path(self.config.hydra.sweep.dir),
                self.config,
                is_named=self.is_named,
                searched={override.key_or_group: bounds(override) for override in intervals},
                compose=self.compose,
                launch=lambda batch: launcher.launch(batch, initial_job_idx=0),
            )
        )

    def compose(self, overrides: Sequence[str]) -> DictConfig:
        """The configuration of one job, without Hydra's own part.

        Raises:
            CannotCompose: Hydra finds it wrong.
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
        cfg = OmegaConf.masked_copy(whole, [str(key) for key in whole if key != "hydra"])
        OmegaConf.set_struct(cfg, True)
        return cfg
