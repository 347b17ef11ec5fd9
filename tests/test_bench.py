"""The command as a user runs it: a process of its own in an empty folder."""

import json
import os

import pytest

from tests.process import forked, python


@pytest.fixture
def bench(cache, tmp_path):
    """Return a function that runs the command without real images.

    One that is fresh imports torch itself, as where its start is measured.
    """
    kept = {key: value for key, value in os.environ.items() if key != "INTEL_SCENES_DATA"}
    environment = kept | {"INTEL_SCENES_CACHE": str(cache)}

    def command(*arguments, fresh=True):
        if fresh:
            return python("-m", "intel_scenes.bench", *arguments, cwd=tmp_path, env=environment)
        return forked("intel_scenes.bench", *arguments, cwd=tmp_path, env=environment)

    return command


@pytest.mark.slow
def test_figures_are_printed_with_their_rivals_and_written_to_a_file(bench, tmp_path):
    done = bench("what=[input,start]", "repeats=1", "threads=1")
    assert done.returncode == 0, done.stderr
    written = json.loads((tmp_path / "bench.json").read_text())
    assert [(row["what"], row["case"]) for row in written["rows"]] == [
        *(("input", "224 px"), ("input", "128 px"), ("start", "help"), ("start", "first step")),
    ]
    for row in written["rows"]:
        assert row["ratio_low"] <= row["ratio"] <= row["ratio_high"]
        assert row["ratio"] == pytest.approx(row["ours"] / row["rival"])
        assert f"ratio {row['ratio']:.3g}" in done.stdout
    assert {"processor", "threads", "torch", "versions", "git_commit"} <= written["machine"].keys()
    assert [path.name for path in tmp_path.iterdir()] == ["bench.json"]


@pytest.mark.slow
def test_a_model_is_measured_in_the_chosen_precision_and_layout(bench, tmp_path):
    how = ("image_size=32", "precision=bf16", "channels_last=false", "repeats=2")
    done = bench("what=models", "models=mobilenet_v3_small", *how, "output=found.json", fresh=False)
    assert done.returncode == 0, done.stderr
    (row,) = json.loads((tmp_path / "found.json").read_text())["rows"]
    assert row["case"] == "mobilenet_v3_small, 32 px, bf16-mixed, contiguous, eager"
    assert "GFLOP per image" in row["note"]
    assert row["note"] in done.stdout
    assert 0 < row["ratio_low"] <= row["ratio"] <= row["ratio_high"] < 1  # of what the machine can do
    assert row["ratio"] == pytest.approx(row["ours"] / row["rival"])


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["what=inptu"],
            "what=inptu is not a benchmark (did you mean input?): choose among input, loop, start, sweep, probe, "
            "models, predict, ablation",
        ),
        (["repeats=0"], "repeats=0 must be a whole number of at least 1"),
        (["threads=abc"], "threads=abc must be a whole number of at least 1"),
        (["what=input", "image_size=64"], "image_size has no effect on what=input, only on probe, models"),
        (
            ["what=[]"],
            "what=[] names no benchmark: choose among input, loop, start, sweep, probe, models, predict, ablation",
        ),
        (["what=probe", "repeats=2"], "repeats has no effect on what=probe, only on input, loop, start"),
        (["what=predict"], "what=predict needs a complete run and images: set run=RUN and images=FOLDER"),
        (["what=input", "run=latest"], "run has no effect on what=input, only on predict"),
        (["output=."], "output=. cannot be written: name a file in a writable folder"),
        (["output=/dev/null/a.json"], "output=/dev/null/a.json cannot be written: name a file in a writable folder"),
        (["what=models", "precision=fp8"], "precision=fp8 must be one of auto, 32, 16, bf16"),
        (["what=models", "compile=ture"], "compile=ture must be one of true, false (did you mean true?)"),
        (["what=models", "models=[inception_v3]", "image_size=32"], "inception_v3 cannot train on images of 32 x 32"),
        (["what=models", "models=[resnet17]"], "model.name=resnet17 is not a classifier of torchvision"),
        (["whta=input"], "there is no key whta (did you mean what?)"),
    ],
)
def test_a_wrong_option_gives_one_sentence(bench, arguments, message):
    done = bench(*arguments, fresh=False)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1
