from pathlib import Path

import pytest
from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.config_repository import ConfigRepository
from hydra._internal.utils import create_config_search_path
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import OmegaConf

import intel_scenes.cli  # noqa: F401  # which conf/ calls
from hydra_plugins.intel_scenes.sweeper import Composer, _num_workers
from intel_scenes.keys import conf_folder
from intel_scenes.record import Interval
from intel_scenes.sweeps import runner


def sweeper_of(arguments: list[str], train: TaskFunction) -> Sweeper:
    version.setbase("1.3")
    loader = ConfigLoaderImpl(create_config_search_path(str(conf_folder())))
    config = loader.load_configuration("train", arguments, RunMode.MULTIRUN)
    return Plugins.instance().instantiate_sweeper(
        hydra_context=HydraContext(loader, Callbacks()), task_function=train, config=config
    )


def test_a_job_is_composed_once_and_runs_as_it_was_checked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    trained = []
    sweeper = sweeper_of(["sweep.name=s", "seed=3,4"], trained.append)
    composed = []
    compose = ConfigLoaderImpl.load_configuration
    monkeypatch.setattr(
        ConfigLoaderImpl, "load_configuration", lambda self, **named: composed.append(1) or compose(self, **named)
    )

    def run(jobs, sweep, compose, launch) -> int:
        assert sweep.is_named
        assert [compose(job).seed for job in jobs] == [3, 4]
        assert len(composed) == 2
        launch(jobs)
        assert len(composed) == 2
        launch(jobs[:1])  # again, as for a run that another process held
        assert len(composed) == 3
        return 0

    monkeypatch.setattr(runner, "run", run)
    with pytest.raises(SystemExit):
        sweeper.sweep(["sweep.name=s", "seed=3,4"])
    assert [cfg.seed for cfg in trained] == [3, 4, 3]


def test_every_combination_of_what_a_study_sweeps_and_what_was_typed_is_a_job(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["study=find_lr", "sweep.name=s", "seed=5", "optim=sgd,adam", "lr_scale=1,3"]
    sweeper = sweeper_of(arguments, lambda _: None)
    given = []
    monkeypatch.setattr(runner, "run", lambda jobs, sweep, *_: given.append((jobs, sweep)) or 0)
    with pytest.raises(SystemExit):
        sweeper.sweep(arguments)
    ((jobs, sweep),) = given
    assert all({"study=find_lr", "seed=5"} <= set(job) for job in jobs), "what was typed holds"
    assert [[text for text in job if text.startswith(("lr_scale", "optim"))] for job in jobs] == [
        *(["lr_scale=1", "optim=sgd"], ["lr_scale=1", "optim=adam"]),
        *(["lr_scale=3", "optim=sgd"], ["lr_scale=3", "optim=adam"]),
    ]
    assert sweep.searched == {}


def test_the_points_of_a_search_are_tried_by_every_combination(monkeypatch: pytest.MonkeyPatch) -> None:
    arguments = ["sweep.name=s", "sweep.trials=2", "optim=sgd,adam", "lr_scale=tag(log,interval(0.1,10))"]
    sweeper = sweeper_of(arguments, lambda _: None)
    given = []
    monkeypatch.setattr(runner, "run", lambda jobs, sweep, *_: given.append((jobs, sweep)) or 3)
    with pytest.raises(SystemExit) as ended:
        sweeper.sweep(arguments)
    ((jobs, sweep),) = given
    assert ended.value.code == 3
    assert sweep.searched == {"lr_scale": Interval(0.1, 10, is_log=True)}
    (_, first), (_, second), *others = [
        (job[-2], job[-1]) if job[-1].startswith("lr_scale") else pytest.fail(str(job)) for job in jobs
    ]
    assert first == second
    assert [point for _, point in others] == [others[0][1]] * 2 != [first] * 2


def test_a_file_is_read_once_for_all_jobs_and_anew_for_another_search_path(
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


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        ({"_target_": "hydra._internal.core_plugins.basic_launcher.BasicLauncher"}, 1),
        ({"_target_": "hydra_plugins.hydra_joblib_launcher.joblib_launcher.JoblibLauncher", "n_jobs": 3}, 3),
        ({"_target_": "hydra_plugins.hydra_submitit_launcher.submitit_launcher.SlurmLauncher"}, None),
    ],
)
def test_the_number_of_simultaneous_runs_is_known_for_some_launchers(
    launcher: dict[str, object], expected: int | None
) -> None:
    assert _num_workers(OmegaConf.create({"hydra": {"launcher": launcher}})) == expected
