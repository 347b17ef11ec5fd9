"""The command as a user runs it: a process of its own in an empty folder."""

import json
from pathlib import Path

import pytest

from tests.process import forked

TINY = ("model=resnet9_x0_5", "recipe=plain", "epochs=1")


@pytest.fixture
def evaluate(tmp_path):
    """Return a function that runs the command and returns the finished process."""

    def command(*arguments):
        return forked("intel_scenes.evaluate", *arguments, cwd=tmp_path)

    return command


def test_runs_are_shown_alone_and_as_one(run, evaluate, tmp_path):
    for seed in (1, 2):
        run(*TINY, f"seed={seed}", folder=tmp_path / f"seed{seed}")
    done = evaluate("run=[seed1,seed2]", "output=found.json")
    assert (done.returncode, done.stderr) == (0, "")
    first, second, both, last = done.stdout.splitlines()
    assert first.endswith("  seed1")
    assert second.endswith("  seed2")
    assert both.endswith("  mean of 2")
    assert last == "written to found.json"
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["members"] == ["seed1", "seed2"]
    of_both = found["rows"][2]
    assert both.startswith(
        f"validation accuracy {100 * of_both['val_accuracy']:5.1f} %  "
        f"test accuracy {100 * of_both['test_accuracy']:5.1f} % ("
    )
    assert f" %)  balanced {100 * of_both['test_balanced_accuracy']:5.1f} %  loss " in both
    alone = evaluate("run=seed1")
    assert (alone.returncode, alone.stderr) == (0, "")
    assert alone.stdout == f"{first}\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (
            [],
            "run is not given: set run=VALUE (a finished run, or a list [RUN,RUN,...]: its folder, the beginning of "
            "its name below outputs/ or multirun/, the hash that ends the name, or latest)",
        ),
        (["run=a", "+viewss=flip"], "there is no key viewss (did you mean views?); --help lists all keys"),
        (["run=a", "viewss=flip"], "there is no key viewss (did you mean views?); --help lists all keys"),
        (["run=[a,b]", "combine=men"], "combine=men must be one of mean, vote, soup (did you mean mean?)"),
        (["run=[a,b]", "views=flp"], "views=flp must be one of 1, flip, flip_crops (did you mean flip?)"),
        (["run=[a,b]", "views=[flip]"], "views=['flip'] must be one of 1, flip, flip_crops (did you mean flip?)"),
        (["run=[]"], "run=[] names no run: give finished runs as run=[RUN,RUN,...]"),
        (["run=a", "combine=soup"], "combine has no effect with one run: leave it out, or name several runs"),
        (["run=[a,b]", "output=."], "output=. cannot be written: name a file in a writable folder"),
        (
            ["run=[a,b]", "output_weights=soup.pth"],
            "output_weights has no effect with combine=mean: set combine=soup",
        ),
        (
            ["run=a", "output_weights=soup.pth"],
            "output_weights has no effect with one run: its weights are in checkpoints/best.ckpt of its folder",
        ),
        (
            ["run=[a,b]", "combine=soup", "output_weights=."],
            "output_weights=. cannot be written: name a file in a writable folder",
        ),
        (
            ["run=[a,b]", "combine=soup", "output_weights=soup.safetensors"],
            "output_weights=soup.safetensors would be written by torch.save: name a .pth file",
        ),
        (
            ["run=[a,b]"],
            "there is no folder a, and no run below outputs/ or multirun/ of the current folder has a name that begins "
            "like this: give the folder of a finished run",
        ),
        (
            ["run=[model=a,12345678]"],
            "there is no folder model=a, and no run below outputs/ or multirun/ of the current folder has a name that "
            "begins like this: give the folder of a finished run",
        ),
        (
            ["run=a,seed=1"],
            "there is no folder a,seed=1, and no run below outputs/ or multirun/ of the current folder has a name that "
            "begins like this: give the folder of a finished run, or several as [RUN,RUN]",
        ),
        (
            ["run=latest"],
            "run=latest: there is no finished run below outputs/ or multirun/ of the current folder; give the folder "
            "of one",
        ),
        (
            ["run=a", "split=test"],
            "split=test has no effect without data.root=FOLDER: leave it out, or name a folder",
        ),
        (
            ["run=[a,b]", "data.root=.", "combine=vote"],
            "combine=vote has no effect with data.root, where several runs are always combined by their mean: leave it "
            "out",
        ),
        (
            ["run=a", "data.root=.", "output_weights=soup.pth"],
            "output_weights has no effect with data.root: leave one of them out",
        ),
        (["run=a", "data.root=.", "split=valid"], "split=valid must be one of train, val, test (did you mean val?)"),
        (
            ["run=a", "data.root=.", "output=/dev/null"],
            "output=/dev/null cannot be written: name a writable folder",
        ),
    ],
)
def test_what_is_wrong_is_one_sentence(evaluate, arguments, said):
    done = evaluate(*arguments)
    assert done.returncode == 1
    assert done.stderr == f"{said}\n"


def test_a_run_that_is_none_unfinished_or_named_twice_is_one_sentence(evaluate, tmp_path):
    def said(*arguments):
        done = evaluate(*arguments)
        assert done.returncode == 1
        return done.stderr

    (tmp_path / "a").mkdir()
    (tmp_path / "b").mkdir()
    (tmp_path / "b/summary.json").write_text('{"status": "interrupted"}')
    assert said("run=[a,b/../a]") == "run names the same run twice: remove one of the two\n"
    assert said("run=a", "data.root=.") == "a holds no run (no summary.json): give the folder of a finished run\n"
    assert said("run=b", "data.root=.") == (
        "b holds a run that is not finished (interrupted): repeat its command to resume it, or give another run\n"
    )
    completed = {"status": "completed", "val_accuracy": 0.5, "test_accuracy": 0.5}
    (tmp_path / "b/summary.json").write_text(json.dumps(completed))
    assert said("run=b", "data.root=c") == "data.root=c: there is no such folder; give a folder of labelled images\n"
    assert said("run=b", "data.labels=c") == "data.labels=c: there is no such file; give a CSV file\n"


def test_a_folder_of_labelled_images_is_evaluated(run, evaluate, cache, tmp_path):
    summary = run(*TINY, folder=tmp_path / "outputs" / "model=resnet9,seed=1-0a")
    images = Path(summary.test_folder).parent
    arguments = (f"data.root={images}", f"data.cache_dir={cache}", "split=test", "output=found")
    done = evaluate("run=model=resnet9,seed", *arguments)  # no comma or equals sign needs quotes
    assert (done.returncode, done.stderr) == (0, "")
    heading, name, accuracy, *_, last = done.stdout.splitlines()
    assert heading == f"30 test images of {images}"
    assert name == "outputs/model=resnet9,seed=1-0a"
    assert accuracy.split()[:2] == ["accuracy", f"{100 * summary.test_accuracy:.1f}"]
    assert last == "written to found"
    found = json.loads((tmp_path / "found/metrics.json").read_text())
    assert found["rows"][0]["loss"] == summary.test_loss
