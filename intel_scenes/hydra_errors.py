"""Errors of Hydra as sentences of our own.

Hydra describes most errors only in its messages, which are read here by regular expressions; what they lack (which key
was meant) is found by composing the configuration once more. All parts of Hydra that are used here without being public
have a test in tests/test_hydra_errors.py.
"""

import re
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

# Private: the public functions compose a configuration only by starting Hydra, which is possible only once.
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
from intel_scenes.errors import UserError, did_you_mean, lack_of_memory

CLOSE = 0.85  # similarity (0 to 1) from which a name is suggested without importing its library for other names
EXTRAS = {"joblib": "joblib", "slurm": "slurm", "submitit": "slurm", "ray": "ray"}  # by part of a launcher's name

# Beginnings of messages of Hydra 1.3, with the name that each holds.
NEEDS_MULTIRUN = re.compile(r"Sweep parameters '([^']+)' requires --multirun")  # an interval
SEVERAL_VALUES = re.compile(r"Ambiguous value for argument '([^']+)'")  # `a=1,2`
NO_LAUNCHER = re.compile(r"In 'hydra/launcher/(\w+)': Could not load")  # its plugin is not installed
NO_SUCH_KEY = re.compile(r"Could not override '([^'=\s]+)")  # a group, or a key


class CannotCompose(HydraException):
    """Hydra cannot compose a job of a sweep; the cause of this error tells why.

    Attributes:
        job: Overrides of the job.
    """

    def __init__(self, job: Sequence[str]) -> None:
        """Initialize with the overrides of the job."""
        super().__init__()
        self.job = list(job)


def sentence(error: BaseException, config_name: str, arguments: Sequence[str], job: Sequence[str] | None = None) -> str:
    """Return an exception as one line, with suggestions for a misspelled name.

    Args:
        error: The exception.
        config_name: Name of the command's configuration.
        arguments: Arguments of the command.
        job: Overrides of a job of a sweep; None where those of the command failed.
    """
    if isinstance(error, CannotCompose) and error.__cause__:
        return sentence(error.__cause__, config_name, arguments, error.job)
    if not str(error) and isinstance(error.__cause__, Exception):
        return sentence(error.__cause__, config_name, arguments, job)
    if isinstance(error, UserError):
        return str(error)
    if reason := lack_of_memory(error):
        return f"out of memory ({reason}): lower the batch size or the image size, or choose another model"
    if isinstance(error, OSError) and error.strerror and error.filename:
        return f"{error.filename}: {error.strerror}"
    return _of_type(error, config_name) or _of_message(str(error), config_name, arguments, job)


def _of_type(error: BaseException, config_name: str) -> str:
    """Return the sentence for an exception whose type tells what is wrong; else an empty text."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        names = ", ".join(sorted(error.options))
        other = f"; model=torchvision model.name={name} takes any of torchvision's, model=timm any of timm's"
        return (
            f"{group}={name}: conf/{group} has no such file{did_you_mean(name, error.options)}; it has {names}"
            f"{other if group == 'model' else ''}"
        )
    if isinstance(error, OverrideParseException):
        example = "\"run='a=1'\"" if config_name in ("evaluate", "predict") else "\"model.weights='a=1.pth'\""
        return (
            f"{error.override!r} cannot be parsed: write KEY=VALUE, and quote a value with special characters, such as "
            f"{example}"
        )
    if isinstance(error, MarkedYAMLError) and error.problem_mark is not None:
        mark = error.problem_mark
        return f"{mark.name}, line {mark.line + 1}, is not valid YAML ({error.problem}): fix the file"
    if isinstance(error.__cause__, ValidationError):  # only Hydra's own keys are typed, such as `hydra.job.num=a`
        return f"{error}: {error.__cause__}".split("\n")[0]
    return ""


def _of_message(message: str, config_name: str, arguments: Sequence[str], job: Sequence[str] | None) -> str:
    """Return the sentence for a known message of Hydra, or the first line of any other message."""
    if match := NEEDS_MULTIRUN.match(message):
        return f"{match[1]} sets an interval: add -m to search it"
    if match := SEVERAL_VALUES.match(message):
        return f"{match[1]} has several values: add -m to sweep over them"
    if match := NO_LAUNCHER.match(message):
        extra = next((extra for part, extra in EXTRAS.items() if part in match[1]), "joblib,slurm,ray")
        return f'hydra/launcher={match[1]} is not installed: run pip install "intel-scenes[{extra}]"'
    if match := NO_SUCH_KEY.match(message):
        return _no_such_key(match[1], config_name, arguments, job)
    return message.strip().split("\n")[0]


def _no_such_key(key: str, config_name: str, arguments: Sequence[str], job: Sequence[str] | None) -> str:
    """Return the sentence for a key or group that was set but is in none of the chosen files."""
    plain = _composed_with(key, config_name, arguments, job)
    near = known_keys.nearest(key, [name for name in files.flatten(plain) if name != key], cutoff=CLOSE)
    unknown = known_keys.unknown_keys(plain, config_name, with_targets=False)
    if key not in unknown and near:
        return f"{known_keys.no_such_key(key, near)}; --help lists all keys"
    if key not in unknown:
        unknown = known_keys.unknown_keys(plain, config_name)
    if key in unknown:
        return f"{unknown[key]}; --help lists all keys"
    if "sweep.name" in record.keys_of(arguments):  # `+` would be an error for those of its files that have the key
        return f"some of the files that are swept do not have {key}: set it with ++{key}=VALUE"
    return f"none of the chosen files has {key}: add it with +{key}=VALUE"


def _composed_with(key: str, config_name: str, arguments: Sequence[str], job: Sequence[str] | None) -> dict[str, Any]:
    """Return the requested configuration, else the default one, with a key that no file has.

    Args:
        key: The key.
        config_name: Name of the command's configuration.
        arguments: Arguments of the command.
        job: Overrides of a job of a sweep; None takes those of the command.

    Returns:
        Plain values; which of their keys are unknown is still to be checked.
    """
    options = get_args_parser().parse_args(list(arguments))
    search_path = create_config_search_path(str(keys.conf_folder()))
    if options.config_dir:
        search_path.prepend("command-line", f"file://{Path(options.config_dir).absolute()}")
    loader, added = ConfigLoaderImpl(search_path), f"++{key}=null"
    typed = OverridesParser.create().parse_overrides(options.overrides if job is None else list(job))
    as_typed = [text for override in typed if (text := _as_single(override, loader))]
    for texts in ([*as_typed, added], [added]):
        with suppress(HydraException, OmegaConfBaseException):
            cfg = loader.load_configuration(config_name, texts, RunMode.RUN)
            plain: dict[str, Any] = OmegaConf.to_container(cfg)  # type: ignore[assignment]
            return {name: value for name, value in plain.items() if name != "hydra"}
    return {key: None}


def _as_single(override: Override, loader: ConfigLoader) -> str:
    """Return an override of a group with its first file only; any other key is set whether or not a file has it."""
    key, text = override.key_or_group, override.input_line or ""
    if override.is_delete() or key.startswith("hydra"):
        return text
    if loader.get_group_options(key):
        return f"{key}={next(override.sweep_string_iterator())}" if override.is_discrete_sweep() else text
    return f"++{key}=null" if override.is_sweep_override() else f"++{text.lstrip('+')}"
