"""How commands end: by signals with which schedulers announce a kill, and where an answer cannot be written."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from intel_scenes import record
from tests.process import forked, wait_until
from tests.small import DRAWN, SMALL
from tests.training.test_claim import TASKS
from tests.training.test_resume import TIMING, history, tensors

RUN = (*DRAWN, *SMALL, "model=resnet9_x0_5", "epochs=8", "optim=adamw", "recipe.ema_decay=0.8")


def test_an_answer_that_cannot_be_written_is_an_error() -> None:
    buffered = {key: text for key, text in os.environ.items() if key != "PYTHONUNBUFFERED"}
    command = [sys.executable, "-m", "intel_scenes.train", "--version"]
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, env=buffered, check=False)
    assert done.returncode != 0
    assert "No space left on device" in done.stderr


def on(number: signal.Signals, place: Path) -> Callable[[int], None]:
    """Return a function that sends a signal, and once more at once, when the run has finished two epochs."""

    def send(pid: int) -> None:
        wait_until(lambda: any(len(history(path.parent)) >= 2 for path in place.glob(f"*/{record.HISTORY}")), 250)
        for _ in range(2):
            os.kill(pid, number)

    return send


def summary(run: Path) -> dict[str, object]:
    return json.loads((run / record.SUMMARY).read_text())


@pytest.mark.slow
def test_a_stopped_run_keeps_its_epochs_and_goes_on_to_the_end_of_an_undisturbed_one(tmp_path: Path, cache: Path):
    env = os.environ | {"INTEL_SCENES_CACHE": str(cache)}
    assert forked("intel_scenes.train", *RUN, "hydra.run.dir=undisturbed", cwd=tmp_path, env=env).returncode == 0
    expected = tmp_path / "undisturbed"
    of_slurm = env | TASKS | {"SLURM_PROCID": "0", "SLURM_LOCALID": "0"}  # Lightning would requeue the job by itself
    for number, shard, around in (
        (signal.SIGTERM, (), env),
        (signal.SIGUSR1, ("-m", "sweep.shard=1/1", "sweep.name=s"), of_slurm),
    ):
        place = tmp_path / number.name
        place.mkdir()
        arguments = (*shard, *RUN, f"hydra.sweep.dir={place}" if shard else f"hydra.run.dir={place}/run")
        stopped = forked("intel_scenes.train", *arguments, cwd=tmp_path, env=around, meanwhile=on(number, place))
        assert stopped.returncode == 128 + number, stopped.stderr
        assert stopped.stderr.endswith(f"{number.name}: start the same command again to resume\n")
        assert "Traceback" not in stopped.stderr
        (run,) = (path for path in place.iterdir() if path.is_dir())
        assert summary(run)["status"] == "interrupted"
        epochs = len(history(run))
        assert 2 <= epochs < 8
        saved = torch.load(run / record.LAST, weights_only=True)["epoch"] + 1
        assert saved in (epochs, epochs - 1), "the checkpoint of an epoch is written after its line of the history"
        assert not (run / record.LOCK).exists(), "another machine may go on at once"
        assert forked("intel_scenes.train", *arguments, cwd=tmp_path, env=around).returncode == 0
        assert history(run) == history(expected)
        assert (run / record.PREDICTIONS).read_bytes() == (expected / record.PREDICTIONS).read_bytes()
        ours, theirs = ({k: v for k, v in summary(one).items() if k not in TIMING} for one in (run, expected))
        assert ours == theirs
        a, b = (tensors(torch.load(one / record.BEST, weights_only=True)) for one in (run, expected))
        assert all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.slow
def test_a_stopped_run_on_two_devices_ends_with_the_status_of_the_signal(tmp_path: Path, cache: Path):
    env = os.environ | {"INTEL_SCENES_CACHE": str(cache)}
    several = ("trainer=ddp", "trainer.accelerator=cpu", "trainer.devices=2", "epochs=40")
    for number in (signal.SIGTERM, signal.SIGUSR1):
        arguments = (*RUN, *several, f"hydra.run.dir={number.name}/run")
        place = tmp_path / number.name
        stopped = forked("intel_scenes.train", *arguments, cwd=tmp_path, env=env, meanwhile=on(number, place))
        assert stopped.returncode == 128 + number, stopped.stderr
        assert stopped.stderr.endswith(f"{number.name}: start the same command again to resume\n")
        assert "Traceback" not in stopped.stderr
        assert summary(place / "run")["status"] == "interrupted"
