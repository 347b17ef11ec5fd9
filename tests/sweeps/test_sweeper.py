from pathlib import Path

import pytest
from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.plugins import Plugins
from hydra.types import HydraContext, RunMode

from hydra_plugins.intel_scenes.sweeper import Composer
from intel_scenes.sweeps import runner as sweep
from intel_scenes.sweeps.names import conf_folder


def test_a_job_is_composed_once_and_runs_as_it_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    version.setbase("1.3")
    loader = ConfigLoaderImpl(create_config_search_path(str(conf_folder())))
    config = loader.load_configuration("train", ["sweep.name=s", "seed=3,4"], RunMode.MULTIRUN)
    trained = []
    sweeper = Plugins.instance().instantiate_sweeper(
        hydra_context=HydraContext(loader, Callbacks()), task_function=trained.append, config=config
    )
    composed = []
    compose = ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(
        ConfigLoaderImpl, "load_configuration", lambda self, **named: composed.append(1) or compose(self, **named)
    )

    def run(jobs, folder, config, *, is_named, searched, compose, launch) -> int:
        assert is_named
        for job in jobs:
            cfg = compose(job)
            assert "hydra" not in cfg
            cfg.epochs = 99  # the checker's own copy
        assert len(composed) == 2
        launch(jobs)
        assert len(composed) == 2
        launch(jobs[:1])  # again, as for a run that another process held
        assert len(composed) == 3
        return 0

    monkeypatch.setattr(sweep, "run", run)
    with pytest.raises(SystemExit):
        sweeper.sweep(["sweep.name=s", "seed=3,4"])
    assert [(cfg.seed, cfg.epochs) for cfg in trained] == [(3, 10), (4, 10), (3, 10)]


def test_a_file_is_read_once_for_all_jobs_and_anew_where_the_places_to_look_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    version.setbase("1.3")
    other = tmp_path / "optim" / "other.yaml"
    other.parent.mkdir()
    other.write_text("{_target_: torch.optim.SGD, _partial_: true, lr: 0.5, momentum: 0.0}")
    read, load = [], ConfigRepository.load_config
    monkeypatch.setattr(ConfigRepository, "load_config", lambda self, path: read.append(path) or load(self, path))
    composer = Composer(create_config_search_path(str(conf_folder())))
    config = composer.load_configuration("train", ["sweep.name=s"], RunMode.MULTIRUN)
    for seed in (1, 2):
        cfg = composer.load_sweep_config(config, ["optim=adam", f"seed={seed}"])
        assert (cfg.optim._target_, cfg.seed) == ("torch.optim.Adam", seed)
    assert "optim/adam" in {path.removesuffix(".yaml") for path in read}
    assert len(read) == len(set(read))
    whole = composer.load_configuration("train", [f"hydra.searchpath=[{tmp_path}]", "optim=other"], RunMode.MULTIRUN)
    assert whole.optim.lr == 0.5
