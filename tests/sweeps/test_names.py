import hashlib
import itertools
import re
from pathlib import Path

import pytest

from intel_scenes.errors import UserError
from intel_scenes.sweeps.names import UNNAMED, as_typed, run_name, sweep_name, with_sweep_name

HASH = re.compile(r"-[0-9a-f]{8}$")


def label(*overrides: str) -> str:
    name = run_name(overrides)
    assert HASH.search(name), name
    return HASH.sub("", name)


def test_a_name_reads_like_what_was_typed_and_ends_in_a_short_hash() -> None:
    assert label("seed=2", "model=resnet18") == "model=resnet18,seed=2"
    assert label("optim.lr=0.1", "+trainer.gradient_clip_val=1") == "optim.lr=0.1,trainer.gradient_clip_val=1"
    assert label() == "defaults"


def test_the_order_of_overrides_does_not_matter() -> None:
    overrides = ["model=resnet18", "seed=2", "optim=adamw", "optim.lr=0.1"]
    assert len({run_name(order) for order in itertools.permutations(overrides)}) == 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("optim.lr=0.1", "optim.lr=1e-1"),
        ("optim.lr=0.1", "optim.lr=.1"),
        ("+k=1", "++k=1"),
        ("k=1", "+k=1"),
        ("k=abc", "k='abc'"),
        ("k='a b'", 'k="a b"'),
        ("k=true", "k=True"),
        ("k=[1,2]", "k=[1, 2]"),
        ("k={a:1,b:[x]}", "k={a: 1, b: ['x']}"),
    ],
)
def test_overrides_that_mean_the_same_have_one_name(one: str, other: str) -> None:
    assert run_name([one]) == run_name([other])


@pytest.mark.parametrize(
    "neutral",
    [
        *("data.root=/elsewhere", "data.cache_dir=/tmp", "logger=csv", "sweep.name=mine", "+study=models"),
        *("hydra/launcher=joblib", "hydra.run.dir=x", "keep_last=true", "++logger.name=a"),
    ],
)
def test_keys_that_do_not_change_the_result_do_not_change_the_name(neutral: str) -> None:
    assert run_name(["seed=1", neutral]) == run_name(["seed=1"])
    assert run_name([neutral]) == run_name([])


OTHERS = [
    *("k=1", "k=2", "k=-1", "k=abc", "k=abd", "k=[1]", "k=[1,2]", "k=[2,1]", "k={a:1}", "k=null", "k=1.5"),
    *("k=a/b", "k=a_b", "k='a b'", "j=1", "~k", "k=''", "k='=a'", "k='a,j=1'"),
]


def test_overrides_that_mean_different_things_have_different_names() -> None:
    names = [run_name([override]) for override in OTHERS]
    assert len(set(names)) == len(names)
    assert run_name(["k=a", "j=1"]) != run_name(["k='a,j=1'"])


@pytest.mark.parametrize(
    "override",
    [
        *("k=a/../b", "k=../../etc", "k=/", "k='..'", "k='a b'", "k='\"quoted\"'", "k='it\\'s'", "k='a=b'", "k='  '"),
        *("k='x:y*?<>|'", "k='$(rm)'", "k='a\\\\b'", "k='line\nbreak'", "model.weights=/home/me/weights.pth"),
        "k=[" + ",".join(map(str, range(120))) + "]",
        "k='" + "ü" * 200 + "'",
        "k=" + "x" * 1000,
        "~optim.nesterov",
    ],
)
def test_a_name_is_one_path_component_of_at_most_89_characters(override: str) -> None:
    name = run_name([override])
    assert len(name) <= 80 + 1 + 8
    assert len(name.encode()) <= 255
    assert re.fullmatch(r"[\w.=,+-]+", name)
    assert name not in (".", "..")
    assert not name.startswith((".", "-"))


def test_long_overrides_with_the_same_beginning_have_different_names() -> None:
    one, other = ("k=[" + ",".join(map(str, [*range(120), last])) + "]" for last in (1, 2))
    assert label(one) == label(other)
    assert run_name([one]) != run_name([other])


def test_a_name_is_the_same_in_every_version() -> None:
    # sha256 of the Python list ['model=resnet18', 'seed=2'] as it is shown: `printf ... | sha256sum`
    assert run_name(["seed=2", "model=resnet18"]) == "model=resnet18,seed=2-bd3d328f"


LONG = ["model=efficientnet_v2_s", "optim=sgd_nesterov", "optim.lr=0.0125", "scheduler=warmup_cosine", "recipe=plain"]


def test_a_name_that_is_cut_keeps_the_seed() -> None:
    names = {seed: run_name([*LONG, f"seed={seed}", "epochs=3"]) for seed in (1, 23)}
    cut = "model=efficientnet_v2_s,optim=sgd_nesterov,optim.lr=0.0125,scheduler=warmup_cosin"
    assert HASH.sub("", names[1]) == f"{cut[:73]},seed=1"
    assert HASH.sub("", names[23]) == f"{cut[:72]},seed=23"
    # sha256 of the Python list of the sorted overrides as it is shown, as before
    assert names[1].endswith("-" + hashlib.sha256(repr(sorted([*LONG, "seed=1", "epochs=3"])).encode()).hexdigest()[:8])


def test_a_name_whose_seed_was_never_cut_is_unchanged() -> None:
    fits = [
        "model=efficientnet_v2_s",
        "optim.lr=0.0125",
        "scheduler=warmup_cosine",
        "seed=1",
        f"data.exclude={'x' * 40}",
    ]
    whole = "model=efficientnet_v2_s,optim.lr=0.0125,scheduler=warmup_cosine,seed=1,data.exclude=" + "x" * 40
    assert label(*fits) == whole[:80]
    assert label(*LONG) == "model=efficientnet_v2_s,optim=sgd_nesterov,optim.lr=0.0125,scheduler=warmup_cosine,"[:80]


@pytest.mark.parametrize("left", ["folder", "plan"])
def test_an_existing_run_keeps_its_earlier_name(tmp_path: Path, left: str) -> None:
    job = [*LONG, "seed=1"]
    now = run_name(job)
    before = f"{','.join(LONG)[:80]}-{now[-8:]}"
    assert run_name(job, tmp_path) == run_name(job, tmp_path / "missing") == now != before
    if left == "folder":
        (tmp_path / before).mkdir()
    else:
        (tmp_path / "study.yaml").write_text(f"planned:\n- {before}\n")
    assert run_name(job, tmp_path) == before
    assert run_name([*LONG, "seed=2"], tmp_path) == run_name([*LONG, "seed=2"])


def test_a_sweep_is_named_after_the_swept_keys_whatever_their_order_and_values() -> None:
    assert sweep_name(["seed=1,2,3", "model=resnet18,resnet34", "epochs=3"]) == "by-model-seed"
    assert sweep_name(["model=a,b,c", "epochs=4", "seed=range(1,4)"]) == "by-model-seed"
    assert sweep_name(["+k=choice(1,2)"]) == "by-k"
    assert sweep_name(["optim.lr=interval(0,1)"]) == "by-optim.lr"


def test_a_multirun_that_sweeps_nothing_is_single() -> None:
    assert sweep_name(["seed=1", "k=[1,2]"]) == "single"
    assert sweep_name([]) == "single"


def test_a_sweeps_name_is_one_short_path_component() -> None:
    name = sweep_name([f"hydra/long_group_{index}@a.b=x,y" for index in range(40)])
    assert len(name) <= 83
    assert re.fullmatch(r"[\w.-]+", name)


@pytest.mark.parametrize("flag", ["-m", "--multirun"])
def test_a_multirun_without_a_name_is_named_after_what_it_sweeps(flag: str) -> None:
    assert with_sweep_name([flag, "seed=1,2", "epochs=3"]) == [
        flag,
        "seed=1,2",
        "epochs=3",
        UNNAMED,
        "sweep.name=by-seed",
    ]
    assert with_sweep_name(["model=a,b", flag]) == [flag, "model=a,b", UNNAMED, "sweep.name=by-model"]
    other = ["hydra/sweeper=basic", "seed=1,2"]
    assert with_sweep_name([flag, *other]) == [flag, *other, "sweep.name=by-seed"], "another sweeper takes no mark"
    assert with_sweep_name([flag, "--config-dir=more", "seed=1,2"])[-1] == "sweep.name=by-seed"


def test_flags_may_stand_anywhere() -> None:
    assert with_sweep_name(["study=models", "--cfg", "job"]) == [
        "--cfg",
        "job",
        "study=models",
        UNNAMED,
        "sweep.name=models",
    ]
    assert with_sweep_name(["~optim", "seed=1", "--help"]) == ["--help", "~optim", "seed=1"]


def test_study_null_is_refused() -> None:
    with pytest.raises(UserError, match="study=null chooses no study, which is the default: leave it out"):
        with_sweep_name(["-m", "study=null", "seed=1,2"])


@pytest.mark.parametrize("arguments", [["-m", "seed=1,2"], ["-m", "seed=1,2", "sweep.name=by-seed"], ["seed=1"]])
def test_a_command_as_typed_is_recovered_from_one_with_an_added_name(arguments: list[str]) -> None:
    assert as_typed(with_sweep_name(arguments)) == arguments


@pytest.mark.parametrize("name", ["sweep.name=mine", "++sweep.name=mine"])
def test_a_typed_name_is_kept(name: str) -> None:
    assert with_sweep_name(["-m", "seed=1,2", name]) == ["-m", "seed=1,2", name]


def test_a_single_run_and_help_get_no_sweep_name() -> None:
    assert with_sweep_name(["seed=1"]) == ["seed=1"]
    assert with_sweep_name(["--help"]) == ["--help"]
    assert with_sweep_name([]) == []


def test_leaving_images_out_makes_another_run() -> None:
    assert run_name(["data.exclude=a.txt"]) != run_name([])


@pytest.mark.parametrize("text", ["sweep.name=", "hydra.run.dir=", "hydra.sweep.dir="])
def test_a_folder_without_a_name_is_refused(text: str) -> None:
    with pytest.raises(UserError, match=f"^{re.escape(text)} is empty: name a folder, or leave it out$"):
        with_sweep_name(["seed=1", text])
