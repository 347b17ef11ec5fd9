from pathlib import Path

import pytest
from hydra import version
from hydra._internal.callbacks import Callbacks
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path
from hydra.core.plugins import Plugins
from hydra.plugins.sweeper import Sweeper
from hydra.types import HydraContext, RunMode, TaskFunction
from omegaconf import OmegaConf

import intel_scenes.cli  # noqa: F401  # which conf/ calls
from hydra_plugins.intel_scenes.sweeper import Composer
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


OWN = "{{_target_: torch.optim.SGD, _partial_: true, lr: {}, momentum: 0.0}}"


def test_what_was_checked_is_what_runs_even_where_its_files_change_meanwhile(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    own = tmp_path / "more/optim/mine.yaml"
    own.parent.mkdir(parents=True)
    own.write_text(OWN.format(0.5))
    arguments = ["sweep.name=s", "optim=mine", "seed=3,4"]
    trained = []
    sweeper = sweeper_of([f"hydra.searchpath=[{tmp_path / 'more'}]", *arguments], trained.append)

    def run(jobs, sweep, compose, launch) -> int:
        assert sweep.is_named
        assert [(config.seed, config.optim.lr) for config in map(compose, jobs)] == [(3, 0.5), (4, 0.5)]
        own.write_text(OWN.format(0.7))
        launch(jobs)
        launch(jobs[:1])  # again, as for a run that another process held
        return 0

    monkeypatch.setattr(runner, "run", run)
    with pytest.raises(SystemExit) as ended:
        sweeper.sweep(arguments)
    assert ended.value.code == 0
    assert [(cfg.seed, cfg.optim.lr) for cfg in trained[:2]] == [(3, 0.5), (4, 0.5)]
    assert [cfg.seed for cfg in trained[2:]] == [3]


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


def test_jobs_are_composed_from_the_files_of_the_search_path_as_it_changes(tmp_path: Path) -> None:
    version.setbase("1.3")
    other = tmp_path / "optim" / "other.yaml"
    other.parent.mkdir()
    other.write_text(OWN.format(0.5))
    composer = Composer(create_config_search_path(str(conf_folder())))
    config = composer.load_configuration("train", ["sweep.name=s"], RunMode.MULTIRUN)
    for seed in (1, 2):
        cfg = composer.load_sweep_config(config, ["optim=adam", f"seed={seed}"])
        assert (cfg.optim._target_, cfg.seed) == ("torch.optim.Adam", seed)
    whole = composer.load_configuration("train", [f"hydra.searchpath=[{tmp_path}]", "optim=other"], RunMode.MULTIRUN)
    assert whole.optim.lr == 0.5


@pytest.mark.parametrize(
    "job",
    [
        [],
        ["seed=2"],
        ["optim=sgd", "optim.lr=0.1", "seed=3"],
        ["optim.lr=0.1", "+optim.maximize=true", "optim=sgd"],
        ["optim=sgd", "~optim.nesterov", "scheduler=step", "data=synthetic", "model=resnet18"],
        ["study=backbones", "seed=2", "epochs=2"],
        ["study=quickstart", "optim=adamw", "model=resnet18", "hydra.job.chdir=false"],
        ["optim.lr=0.2", "optim={lr:0.1}"],
        ["+extra=mine", "seed=2"],
    ],
    ids=" ".join,
)
def test_a_job_is_composed_as_hydra_does(job: list[str], tmp_path: Path) -> None:
    version.setbase("1.3")
    own = tmp_path / "extra/mine.yaml"
    own.parent.mkdir()
    own.write_text("# @package _global_\nepochs: 77\n")
    search_path = create_config_search_path(str(conf_folder()))
    composer, hydras = Composer(search_path), ConfigLoaderImpl(search_path)
    own_files, open_until_it_runs = f"hydra.searchpath=[{tmp_path}]", "hydra.sweep.subdir=${hydra.job.num}"
    master = hydras.load_configuration("train", ["sweep.name=s", own_files, open_until_it_runs], RunMode.MULTIRUN)
    composer.load_sweep_config(master, [*job, "seed=7"])  # of the same files with other values
    found, expected = composer.load_sweep_config(master, job), hydras.load_sweep_config(master, job)
    assert OmegaConf.to_container(found) == OmegaConf.to_container(expected)
    assert OmegaConf.is_struct(found)


@pytest.mark.parametrize(
    ("launcher", "expected"),
    [
        ([], 1),
        (["hydra/launcher=local_joblib", "hydra.launcher.n_jobs=3"], 3),
        (["hydra/launcher=slurm"], None),
    ],
)
def test_the_number_of_simultaneous_runs_is_known_for_some_launchers(
    launcher: list[str], expected: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    sweeper = sweeper_of(["sweep.name=s", "seed=3,4", *launcher], lambda _: None)
    given = []
    monkeypatch.setattr(runner, "run", lambda jobs, sweep, *_: given.append(sweep.num_workers) or 0)
    with pytest.raises(SystemExit):
        sweeper.sweep(["sweep.name=s", "seed=3,4"])
    assert given == [expected]
