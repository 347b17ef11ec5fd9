"""What was typed: names of runs and sweeps, and a digest of all that it composes to."""

import hashlib
import os
import re
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import yaml
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from omegaconf import OmegaConf

from intel_scenes import record
from intel_scenes.errors import UserError

LABEL_LENGTH = 80
FIRST = ("model", "model.name", "optim", "optim.lr", "lr_scale", "scheduler", "recipe", "data.batch_size", "seed")
DATA_VARIABLE = "INTEL_SCENES_DATA"


def conf_folder() -> Path:
    """The folder of configuration files: inside an installed package, beside it in a source checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.exists() else inside.parent.parent / "conf"


def run_name(overrides: Sequence[str]) -> str:
    """One path component for a run: a readable label and a short hash, from its sorted, parsed overrides.

    The same for any order, for values that parse to the same (`0.1`, `1e-1`), and whatever keys that do not change the
    result are set to. What studies compare stands first in the label, where it is not cut.
    """
    texts = sorted(text for key, text in _texts(overrides).items() if not record.is_neutral(key))
    readable = ",".join(sorted(texts, key=lambda text: _rank(text.lstrip("~").partition("=")[0])))
    label = re.sub(r"[^\w.=,+-]+", "_", readable).strip("._")[:LABEL_LENGTH]
    return f"{label or 'defaults'}-{hashlib.sha256(repr(texts).encode()).hexdigest()[:8]}"


def composition_digest(overrides: Sequence[str]) -> str:
    """Digest of the tree of configuration files, the overrides and the environment: jobs that share it compose alike.

    What only moves or shows a sweep (`sweep.*`, `hydra.*`) is left out; where the data lies is not.
    """
    kept = sorted(text for key, text in _texts(overrides).items() if not re.match(r"(sweep|hydra)\b", key))
    return record.digest([_tree(), kept, os.environ.get(DATA_VARIABLE)])


def sweep_name(overrides: Sequence[str]) -> str:
    """The chosen study, else `by-` and the swept keys, such as `by-model-seed`, in the order of their names.

    Raises:
        UserError: Several studies are chosen.
    """
    parsed = [_parsed(text) for text in overrides]
    for override in parsed:
        if override.key_or_group == "study" and override.is_sweep_override():
            raise UserError(f"{override.input_line} chooses several studies: start a sweep for each")
        if override.key_or_group == "study":
            return str(override.value())
    swept = sorted(override.key_or_group for override in parsed if override.is_sweep_override())
    return "by-" + re.sub(r"[^\w.-]+", "_", "-".join(swept))[:LABEL_LENGTH] if swept else "single"


def named(arguments: Sequence[str]) -> list[str]:
    """The arguments of a command, with a name for its sweep where it is a multirun and has none.

    The name is an override because Hydra composes each job anew, and there knows no longer what was swept.
    """
    overrides = [text for text in arguments if re.match(r"[~+]*[\w./@]+=", text)]
    keys = {text.lstrip("+").partition("=")[0] for text in overrides}
    is_multirun = bool({"-m", "--multirun", "hydra.mode=MULTIRUN"} & set(arguments)) or "study" in keys
    if not is_multirun:
        return list(arguments)
    name = sweep_name(overrides)
    return list(arguments) if "sweep.name" in keys else [*arguments, f"sweep.name={name}"]


def _rank(key: str) -> int:
    return FIRST.index(key) if key in FIRST else len(FIRST)


def _texts(overrides: Sequence[str]) -> dict[str, str]:
    """Each key as it was set last, as a text that is the same for values that parse to the same."""
    texts = {}
    for override in map(_parsed, overrides):
        key = override.get_key_element().lstrip("~+")
        texts[override.key_or_group] = f"{'~' if override.is_delete() else ''}{key}={override.value()}"
    return texts


@cache
def _parsed(override: str) -> Override:
    return OverridesParser.create().parse_override(override)


@cache
def _tree() -> dict[str, str]:
    folder = conf_folder()
    return {str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.yaml"))}


def studies() -> str:
    """The prepared studies, one line with its question for each."""
    questions = {
        path.stem: yaml.safe_load(path.read_text())["study"]["question"]
        for path in sorted((conf_folder() / "study").glob("*.yaml"))
    }
    width = max(map(len, questions))
    return "\n".join(f"  {name.ljust(width)}  {question}" for name, question in questions.items())


# Here rather than in a function, so that a worker process of any launcher has it.
OmegaConf.register_new_resolver("run_name", run_name, replace=True)
OmegaConf.register_new_resolver("studies", studies, replace=True)
