import csv
import hashlib
import math
import os
import resource
from collections import OrderedDict
from pathlib import Path

import pytest

from intel_scenes import files


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_a_digest_is_the_sha256_of_sorted_json_without_blanks() -> None:
    value = {"b": [1.0, "x", None, 0.5], "a": {"d": True, "c": (2,)}}
    assert files.digest(value) == sha256('{"a":{"c":[2],"d":true},"b":[1,"x",null,0.5]}')
    # `printf '[]' | sha256sum` of GNU coreutils 9.1
    assert files.digest([]) == "4f53cda18c2baa0c0354bb5f9a3ecbe5ed12ab4d8e11ba873c2f11161202b945"


def test_a_digest_does_not_depend_on_the_order_of_keys_or_the_kind_of_mapping_or_number() -> None:
    assert files.digest({"a": 1, "b": {"c": 2, "d": 3}}) == files.digest(OrderedDict(b={"d": 3.0, "c": 2}, a=1.0))
    assert files.digest(1e3) == files.digest(1000)
    assert files.digest(-0.0) == files.digest(0)


@pytest.mark.parametrize("other", [[1, "2"], [2, 1], [1], [1, 2, None], [1, 2.5], [True, 2], {"1": 2}, "[1,2]"])
def test_other_values_have_other_digests(other: object) -> None:
    assert files.digest(other) != files.digest([1, 2])


def test_a_value_that_json_does_not_have_is_refused() -> None:
    with pytest.raises(ValueError, match="JSON compliant"):
        files.digest({"lr": math.nan})
    with pytest.raises(TypeError, match="not JSON serializable"):
        files.digest({"path": Path("a")})


def test_a_file_is_written_with_its_folders_and_readable_by_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "b" / "file"
    files.write_whole(path, b"first")
    files.write_whole(path, memoryview(b"second"))
    assert path.read_bytes() == b"second"
    assert path.stat().st_mode & 0o777 == 0o644
    assert os.listdir(path.parent) == ["file"]


def test_a_write_that_runs_out_of_space_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = tmp_path / "file"
    files.write_whole(path, b"old")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        resource.setrlimit(resource.RLIMIT_FSIZE, (1000, hard))
        with pytest.raises(OSError, match="File too large"):
            files.write_whole(path, b"new" * 1000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_a_write_that_is_broken_off_leaves_the_old_file_and_nothing_else(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "file"
    files.write_whole(path, b"old")

    def interrupt(handle: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        files.write_whole(path, b"new")
    assert path.read_bytes() == b"old"
    assert os.listdir(tmp_path) == ["file"]


def test_floats_of_a_table_are_read_back_equal(tmp_path: Path) -> None:
    numbers = [0.1, 1 / 3, 5e-324, 1.7976931348623157e308, 0.1 + 0.2, 123456789.12345679]
    files.write_csv(tmp_path / "table.csv", ("name", "number"), [("a,b\n'\"", number) for number in numbers])
    with (tmp_path / "table.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [float(row["number"]) for row in rows] == numbers
    assert {row["name"] for row in rows} == {"a,b\n'\""}


def test_a_table_ends_its_lines_alike_everywhere(tmp_path: Path) -> None:
    files.write_csv(tmp_path / "table.csv", ("epoch", "lr"), [(0, 0.5), (1, None)])
    assert (tmp_path / "table.csv").read_bytes() == b"epoch,lr\n0,0.5\n1,\n"


def test_flattened_values_have_dotted_keys_and_lists_stay_whole() -> None:
    nested = {"optim": {"lr": 0.1, "betas": [0.9, 0.99]}, "a": {"b": {"c": None}}, "seed": 1}
    assert files.flatten(nested) == {"optim.lr": 0.1, "optim.betas": [0.9, 0.99], "a.b.c": None, "seed": 1}


def test_differences_are_sorted_and_show_both_values() -> None:
    there = {"optim": {"lr": 0.1, "nesterov": False}, "seed": 1, "same": [1]}
    here = {"seed": 2, "optim": {"lr": 0.2, "betas": [0.9]}, "same": [1]}
    assert files.differences(there, here) == [
        "optim.betas (nothing there, [0.9] here)",
        "optim.lr (0.1 there, 0.2 here)",
        "optim.nesterov (false there, nothing here)",
        "seed (1 there, 2 here)",
    ]
    assert files.differences(there, there) == []
