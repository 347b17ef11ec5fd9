"""The class `Study`, and that it agrees with the files that `compare` writes."""

import csv
import math
from pathlib import Path

import pytest

from intel_scenes.config import CompareConfig
from intel_scenes.errors import UserError
from intel_scenes.studies.publish import compare_and_write
from intel_scenes.studies.study import load_study
from intel_scenes.table import Table
from tests.process import python
from tests.studies.simulated_records import leave_study


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("studies") / "study"
    leave_study(place, {"sgd": 0, "adam": 20}, 3)
    return place


def said(table: Table) -> list[dict[str, str]]:
    """Return a table as it is read from CSV."""
    return [{name: "" if value is None else str(value) for name, value in row.items()} for row in table.rows()]


def alike(ours: str, theirs: str) -> bool:
    try:
        return math.isclose(float(ours), float(theirs))  # integers in a column with missing values are floats
    except ValueError:
        return ours == theirs


def test_tables_and_answer_equal_the_files_and_none_is_written(folder: Path) -> None:
    there = sorted(path.name for path in folder.iterdir())
    study = load_study(folder)
    results, pairs = said(study.results), said(study.pairs)
    answer, page = study.answer, study._repr_html_()
    assert sorted(path.name for path in folder.iterdir()) == there
    told = compare_and_write(folder, CompareConfig(baseline=None, rope=0.5))
    assert told.startswith(answer)
    for name, rows in (("results.csv", results), ("pairwise.csv", pairs)):
        with (folder / name).open(newline="") as file:
            written = list(csv.DictReader(file))
        assert [list(row) for row in rows] == [list(row) for row in written]
        for ours, theirs in zip(rows, written, strict=True):
            assert [key for key in ours if not alike(ours[key], theirs[key])] == []
    assert [pair["verdict"] for pair in pairs] == ["better"]
    assert study.pairs["difference"][0] > 0.1
    assert len(study.effects) == len(study.comparison.effects.get("test_accuracy", ())) == 0
    assert f"<td>adam</td><td>{-100 * study.pairs['difference'][0]:+.2f}</td><td>worse</td>" in page  # sgd against it


def test_a_baseline_is_what_all_others_are_compared_with(folder: Path) -> None:
    assert "against baseline sgd" in load_study(folder, baseline="sgd")._repr_html_()
    with pytest.raises(UserError, match="is not an arm: choose one of "):
        load_study(folder, baseline="lion")


def test_a_study_is_read_without_torch(folder: Path) -> None:
    script = (
        "import sys, intel_scenes; assert 'numpy' not in sys.modules; "
        f"print(intel_scenes.load_study({str(folder)!r}).answer); "
        "sys.exit(', '.join({'torch', 'lightning', 'torchvision'} & sys.modules.keys()) or 0)"
    )
    done = python("-c", script, cwd=folder.parent)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith(load_study(folder).answer)


def test_a_folder_without_runs_is_an_error_of_one_sentence(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="holds no runs: set folder to that of a sweep, such as multirun/models"):
        load_study(tmp_path)
