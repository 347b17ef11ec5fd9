"""The command as a user runs it: a process of its own in an empty folder."""

import json

import pytest

from tests.process import forked


@pytest.fixture
def evaluate(tmp_path):
    """Runs the command; returns the finished process."""

    def command(*arguments):
        return forked("intel_scenes.evaluate", *arguments, cwd=tmp_path)

    return command


def test_runs_are_shown_alone_and_as_one(run, evaluate, tmp_path):
    for seed in (1, 2):
        run("epochs=1", f"seed={seed}", folder=tmp_path / f"seed{seed}")
    done = evaluate("run=[seed1,seed2]", "output=found.json")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, both, last = done.stdout.splitlines()
    assert first.endswith("  seed1")
    assert second.endswith("  seed2")
    assert both.endswith("  mean of 2")
    assert last == "written to found.json"
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["members"] == ["seed1", "seed2"]
    assert f"test {found['rows'][2]['test_accuracy']:6.1%}" in both
    alone = evaluate("run=seed1")
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout == f"{first}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "run is not given: set run=VALUE: the folders of finished runs of one study: [FOLDER,FOLDER,...]"),
        (["run=a", "+viewss=flip"], "there is no key viewss (did you mean views?); --help lists all keys"),
        (["run=a", "viewss=flip"], "there is no key viewss (did you mean views?); --help lists all keys"),
        (["run=[a,b]", "combine=men"], "combine=men must be one of mean, vote, soup (did you mean mean?)"),
        (["run=[a,b]", "views=flp"], "views=flp must be one of 1, flip, flip_crops (did you mean flip?)"),
        (["run=[a,b]", "views=[flip]"], "views=['flip'] must be one of 1, flip, flip_crops (did you mean flip?)"),
        (["run=[]"], "run=[] must name the folders of finished runs: run=[FOLDER,FOLDER,...]"),
        (["run=[a,b/../a]"], "run names a folder twice: leave it out, each run counts once"),
        (["run=a", "combine=soup"], "combine has no effect on one run: leave it out, or name several"),
        (["run=[a,b]", "output=."], "output=. cannot be written: name a file in a folder that can"),
        (
            ["run=[a,b]", "output_weights=soup.pth"],
            "output_weights has no effect with combine=mean: only combine=soup makes weights",
        ),
        (
            ["run=a", "output_weights=soup.pth"],
            "output_weights has no effect on one run: its weights are in checkpoints/best.ckpt of its folder",
        ),
        (
            ["run=[a,b]", "combine=soup", "output_weights=."],
            "output_weights=. cannot be written: name a file in a folder that can",
        ),
        (
            ["run=[a,b]", "combine=soup", "output_weights=soup.safetensors"],
            "output_weights=soup.safetensors is written by torch.save: name a .pth file",
        ),
        (["run=[a,b]"], "there is no folder a: run=FOLDER is that of a finished run"),
    ],
)
def test_what_is_wrong_is_one_sentence(evaluate, arguments, said):
    done = evaluate(*arguments)
    assert done.returncode == 1
    assert done.stderr == f"{said}\n"
