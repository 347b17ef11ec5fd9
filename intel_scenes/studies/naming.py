"""What a study compares, and what its arms are called."""

from collections.abc import Mapping, Sequence
from typing import Any

from intel_scenes import record
from intel_scenes.studies.collect import Run, value_of, varying

SAY_NOTHING = ("true", "false", "none", "null", "default")  # values that need their key


def factors_of(
    study: Mapping[str, Any], completed: Sequence[Run], failed: Sequence[Run]
) -> tuple[list[str], list[str]]:
    """What is compared, and what is tuned within that: the plan's factors that vary, and whatever else varies."""
    factors = [key for key in varying([*completed, *(run for run in failed if run.overrides)]) if key != "seed"]
    planned = [key for key in study.get("compared") or [] if isinstance(key, str)]
    if not factors:  # a single arm is named after what the study compares
        return list(dict.fromkeys(planned)), []
    tuned = [key for key in factors if key in (study.get("tuned") or [])]
    compared = [key for key in [*planned, *factors] if key in factors and key not in tuned]
    return list(dict.fromkeys(compared)), tuned


def with_recipe(runs: Sequence[Run], factors: Sequence[str], study: Mapping[str, Any]) -> list[str]:
    """Keys whose values go with the recipe: an arm is named after that alone."""
    planned = study.get("compared") or []
    if "recipe" not in factors:
        return []
    recipes = {value_of(run, "recipe") for run in runs}
    return [
        key
        for key in factors
        if key not in (*record.GROUP_KEYS, *planned)
        and len({(value_of(run, "recipe"), value_of(run, key)) for run in runs}) == len(recipes)
    ]


def told_once(runs: Sequence[Run], keys: Sequence[str]) -> list[str]:
    """What each recipe goes with, where its name stands for that too."""
    if not keys:
        return []
    said = {
        value_of(run, "recipe"): ", ".join(f"{key}={value_of(run, key)}" for key in keys if key in run.overrides)
        for run in runs
    }
    goes_with = "; ".join(f"{recipe} with {values or 'its own values'}" for recipe, values in sorted(said.items()))
    return [f"arms are named after their recipe alone: {goes_with}"]


def label_of(values: Mapping[str, str], keys: Sequence[str]) -> str:
    """The files of groups and otherwise keys with their values, such as `resnet18/sgd/momentum=0.9`.

    A single key is left out, but where its value alone says nothing, such as `compile=true`.
    """
    parts = [
        values[key]
        if key in record.GROUP_KEYS or (len(keys) == 1 and values[key].lower() not in SAY_NOTHING)
        else f"{key.rpartition('.')[2]}={values[key]}"
        for key in keys
    ]
    return "/".join(parts) or "all runs"


def few(texts: Sequence[str], num: int = 4) -> str:
    """The first of several texts, and how many more there are."""
    return ", ".join(texts[:num]) + (f" and {len(texts) - num} more" if len(texts) > num else "")
