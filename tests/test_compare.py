"""The command `compare` as a user runs it: a process of its own in an empty folder."""

import pytest

from tests.process import forked, python
from tests.studies.simulated_records import leave_run, leave_study

WITHOUT_TORCH = """
import runpy, sys
try:
    runpy.run_module("intel_scenes.compare", run_name="__main__")
finally:
    print(*{"torch", "torchvision", "lightning", "torchmetrics"} & sys.modules.keys(), end="", file=sys.stderr)
"""


@pytest.fixture
def compare(tmp_path):
    """Return a function that runs the command and returns the finished process."""

    def command(*arguments):
        return forked("intel_scenes.compare", *arguments, cwd=tmp_path)

    return command


def test_it_compares_without_torch_and_writes_into_the_study_folder_only(tmp_path):
    leave_study(tmp_path / "study", {"sgd": 0, "adam": 2}, 3)
    done = python("-c", WITHOUT_TORCH, "folder=study", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "adam has the best validation accuracy" in done.stdout
    assert "written to study/report.html" in done.stdout
    assert [path.name for path in tmp_path.iterdir()] == ["study"]
    assert {path.name for path in (tmp_path / "study").iterdir() if path.is_file()} == {
        *("results.csv", "pairwise.csv", "report.html"),
    }


def test_a_format_is_all_that_is_printed(compare, tmp_path):
    leave_study(tmp_path / "study", {"sgd": 0, "adam": 2}, 2)
    done = compare("folder=study", "format=markdown", "compare.baseline=sgd", "compare.rope=1")
    assert done.returncode == 0, done.stderr
    answer, table, *remarks = done.stdout.strip().split("\n\n")
    assert answer.startswith("adam has the best validation accuracy")
    assert all(line.startswith("|") for line in table.splitlines())
    assert remarks[:3] == [
        "the order of the optimizers may come from learning rates that were not tuned (adam, sgd: 0.1): "
        "study=optimizers tunes them",
        "sgd is not compared on validation: the record of optim=sgd,seed=1 has no temperature",
        "the baseline sgd was first named now, when 4 runs had completed: "
        "choosing a baseline by its results raises the rate of false verdicts above 5 %",
    ]


def test_a_list_of_folders_is_compared_as_one(compare, tmp_path):
    leave_study(tmp_path / "a", {"sgd": 0}, 2)
    leave_study(tmp_path / "b", {"adam": 2}, 2)
    done = compare("folder=[a,b]", "output=all")
    assert done.returncode == 0, done.stderr
    assert "adam has the best validation accuracy" in done.stdout
    assert "written to all/report.html" in done.stdout
    assert len((tmp_path / "all/results.csv").read_text().splitlines()) == 5
    assert not (tmp_path / "a/results.csv").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "folder is not given: set folder=VALUE (folder of a sweep, such as multirun/models"),
        (["folder=none"], "there is no folder none"),
        (["folder=empty"], "empty holds no runs"),
        (["folder=study", "format=pdf"], "unknown format=pdf: choose one of table, markdown, latex, json"),
        (["folder=study", "compare.baseline=sdg"], "compare.baseline=sdg is not an arm: choose one of adam; sgd"),
        (["folder=study", "compare.rope=-1"], "compare.rope=-1 must be a number from 0 to 100"),
        (["folder=study", "compare.rope=a"], "compare.rope=a must be a number from 0 to 100"),
        (["folder=broken"], "study.yaml cannot be read"),
        (["folder=study", "data.root=none"], "data.root=none is not a folder"),
        (["folder=."], "holds several sweeps: set folder=./NAME"),
        (["folder=[study,broken]"], "a list of folders is merged into one study before it is compared: set output="),
        (["folder=[study,broken]", "output="], "is merged into one study before it is compared: set output=FOLDER"),
        (["folder=[]", "output=all"], "folder=[] names no folder: list the folders of the shards, [A,B,...]"),
        (["folder=study", "output=all"], "output=all has no effect with one folder: leave it out, or list several"),
        (
            ["folder=[study,none]", "output=all"],
            "there is no folder none: set folder=[A,B,...] to the folders of the shards",
        ),
        (["folder=[study,broken]", "output=all"], "broken/study.yaml cannot be read"),
        (["foldr=study"], "there is no key foldr (did you mean folder?)"),
        (["-m", "folder=study,empty"], "-m starts a sweep, which only train supports: leave it out"),
    ],
)
def test_an_error_is_one_sentence(compare, tmp_path, arguments, message):
    leave_study(tmp_path / "study", {"sgd": 0, "adam": 2}, 1)
    leave_study(tmp_path / "broken", {"sgd": 0}, 1)
    (tmp_path / "broken/study.yaml").write_text("[")
    (tmp_path / "empty").mkdir()
    before = sorted(path for path in tmp_path.rglob("*"))
    done = compare(*arguments)
    assert done.returncode == 1
    assert message in done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert sorted(path for path in tmp_path.rglob("*")) == before


def test_a_folder_of_failed_runs_says_so(compare, tmp_path):
    leave_run(tmp_path / "study", "a", {"optim": "sgd"}, [True] * 6, status="failed", error="the loss is not finite")
    done = compare("folder=study")
    assert done.returncode == 0, done.stderr
    assert "No run is completed" in done.stdout
