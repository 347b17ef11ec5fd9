"""Start of all commands: Hydra with the files of `conf/`, and errors as one sentence with an exit status."""

import atexit
import gc
import logging
import os
import re
import shutil
import signal
import sys
import traceback
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra

# Private: Hydra's own parser of flags, which otherwise ends the process at an unknown flag with its own message.
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from intel_scenes import __version__, config, keys, record, usage
from intel_scenes.composition import configured, refuse_idle_without
from intel_scenes.config import RunConfig
from intel_scenes.errors import UserError, lack_of_memory, percentage, printable
from intel_scenes.hydra_errors import sentence
from intel_scenes.record import Origin, Summary
from intel_scenes.sweeps import names
from intel_scenes.sweeps import runner as sweep
from intel_scenes.sweeps.overrides import composition_digest

INTERRUPTED = 130
NARROWEST, WIDEST = 60, 120  # columns of --help


def start(config_name: str, command: Callable[[Any, sweep.Job], None], *, can_sweep: bool = False) -> NoReturn:
    """Run a command under Hydra and end the process.

    The command takes the configuration of its name in `config.COMMANDS`.

    The exit status is 0 on success, 1 after an error (one sentence on stderr, a traceback only for what a user cannot
    fix), 3 where runs of a sweep are open, 130 after Ctrl-C, 143 after SIGTERM, 138 after SIGUSR1. In a multirun an
    error ends only its own job.
    """
    atexit.register(_free_nothing)  # first, so that it runs last
    os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra raises exceptions instead of printing them
    failed = False

    def job(cfg: DictConfig) -> sweep.Outcome | None:
        nonlocal failed
        _set_up_logging()  # here, so that the workers of a launcher do so too
        hydra_config = HydraConfig.get()
        task = tuple(hydra_config.overrides.task)
        typed = tuple(text for text in task if not text.lstrip("+").startswith(names.OF_SHARDS))
        choices = {str(group): name and str(name) for group, name in hydra_config.runtime.choices.items()}
        this = sweep.Job(Path(hydra_config.runtime.output_dir), Origin(typed, choices, composition_digest(typed)))
        if hydra_config.mode == RunMode.MULTIRUN:
            return sweep.run_one(command, lambda: configured(cfg, RunConfig), this)
        try:
            configuration = configured(cfg, config.COMMANDS[config_name])
            if can_sweep:
                refuse_keys_of_sweeps(task)
                refuse_idle_without(cfg, this.origin.overrides)
            command(configuration, this)
        except Exception as error:  # Hydra would print it in its own words
            failed = True
            leave_nothing(this.folder)
            if not isinstance(error, UserError | OSError) and not lack_of_memory(error):
                traceback.print_exc()
            _tell(sentence(error, config_name, sys.argv[1:]))
        return None

    if "--version" in sys.argv[1:]:  # before Hydra, which would print its own version
        say(f"intel_scenes {__version__}")
        sys.exit(0)
    received = _stopped_by_signals()
    try:
        sys.argv[1:] = (
            names.with_sweep_name(sys.argv[1:]) if can_sweep else [_with_quoted_names(text) for text in sys.argv[1:]]
        )
        _check_arguments(sys.argv[1:], can_sweep=can_sweep)
        hydra.main(version_base="1.3", config_path=str(keys.conf_folder()), config_name=config_name)(job)()
    except KeyboardInterrupt:
        reason = f"interrupted by {received[0].name}" if received else "interrupted"
        _tell(f"{reason}: start the same command again to resume" if can_sweep else reason)
        sys.exit(128 + received[0] if received else INTERRUPTED)
    except (UserError, HydraException, OmegaConfBaseException, YAMLError, OSError) as error:
        _tell(sentence(error, config_name, sys.argv[1:]))
        sys.exit(1)
    except RecursionError:
        _tell(
            "a configuration file includes itself: name another file of its group in its defaults, as `- NAME` without "
            "the group"
        )
        sys.exit(1)
    sys.exit(1 if failed else 0)


def _free_nothing() -> None:
    """Let the process end without freeing the objects of torch one by one, which takes one to two seconds.

    nanobind, which triton is built with, would then report them as leaked, so what is written to stderr from here on is
    discarded.
    """
    gc.freeze()
    for stream in (sys.stdout, sys.stderr):
        if stream is not None:  # None where it is closed
            stream.flush()
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def _stopped_by_signals() -> list[signal.Signals]:
    """Let SIGTERM and SIGUSR1, by which schedulers announce a kill, end the process as Ctrl-C does.

    Without a handler, SIGTERM is ignored where the process is the first one of a container.

    Returns:
        A list that will hold the signal.
    """
    received: list[signal.Signals] = []

    def stop(number: int, _frame: object) -> None:
        if not received:  # a second signal must not interrupt the saving
            received.append(signal.Signals(number))
            raise KeyboardInterrupt

    for announced in (signal.SIGTERM, signal.SIGUSR1):
        signal.signal(announced, stop)
    return received


def refuse_keys_of_sweeps(typed: Sequence[str]) -> None:
    """Refuse keys that have no effect on a single run.

    Raises:
        UserError: The overrides hold such a key.
    """
    keys = record.keys_of(typed)
    if "study" in keys:
        raise UserError("study=NAME starts a sweep, but its file lacks hydra.mode: MULTIRUN: add that line to the file")
    for key in sorted(keys):
        if re.match(r"(sweep|study|compare)\.|study_minutes$", key) and key != "sweep.redo":
            raise UserError(f"{key} has no effect on a single run: leave it out, or add -m or study=NAME")


def _set_up_logging() -> None:
    """Show our own notices and the warnings of other libraries, except one that no user can act on."""
    # From Lightning's own code on torch 2.10 and later (Lightning-AI/pytorch-lightning#21326).
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
    handler = logging.StreamHandler()
    handler.setFormatter(_Printable())
    logging.basicConfig(handlers=[handler], level=logging.WARNING)
    logging.getLogger("intel_scenes").setLevel(logging.INFO)


class _Printable(logging.Formatter):
    """Format of messages, which may hold names of files."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the message as `printable` text."""
        return printable(super().format(record))


def leave_nothing(folder: Path) -> None:
    """Remove the empty folders that Hydra made for a command that does not use them."""
    for empty in (folder, folder.parent):
        if empty.resolve() not in (Path.cwd(), *Path.cwd().parents):
            sweep.remove_empty(empty)


def output_file(name: str, key: str = "output") -> Path:
    """Return the file that `output`, or another key, names; checked before the work, not after it.

    Raises:
        UserError: It is a folder, or its folder is not writable.
    """
    output = Path(name).expanduser()
    if output.is_dir() or not _can_be_written(output.absolute().parent):
        raise UserError(f"{key}={output} cannot be written: name a file in a writable folder")
    return output


def output_folder(name: str) -> Path:
    """Return the folder that `output` names; checked before the work, not after it.

    Raises:
        UserError: It is a file, or is not writable.
    """
    output = Path(name).expanduser()
    if not _can_be_written(output.absolute()):
        raise UserError(f"output={output} cannot be written: name a writable folder")
    return output


def _can_be_written(folder: Path) -> bool:
    """Return whether files can be written in a folder, or where it does not exist yet, whether it can be created."""
    existing = next(path for path in (folder, *folder.parents) if path.exists() or path.is_symlink())
    return existing.is_dir() and os.access(existing, os.W_OK | os.X_OK)


def say(text: str) -> None:
    """Print the output of a command."""
    print(printable(text))


def show(summary: Summary, folder: Path, *, is_one_of_many: bool) -> None:
    """Print the results of a run: a short table, or one line for a run of a sweep, which ends with its own table.

    Raises:
        UserError: The record of a completed run lacks a result, as one edited by hand may.
    """
    interval, best_epoch, fit_seconds = summary.test_accuracy_interval, summary.best_epoch, summary.fit_seconds
    if interval is None or best_epoch is None or fit_seconds is None:
        raise UserError(f"{folder / record.SUMMARY} is marked completed but lacks results: move the folder away")
    training, of_features = _minutes(fit_seconds), summary.features_seconds
    train, val, test = map(percentage, (summary.train_accuracy, summary.val_accuracy, summary.test_accuracy))
    balanced_val, balanced_test = map(percentage, (summary.val_balanced_accuracy, summary.test_balanced_accuracy))
    low, high = map(percentage, interval)
    if is_one_of_many:
        balanced = f"balanced {balanced_val}, " if summary.metric == record.BALANCED else ""
        time = f"features {_minutes(of_features)}, training" if of_features else "training time"
        print(f"  validation accuracy {val}, {balanced}{time} {training}")
        return
    best = f"best epoch: {best_epoch + 1} of {summary.epochs}"
    print(f"\n{summary.architecture}, {summary.optim}, {summary.scheduler}, seed {summary.seed}")
    print(f"  train accuracy       {train:>7}   in evaluation mode, without augmentation")
    print(f"  validation accuracy  {val:>7}   {best}")
    print(f"  test accuracy        {test:>7}   95 % interval {low} to {high}")
    if summary.metric == record.BALANCED:
        chose = f"{balanced_val} on validation, which chose the epoch"
        print(f"  balanced accuracy    {balanced_test:>7}   on test; {chose}")
    if of_features:
        print(f"  features              {_minutes(of_features)}, computed once for all runs with this backbone")
    print(f"  training time         {training}")
    print(f"  written to            {os.path.relpath(folder)}")


def _minutes(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _with_quoted_names(argument: str) -> str:
    """Quote names of runs and images, so that Hydra does not interpret their commas, equals signs and brackets.

    In a list, commas separate the names; the user quotes a name that holds a comma there, or gives its hash.
    """
    key, _, value = argument.partition("=")
    if key not in ("run", "images") or not value or value.startswith("$") or "'" in value or '"' in value:
        return argument
    if value.startswith("[") and value.endswith("]"):
        quoted = ",".join(f"'{name.strip()}'" for name in value[1:-1].split(",") if name.strip())
        return f"{key}=[{quoted}]"
    return f"{key}='{value}'"


def _check_arguments(arguments: Sequence[str], *, can_sweep: bool) -> None:
    if not can_sweep and {"-m", "--multirun"} & set(arguments):
        raise UserError("-m starts a sweep, which only train supports: leave it out")
    options, unknown = get_args_parser().parse_known_args(arguments)
    if unknown:
        raise UserError(f"there is no flag {unknown[0]}: set keys as KEY=VALUE; --help lists all keys")
    if options.config_dir:
        _refuse_namesakes(Path(options.config_dir))
    for text in arguments:  # Hydra fails in its own code at a group that is null, and merges one that is a mapping
        group, _, value = text.lstrip("+").partition("=")
        if (value == "null" or value.startswith("{")) and group != "study" and (keys.conf_folder() / group).is_dir():
            raise UserError(f"{text} names no file: set {group}=NAME, a file of conf/{group}; --help lists them")


def _refuse_namesakes(folder: Path) -> None:
    """Refuse files of `--config-dir` that Hydra would not read, because it searches the package's folder first."""
    for ours in keys.conf_folder().rglob("*.yaml"):
        own = folder / ours.relative_to(keys.conf_folder())
        if own.exists():
            raise UserError(f"{own} would not be used, because the package has a file of that name: rename it")


def _tell(text: str) -> None:
    print(printable(text), file=sys.stderr)


def _usage(config_name: str, *, _root_: DictConfig) -> str:
    """Return the text of `--help` for the composed configuration; `$` is escaped, because Hydra would substitute it."""
    composed: Any = OmegaConf.to_container(_root_)
    loader = GlobalHydra.instance().config_loader()
    width = min(max(shutil.get_terminal_size().columns, NARROWEST), WIDEST)
    choices = composed["hydra"]["runtime"]["choices"]
    return usage.text(config_name, composed, choices, loader.get_group_options, width).replace("$", "$$")


# Resolvers that the files of conf/ use. A worker of a launcher imports this module before it composes its run.
OmegaConf.register_new_resolver("usage", _usage, replace=True)
OmegaConf.register_new_resolver("run_name", names.run_name, replace=True)
