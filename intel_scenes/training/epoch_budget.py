"""How many epochs fit into a time: measured once for a configuration, and the same for all its seeds and resumes."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import yaml
from filelock import FileLock

from intel_scenes import record
from intel_scenes.training import configuration

# What changes nothing in the cost of an epoch.
FREE = ("epochs", "num_steps", "scheduler", "lr_scale", "lr_scaling")
FREE_OF_RECIPE = ("label_smoothing", "head_lr_scale", "first_lr_scale", "views")
COSTLY_OF_OPTIM = ("_target_", "fused")


def epochs(plain: Mapping[str, Any], facts: Mapping[str, Any], folder: Path | None, measure: Callable[[], int]) -> int:
    """The number of epochs of a configuration with `budget_minutes`.

    A run that has a record keeps the number that it holds; a run of a sweep takes the one in `study.yaml`, which the
    first of its configuration puts there.

    Args:
        plain: The resolved configuration, whatever its epochs.
        facts: What the configuration leaves open, as it came out; see `configuration.digests`.
        folder: Of the run; None where there is none.
        measure: Finds the number.
    """
    if folder is None:
        return measure()
    digest = budget_digest(plain, facts)
    known = record.peek(folder) or {}
    if known.get("budget_digest") == digest and known["epochs"]:
        return int(known["epochs"])
    study = folder.parent / record.STUDY
    if not study.exists():
        return measure()
    with FileLock(folder.parent / record.STUDY_LOCK):  # held while measuring: two at once would slow each other
        held = yaml.safe_load(study.read_text())
        fitted: dict[str, int] = held.get("fitted_epochs") or {}
        if digest not in fitted:
            fitted[digest] = measure()
            record.write_study(folder.parent, held | {"fitted_epochs": fitted})
        return int(fitted[digest])


def of_record(plain: Mapping[str, Any], facts: Mapping[str, Any]) -> dict[str, Any]:
    """What `summary.json` holds of a budget: its minutes and its digest; nothing where there is none."""
    if plain["budget_minutes"] is None:
        return {}
    return {"budget_minutes": plain["budget_minutes"], "budget_digest": budget_digest(plain, facts)}


def budget_digest(plain: Mapping[str, Any], facts: Mapping[str, Any]) -> str:
    """Digest of all of a configuration that an epoch's cost may depend on: not its seed, its rates or its schedule."""
    kept = {key: value for key, value in plain.items() if key not in FREE}
    kept["recipe"] = {key: value for key, value in plain["recipe"].items() if key not in FREE_OF_RECIPE}
    kept["optim"] = {key: value for key, value in plain["optim"].items() if key in COSTLY_OF_OPTIM}
    return configuration.digests(kept, facts)["configuration_digest"]
