"""Names of runs and sweeps, from what was typed."""

import hashlib
import re
from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override

from intel_scenes.record import is_neutral

LABEL_LENGTH = 80


def run_name(overrides: Sequence[str]) -> str:
    """One path component for a run: a readable label and a short hash, from its sorted, parsed overrides.

    The same for any order, for values that parse to the same (`0.1`, `1e-1`), and whatever keys that do not change the
    result are set to.
    """
    texts = sorted(
        f"{'~' if override.is_delete() else ''}{override.get_key_element().lstrip('~+')}={override.value()}"
        for override in _parsed(overrides)
        if not is_neutral(override.key_or_group)
    )
    label = re.sub(r"[^\w.=,+-]+", "_", ",".join(texts)).strip("._")[:LABEL_LENGTH]
    return f"{label or 'defaults'}-{hashlib.sha256(repr(texts).encode()).hexdigest()[:8]}"


def sweep_name(overrides: Sequence[str]) -> str:
    """`by-` and the swept keys, such as `by-model-seed`, in the order of their names."""
    swept = sorted(override.key_or_group for override in _parsed(overrides) if override.is_sweep_override())
    return "by-" + re.sub(r"[^\w.-]+", "_", "-".join(swept))[:LABEL_LENGTH] if swept else "single"


def named(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command, with a name for its sweep where it is a multirun and has none.

    The name is an override because Hydra composes each job anew, and there knows no longer what was swept.
    """
    is_override = [re.match(r"[~+]*[\w./@]+=", argument) is not None for argument in arguments]
    overrides = [argument for argument, is_one in zip(arguments, is_override, strict=True) if is_one]
    is_multirun = bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(arguments))
    if not is_multirun or any(override.lstrip("+").startswith("sweep.name=") for override in overrides):
        return list(arguments)
    return [*arguments, f"sweep.name={sweep_name(overrides)}"]


def _parsed(overrides: Sequence[str]) -> list[Override]:
    return OverridesParser.create().parse_overrides(list(overrides))
