import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest

from intel_scenes import files
from intel_scenes.config import StudyConfig, SweepConfig
from intel_scenes.errors import UserError
from intel_scenes.record import PlannedRun, StudyBudget, StudyPlan, SweepPlan
from intel_scenes.sweeps import plan, shards
from intel_scenes.sweeps.names import run_name
from tests.small import DRAWN, SMALL, asked

PLAN = SweepPlan(
    threads=2,
    runs=(PlannedRun("seed=1-ffffffff", "c", "d"),),
    fitted_epochs={"digest": 7},
    budget=StudyBudget(20.0, "of", 3, cut=("optim=adam",), confirm=2, predicted_minutes=18.5, date="2026-01-01"),
)
JOBS = [[*DRAWN, *SMALL, f"seed={seed}"] for seed in (1, 2)]


def options(**values: object) -> SweepConfig:
    return SweepConfig(**{"name": "s", "trials": 1, "plan": False, "redo": None, "fail_fast": False, **values})


@pytest.mark.parametrize(
    ("name", "shard"),
    [("a-00000000", "1/8"), ("a-1fffffff", "1/8"), ("b-20000000", "2/8"), ("c-5fffffff", "3/8"), ("d-ffffffff", "8/8")],
)
def test_a_shard_takes_its_part_of_all_hashes(name: str, shard: str) -> None:
    assert [f"{number}/8" for number in range(1, 9) if shards.is_of_shard(name, f"{number}/8")] == [shard]


def test_every_run_is_in_one_shard_and_shards_are_about_equal() -> None:
    names = [run_name([f"optim={optim}", f"seed={seed}"]) for optim in ("sgd", "adam") for seed in range(150)]
    sizes = Counter(number for name in names for number in range(1, 8) if shards.is_of_shard(name, f"{number}/7"))
    assert sum(sizes.values()) == 300
    assert all(20 < size < 66 for size in sizes.values()), "43 on average, with a standard deviation of 6"


@pytest.mark.parametrize("shard", ["9/8", "0/8", "3", 3, "3/8/1", "a/b", "-1/8", "3/0", "", "1.5/2", "²/8"])
def test_what_is_no_shard_is_refused(shard: object) -> None:
    with pytest.raises(UserError, match=rf"^sweep.shard={shard} is not a shard: set NUMBER/TOTAL, such as 1/8"):
        options(shard=shard)


def test_a_plan_file_is_read_as_it_was_written(tmp_path: Path) -> None:
    PLAN.write(tmp_path / "plan.json")
    assert SweepPlan.read(tmp_path / "plan.json") == PLAN
    assert SweepPlan.read(tmp_path / "plan.json").digest == PLAN.digest != replace(PLAN, threads=3).digest


def hostile(**changes: object) -> bytes:
    """A plan with other values, whose digest is right."""
    content = json.loads(json.dumps({key: getattr(PLAN, key) for key in ("threads", "fitted_epochs")}))
    content |= {"runs": [{"name": "a", "configuration": "c", "data": "d"}], "budget": None} | changes
    return json.dumps({"digest": files.digest(content), **content}).encode()


def test_a_plan_written_by_others_is_read(tmp_path: Path) -> None:
    (tmp_path / "plan.json").write_bytes(hostile())
    assert SweepPlan.read(tmp_path / "plan.json").threads == 2


@pytest.mark.parametrize(
    "content",
    [
        *(b"", b"null", b"[]", b"{}", b"\xff\xfe", b"[" * 100_000, b'{"digest": 1e999}', b'{"digest": NaN}'),
        hostile(threads=0),
        hostile(threads="2"),
        hostile(threads=True),
        hostile(runs=[{"name": ["a"], "configuration": "c", "data": "d"}]),
        hostile(runs=[{"name": "a", "configuration": "c", "data": "d", "more": "e"}]),
        hostile(runs={"name": "a"}),
        hostile(fitted_epochs={"digest": -1}),
        hostile(fitted_epochs=[1]),
        hostile(budget="a"),
        hostile(budget={"minutes": "a", "of": "b", "epochs": 1}),
    ],
)
def test_what_is_no_plan_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "plan.json").write_bytes(content)
    with pytest.raises(UserError, match=r"plan.json is not a complete plan file: copy it again from where it was"):
        SweepPlan.read(tmp_path / "plan.json")


def test_a_plan_cut_anywhere_or_changed_anywhere_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    PLAN.write(path)
    whole = path.read_bytes()
    for place in range(0, len(whole), 5):
        path.write_bytes(whole[:place])
        with pytest.raises(UserError, match="is not a complete plan file"):
            SweepPlan.read(path)
    text = whole.decode()
    for old, new in (('"threads": 2', '"threads": 1'), ("ffffffff", "fffffffe"), (": 7", ": 8"), ('"d"', '"e"')):
        assert old in text
        path.write_text(text.replace(old, new))
        with pytest.raises(UserError, match="is not a complete plan file"):
            SweepPlan.read(path)


def test_a_plan_has_to_be_there_and_to_be_that_of_the_folder(tmp_path: Path) -> None:
    path = tmp_path / "plan.json"
    asks = options(plan_file=str(path))
    with pytest.raises(
        UserError, match=r"there is no \S+plan.json: make it once with this command and sweep.plan=true"
    ):
        shards.shared_plan(asks, tmp_path, StudyPlan())
    assert shards.shared_plan(options(plan_file=str(path), plan=True), tmp_path, StudyPlan()) is None
    PLAN.write(path)
    for before in (StudyPlan(), StudyPlan(planned=("a",), plan_file=PLAN.digest)):
        assert shards.shared_plan(asks, tmp_path, before) == PLAN
    for digest in (None, "another"):
        with pytest.raises(UserError, match=r"was started with another plan than \S+plan.json: set another sweep.name"):
            shards.shared_plan(asks, tmp_path, StudyPlan(planned=("a",), plan_file=digest))
    with pytest.raises(UserError, match="is not a file: copy the plan file of the sweep there"):
        shards.shared_plan(options(plan_file=str(tmp_path)), tmp_path, StudyPlan())


def composed(cache: Path, *more: str):
    return lambda job: asked(*job, f"data.cache_dir={cache}", *more)


def refuse(jobs: list[list[str]], shared: SweepPlan, compose) -> None:
    shards.refuse_other_runs(jobs, shared, "plan.json")
    shards.refuse_other_configurations({run_name(job): job for job in jobs}, shared, "plan.json", compose)


def test_other_runs_configurations_or_images_than_planned_are_refused(tmp_path: Path, cache: Path) -> None:
    shared = shards.make_plan(tmp_path / "plan.json", JOBS, 1, None, composed(cache))
    assert SweepPlan.read(tmp_path / "plan.json") == shared
    assert [run.name for run in shared.runs] == [run_name(job) for job in JOBS]
    refuse(JOBS, shared, composed(cache, "keep_last=true"))
    third = [*DRAWN, *SMALL, "seed=3"]
    with pytest.raises(UserError, match=r"plan of other runs \(\S+ is only in this command\): repeat"):
        refuse([*JOBS, third], shared, composed(cache))
    with pytest.raises(UserError, match=r"plan of other runs \(\S+ is only in the file\): repeat"):
        refuse(JOBS[:1], shared, composed(cache))
    with pytest.raises(UserError, match=r"plan.json has a different configuration for \S+: use the same version"):
        refuse(JOBS, shared, composed(cache, "optim.lr=0.5"))
    other_images = tmp_path / "other.json"
    content = replace(shared, runs=tuple(replace(run, data="of other images") for run in shared.runs))
    content.write(other_images)
    with pytest.raises(UserError, match=r"plan.json was made with other images: copy the images"):
        refuse(JOBS, SweepPlan.read(other_images), composed(cache))


def test_a_budget_is_measured_once_for_all_shards(tmp_path: Path, cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from intel_scenes.training import epoch_budget

    measured = []
    monkeypatch.setattr(epoch_budget, "epochs_within_budget", lambda config, *_: measured.append(config) or 5)
    small = [text for text in SMALL if not text.startswith("epochs")]
    jobs = [[*DRAWN, *small, "budget_minutes=1", f"seed={seed}"] for seed in (1, 2)]
    with pytest.raises(
        UserError, match="budget_minutes would give each shard a different number of epochs: make a plan once"
    ):
        shards.refuse_own_budget(jobs, composed(cache))
    shared = shards.make_plan(tmp_path / "plan.json", jobs, 1, None, composed(cache))
    assert list(shared.fitted_epochs.values()) == [5]
    assert len(measured) == 1, "both seeds have the same budget"
    (digest,) = shared.fitted_epochs
    study = tmp_path / "study"
    plan.write(study, {"seed=1": ["seed=1"]}, StudyConfig(None, (), ()), {}, 1, shared=shared)
    assert plan.shared_epochs(study, digest, measured.pop) == 5
    with pytest.raises(
        UserError, match=r"sweep.plan_file has no epochs for this run, because its precision or weights"
    ):
        plan.shared_epochs(study, "another", measured.pop)
