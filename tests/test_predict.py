"""The command as a user runs it: a process of its own in an empty folder."""

import csv
import json
from pathlib import Path

import pytest

from intel_scenes.predict import write
from intel_scenes.table import Table
from tests.process import forked

PREDICTED = ["path", "class", "probability", "second", "second_probability", "third", "third_probability"]


@pytest.fixture(scope="module")
def place(run_in, tmp_path_factory):
    """A folder with a finished run below outputs/, and some of its images."""
    folder = tmp_path_factory.mktemp("place")
    summary = run_in(folder / "outputs" / "net=a,seed=1", "model=resnet9_x0_5", "epochs=1")
    (folder / "photos").symlink_to(summary.test_folder)
    return folder


@pytest.fixture
def predict(place, tmp_path):
    """Return a function that runs the command and returns the finished process."""

    def command(*arguments):
        return forked("intel_scenes.predict", *arguments, cwd=place)

    return command


def test_many_images_are_counted_and_each_has_a_row_in_the_file(predict, place, tmp_path):
    done = predict("run=latest", "images=photos", f"output={tmp_path}/found.csv", "abstain=0.2")
    assert (done.returncode, done.stderr) == (0, "predicting images (30 images)\n")
    by, first, *counts, last = done.stdout.splitlines()
    assert by.startswith("predicted by outputs/")
    assert (first, last) == ("30 images", f"written to {tmp_path}/found.csv")
    with (tmp_path / "found.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert list(rows[0]) == [*PREDICTED, "left_open", "error"]
    of_class = {name: sum(row["class"] == name for row in rows) for name in {row["class"] for row in rows}}
    told = dict(line.strip().rsplit(maxsplit=1) for line in counts)
    assert {name: int(number) for name, number in told.items()} == {
        name or "left open": n for name, n in of_class.items()
    }
    assert all((row["class"] == "") == (float(row["probability"]) < 0.2) for row in rows)


def test_a_few_are_shown_and_what_cannot_be_read_is_named(predict, place, tmp_path):
    (tmp_path / "broken.jpg").write_text("no image")
    one = next(place.joinpath("photos").rglob("*.*g"))
    done = predict("run=net", f"images=['{one}',{tmp_path}/broken.jpg]", f"output={tmp_path}/found.json")
    assert done.returncode == 0
    assert done.stderr == (
        f"1 image could not be read; skipped: {tmp_path}/broken.jpg (no image format that Pillow knows)\n"
    )
    _, first, second, _ = done.stdout.splitlines()
    read, broken = json.loads((tmp_path / "found.json").read_text())
    numbers = [f"{100 * read[key]:.1f}" for key in ("probability", "second_probability", "third_probability")]
    assert first.split() == [
        *(str(one), read["class"], numbers[0], "%,", "then"),
        *(read["second"], numbers[1], "%,", read["third"], numbers[2], "%"),
    ]
    assert second.endswith("broken.jpg  cannot be read: no image format that Pillow knows")
    assert (broken["class"], broken["probability"]) == (None, None)
    assert broken["error"] == "no image format that Pillow knows"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["images=photos"], "run is not given: set run=VALUE (a finished run: its folder, the beginning of its name,"),
        (["run=latest"], "images is not given: set images=VALUE (a folder (with its subfolders),"),
        (["run=[]", "images=photos"], "run=[] names no run: give finished runs as run=RUN or run=[RUN,RUN,...]"),
        (["run=photos", "images=photos"], "photos holds no run (no summary.json): give the folder of a finished run"),
        (["run=[latest,net]", "images=photos"], "run names the same run twice: remove one of the two"),
        (["run=latest", "images=none"], "images=none: there is no such file or folder; give a folder, a file or a"),
        (["run=latest", "images=photos", "abstain=90"], "abstain=90 must be a number from 0 to 1"),
        (["run=latest", "images=photos", "output=a.xlsx"], "output=a.xlsx must end in .csv or .json"),
        (["run=latest", "images=photos", "views=2"], "views=2 must be one of 1, flip, flip_crops"),
    ],
)
def test_what_is_wrong_is_one_sentence(predict, arguments, said):
    done = predict(*arguments)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(said)
    assert len(done.stderr.splitlines()) == 1


def test_no_image_that_can_be_read_is_an_error_and_leaves_no_file(predict, tmp_path):
    broken = tmp_path / "a (1), b=2.jpg"  # what means something to Hydra
    broken.write_text("no image")
    done = predict("run=latest", f"images={broken}", f"output={tmp_path}/found.csv")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith(f"no image can be read ({broken}: ")
    assert list(tmp_path.iterdir()) == [broken]


def test_a_missing_value_is_an_empty_cell_and_null(tmp_path: Path) -> None:
    table = Table.of_rows(("path", "probability"), [("a,b", 0.5), ("c", None)])
    write(table, tmp_path / "a.csv")
    write(table, tmp_path / "a.json")
    assert (tmp_path / "a.csv").read_text() == 'path,probability\n"a,b",0.5\nc,\n'
    assert json.loads((tmp_path / "a.json").read_text())[1] == {"path": "c", "probability": None}
