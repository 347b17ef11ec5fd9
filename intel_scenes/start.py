"""Train one configuration from Python, as `intel-scenes train` does."""

import logging
import re
import sys
import warnings
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from hydra import compose, initialize_config_dir
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf.errors import OmegaConfBaseException
from yaml import YAMLError

from intel_scenes import cli, files, keys
from intel_scenes.composition import configured, refuse_idle_without
from intel_scenes.config import RunConfig
from intel_scenes.errors import UserError
from intel_scenes.hydra_errors import sentence
from intel_scenes.record import Origin
from intel_scenes.sweeps.names import run_name
from intel_scenes.sweeps.overrides import composition_digest, values_by_key

if TYPE_CHECKING:  # imports torch, which takes seconds
    from intel_scenes.inference.run import Run

LOGGERS = ("intel_scenes", "lightning.pytorch", "lightning.fabric")
FOLDER_KEY = "hydra.run.dir"
UNQUOTED = re.compile(
    r"(?!(null|true|false|nan|inf)$)[A-Za-z_/~.][\w/.~-]*", re.ASCII | re.IGNORECASE
)  # Hydra reads it as text without quotes


def start_run(
    overrides: Sequence[str] | Mapping[str, object] = (), *, folder: str | Path | None = None, quiet: bool = False
) -> "Run":
    """Train one configuration, evaluate its best epoch, and return the finished run.

    The run and its folder are those of `intel-scenes train` with the same overrides: a complete run is returned without
    training, an interrupted one resumes from its last epoch. The state that training changes in this process (Hydra,
    torch's threads and random generators, logging, warning filters) is restored at the end.

    Args:
        overrides: As on the command line, `["model=resnet18", "optim.lr=0.01"]`, or by key,
            `{"model": "resnet18", "optim.lr": 0.01, "data.root": Path("scenes")}`. For a study or several values of a
            key use the command, which makes a folder for each run.
        folder: Folder of the run; None is a folder below `outputs/` named after the overrides.
        quiet: Do not print a line per epoch to stderr.

    Raises:
        UserError: An override is misspelt or has no effect, images or weights are missing, or the training failed.
    """
    typed = _texts(overrides)
    with _state_kept(quiet=quiet):
        config, choices, named = _composed(typed)
        if folder is not None and named is not None:
            raise UserError(f"{FOLDER_KEY}={named} and folder={folder} both name the folder of the run: leave one out")
        place = Path(folder or named or Path("outputs", run_name(typed, "outputs"))).expanduser()
        return _run(config, place, Origin(tuple(typed), choices, composition_digest(typed)))


def _run(config: RunConfig, folder: Path, origin: Origin) -> "Run":
    # Imported here because torch takes seconds, and a misspelt override is refused before.
    import torch

    from intel_scenes.inference.run import load_run
    from intel_scenes.runtime import num_devices
    from intel_scenes.training.claim import Place
    from intel_scenes.training.run import run

    if num_devices(config.trainer) > 1:
        raise UserError("start_run trains on one device: set trainer.devices=1, or use the command intel-scenes train")
    threads, devices = torch.get_num_threads(), range(torch.cuda.device_count())
    try:
        with torch.random.fork_rng(devices):
            run(config, Place(folder, replaces_changed=config.sweep.redo == "changed"), origin)
    finally:
        torch.set_num_threads(threads)
    return load_run(folder)


def _composed(typed: list[str]) -> tuple[RunConfig, dict[str, str | None], str | None]:
    """Return the configuration, the file chosen in each group, and the folder if an override names one.

    Raises:
        UserError: The configuration cannot be composed, or is not that of a single run.
    """
    cli.refuse_keys_of_sweeps(typed)
    try:
        with initialize_config_dir(str(keys.conf_folder()), version_base="1.3"):
            cfg = compose("train", typed, return_hydra_config=True)
            choices = {str(group): name and str(name) for group, name in cfg.hydra.runtime.choices.items()}
            config = configured(cfg, RunConfig)
            refuse_idle_without(cfg, typed)
        folder = values_by_key(typed).get(FOLDER_KEY)
    except (HydraException, OmegaConfBaseException, YAMLError, OSError) as error:
        raise UserError(sentence(error, "train", typed)) from error
    if config.dry_run:
        raise UserError("dry_run=true trains nothing to return: use the command intel-scenes train dry_run=true")
    return config, choices, folder


def _texts(overrides: Sequence[str] | Mapping[str, object]) -> list[str]:
    if isinstance(overrides, str):
        raise UserError(f"overrides={overrides!r} is a string: give a list, [{overrides!r}], or a mapping")
    if isinstance(overrides, Mapping):
        return [f"{key}={_text(value)}" for key, value in overrides.items()]
    return list(overrides)


def _text(value: object) -> str:
    """Return a value in Hydra's override grammar."""
    if value is None or isinstance(value, bool):
        return str(files.shown(value))
    if isinstance(value, list | tuple):
        return f"[{','.join(map(_text, value))}]"
    if isinstance(value, str | Path) and not UNQUOTED.fullmatch(str(value)):
        quoted = re.sub(r"(\\*)('|$)", r"\1\1\2", str(value)).replace("'", r"\'")  # backslashes count before a quote
        return f"'{quoted}'"
    return str(value)


@contextmanager
def _state_kept(*, quiet: bool) -> Iterator[None]:
    """Log to stderr unless quiet, and restore at the end what a training changes for the whole process."""
    hydra, loggers = GlobalHydra.instance().hydra, [logging.getLogger(name) for name in LOGGERS]
    levels, ours = [logger.level for logger in loggers], loggers[0]
    handler = logging.StreamHandler(sys.stderr)
    GlobalHydra.instance().clear()
    with warnings.catch_warnings():
        # Raised by Lightning's own code on torch 2.10 and later (Lightning-AI/pytorch-lightning#21326).
        warnings.filterwarnings("ignore", r"`isinstance\(treespec, LeafSpec\)`", FutureWarning)
        if not quiet:
            ours.addHandler(handler)
            ours.setLevel(logging.INFO)
        try:
            yield
        finally:
            ours.removeHandler(handler)
            for logger, level in zip(loggers, levels, strict=True):
                logger.setLevel(level)
            GlobalHydra.instance().clear()
            GlobalHydra.instance().hydra = hydra
