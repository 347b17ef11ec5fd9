"""What a study compares, and what its arms are called."""

import re
from collections.abc import Mapping, Sequence

from intel_scenes import record
from intel_scenes.studies.collect import Run, as_written, value_of, varying

OTHER_GROUPS = ("augment", "data", "trainer", "without")  # whose files' names stand alone where nothing else varies
SAY_NOTHING = ("true", "false", "none", "null", "default")  # values that need their key


def factors_of(plan: record.StudyPlan, completed: Sequence[Run], failed: Sequence[Run]) -> tuple[list[str], list[str]]:
    """What is compared, and what is tuned within that: the plan's factors that vary, and whatever else varies."""
    factors = [key for key in varying([*completed, *(run for run in failed if run.overrides)]) if key != "seed"]
    if not factors:  # a single arm is named after what the study compares
        return list(dict.fromkeys(plan.compared)), []
    tuned = [key for key in factors if key in plan.tuned]
    compared = [key for key in [*plan.compared, *factors] if key in factors and key not in tuned]
    return list(dict.fromkeys(compared)), tuned


def with_recipe(runs: Sequence[Run], factors: Sequence[str], planned: Sequence[str]) -> list[str]:
    """Keys whose values go with the recipe and are not planned: an arm is named after the recipe alone."""
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
    """The files of groups and otherwise keys with their values, such as `resnet18/sgd/optim.momentum=0.9`."""
    parts = []
    for key in keys:
        is_alone = len(keys) == 1 and key in OTHER_GROUPS and values[key].lower() not in SAY_NOTHING
        parts.append(values[key] if key in record.GROUP_KEYS or is_alone else f"{key}={values[key]}")
    return "/".join(parts) or "all runs"


def is_named(label: str, text: str) -> bool:
    """Whether a text means the arm of a label: the label itself, its keys without their groups, or its values alone.

    A number may be written in any way.
    """
    parts = [part.rpartition("=") for part in text.split("/")]
    wanted = "/".join(f"{key}{sign}{as_written(value)}" for key, sign, value in parts)
    short, values = re.sub(r"[\w.]+\.(?=\w+=)", "", label), re.sub(r"[\w.]+=", "", label)
    return text == label or wanted in (label, short, values)


def few(texts: Sequence[str], num: int = 4) -> str:
    """The first of several texts, and how many more there are."""
    return ", ".join(texts[:num]) + (f" and {len(texts) - num} more" if len(texts) > num else "")
