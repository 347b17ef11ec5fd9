"""What Hydra refuses, in our sentences.

Hydra says most of what is wrong in English alone, so its messages are read by regular expressions; what it does not say
(which key was meant) is found by composing the configuration once more. All that is read or called here and is no part
of Hydra's public interface has a test in tests/test_hydra_errors.py.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

# Private, and nothing public composes a configuration without starting Hydra once more, which it allows once only.
from hydra._internal.config_loader_impl import ConfigLoaderImpl

# Private: the search path and the flags (`--config-dir` among them) as hydra.main has them.
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException, ValidationError
from yaml import MarkedYAMLError

from intel_scenes import files, keys, known_keys, record
from intel_scenes.errors import UserError, did_you_mean

CLOSE = 0.85  # similarity (0 to 1) from which a name is suggested before its library is imported to see what it takes

# How messages of Hydra 1.3 begin, with what they name.
NEEDS_MULTIRUN = re.compile(r"Sweep parameters '([^']+)' requires --multirun")  # an interval
SEVERAL_VALUES = re.compile(r"Ambiguous value for argument '([^']+)'")  # `a=1,2`
NO_LAUNCHER = re.compile(r"In 'hydra/launcher/(\w+)': Could not load")  # its plugin is not installed
NO_SUCH_KEY = re.compile(r"Could not override '([^'=\s]+)")  # a group, or a key


class CannotCompose(HydraException):
    """Hydra cannot compose a job of a sweep; its cause says why.

    Attributes:
        job: The overrides.
    """

    def __init__(self, job: Sequence[str]) -> None:
        """Of a job's overrides."""
        super().__init__()
        self.job = list(job)


def sentence(error: BaseException, config_name: str, arguments: Sequence[str], job: Sequence[str] | None = None) -> str:
    """One line for an exception, with the near spellings of what was misspelt.

    Args:
        error: What was raised.
        config_name: Of the command.
        arguments: Of the command.
        job: The overrides of a job of a sweep; None where those of the command are meant.
    """
    if isinstance(error, CannotCompose) and error.__cause__:
        return sentence(error.__cause__, config_name, arguments, error.job)
    if not str(error) and isinstance(error.__cause__, Exception):
        return sentence(error.__cause__, config_name, arguments, job)
    if isinstance(error, UserError):
        return str(error)
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return _of_type(error, config_name) or _of_message(str(error), config_name, arguments, job)


def _of_type(error: BaseException, config_name: str) -> str:
    """The sentence for an exception whose type says what is wrong; else empty."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        there = ", ".join(sorted(error.options))
        return f"{group}={name}: conf/{group} has no such file{did_you_mean(name, error.options)}; there are {there}"
    if isinstance(error, OverrideParseException):
        example = "\"run='a=1'\"" if config_name in ("evaluate", "predict") else "\"model.weights='a=1.pth'\""
        return (
            f"cannot read {error.override!r}: write KEY=VALUE, and a value that holds special characters in quotes of "
            f"its own, such as {example}"
        )
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}, cannot be read as YAML ({error.problem}): mend the file"
    if isinstance(error.__cause__, ValidationError):  # only Hydra's own keys have types: `hydra.job.num=a`
        return f"{error}: {error.__cause__}".split("\n")[0]
    return ""


def _of_message(message: str, config_name: str, arguments: Sequence[str], job: Sequence[str] | None) -> str:
    """The sentence for what a message of Hydra says; of any other message its first line."""
    if found := NEEDS_MULTIRUN.match(message):
        return f"{found[1]}: -m runs a search over an interval"
    if found := SEVERAL_VALUES.match(message):
        return f"{found[1]} has several values: -m runs a sweep over them"
    if found := NO_LAUNCHER.match(message):
        return f"hydra/launcher={found[1]} needs an extra, joblib, slurm or ray: see the README"
    if found := NO_SUCH_KEY.match(message):
        return _no_such_key(found[1], config_name, arguments, job)
    return message.strip().split("\n")[0]


def _no_such_key(key: str, config_name: str, arguments: Sequence[str], job: Sequence[str] | None) -> str:
    """What to say of a key, or group, that was set and stands in no file that was chosen."""
    plain = _composed_with(key, config_name, arguments, job)
    near = known_keys.nearest(key, [name for name in files.flatten(plain) if name != key], cutoff=CLOSE)
    unknown = known_keys.unknown_keys(plain, config_name, with_targets=False)
    if key not in unknown and near:
        return f"{known_keys.no_such_key(key, near)}; --help lists all keys"
    if key not in unknown:
        unknown = known_keys.unknown_keys(plain, config_name)
    if key in unknown:
        return f"{unknown[key]}; --help lists all keys"
    if "sweep.name" in record.keys_of(arguments):  # `+` is an error for those of its files that have the key
        return f"not every file that is swept has {key}: ++{key}=VALUE sets it"
    return f"no file that was chosen has {key}: +{key}=VALUE adds it"


def _composed_with(key: str, config_name: str, arguments: Sequence[str], job: Sequence[str] | None) -> dict[str, Any]:
    """The configuration that was asked for, else the default one, with a key that no file has.

    Args:
        key: The key.
        config_name: Of the command.
        arguments: Of the command.
        job: The overrides of a job of a sweep; None takes those of the command.

    Returns:
        Plain values, which may hold any keys: what is asked of them is which are unknown.
    """
    asked = get_args_parser().parse_args(list(arguments))
    places = create_config_search_path(str(keys.conf_folder()))
    if asked.config_dir:
        places.prepend("command-line", f"file://{Path(asked.config_dir).absolute()}")
    loader, added = ConfigLoaderImpl(places), f"++{key}=null"
    typed = OverridesParser.create().parse_overrides(asked.overrides if job is None else list(job))
    as_typed = [text for override in typed if (text := _as_single(override, loader))]
    for texts in ([*as_typed, added], [added]):
        with suppress(HydraException, OmegaConfBaseException):
            cfg = loader.load_configuration(config_name, texts, RunMode.RUN)
            plain: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
            return {name: value for name, value in plain.items() if name != "hydra"}
    return {key: None}


def _as_single(override: Override, loader: ConfigLoader) -> str:
    """An override that chooses a file, the first one of a sweep; any other key is set whether or not a file has it."""
    key, text = override.key_or_group, override.input_line or ""
    if override.is_delete() or key.startswith("hydra"):
        return text
    if loader.get_group_options(key):
        return f"{key}={next(override.sweep_string_iterator())}" if override.is_discrete_sweep() else text
    return f"++{key}=null" if override.is_sweep_override() else f"++{text.lstrip('+')}"
