"""Overrides as they are typed: parsed, compared between jobs, and digested with the files that they choose."""

import hashlib
import os
import re
import shlex
from collections.abc import Sequence
from functools import cache
from pathlib import Path

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException

from intel_scenes import files
from intel_scenes.digests import is_neutral
from intel_scenes.keys import conf_folder

DATA_VARIABLE = "INTEL_SCENES_DATA"

Overrides = Sequence[str]  # overrides of a job, as they were typed


def is_override(argument: str) -> bool:
    """Return whether an argument of a command looks like an override; all others are flags."""
    return bool(re.match(r"[~+]*[\w./@]+=|~", argument))


@cache
def parsed(override: str) -> Override:
    """Return an override as Hydra parses it, whose errors quote it."""
    return OverridesParser.create().parse_overrides([override])[0]


def normalized(overrides: Overrides) -> dict[str, str]:
    """Return the last setting of each key, as `key=value` or `~key=value`; equal where the values parse equally."""
    texts = {}
    for override in map(parsed, overrides):
        key = override.get_key_element().lstrip("~+")
        texts[override.key_or_group] = f"{'~' if override.is_delete() else ''}{key}={override.value()}"
    return texts


def values_by_key(overrides: Overrides) -> dict[str, str]:
    """Return the last value of each key, as text; equal where the values parse equally."""
    return {key: text.partition("=")[2] for key, text in normalized(overrides).items()}


def in_yaml(setting: str) -> str:
    """Return a normalized `key=value` with true, false and null as they are typed."""
    key, _, value = setting.partition("=")
    return f"{key}={files.yaml_word(value)}"


def shared_and_swept(jobs: Sequence[Overrides]) -> tuple[dict[str, str], set[str]]:
    """Return the overrides that all jobs share, by key, and the keys in which jobs differ.

    The seed and neutral keys are left out. The overrides of a whole command, which give a key several values, may stand
    for its jobs.
    """
    shared: dict[str, str] = {}
    swept: set[str] = set()
    for place, job in enumerate(jobs):
        by_key = {override.key_or_group: override for override in map(parsed, job)}
        by_key = {key: override for key, override in by_key.items() if key != "seed" and not is_neutral(key)}
        swept |= {key for key, override in by_key.items() if override.is_sweep_override()}
        texts = {key: str(override.input_line) for key, override in by_key.items()}
        shared = shared if place else texts
        swept |= {key for key in shared.keys() | texts.keys() if shared.get(key) != texts.get(key)}
    return {key: text for key, text in shared.items() if key not in swept}, swept


def of_command(command: str) -> list[str] | None:
    """Return the overrides of a command from `study.yaml`; None where they cannot be parsed."""
    try:
        return [str(parsed(text).input_line) for text in shlex.split(command) if is_override(text)]
    except (ValueError, HydraException):
        return None


def composition_digest(overrides: Overrides) -> str:
    """Return a digest of the configuration files, the overrides and the environment: jobs that share it compose alike.

    A file named by an override counts by its content. Keys that only place or display a sweep (`sweep.*`, `hydra.*`)
    are left out; `data.root` is not.
    """
    kept = sorted(text for key, text in normalized(overrides).items() if not re.match(r"(sweep|hydra)\b", key))
    contents = [_file_digest(text.partition("=")[2]) for text in kept]
    return files.digest([_tree_digest(), kept, contents, os.environ.get(DATA_VARIABLE)])


@cache
def _tree_digest() -> str:
    folder = conf_folder()
    return files.digest({str(path.relative_to(folder)): path.read_text() for path in sorted(folder.rglob("*.yaml"))})


def _file_digest(value: str) -> str | None:
    if "/" not in value and "." not in value:
        return None
    try:
        path = Path(value).expanduser()
        return _content_digest(path, path.stat().st_mtime_ns) if path.is_file() else None
    except (OSError, RuntimeError):  # a sentence that is too long for a path, or the home of an unknown user
        return None


@cache
def _content_digest(path: Path, _changed: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
