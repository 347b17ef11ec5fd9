"""The files of examples/: the command in each, and what the SLURM script does when it is stopped."""

import os
import shlex
import subprocess
from pathlib import Path

import pytest
import yaml

from tests.documented_commands import ROOT, arguments_of_ours, compose

EXAMPLES = ROOT / "examples"
OWN = ("data.root=", "sweep.plan_file=", "sweep.shard=", "hydra.sweep.dir=")  # where each finds and leaves its files


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    """Stand-ins that say what they are asked to do."""
    stand_ins = {
        "intel-scenes": 'printf "%s\\n" intel-scenes "$@"; exit "${STATUS:-0}"',
        "srun": 'shift; "$@"',  # an option precedes the command
        "scontrol": 'echo scontrol "$@"',
    }
    for name, script in stand_ins.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{script}\n")
        (tmp_path / name).chmod(0o755)
    return os.environ | {"PATH": f"{tmp_path}:{os.environ['PATH']}"}


def of_kubernetes(environment: dict[str, str], shard: int) -> subprocess.CompletedProcess[str]:
    (container,) = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text())["spec"]["template"]["spec"]["containers"]
    index = {"JOB_COMPLETION_INDEX": str(shard - 1)}
    return said([*container["command"], *container["args"]], environment | index)


def of_slurm(environment: dict[str, str], shard: int, **more: str) -> subprocess.CompletedProcess[str]:
    task = {"SLURM_ARRAY_TASK_ID": str(shard), "SLURM_ARRAY_JOB_ID": "77", **more}
    return said(["bash", str(EXAMPLES / "slurm.sh")], environment | task)


def of_skypilot(environment: dict[str, str], shard: int) -> subprocess.CompletedProcess[str]:
    task = yaml.safe_load((EXAMPLES / "skypilot.yaml").read_text())
    assert list(task["envs"]) == ["SHARD"]
    return said(["bash", "-c", task["run"]], environment | {"SHARD": str(shard)})


def said(command: list[str], environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False)


def test_every_example_starts_the_same_command_for_each_of_its_shards(environment: dict[str, str]) -> None:
    same = set()
    for of_engine in (of_kubernetes, of_slurm, of_skypilot):
        for shard in (1, 8):
            done = of_engine(environment, shard)
            assert (done.returncode, done.stderr) == (0, "")
            program, name, *arguments = done.stdout.splitlines()
            assert (program, name) == ("intel-scenes", "train")
            own = {text.partition("=")[0]: text.partition("=")[2] for text in arguments if text.startswith(OWN)}
            assert own["sweep.shard"] == f"{shard}/8"
            assert own["hydra.sweep.dir"].endswith(f"shard{shard}")
            assert own["sweep.plan_file"].endswith("plan.json")
            same.add(tuple(text for text in arguments if not text.startswith(OWN)))
        compose("train", arguments)
    assert same == {("study=optimizers", "data=folder")}


def test_there_are_as_many_tasks_as_shards() -> None:
    job = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text())["spec"]
    assert (job["completions"], job["completionMode"]) == (8, "Indexed")
    assert "#SBATCH --array=1-8\n" in (EXAMPLES / "slurm.sh").read_text()


@pytest.mark.parametrize(
    ("status", "ends", "then"), [("0", 0, []), ("1", 1, []), ("143", 143, []), ("138", 0, ["scontrol requeue 77_3"])]
)
def test_slurm_requeues_a_task_that_is_stopped_before_its_time_limit(
    environment: dict[str, str], status: str, ends: int, then: list[str]
) -> None:
    done = of_slurm(environment, 3, STATUS=status)
    assert done.returncode == ends
    assert [line for line in done.stdout.splitlines() if line.startswith("scontrol")] == then


def test_kubernetes_restarts_a_stopped_shard_and_no_failed_one() -> None:
    rules = yaml.safe_load((EXAMPLES / "kubernetes.yaml").read_text())["spec"]["podFailurePolicy"]["rules"]
    assert [rule["onExitCodes"]["values"] for rule in rules if rule["action"] == "FailIndex"] == [[1]]


def test_skypilot_restarts_what_a_signal_stopped() -> None:
    resources = yaml.safe_load((EXAMPLES / "skypilot.yaml").read_text())["resources"]
    assert resources["job_recovery"]["recover_on_exit_codes"] == [3, 138, 143]


def test_the_image_is_made_of_files_that_exist_and_starts_a_command_that_exists() -> None:
    lines = (EXAMPLES / "Dockerfile").read_text().splitlines()
    instructions = [line.split(" ", 1) for line in lines if not line.startswith("#")]
    known = {"FROM", "ARG", "RUN", "COPY", "ENV", "USER", "WORKDIR", "CMD"}
    assert {name for name, _ in instructions} <= known
    for _, arguments in (one for one in instructions if one[0] == "COPY"):
        *sources, target = shlex.split(arguments)
        assert sources
        assert target.startswith("/src/")
        assert all((ROOT / source).exists() for source in sources)
    ((_, command),) = (one for one in instructions if one[0] == "CMD")
    assert arguments_of_ours(yaml.safe_load(command)) == ("--help", [])
