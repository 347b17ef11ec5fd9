"""What all commands share: Hydra started, `conf/` found, errors turned into one sentence and an exit status."""

import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from intel_scenes import overrides, record, sweep
from intel_scenes.errors import UserError, did_you_mean

INTERRUPTED = 130


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

    try:
        sys.argv[1:] = overrides.named(sys.argv[1:]) if can_sweep else sys.argv[1:]
        _check_flags(sys.argv[1:], can_sweep=can_sweep)
        hydra.main(version_base="1.3", config_path=str(overrides.conf_folder()), config_name=config_name)(job)()
    except KeyboardInterrupt:
        _tell("interrupted: the same command goes on where it stopped" if can_sweep else "interrupted")
        sys.exit(INTERRUPTED)
    except (UserError, HydraException, OmegaConfBaseException, OSError) as error:
        _tell(_sentence(error, config_name))
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
    print(f"  train accuracy       {summary['train_accuracy']:6.1%}")
    print(f"  validation accuracy  {summary['val_accuracy']:6.1%}   {best}")
    print(f"  test accuracy        {summary['test_accuracy']:6.1%}   95 % interval {low:.1%} to {high:.1%}")
    print(f"  training time        {minutes} min {seconds} s")
    print(f"  written to           {os.path.relpath(folder)}")


def _job() -> sweep.Job:
    config = HydraConfig.get()
    typed = tuple(config.overrides.task)
    return sweep.Job(
        folder=Path(config.runtime.output_dir),
        choices={str(group): name and str(name) for group, name in config.runtime.choices.items()},
        overrides=typed,
        composition_digest=overrides.composition_digest(typed),
    )


def _check_flags(arguments: Sequence[str], *, can_sweep: bool) -> None:
    if not can_sweep and {"-m", "--multirun"} & set(arguments):
        raise UserError("-m is for sweeps, and this command does one thing at a time: leave it out")
    _, unknown = get_args_parser().parse_known_args(arguments)
    if unknown:
        raise UserError(f"there is no flag {unknown[0]}: a key is set by KEY=VALUE, --help lists all")


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _sentence(error: Exception, config_name: str) -> str:
    """One line for an exception, with the near spellings of what was misspelt."""
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
        options = _options(config_name)
        if found[1] in options:
            return f"{found[1]} is no option of the files that were chosen: leave it out, or choose others"
        near = did_you_mean(found[1], options)
        adds = f", +{found[1]}=VALUE adds one" if config_name == "train" else ""
        return f"there is no option {found[1]}{near}; --help lists all{adds}"
    if not text and isinstance(error.__cause__, Exception):
        return _sentence(error.__cause__, config_name)
    return text if isinstance(error, UserError) else text.strip().split("\n")[0]


def _options(config_name: str) -> list[str]:
    """All groups, and all keys of the default configuration."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(overrides.conf_folder()), version_base="1.3"):
        keys = record.flatten(OmegaConf.to_container(hydra.compose(config_name)))  # type: ignore[arg-type]
    groups = [path.name for path in overrides.conf_folder().iterdir() if path.is_dir()]
    return [*groups, *keys]
