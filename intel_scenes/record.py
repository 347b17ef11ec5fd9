"""The files of a run: their names and columns, digests, whole-or-nothing writing, reading."""

import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import yaml

from intel_scenes import files
from intel_scenes.errors import UserError

CONFIG = "config.yaml"
OVERRIDES = "overrides.yaml"
SUMMARY = "summary.json"
HISTORY = "history.csv"
PREDICTIONS = "predictions.csv"
CURVES = "curves.png"
BEST = "checkpoints/best.ckpt"
LAST = "checkpoints/last.ckpt"
LOCK = ".lock"  # of the process that is at work in the folder
STUDY, STUDY_LOCK = "study.yaml", ".study.lock"  # of a folder of runs

HISTORY_COLUMNS = (
    "epoch",
    "step",
    "lr",
    "train_loss",
    "train_accuracy",
    "train_eval_accuracy",
    "val_loss",
    "val_accuracy",
    "images_per_second",
)

STATE_KEYS = ("status", "error", "traceback", "started", "ended")
GROUP_KEYS = ("study", "model", "optim", "scheduler", "recipe")  # names of the files chosen
IDENTITY_KEYS = (
    *GROUP_KEYS,
    *("recipe_resolved", "model_name", "weights", "seed", "classes"),
    *("config_digest", "configuration_digest", "composition_digest"),
    "weights_digest",  # SHA-256 of a file; of published weights the name of theirs, which holds the first digits
)
PAIRING_KEYS = ("data_fingerprint", "split_digest", "order_digest", "init_digest")
SETTING_KEYS = (
    *("lr", "batch_size", "image_size", "epochs", "parameters"),
    *("num_train", "num_val", "num_test", "normalization"),
    *("budget_minutes", "budget_digest"),
    *("store_size", "store_rule"),
    "transform_input",  # of googlenet and inception_v3: whether they normalize once more, as TensorFlow did
)
RESULT_KEYS = (
    *("best_epoch", "train_accuracy", "val_accuracy", "val_loss", "test_accuracy", "test_loss"),
    *("test_accuracy_interval", "test_duplicates", "test_accuracy_clean", "test_ece"),
    *("temperature", "test_loss_calibrated", "test_ece_calibrated"),
    *("test_accuracy_per_class", "test_confusion"),
    "val_accuracy_tta",  # of the validation predictions, with the test-time augmentation of test
)
COST_KEYS = ("fit_seconds", "features_seconds", "compile_seconds", "images_per_second", "peak_memory_bytes")
CIRCUMSTANCE_KEYS = (
    *("device", "precision", "threads", "versions", "package_version", "git_commit", "git_dirty"),
    "test_folder",  # where the test images lay
)
SUMMARY_KEYS = (
    *STATE_KEYS,
    *IDENTITY_KEYS,
    *PAIRING_KEYS,
    *SETTING_KEYS,
    *RESULT_KEYS,
    *COST_KEYS,
    *CIRCUMSTANCE_KEYS,
)


# Keys of a configuration, with all that lies below them, that do not change the result of a run.
NEUTRAL_KEYS = (
    *("data.root", "data.cache_dir", "data.device_resident"),
    *("compare", "dry_run", "folder", "hydra", "keep_last", "logger", "study", "sweep"),
    *("trainer.accelerator", "trainer.enable_progress_bar", "trainer.log_every_n_steps", "trainer.profiler"),
)


def is_neutral(key: str) -> bool:
    """Whether a dotted key, or a group such as `hydra/launcher`, has no effect on the result of a run."""
    dotted = key.replace("/", ".")
    return any(dotted == neutral or dotted.startswith(f"{neutral}.") for neutral in NEUTRAL_KEYS)


def keys_of(overrides: Iterable[str]) -> set[str]:
    """The keys and groups that were typed."""
    return {text.lstrip("+").partition("=")[0] for text in overrides}


def write_study(folder: Path, plan: Mapping[str, Any]) -> None:
    """Writes the plan of a study into its folder; whoever does holds `STUDY_LOCK`."""
    files.write_whole(folder / STUDY, yaml.safe_dump(dict(plan), sort_keys=False, allow_unicode=True).encode())


def remove_leftovers(folder: Path) -> None:
    """Removes what a killed writer of `write_whole` left in a run folder and its checkpoints."""
    for name in (CONFIG, OVERRIDES, SUMMARY, HISTORY, PREDICTIONS, CURVES, BEST, LAST):
        path = folder / name
        for leftover in path.parent.glob(f".{path.name}-*"):
            leftover.unlink(missing_ok=True)


def write_summary(folder: Path, summary: Mapping[str, Any]) -> dict[str, Any]:
    """Writes `summary.json` with every key of the contract; returns what was written.

    Null stands where `summary` has no value, or none that is finite.

    Raises:
        FileExistsError: The folder holds a completed record, which is never overwritten.
        KeyError: `summary` has a key that the contract does not have.
    """
    if unknown := summary.keys() - set(SUMMARY_KEYS):
        raise KeyError(f"not keys of {SUMMARY}: {sorted(unknown)}")
    if (read_summary(folder) or {}).get("status") == "completed":
        raise FileExistsError(f"{folder / SUMMARY} holds a completed record")
    whole = {key: summary.get(key) for key in SUMMARY_KEYS}
    whole = {
        key: None if isinstance(value, float) and not math.isfinite(value) else value for key, value in whole.items()
    }
    files.write_whole(folder / SUMMARY, (json.dumps(whole, indent=2, allow_nan=False) + "\n").encode())
    return whole


def read_summary(folder: Path) -> dict[str, Any] | None:
    """The `summary.json` of a run folder, a missing key read as null; None where there is no such file.

    Raises:
        UserError: The file holds something else.
    """
    try:
        found = json.loads((folder / SUMMARY).read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(f"{folder / SUMMARY} is no record ({error}): move the folder away") from error
    if not isinstance(found, dict):
        raise UserError(f"{folder / SUMMARY} is no record: move the folder away")
    return {**dict.fromkeys(SUMMARY_KEYS), **found}


def peek(folder: Path) -> dict[str, Any] | None:
    """The `summary.json` of a run folder as `read_summary` gives it; None, too, where the file holds something else."""
    try:
        return read_summary(folder)
    except UserError:
        return None
