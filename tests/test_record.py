import csv
import hashlib
import json
import math
import os
import resource
from collections import OrderedDict
from pathlib import Path

import pytest

from intel_scenes import files, record
from intel_scenes.errors import UserError

CONTRACT = {
    *("status", "error", "traceback", "started", "ended"),
    *("study", "model", "optim", "scheduler", "recipe", "recipe_resolved", "model_name", "weights", "seed", "classes"),
    *("config_digest", "configuration_digest", "composition_digest"),
    *("data_fingerprint", "split_digest", "order_digest", "init_digest"),
    *("lr", "batch_size", "image_size", "epochs", "parameters", "num_train", "num_val", "num_test", "normalization"),
    *("best_epoch", "train_accuracy", "val_accuracy", "val_loss", "test_accuracy", "test_loss"),
    *("test_accuracy_interval", "test_duplicates", "test_accuracy_clean", "test_ece"),
    *("fit_seconds", "images_per_second", "peak_memory_bytes"),
    *("device", "precision", "threads", "versions", "package_version", "git_commit", "git_dirty"),
}


def sha256(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


def test_the_contract_is_kept() -> None:
    assert set(record.SUMMARY_KEYS) >= CONTRACT
    assert len(record.SUMMARY_KEYS) == len(set(record.SUMMARY_KEYS))
    columns = "epoch,step,lr,train_loss,train_accuracy,train_eval_accuracy,val_loss,val_accuracy,images_per_second"
    assert ",".join(record.HISTORY_COLUMNS) == columns
    assert (record.CONFIG, record.OVERRIDES, record.SUMMARY) == ("config.yaml", "overrides.yaml", "summary.json")
    assert (record.HISTORY, record.PREDICTIONS, record.CURVES) == ("history.csv", "predictions.csv", "curves.png")
    assert (record.BEST, record.LAST) == ("checkpoints/best.ckpt", "checkpoints/last.ckpt")


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


def test_leftovers_of_killed_writers_are_removed_and_nothing_else(tmp_path: Path) -> None:
    kept = {"summary.json", "notes-x", ".other-x", "checkpoints/best.ckpt", "checkpoints/.mine-x"}
    left = {".summary.json-a1", ".history.csv-b2", "checkpoints/.last.ckpt-c3", "checkpoints/.best.ckpt-d4"}
    (tmp_path / "checkpoints").mkdir()
    for name in kept | left:
        (tmp_path / name).touch()
    record.remove_leftovers(tmp_path)
    assert {str(path.relative_to(tmp_path)) for path in tmp_path.rglob("*") if path.is_file()} == kept


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


def test_a_summary_is_written_with_every_key(tmp_path: Path) -> None:
    written = record.write_summary(tmp_path, {"status": "failed", "seed": 3})
    found = json.loads((tmp_path / "summary.json").read_text())
    assert found == written == record.read_summary(tmp_path)
    assert tuple(found) == record.SUMMARY_KEYS
    assert {key: value for key, value in found.items() if value is not None} == {"status": "failed", "seed": 3}


def test_a_key_outside_of_the_contract_is_refused_by_name(tmp_path: Path) -> None:
    with pytest.raises(KeyError, match=r"not keys of summary\.json: \['acuracy', 'zeal'\]"):
        record.write_summary(tmp_path, {"status": "failed", "zeal": 1, "acuracy": 2})
    assert os.listdir(tmp_path) == []


@pytest.mark.parametrize("status", ["completed", "failed", "interrupted"])
def test_a_completed_record_is_never_overwritten(tmp_path: Path, status: str) -> None:
    record.write_summary(tmp_path, {"status": "completed", "seed": 1})
    before = (tmp_path / "summary.json").read_bytes()
    with pytest.raises(FileExistsError, match=r"summary\.json holds a completed record"):
        record.write_summary(tmp_path, {"status": status, "seed": 2})
    assert (tmp_path / "summary.json").read_bytes() == before


@pytest.mark.parametrize("status", ["failed", "interrupted"])
def test_an_unfinished_record_may_be_replaced(tmp_path: Path, status: str) -> None:
    record.write_summary(tmp_path, {"status": status, "error": "a sentence"})
    record.write_summary(tmp_path, {"status": "completed"})
    found = record.read_summary(tmp_path)
    assert found is not None
    assert (found["status"], found["error"]) == ("completed", None)


def test_a_missing_key_is_read_as_null_and_an_unknown_one_is_kept(tmp_path: Path) -> None:
    (tmp_path / "summary.json").write_text('{"status": "completed", "of_later_versions": 1}')
    found = record.read_summary(tmp_path)
    assert found is not None
    assert found.keys() == set(record.SUMMARY_KEYS) | {"of_later_versions"}
    assert (found["status"], found["of_later_versions"], found["test_ece"]) == ("completed", 1, None)


def test_a_folder_without_a_summary_has_none(tmp_path: Path) -> None:
    assert record.read_summary(tmp_path) is None
    assert record.read_summary(tmp_path / "absent") is None


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_summary_that_holds_something_else_is_named(tmp_path: Path, content: str) -> None:
    (tmp_path / record.SUMMARY).write_text(content)
    with pytest.raises(UserError, match=r"summary\.json is no record"):
        record.read_summary(tmp_path)


def test_flattened_values_have_dotted_keys_and_lists_stay_whole() -> None:
    nested = {"optim": {"lr": 0.1, "betas": [0.9, 0.99]}, "a": {"b": {"c": None}}, "seed": 1}
    assert files.flatten(nested) == {"optim.lr": 0.1, "optim.betas": [0.9, 0.99], "a.b.c": None, "seed": 1}


def test_differences_are_sorted_and_show_both_values() -> None:
    there = {"optim": {"lr": 0.1, "nesterov": False}, "seed": 1, "same": [1]}
    here = {"seed": 2, "optim": {"lr": 0.2, "betas": [0.9]}, "same": [1]}
    assert files.differences(there, here) == [
        "optim.betas (nothing there, [0.9] here)",
        "optim.lr (0.1 there, 0.2 here)",
        "optim.nesterov (False there, nothing here)",
        "seed (1 there, 2 here)",
    ]
    assert files.differences(there, there) == []


@pytest.mark.parametrize(
    "key",
    [
        *("data.root", "data.cache_dir", "logger", "logger.save_dir", "study", "sweep.name", "sweep.plan", "keep_last"),
        *("hydra/launcher", "hydra.run.dir", "hydra/launcher.n_jobs"),
        *("trainer.enable_progress_bar", "trainer.profiler", "folder"),
    ],
)
def test_keys_without_effect_on_the_result_are_neutral(key: str) -> None:
    assert record.is_neutral(key)


@pytest.mark.parametrize(
    "key",
    [
        *("data", "data.root_seed", "data.batch_size", "model", "model.weights", "seed", "studying", "sweeper.x"),
        *(
            "trainer",
            "trainer.precision",
            "trainer.devices",
            "trainer.strategy",
            "trainer.gradient_clip_val",
            "my.logger",
            "optim.lr",
            "epochs",
        ),
    ],
)
def test_other_keys_are_not_neutral_however_alike_they_are_spelt(key: str) -> None:
    assert not record.is_neutral(key)
