from dataclasses import replace

import pytest
import torch

from intel_scenes.config import RunConfig
from intel_scenes.digests import Facts, digests
from intel_scenes.errors import Lost, UserError
from intel_scenes.training.ranks import as_started, lost_as_user_error, needs_processes
from tests.small import DRAWN, SMALL, asked, resolved

TORCHRUN = {"TORCHELASTIC_RUN_ID": "x", "WORLD_SIZE": "6", "LOCAL_WORLD_SIZE": "3", "GROUP_WORLD_SIZE": "2"}
SRUN = {
    **{"SLURM_NTASKS": "6", "SLURM_NTASKS_PER_NODE": "3", "SLURM_NNODES": "2", "SLURM_JOB_NAME": "scenes"},
    **{"SLURM_JOB_ID": "77", "SLURM_PROCID": "1"},
}


@pytest.fixture
def launcher(monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> None:
    for name, value in request.param.items():
        monkeypatch.setenv(name, value)


def started(*typed: str) -> RunConfig:
    config = asked(*DRAWN, *SMALL, *typed)
    return replace(config, trainer=as_started(config.trainer, {text.split("=")[0].lstrip("+") for text in typed}))


@pytest.mark.parametrize(
    ("launcher", "typed"),
    [
        (TORCHRUN, ()),
        (TORCHRUN, ("trainer=ddp",)),
        (TORCHRUN, ("trainer.devices=3", "++trainer.num_nodes=2")),
        (TORCHRUN, ("trainer.devices=auto",)),
        (SRUN, ("trainer=ddp",)),
        (SRUN, ("trainer=ddp", "trainer.devices=3")),
    ],
    indirect=["launcher"],
)
def test_devices_and_machines_are_those_of_the_launcher(launcher: None, typed: tuple[str, ...]) -> None:
    trainer = started(*typed).trainer
    assert (trainer.devices, trainer.others["num_nodes"], trainer.strategy) == (3, 2, "ddp")
    assert not needs_processes(trainer)


@pytest.mark.parametrize(
    ("launcher", "typed", "message"),
    [
        (
            TORCHRUN,
            ("trainer.devices=2",),
            "trainer.devices=2, but torchrun started 3 processes on each machine: leave trainer.devices out, or start "
            "as many",
        ),
        (
            SRUN,
            ("trainer=ddp", "trainer.devices=2"),
            "trainer.devices=2, but srun started 3 processes on each machine: leave trainer.devices out, or start "
            "as many",
        ),
        (
            TORCHRUN,
            ("++trainer.num_nodes=4",),
            "trainer.num_nodes=4, but torchrun started 2 machines: leave trainer.num_nodes out, or start as many",
        ),
        (
            {key: value for key, value in SRUN.items() if key != "SLURM_NTASKS_PER_NODE"},
            ("trainer=ddp",),
            "srun needs --ntasks-per-node for a run on several devices: add it",
        ),
        (
            {},
            ("trainer=ddp",),
            "trainer.devices=-1 means all GPUs, but there is none: set trainer.devices=2 for two processes on the CPU",
        ),
    ],
    indirect=["launcher"],
)
def test_devices_that_do_not_exist_are_refused(launcher: None, typed: tuple[str, ...], message: str) -> None:
    with pytest.raises(UserError) as refused:
        started(*typed, "trainer.accelerator=cpu")
    assert str(refused.value) == message


@pytest.mark.parametrize("launcher", [SRUN, {}], indirect=True)
def test_a_run_on_one_device_has_one_process(launcher: None) -> None:
    trainer = started().trainer
    assert (trainer.devices, trainer.strategy) == (1, None)
    assert not needs_processes(trainer)


def test_a_run_on_two_devices_needs_processes_unless_a_launcher_started_them() -> None:
    assert needs_processes(started("trainer=ddp", "trainer.devices=2").trainer)


def test_a_run_of_torchrun_is_the_one_that_names_its_devices(monkeypatch: pytest.MonkeyPatch) -> None:
    named = resolved(*DRAWN, *SMALL, "trainer=ddp", "trainer.devices=2", "trainer.accelerator=cpu")
    for name, value in (TORCHRUN | {"LOCAL_WORLD_SIZE": "2", "GROUP_WORLD_SIZE": "1"}).items():
        monkeypatch.setenv(name, value)
    plain = started().resolved(folder="run", epochs=1, num_steps=1)
    facts = Facts(weights=None, data="images", precision="32-true", threads=1)
    assert digests(plain, facts) == digests(named, facts)
    alone = digests(resolved(*DRAWN, *SMALL), facts)
    assert digests(named, facts).config != alone.config
    assert digests(named, facts).configuration != alone.configuration
    assert digests(named, facts).resume == alone.resume


def test_a_lost_connection_is_an_error_in_one_sentence() -> None:
    with pytest.raises(Lost, match=r"^another process of the run has ended: "), lost_as_user_error():
        raise torch.distributed.DistNetworkError("broken")
    with pytest.raises(RuntimeError, match="shapes"), lost_as_user_error():
        raise RuntimeError("shapes differ")
