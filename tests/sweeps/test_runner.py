"""Sweeps as a user runs them: a process of its own in an empty folder.

`INTEL_SCENES_KILLS=10` kills a sweep ten times instead of once.
"""

import csv
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import pytest
import yaml
from filelock import SoftFileLease

from intel_scenes import files, record
from intel_scenes.errors import UserError
from intel_scenes.record import Origin, Status, StudyPlan, Summary
from intel_scenes.studies.load import collect
from intel_scenes.sweeps.runner import STOPPED, Ending, Job, Outcome, run_one, warn_of_misspelt_baseline
from intel_scenes.training.claim import DEATHS, LEASE_SECONDS
from tests.process import forked, wait_until
from tests.small import DRAWN, SMALL

NUM_KILLS = int(os.environ.get("INTEL_SCENES_KILLS", "1"))
SWEEP = ("intel_scenes.train", "-m", *DRAWN, *SMALL, "epochs=1", "sweep.name=s")
TIMING = {"started", "ended", "fit_seconds", "images_per_second", "peak_memory_bytes"}


@pytest.fixture
def environment(cache):
    commands_of_slurm = Path(__file__).parent / "slurm"  # stand-ins, which start processes of this machine
    return os.environ | {"INTEL_SCENES_CACHE": str(cache), "PATH": f"{commands_of_slurm}:{os.environ['PATH']}"}


@pytest.fixture
def start(environment, tmp_path):
    """Starts a sweep named `s` in an empty folder, in a process group of its own."""

    def command(*arguments, place=tmp_path):
        place.mkdir(exist_ok=True)
        return subprocess.Popen(
            [sys.executable, "-m", *SWEEP, *arguments],
            cwd=place,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            start_new_session=True,
        )

    return command


@pytest.fixture
def sweep(start, environment, tmp_path):
    """Runs a sweep to its end; returns its exit status and what it said. `meanwhile` gets the number of its process."""

    def command(*arguments, place=tmp_path, meanwhile=lambda pid: None):
        if any("hydra/launcher" in text for text in arguments):  # which starts processes of its own
            process = start(*arguments, place=place)
            said, _ = process.communicate(timeout=300)
            return process.returncode, said
        place.mkdir(exist_ok=True)
        done = forked(*SWEEP, *arguments, cwd=place, env=environment, meanwhile=meanwhile)
        return done.returncode, done.stdout + done.stderr

    return command


def interrupt_once(reached):
    """Returns a function that sends Ctrl-C to a process once `reached()` is true."""

    def send(pid):
        wait_until(reached, 100)
        os.kill(pid, signal.SIGINT)

    return send


def summaries(study):
    return {path.parent.name: json.loads(path.read_text()) for path in study.glob("*/summary.json")}


def run_of(study, text):
    (folder,) = (path for path in study.iterdir() if path.is_dir() and text in path.name)
    return folder


@pytest.mark.parametrize(
    ("baseline", "warning"),
    [
        ("addam", "compare.baseline=addam: no run of this sweep has the value addam (did you mean adam?)\n"),
        ("optim.lr=3", "compare.baseline=optim.lr=3: no run of this sweep has the value 3\n"),
        ("adam", ""),
        ("optim.lr=0.10", ""),
        ("nadam", ""),
    ],
)
def test_a_misspelt_baseline_is_told_before_the_runs(capsys, baseline, warning):
    jobs = [[f"optim={name}", "optim.lr=0.1", f"compare.baseline='{baseline}'"] for name in ("adam", "sgd")]
    warn_of_misspelt_baseline(baseline, jobs, StudyPlan(planned=("optim=nadam,seed=1",)))
    assert capsys.readouterr().err == warning


@pytest.mark.parametrize("baseline", ["a.pth", "model.weights=/w/a.pth", "adam/model.weights=/w/a.pth"])
def test_a_baseline_may_name_a_file_of_weights_with_or_without_its_folder(capsys, baseline):
    jobs = [["optim=adam", f"model.weights=/w/{name}.pth"] for name in "ab"]
    warn_of_misspelt_baseline(baseline, jobs, StudyPlan())
    assert capsys.readouterr().err == ""


def test_a_sweep_leaves_a_plan_its_runs_and_a_table_and_does_nothing_the_second_time(sweep, tmp_path):
    status, said = sweep("optim=sgd,adamw", "seed=1,2")
    study = tmp_path / "multirun/s"
    assert status == 0, said
    assert "run 4 of 4, 0 skipped, 0 failed" in said
    assert "4 of 4 runs complete, 0 failed or refused, 0 open" in said
    plan = yaml.safe_load((study / "study.yaml").read_text())
    assert sorted(plan["planned"]) == sorted(summaries(study))
    assert (plan["seeds"], plan["threads"]) == (["1", "2"], 1)
    with (study / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert sorted((row["override.optim"], row["override.seed"]) for row in rows) == [
        *(("adamw", "1"), ("adamw", "2"), ("sgd", "1"), ("sgd", "2"))
    ]
    assert set(record.SUMMARY_KEYS) - {"recipe_resolved", "normalization", "versions"} <= set(rows[0])
    assert all(float(row["test_accuracy"]) == summaries(study)[row["run"]]["test_accuracy"] for row in rows)

    before = {path: path.stat().st_mtime_ns for path in study.rglob("*") if path.is_file()}
    status, said = sweep("seed=2,1", "optim=adamw,sgd")
    assert status == 0, said
    assert "run 1" not in said
    assert "val %" not in said, "no record changed, so the table is not repeated"
    assert "compare folder=" in said
    assert {"results.csv", "pairwise.csv", "report.html"} <= {path.name for path in before}
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*") if path.is_file()} == before

    status, said = sweep("optim=adamw,adam", "seed=1", "sweep.plan=true")
    assert (status, "1 to skip, 1 to run" in said) == (0, True), said
    assert "one seed per arm: no difference between arms can be tested" in said
    assert len(summaries(study)) == 4
    status, said = sweep("optim=adamw,adam", "seed=1")
    assert (status, "run 2 of 2, 1 skipped, 0 failed" in said) == (0, True), said
    plan = yaml.safe_load((study / "study.yaml").read_text())
    assert [len(added["runs"]) for added in plan["added"]] == [1]


def test_a_corrupt_record_fails_by_name_and_is_left_unchanged(sweep, tmp_path):
    sweep("seed=1")
    (folder,) = (path.parent for path in tmp_path.glob("multirun/s/*/summary.json"))
    (folder / "summary.json").write_text("{")
    before = {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()}
    status, said = sweep("seed=1,2")
    assert status == 1, said
    assert f"{folder.name} failed: " in said
    assert "is not a record" in said
    assert "Traceback" not in said
    assert "1 of 2 runs complete, 1 failed or refused" in said
    assert {path: path.read_bytes() for path in folder.rglob("*") if path.is_file()} == before


def test_failed_runs_do_not_stop_others_and_are_retried_once_the_cause_is_fixed(sweep, tmp_path):
    weights = tmp_path / "w.pth"
    weights.write_text("nothing")
    (tmp_path / "leaver.py").write_text("import sys\ndef leave(*groups, **options):\n    sys.exit(3)\n")
    optimizers = "optim._target_=torch.optim.AdamW,leaver.leave"
    arguments = (f"model.weights=null,{weights}", optimizers, "epochs=1")
    status, said = sweep(*arguments)
    study = tmp_path / "multirun/s"
    assert status == 1, said
    found = summaries(study)
    assert sorted(summary["status"] for summary in found.values()) == ["completed", "failed", "failed", "failed"]
    failed = [summary for summary in found.values() if summary["status"] == "failed"]
    assert all("Traceback" in summary["traceback"] for summary in failed)
    assert any("SystemExit" in summary["error"] for summary in failed)
    assert all(said.count(name) >= 2 for name, summary in found.items() if summary["status"] == "failed")
    assert "1 of 4 runs complete, 3 failed or refused" in said

    status, said = sweep("model.weights=null", optimizers, "sweep.fail_fast=true", "seed=7,8", "sweep.confirm=1")
    assert (status, "nothing is confirmed yet: " in said) == (1, True), said
    assert len([path for path in study.iterdir() if "seed=" in path.name]) < 4, "stopped at the first that failed"


def test_a_run_that_cannot_be_configured_any_more_fails_and_leaves_a_record(tmp_path, capsys):
    def configure():
        raise UserError("there is no key optim.momentun")

    job = Job(tmp_path / "study/run", Origin(("optim=mine", "seed=1"), {"optim": "mine"}))
    outcome = run_one(lambda *_: pytest.fail("it has no configuration"), configure, job)
    assert outcome == Outcome(Ending.FAILED, "there is no key optim.momentun")
    assert capsys.readouterr().err == "run failed: there is no key optim.momentun\n  optim=mine seed=1\n"
    summary = Summary.read(job.folder)
    assert (summary.status, summary.error, summary.optim) == (Status.FAILED, outcome.reason, "mine")
    (run,) = collect(job.folder.parent)[0]
    assert run.overrides["seed"] == "1"


def test_a_failure_that_cannot_be_recorded_is_counted_all_the_same(tmp_path, monkeypatch):
    def write_whole(path, content):
        raise OSError(errno.ENOSPC, "No space left on device")

    def configure():
        raise UserError("there is no key optim.momentun")

    monkeypatch.setattr(files, "write_whole", write_whole)
    outcome = run_one(lambda *_: None, configure, Job(tmp_path / "study/run", Origin(("seed=1",))))
    assert outcome == Outcome(Ending.FAILED, "there is no key optim.momentun")


@pytest.mark.parametrize("fail_fast", ["true", "false"])
def test_a_run_that_cannot_be_configured_stops_the_others_with_fail_fast(tmp_path, fail_fast):
    def configure():
        raise UserError("there is no key optim.momentun")

    job = Job(tmp_path / "study/run", Origin(("seed=1", f"sweep.fail_fast={fail_fast}")))
    run_one(lambda *_: pytest.fail("it has no configuration"), configure, job)
    assert (tmp_path / "study" / STOPPED).exists() == (fail_fast == "true")


def test_another_configuration_is_refused_by_name_or_moved_aside(sweep, tmp_path):
    assert sweep("seed=1,2")[0] == 0
    study = tmp_path / "multirun/s"
    name = run_of(study, "seed=1").name
    changed = json.loads((study / name / "summary.json").read_text()) | {
        "config_digest": "other",
        "composition_digest": "",
    }
    (study / name / "summary.json").write_text(json.dumps(changed))
    status, said = sweep("seed=1,2")
    assert status == 1, said
    assert f"{name} is refused" in said
    assert "sweep.redo=changed" in said
    status, said = sweep("seed=1,2", "sweep.redo=changed")
    assert status == 0, said
    (moved,) = (study / ".replaced").iterdir()
    assert json.loads((moved / "summary.json").read_text())["config_digest"] == "other"
    assert json.loads((study / name / "summary.json").read_text())["config_digest"] != "other"


def test_the_same_run_under_another_name_is_skipped(sweep, tmp_path):
    assert sweep("seed=2")[0] == 0
    status, said = sweep("seed=2", "lr_scale=1.0")
    assert status == 0, said
    assert "is the same run as" in said
    assert len(collect(tmp_path / "multirun/s")[0]) == 1


def test_a_sweep_of_another_network_asks_for_a_name_before_it_joins_a_folder_with_a_default_name(environment, tmp_path):
    def train(*arguments):
        typed = ("-m", *DRAWN, *SMALL, "epochs=1", "seed=1", *arguments)
        done = forked("intel_scenes.train", *typed, cwd=tmp_path, env=environment)
        return done.returncode, done.stdout + done.stderr

    study, name = tmp_path / "multirun/by-optim.lr", "resnet9_x0_5"
    assert train("optim.lr=0.01,0.1")[0] == 0
    plan = yaml.safe_load((study / record.STUDY).read_text())
    assert plan["swept"] == ["optim.lr"]
    assert {"epochs=1", f"model={name}"} <= set(plan["fixed"])
    assert "sweep.name" not in plan["command"], "it was not typed"
    status, said = train("optim.lr=0.01,0.3", "model=resnet18")
    assert (status, said.strip()) == (
        1,
        f"multirun/by-optim.lr holds runs with model={name}, but this sweep has model=resnet18: "
        "add sweep.name=NAME to start another study, or sweep.name=by-optim.lr to compare its runs with those",
    )
    assert len(summaries(study)) == 2
    status, said = train("optim.lr=0.01", "model=mobilenet_v3_small", "sweep.name=by-optim.lr")
    assert (status, len(summaries(study))) == (0, 3), said
    plan = yaml.safe_load((study / record.STUDY).read_text())
    assert plan["swept"] == ["model", "optim.lr"], "by now the study compares networks"


CONFIRMED = ("optim=sgd,adamw", "lr_scale=1,30", "study.tuned=[lr_scale]", "seed=1", "sweep.confirm=2")


def confirmed(study):
    """The entries of `study.yaml`, and the summaries of tuning and of confirming runs by name."""
    plan = record.read_study(study)
    found = summaries(study)
    tuning = {name: found[name] for name in plan.tuning_runs if name in found}
    return plan.confirmed, tuning, {name: found[name] for name in plan.confirming_runs if name in found}


def test_chosen_configurations_run_on_fresh_seeds_once_all_tuning_runs_have_ended(sweep, tmp_path):
    status, said = sweep(*CONFIRMED, "sweep.plan=true")
    assert (status, "4 to run\nthen 4 runs to confirm what validation chooses: 2 arms" in said) == (0, True), said
    study = tmp_path / "multirun/s"
    held = study / next(word for word in said.split() if "optim=adamw,lr_scale=30" in word)
    held.mkdir(parents=True)
    with SoftFileLease(held / ".lock", lease_duration=LEASE_SECONDS):
        status, said = sweep(*CONFIRMED)
    assert status == 3, said
    assert f"nothing is confirmed yet: {held.name} is not completed; start the same command again to resume" in said
    assert confirmed(study)[0] == ()

    status, said = sweep(*CONFIRMED)
    assert status == 0, said
    assert "run 4 of 4, 0 skipped" in said
    assert "8 of 8 runs complete" in said
    (entry,), tuning, confirming = confirmed(study)
    for arm in entry.arms:
        own = {name: one for name, one in tuning.items() if f"optim={arm.label}" in name}
        best = max(sorted(own), key=lambda name: own[name]["val_accuracy_tta"])
        assert f"lr_scale={30 if 'lr_scale=30' in best else 1}" in arm.overrides
        assert {confirming[name]["seed"] for name in arm.runs} == {101, 102}
        digests = {one["configuration_digest"] for one in (tuning[best], *(confirming[name] for name in arm.runs))}
        assert len(digests) == 1, "the configuration is the one that was chosen"
    assert all(entry.date <= one["started"] for one in confirming.values()), "it was written before they began"

    before = {path: path.stat().st_mtime_ns for path in study.rglob("*") if path.is_file()}
    status, said = sweep(*CONFIRMED)
    assert (status, "all runs were finished before" in said, "8 of 8 runs complete" in said) == (0, True, True), said
    assert {path: path.stat().st_mtime_ns for path in study.rglob("*") if path.is_file()} == before
    status, said = sweep(*CONFIRMED[:-1], "sweep.confirm=3", "sweep.plan=true")
    assert (
        status,
        "8 to skip, 2 to run" in said,
        "2 arms with 3 seeds: the smallest detectable difference" in said,
    ) == (
        0,
        True,
        True,
    ), said
    assert "for 2 runs" in said
    status, said = sweep("optim=sgd", "seed=101")
    assert (status, "seed=101 is a confirming seed" in said) == (1, True), said


def test_a_run_that_an_earlier_sweep_gave_up_is_named_with_a_way_out(sweep, tmp_path):
    study = tmp_path / "multirun/s"
    assert sweep("lr_scale=1", "optim=sgd", "study.tuned=[lr_scale]", "seed=1")[0] == 0
    plan = record.read_study(study)
    record.write_study(study, replace(plan, planned=(*plan.planned, "lr_scale=100")))
    arguments = ("lr_scale=1", "optim=sgd,adamw", "study.tuned=[lr_scale]", "seed=1", "sweep.confirm=1")
    expected = (
        "nothing is confirmed yet: lr_scale=100, planned by another sweep of multirun/s, is not completed: run it, or "
        "remove it from planned (or added) in study.yaml"
    )
    _, planned = sweep(*arguments, "sweep.plan=true")
    assert expected in planned
    status, said = sweep(*arguments)
    assert (status, expected in said, "the same command again" in said) == (3, True, False), said
    plan = record.read_study(study)
    record.write_study(study, replace(plan, planned=plan.planned[:-1]))
    status, said = sweep(*arguments)
    assert (status, "on seed 101" in said) == (0, True), said


def test_a_failed_or_interrupted_confirmation_resumes_with_the_same_choice(sweep, tmp_path):
    (tmp_path / "fragile.py").write_text(
        "from pathlib import Path\n"
        "from torch.optim import AdamW\n"
        "def adamw(*groups, **options):\n"
        "    if Path('broken').exists() and list(Path('multirun/s').glob('*seed=101*')):\n"
        "        raise RuntimeError('out of memory')\n"
        "    return AdamW(*groups, **options)\n"
    )
    arguments = ("optim._target_=fragile.adamw", *CONFIRMED[1:])
    (tmp_path / "broken").touch()
    status, said = sweep(*arguments)
    assert status == 1, said
    study = tmp_path / "multirun/s"
    entries, tuning, confirming = confirmed(study)
    assert {one["status"] for one in tuning.values()} == {"completed"}
    assert [one["status"] for one in confirming.values()] == ["failed", "failed"]
    assert "2 of 4 runs complete, 2 failed or refused" in said

    (tmp_path / "broken").unlink()
    status, said = sweep(
        *arguments,
        meanwhile=interrupt_once(lambda: any(one["status"] != "failed" for one in confirmed(study)[2].values())),
    )
    assert status == 130, said
    (name,) = (name for name in tuning if f"{entries[0].arms[0].overrides[-1]}," not in name)  # was not chosen
    (study / name / "summary.json").write_text(
        json.dumps(tuning[name] | {"val_accuracy_tta": 1.0, "val_accuracy": 1.0})
    )
    (study / name / record.PREDICTIONS).unlink()  # which would contradict that
    status, said = sweep(*arguments)
    assert status == 0, said
    assert "validation would now choose another configuration of" in said
    assert "4 of 4 runs complete" in said
    now, _, confirming = confirmed(study)
    assert now == entries
    assert [one["status"] for one in confirming.values()] == ["completed", "completed"]


@pytest.mark.parametrize("key", ["sweep.plan", "sweep.fail_fast"])
def test_a_switch_of_a_sweep_is_true_or_false(sweep, tmp_path, key):
    status, said = sweep("seed=1", f"{key}=flase")
    assert (status, said.strip()) == (1, f"{key}=flase must be one of true, false (did you mean false?)")
    assert not (tmp_path / "multirun").exists()


def test_a_run_of_another_process_is_skipped_and_named(sweep, tmp_path):
    assert sweep("seed=1")[0] == 0
    study = tmp_path / "multirun/s"
    folder = run_of(study, "seed=1")
    held = folder.parent / folder.name.replace("seed=1", "seed=2")
    _, said = sweep("seed=2", "sweep.plan=true")
    held = study / next(word for word in said.split() if "seed=2" in word)
    held.mkdir()
    with SoftFileLease(held / ".lock", lease_duration=LEASE_SECONDS):
        status, said = sweep("seed=1,2")
    assert status == 3, said
    assert f"{held.name} open" in said
    assert sweep("seed=1,2")[0] == 0


def test_a_run_whose_process_died_three_times_fails_and_is_tried_again_later(sweep, tmp_path):
    _, said = sweep("seed=1", "sweep.plan=true")
    folder = tmp_path / "multirun/s" / next(word for word in said.split() if "seed=1" in word)
    folder.mkdir(parents=True)
    (folder / DEATHS).write_text(json.dumps({"deaths": 2, "lines": 0}))
    status, said = sweep("seed=1,2")
    assert status == 1, said
    assert "was killed 3 times" in json.loads((folder / "summary.json").read_text())["error"]
    assert "1 of 2 runs complete" in said
    assert sweep("seed=1,2")[0] == 0


def test_ctrl_c_saves_and_compares_and_the_sweep_resumes(sweep, tmp_path):
    arguments = ("seed=1,2", "epochs=8")
    study = tmp_path / "multirun/s"
    once_trained = interrupt_once(lambda: any(study.glob("*/checkpoints/last.ckpt")))
    status, said = sweep(*arguments, meanwhile=once_trained)
    assert status == 130, said
    assert "0 of 2 runs complete" in said
    assert "Traceback" not in said
    assert [summary["status"] for summary in summaries(study).values()] == ["interrupted"]
    status, said = sweep(*arguments)
    assert status == 0, said


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["epochs=1,abc"], "epochs=abc must be a whole number"),
        (["sweep.plan=true", "trainer=ddp", "trainer.devices=2"], "start the same command once for each GPU instead"),
        (
            ["trainer.devices=2"],
            "trainer.devices=2 starts several processes for each run, which a sweep does not support",
        ),
        (
            ["trainer.devices=1,2", "sweep.plan=true"],
            "set trainer.devices=1, and start the same command once for each GPU instead",
        ),
        (["+trainer.num_nodes=2"], "trainer.num_nodes=2 starts several processes"),
        (["sweep.plan=true", "budget_minutes=1,2"], "epochs has no effect with budget_minutes"),
        (
            ["seed=1,2", "study_minutes=3"],
            "epochs has no effect with study_minutes, which determines the epochs: leave one of them out",
        ),
        (["seed=1,2", "study_minutes=3,4"], "study_minutes=3,4 applies to the whole sweep: give it one value"),
        (["study=models,optimizers"], "chooses several studies"),
        (["data.root=/a,/b"], "would share the folder"),
        (["seed=1,2", "dry_run=true"], "dry_run=true is for a single run"),
        (["seed=1,2", "sweep.confirm=-1"], "sweep.confirm=-1 must be a whole number of at least 0"),
        (["seed=1,2", "sweep.confirm=2,3"], "sweep.confirm=2,3 applies to the whole sweep: give it one value"),
        (["seed=1,2", "sweep.confirm_best=2"], "sweep.confirm_best=2 has no effect without sweep.confirm=N"),
        (
            ["seed=1,2", "sweep.confirm=2", "hydra/sweeper=basic"],
            "sweep.confirm has no effect with hydra/sweeper=basic",
        ),
        (["seed=1,2", "sweep.name="], "sweep.name= is empty: name a folder, or leave it out"),
        (["seed=1,2", "sweep.shard=9/8"], "sweep.shard=9/8 is not a shard: set NUMBER/TOTAL"),
        (["seed=1,2", "sweep.plan_file=none"], "there is no none: make it once with this command and sweep.plan=true"),
        (["seed=1,2", "sweep.shard=1/2", "hydra/sweeper=basic"], "sweep.shard has no effect with hydra/sweeper=basic"),
        (["seed=1,2", "sweep.trials=3"], "sweep.trials has no effect, because no key is set to interval(LOW,HIGH)"),
    ],
)
def test_impossible_options_are_refused_before_the_first_run(sweep, tmp_path, arguments, sentence):
    status, said = sweep(*arguments)
    assert status == 1
    assert sentence in said
    assert "Traceback" not in said
    assert not list(tmp_path.rglob("summary.json"))


def same(study, expected):
    """Whether two sweeps left equal records, but for time and cost."""
    ours, theirs = summaries(study), summaries(expected)
    assert ours.keys() == theirs.keys()
    for name, summary in ours.items():
        kept = [{k: v for k, v in found.items() if k not in TIMING} for found in (summary, theirs[name])]
        assert kept[0] == kept[1]
        tables = [(place / name / record.PREDICTIONS).read_bytes() for place in (study, expected)]
        assert tables[0] == tables[1]
    return True


@pytest.mark.slow
def test_the_workers_of_launchers_leave_the_records_of_a_sequential_sweep(sweep, tmp_path):
    arguments = ("optim=sgd,adamw", "seed=1")
    assert sweep(*arguments, place=tmp_path / "one")[0] == 0
    for launcher in ("local_joblib", "submitit_local", "slurm"):
        status, said = sweep(*arguments, f"hydra/launcher={launcher}", place=tmp_path / launcher)
        assert status == 0, said
        assert same(tmp_path / launcher / "multirun/s", tmp_path / "one/multirun/s")


def rows(study):
    """Rows of results.csv, without time and cost."""
    with (study / "results.csv").open() as file:
        return [{key: cell for key, cell in row.items() if key not in TIMING} for row in csv.DictReader(file)]


@pytest.mark.slow
def test_shards_compared_and_confirmed_as_one_equal_an_undivided_sweep(sweep, environment, tmp_path):
    arguments = (
        "optim=sgd,adamw",
        "seed=1,2",
        "model=resnet9_x0_5",
        "sweep.confirm=1",
        f"sweep.plan_file={tmp_path}/p",
    )
    status, said = sweep(*arguments, "sweep.plan=true", place=tmp_path / "one")
    assert status == 0, said
    assert said.endswith(f"written to {tmp_path}/p: copy it to the machine of every shard\n")
    assert sweep(*arguments, place=tmp_path / "one")[0] == 0
    undivided = tmp_path / "one/multirun/s"
    for number in (1, 2):
        status, said = sweep(*arguments, f"sweep.shard={number}/2", place=tmp_path / f"shard{number}")
        assert status == 0, said
        assert "then repeat this command there without sweep.shard to confirm the choice" in said
        assert not list((tmp_path / f"shard{number}").rglob("results.csv")), "a part is not compared"
    folders = [tmp_path / f"shard{number}/multirun/s" for number in (1, 2)]
    assert all(summaries(folder) for folder in folders)
    listed = ",".join(str(folder.relative_to(tmp_path)) for folder in folders)
    done = forked("intel_scenes.compare", f"folder=[{listed}]", "output=m/multirun/s", cwd=tmp_path, env=environment)
    assert done.returncode == 0, done.stderr
    merged = tmp_path / "m/multirun/s"
    assert rows(merged) == [row for row in rows(undivided) if row["seed"] in "12"]
    assert len(rows(merged)) == 4
    status, said = sweep(*arguments, place=tmp_path / "m")
    assert status == 0, said
    assert "now confirming: " in said
    assert rows(merged) == rows(undivided)
    assert len(rows(merged)) == 6
    assert same(merged, undivided)
    status, said = sweep("optim=sgd,adamw", "seed=1,2,3", *arguments[2:], "sweep.shard=1/2", place=tmp_path / "other")
    assert status == 1
    assert "is the plan of other runs" in said.splitlines()[-1]
    assert not (tmp_path / "other/multirun").exists()


def trained_by(process, study):
    """Names of the runs that a process has claimed and not completed; a claim stays behind where it was killed."""
    names = []
    for lock in study.glob(f"*/{record.LOCK}"):
        with suppress(FileNotFoundError):  # completed between one look and the next
            summary = json.loads((lock.parent / record.SUMMARY).read_text())
            if f"pid={process.pid}\n" in lock.read_text() and summary["status"] == "interrupted":
                names.append(lock.parent.name)
    return names


def stopped_in_a_run(process, study, chance):
    """Stop a process at a random moment of one of its runs; whether it did not end before."""
    while process.poll() is None:
        if trained_by(process, study):
            time.sleep(chance.uniform(0, 0.2))
            os.killpg(process.pid, signal.SIGSTOP)
            os.waitid(os.P_PID, process.pid, os.WSTOPPED | os.WEXITED | os.WNOWAIT)
            if trained_by(process, study):
                return True
            os.killpg(process.pid, signal.SIGCONT)  # the run was completed in between: wait for the next
        time.sleep(0.001)
    return False


@pytest.mark.slow
def test_a_killed_sweep_and_two_side_by_side_end_like_an_undisturbed_one(start, sweep, tmp_path):
    seeds = ",".join(str(seed) for seed in range(1, max(3, NUM_KILLS) + 1))  # a run to kill is left for each kill
    arguments = ("optim=sgd,adamw", f"seed={seeds}", "epochs=3")
    assert sweep(*arguments, place=tmp_path / "undisturbed")[0] == 0
    chance = random.Random(1)
    place = tmp_path / "killed"
    for _ in range(NUM_KILLS):
        pair = [start(*arguments, place=place) for _ in range(2)]
        assert stopped_in_a_run(pair[0], place / "multirun/s", chance), "the sweep ended before a kill could hit a run"
        os.killpg(pair[0].pid, signal.SIGKILL)
        pair[1].send_signal(signal.SIGTERM)
        for process in pair:
            process.communicate()
        assert pair[0].returncode == -signal.SIGKILL
    pair = [start(*arguments, place=place) for _ in range(2)]
    assert {(process.communicate()[0], process.returncode)[1] for process in pair} <= {0, 3}
    assert sweep(*arguments, place=place)[0] == 0
    assert same(place / "multirun/s", tmp_path / "undisturbed/multirun/s")
