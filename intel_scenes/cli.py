"""What all commands share: Hydra started, `conf/` found, errors turned into one sentence and an exit status."""

import logging
import os
import re
import sys
import traceback
import warnings
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import hydra
from hydra._internal.utils import get_args_parser
from hydra.core.global_hydra import GlobalHydra
from hydra.core.hydra_config import HydraConfig
from hydra.errors import HydraException, MissingConfigException, OverrideParseException
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from intel_scenes import record, sweep
from intel_scenes.errors import UserError, did_you_mean

INTERRUPTED = 130


@dataclass(frozen=True)
class Job:
    """What Hydra knows of one job: its folder, the file chosen in each group, what was typed, and a digest of that.

    `composition_digest` covers the whole tree of `conf/` and the overrides: jobs that share it compose alike.
    """

    folder: Path
    choices: Mapping[str, str]
    overrides: tuple[str, ...]
    composition_digest: str


def start(config_name: str, command: Callable[[DictConfig, Job], None]) -> NoReturn:
    """Runs a command under Hydra and ends the process.

    Exit status 0 where all went well, 1 after an error (one sentence on stderr, a traceback only for what no user can
    mend), 130 after Ctrl-C. In a multirun an error ends its own job alone.
    """
    os.environ["HYDRA_FULL_ERROR"] = "1"  # exceptions reach us instead of being printed by Hydra
    # Of Lightning's own code on torch 2.10 and later (Lightning-AI/pytorch-lightning#21326).
    warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
    logging.basicConfig(format="%(message)s", level=logging.WARNING)
    logging.getLogger("intel_scenes").setLevel(logging.INFO)
    OmegaConf.register_new_resolver("run_name", sweep.run_name, replace=True)
    failed: list[str] = []

    def job(cfg: DictConfig) -> None:
        this = _job()
        try:
            command(cfg, this)
        except Exception as error:  # Hydra would print it in its own words, and once more at the end of a multirun
            _remove_empty(this.folder)
            if not isinstance(error, UserError | OmegaConfBaseException | OSError):
                traceback.print_exc()
            failed.append(f"{this.folder.name}: {_sentence(error, config_name)}")
            _tell(failed[-1] if HydraConfig.get().mode == RunMode.MULTIRUN else _sentence(error, config_name))

    try:
        _check_flags(sys.argv[1:])
        sys.argv[1:] = sweep.named(sys.argv[1:])
        hydra.main(version_base="1.3", config_path=str(conf_folder()), config_name=config_name)(job)()
    except KeyboardInterrupt:
        _tell("interrupted: the same command goes on where it stopped")
        sys.exit(INTERRUPTED)
    except (UserError, HydraException, OmegaConfBaseException) as error:
        _tell(_sentence(error, config_name))
        sys.exit(1)
    if len(failed) > 1:
        _tell("\n  ".join([f"{len(failed)} runs failed:", *failed]))
    sys.exit(1 if failed else 0)


def conf_folder() -> Path:
    """The folder of configuration files: inside an installed package, beside it in a source checkout."""
    inside = Path(__file__).parent / "conf"
    return inside if inside.exists() else inside.parent.parent / "conf"


def show(summary: Mapping[str, Any], folder: Path) -> None:
    """Prints what came out of a run as a short table."""
    low, high = summary["test_accuracy_interval"]
    minutes, seconds = divmod(round(summary["fit_seconds"]), 60)
    best = f"epoch {summary['best_epoch']} of 0 to {summary['epochs'] - 1}"
    print(f"\n{summary['model_name']}, {summary['optim']}, {summary['scheduler']}, seed {summary['seed']}")
    print(f"  train accuracy  {summary['train_accuracy']:6.1%}")
    print(f"  valid accuracy  {summary['val_accuracy']:6.1%}   best: {best}")
    print(f"  test accuracy   {summary['test_accuracy']:6.1%}   95 % interval {low:.1%} to {high:.1%}")
    print(f"  training time   {minutes} min {seconds} s")
    print(f"  written to      {os.path.relpath(folder)}")


def _job() -> Job:
    config = HydraConfig.get()
    overrides = tuple(config.overrides.task)
    tree = conf_folder()
    files = {str(path.relative_to(tree)): path.read_text() for path in sorted(tree.rglob("*.yaml"))}
    return Job(
        folder=Path(config.runtime.output_dir),
        choices={str(group): str(name) for group, name in config.runtime.choices.items()},
        overrides=overrides,
        composition_digest=record.digest([files, sorted(overrides)]),
    )


def _check_flags(arguments: Sequence[str]) -> None:
    _, unknown = get_args_parser().parse_known_args(arguments)
    if unknown:
        raise UserError(f"there is no flag {unknown[0]}: a key is set by KEY=VALUE, --help lists all")


def _remove_empty(folder: Path) -> None:
    """Removes the folder that Hydra made for a job that did not begin, and the one above it, where they are empty."""
    with suppress(OSError):
        folder.rmdir()
        if folder.parent != Path.cwd():
            folder.parent.rmdir()


def _tell(text: str) -> None:
    print(text, file=sys.stderr)


def _sentence(error: Exception, config_name: str) -> str:
    """One line for an exception, with the near spellings of what was misspelt."""
    if isinstance(error, MissingConfigException) and error.missing_cfg_file and error.options is not None:
        group, _, name = error.missing_cfg_file.rpartition("/")
        there = ", ".join(sorted(error.options))
        return f"{group}={name}: conf/{group} has no such file{did_you_mean(name, error.options)}; there are {there}"
    if isinstance(error, OverrideParseException):
        return f"cannot read {error.override!r}: write KEY=VALUE, and quote a value that holds special characters"
    text = str(error)
    if found := re.search(r"^(?:Could not override|Error merging override) '?\+*([^'=\s]+)", text):
        near = did_you_mean(found[1], _options(config_name))
        return f"there is no option {found[1]}{near}; --help lists all, +{found[1]}=VALUE adds one"
    if not text and isinstance(error.__cause__, Exception):
        return _sentence(error.__cause__, config_name)
    return text if isinstance(error, UserError) else text.strip().split("\n")[0]


def _options(config_name: str) -> list[str]:
    """All groups, and all keys of the default configuration."""
    GlobalHydra.instance().clear()
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        keys = record.flatten(OmegaConf.to_container(hydra.compose(config_name)))  # type: ignore[arg-type]
    groups = [path.name for path in conf_folder().iterdir() if path.is_dir()]
    return [*groups, *keys]
