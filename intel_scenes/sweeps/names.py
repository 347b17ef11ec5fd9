"""Names of runs and of sweeps, made from what was typed."""

import hashlib
import re
from collections.abc import Sequence
from pathlib import Path

from intel_scenes import record
from intel_scenes.digests import is_neutral
from intel_scenes.errors import UserError
from intel_scenes.sweeps.overrides import Overrides, is_override, normalized, parsed

LABEL_LENGTH = 80
FIRST = ("model", "model.name", "optim", "optim.lr", "lr_scale", "scheduler", "recipe", "data.batch_size", "seed")
EMPTY = ("sweep.name=", "hydra.run.dir=", "hydra.sweep.dir=")
# Keys that only our sweeper understands.
OF_SCENES = (
    *("sweep.trials", "sweep.confirm", "sweep.confirm_best", "sweep.plan", "sweep.plan_file", "sweep.shard"),
    "study_minutes",
)
OF_SHARDS = ("sweep.shard=", "sweep.plan_file=")  # say where a run is trained, so its record does not hold them
UNNAMED = "+hydra.sweeper.is_named=false"  # precedes a sweep.name that was not typed


def run_name(overrides: Overrides, parent: str | Path | None = None) -> str:
    """Return the folder name of a run: a readable label and a short hash, from its sorted, parsed overrides.

    It does not depend on the order, on how a value is written (`0.1`, `1e-1`), or on neutral keys. What studies compare
    comes first in the label, which is cut at 80 characters; the seed is kept where it is cut.

    Args:
        overrides: What was typed.
        parent: Folder that holds the run. Earlier versions cut the seed off; an existing run keeps such a name.
    """
    texts = {key: text for key, text in normalized(overrides).items() if not is_neutral(key)}
    digest = hashlib.sha256(repr(sorted(texts.values())).encode()).hexdigest()[:8]
    readable = sorted(sorted(texts.values()), key=lambda text: _rank(text.lstrip("~").partition("=")[0]))
    cut = f"{_label(readable)[:LABEL_LENGTH] or 'defaults'}-{digest}"
    seed = texts.get("seed", "")
    up_to_seed = readable[: readable.index(seed) + 1] if seed else []
    of_seed, others = _label([seed]), _label([text for text in readable if text != seed])
    if len(_label(up_to_seed)) <= LABEL_LENGTH or len(of_seed) >= LABEL_LENGTH:
        return cut
    if parent is not None and _is_there(Path(parent), cut):
        return cut
    return f"{others[: LABEL_LENGTH - len(of_seed) - 1].rstrip(',')},{of_seed}-{digest}"


def _label(texts: Sequence[str]) -> str:
    return re.sub(r"[^\w.=,+-]+", "_", ",".join(texts)).strip("._")


def _is_there(parent: Path, name: str) -> bool:
    """Return whether a folder holds a run of this name, or a study that plans it."""
    study = parent / record.STUDY
    return (parent / name).is_dir() or (study.is_file() and name in study.read_text())


def _rank(key: str) -> int:
    """Return the place of a key in a label: what studies compare comes first; data and machine come last."""
    if key in FIRST:
        return FIRST.index(key)
    return len(FIRST) + (not key.startswith(("recipe", "optim", "scheduler", "augment")))


def sweep_name(overrides: Overrides) -> str:
    """Return the chosen study, else `by-` and the sorted swept keys, such as `by-model-seed`.

    Raises:
        UserError: Several studies are chosen.
    """
    typed = [parsed(text) for text in overrides]
    for override in typed:
        if override.key_or_group == "study" and override.is_sweep_override():
            raise UserError(f"{override.input_line} chooses several studies: start a sweep for each")
        if override.key_or_group == "study":
            if override.value() is None:
                raise UserError(f"{override.input_line} chooses no study, which is the default: leave it out")
            return str(override.value())
    swept = sorted(override.key_or_group for override in typed if override.is_sweep_override())
    return "by-" + re.sub(r"[^\w.-]+", "_", "-".join(swept))[:LABEL_LENGTH] if swept else "single"


def with_sweep_name(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command, flags first, with a name for its sweep if it is a multirun without one.

    The name is an override because Hydra composes each job anew, and then no longer knows what was swept. `UNNAMED`
    before it tells the sweeper that it was not typed.

    Raises:
        UserError: A folder name is empty, or another sweeper is given keys of ours.
    """
    overrides = [text for text in arguments if is_override(text)]
    arguments = [*(text for text in arguments if text not in overrides), *overrides]
    keys = record.keys_of(overrides)
    for text in overrides:
        if text in EMPTY:
            raise UserError(f"{text} is empty: name a folder, or leave it out")
    is_multirun = bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(arguments)) or "study" in keys
    if not is_multirun:
        return list(arguments)
    name = sweep_name(overrides)
    if ignored := sorted(keys.intersection(OF_SCENES)) if "hydra/sweeper" in keys else []:
        other = next(text for text in overrides if text.startswith("hydra/sweeper="))
        if other != "hydra/sweeper=scenes":
            raise UserError(
                f"{ignored[0]} has no effect with {other}, a sweeper that ignores it: leave one of them out"
            )
    if "sweep.name" in keys:
        return list(arguments)
    mark = [] if "hydra/sweeper" in keys else [UNNAMED]  # another sweeper would refuse it
    return [*arguments, *mark, f"sweep.name={name}"]


def as_typed(arguments: Sequence[str]) -> list[str]:
    """Return the arguments of a command without what `with_sweep_name` added."""
    return list(arguments[: arguments.index(UNNAMED)]) if UNNAMED in arguments else list(arguments)
