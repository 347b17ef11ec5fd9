"""What all commands share: Hydra started, `conf/` found, errors turned into one sentence and an exit status."""

import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from importlib.metadata import version
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra._internal.utils import create_config_search_path, get_args_parser
from hydra.core.config_loader import ConfigLoader
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from intel_scenes import files, keys, known_keys, record
from intel_scenes.errors import UserError, did_you_mean
from intel_scenes.sweeps import names as overrides
from intel_scenes.sweeps import runner as sweep

INTERRUPTED = 130
CLOSE = 0.85  # similarity (0 to 1) from which a name is suggested before its library is imported to see what it takes


def start(config_name: str, command: Callable[[DictConfig, sweep.Job], None], *, can_sweep: bool = False) -> NoReturn:
    """Runs a command under Hydra and ends the process.

    Exit status 0 where all went well, 1 after an error (one sentence on stderr, a traceback only for what no user can
    mend), 3 where runs of a sweep are held elsewhere, 130 after Ctrl-C. In a multirun an error ends its own job alone.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us instead of being printed by Hydra
    failed = False

    def job(cfg: DictConfig) -> str | None:
        nonlocal failed
        _quiet()  # here, so that the workers of a launcher are quiet too
        this = _job()
        if HydraConfig.get().mode == RunMode.MULTIRUN:
            return sweep.run_one(lambda: command(cfg, this), cfg, this)
        try:
            known_keys.check_keys(OmegaConf.to_container(cfg), config_name, with_targets=False)  # type: ignore[arg-type]
            if can_sweep:
                _refuse_keys_of_sweeps(this.overrides)
                _refuse_idle_without(cfg, this.overrides)
            command(cfg, this)
        except Exception as error:  # Hydra would print it in its own words
            failed = True
            leave_nothing(this.folder)
            if not isinstance(error, UserError | OmegaConfBaseException | OSError):
                traceback.print_exc()
            _tell(_sentence(error, config_name))
        return None

    if "--version" in sys.argv[1:]:  # before Hydra, which would say its own
        say(f"intel_scenes {version('intel-scenes')}")
        sys.exit(0)
    try:
        sys.argv[1:] = overrides.named(sys.argv[1:]) if can_sweep else sys.argv[1:]
        _check_arguments(sys.argv[1:], can_sweep=can_sweep)
        hydra.main(version_base="1.3", config_path=str(keys.conf_folder()), config_name=config_name)(job)()
    except KeyboardInterrupt:
        _tell("interrupted: the same command goes on where it stopped" if can_sweep else "interrupted")
        sys.exit(INTERRUPTED)
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        _tell(_sentence(error, config_name))
        sys.exit(1)
    except RecursionError:
        _tell("a configuration file includes itself: in the defaults of a file, another of its group is `- NAME`")
        sys.exit(1)
    sys.exit(1 if failed else 0)


def _refuse_keys_of_sweeps(typed: Sequence[str]) -> None:
    keys = record.keys_of(typed)
    if "study" in keys:
        raise UserError("study=NAME is a sweep and this a single run: its file needs hydra.mode: MULTIRUN")
    for key in sorted(keys):
        if re.match(r"(sweep|study|compare)\.", key) and key != "sweep.redo":
            raise UserError(f"{key} has no effect on a single run: leave it out, or add -m or study=NAME")


def _refuse_idle_without(cfg: DictConfig, typed: Sequence[str]) -> None:
    """Refuses to take out what the recipe does not have; in a sweep such a run is named as the same as another."""
    for taken_out in {text for text in typed if text.startswith("without=")} - {"without=nothing"}:
        others = [text for text in typed if text != taken_out]
        composed = GlobalHydra.instance().config_loader().load_configuration("train", others, RunMode.RUN)
        whole = OmegaConf.masked_copy(composed, [str(key) for key in cfg])
        if OmegaConf.to_container(whole) == OmegaConf.to_container(cfg):
            raise UserError(f"{taken_out} has no effect: the recipe does not have that, leave it out")


def _quiet() -> None:
    """Shows our own notices and the warnings of others, but for one that no user can act on."""
    # Of Lightning's own code on torch 2.10 and later (Lightning-AI/pytorch-lightning#21326).
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("intel_scenes").setLevel(logging.INFO)


def leave_nothing(folder: Path) -> None:
    """Removes the empty folders that Hydra made for a command that writes none."""
    for made in (folder, folder.parent):
        if made.resolve() not in (Path.cwd(), *Path.cwd().parents):
            sweep.remove_empty(made)


def output_file(name: str, key: str = "output") -> Path:
    """The file that `output`, or another key, names, where it can be written: asked before the work, not after it.

    Raises:
        UserError: It is a folder, or its folder cannot be written to.
    """
    output = Path(name).expanduser()
    if output.is_dir() or not _can_be_written(output.absolute().parent):
        raise UserError(f"{key}={output} cannot be written: name a file in a folder that can")
    return output


def output_folder(name: str) -> Path:
    """The folder that `output` names, where it can be written: asked before the work, not after it.

    Raises:
        UserError: It is a file, or cannot be made or written to.
    """
    output = Path(name).expanduser()
    if not _can_be_written(output.absolute()):
        raise UserError(f"output={output} cannot be written: name a folder that can")
    return output


def _can_be_written(folder: Path) -> bool:
    """Whether files can be made in a folder, or that in one of its parents where it is not there yet."""
    there = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
    return there.is_dir() and os.access(there, os.W_OK | os.X_OK)


def say(text: str) -> None:
    """Prints what a command has to say."""
    print(text)


def show(summary: Mapping[str, Any], folder: Path, *, is_one_of_many: bool) -> None:
    """Prints what came out of a run: a short table, or a line where a sweep ends with a table of its own."""
    low, high = summary["test_accuracy_interval"]
    minutes, seconds = divmod(round(summary["fit_seconds"]), 60)
    if is_one_of_many:
        print(f"  validation accuracy {summary['val_accuracy']:.1%}, training time {minutes} min {seconds} s")
        return
    best = f"best epoch {summary['best_epoch'] + 1} of {summary['epochs']}"
    print(f"\n{summary['model_name']}, {summary['optim']}, {summary['scheduler']}, seed {summary['seed']}")
    print(f"  train accuracy       {summary['train_accuracy']:6.1%}   in evaluation mode, without augmentation")
    print(f"  validation accuracy  {summary['val_accuracy']:6.1%}   {best}")
    print(f"  test accuracy        {summary['test_accuracy']:6.1%}   95 % interval {low:.1%} to {high:.1%}")
    print(f"  training time         {minutes} min {seconds} s")
    print(f"  written to            {os.path.relpath(folder)}")


def _job() -> sweep.Job:
    config = HydraConfig.get()
    typed = tuple(config.overrides.task)
    return sweep.Job(
        folder=Path(config.runtime.output_dir),
        choices={str(group): name and str(name) for group, name in config.runtime.choices.items()},
        overrides=typed,
        composition_digest=overrides.composition_digest(typed),
    )


def _check_arguments(arguments: Sequence[str], *, can_sweep: bool) -> None:
    if not can_sweep and {"-m", "--multirun"} & set(arguments):
        raise UserError("-m is for sweeps, and this command does one thing at a time: leave it out")
    _, unknown = get_args_parser().parse_known_args(arguments)
    if unknown:
        raise UserError(f"there is no flag {unknown[0]}: a key is set by KEY=VALUE, --help lists all")
    for text in arguments:  # Hydra fails in its own code over a group that is null
        group, _, value = text.lstrip("+").partition("=")
        if value == "null" and group != "study" and (keys.conf_folder() / group).is_dir():
            raise UserError(f"{text}: {group}=NAME chooses a file of conf/{group}, --help lists them")


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _sentence(error: BaseException, config_name: str, job: Sequence[str] | None = None) -> str:
    """One line for an exception, with the near spellings of what was misspelt.

    Args:
        error: What was raised.
        config_name: Of the command.
        job: The overrides of a job of a sweep; None where those that were typed are meant.
    """
    if isinstance(error, overrides.CannotCompose) and error.__cause__:
        return _sentence(error.__cause__, config_name, error.job)
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        there = ", ".join(sorted(error.options))
        return f"{group}={name}: conf/{group} has no such file{did_you_mean(name, error.options)}; there are {there}"
    if isinstance(error, OverrideParseException):
        example = "\"run='a=1'\"" if config_name == "evaluate" else "\"model.weights='a=1.pth'\""
        return (
            f"cannot read {error.override!r}: write KEY=VALUE, and a value that holds special characters in quotes of "
            f"its own, such as {example}"
        )
    if isinstance(error, MissingMandatoryValue):
        return f"{error.full_key} is not given: set {error.full_key}=VALUE"
    text = (
        f"{error.filename}: {error.strerror}"
        if isinstance(error, OSError) and error.strerror and error.filename
        else str(error)
    )
    if found := re.search(r"^Sweep parameters '([^']+)' requires --multirun", text):
        return f"{found[1]}: -m runs a search over an interval"
    if found := re.search(r"^In 'hydra/launcher/(\w+)': Could not load", text):
        return f"hydra/launcher={found[1]} needs an extra, joblib, slurm or ray: see the README"
    if found := re.search(r"^Ambiguous value for argument '([^']+)'", text):
        return f"{found[1]} has several values: -m runs a sweep over them"
    if found := re.search(r"^(?:Could not override|Error merging override) '?\+*([^'=\s]+)", text):
        return _not_there(found[1], config_name, job)
    if not text and isinstance(error.__cause__, Exception):
        return _sentence(error.__cause__, config_name, job)
    return text if isinstance(error, UserError) else text.strip().split("\n")[0]


def _not_there(key: str, config_name: str, job: Sequence[str] | None) -> str:
    """What to say of a key, or group, that was set and stands in no file that was chosen."""
    plain = _composed_with(key, config_name, job)
    near = known_keys.nearest(key, [name for name in files.flatten(plain) if name != key], cutoff=CLOSE)
    unknown = known_keys.unknown_keys(plain, config_name, with_targets=False)
    if key not in unknown and near:
        return f"{known_keys.no_such_key(key, near)}; --help lists all keys"
    if key not in unknown:
        unknown = known_keys.unknown_keys(plain, config_name)
    if key in unknown:
        return f"{unknown[key]}; --help lists all keys"
    if "sweep.name" in record.keys_of(sys.argv):  # `+` is an error for those of its files that have the key
        return f"not every file that is swept has {key}: ++{key}=VALUE sets it"
    return f"no file that was chosen has {key}: +{key}=VALUE adds it"


def _composed_with(key: str, config_name: str, job: Sequence[str] | None) -> dict[str, Any]:
    """The configuration that was asked for, else the default one, with a key that no file has."""
    asked = get_args_parser().parse_args(sys.argv[1:])
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
