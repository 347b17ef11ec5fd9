"""From Hydra's composed values to a configuration: below this module, values are typed and free of OmegaConf."""

from collections.abc import Sequence
from typing import Any

from hydra.core.global_hydra import GlobalHydra
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import MissingMandatoryValue, OmegaConfBaseException

from intel_scenes import config, keys
from intel_scenes.config import RunConfig
from intel_scenes.errors import UserError
from intel_scenes.known_keys import OPEN, check_keys
from intel_scenes.sections import Config, from_plain


def configured(cfg: DictConfig, kind: type[Config]) -> Config:
    """Return the configuration of a command, after checking that each key is known and each value is valid by itself.

    Args:
        cfg: Composed values, perhaps with Hydra's own section.
        kind: Class of the configuration.

    Raises:
        UserError: A key is unknown or has no value, or a value is invalid.
    """
    (config_name,) = (name for name, config_class in config.COMMANDS.items() if config_class is kind)
    filled = _without_hydra(cfg)
    if kind is RunConfig:
        for key, placeholder in (("num_steps", config.NUM_STEPS), ("folder", config.FOLDER)):
            if not OmegaConf.is_missing(cfg, key):
                raise UserError(
                    f"{key}={cfg[key]} is set by the run itself: leave it out (hydra.run.dir chooses the folder)"
                )
            filled[key] = placeholder
    check_keys(OmegaConf.to_container(filled), config_name, with_targets=False)  # type: ignore[arg-type]
    plain = _resolved(filled, config_name)
    has_own_epochs = plain.get("budget_minutes") is not None or plain.get("equal_steps") is True
    if has_own_epochs and "epochs" in plain:
        filled["epochs"] = config.EPOCHS
        plain |= {name: values for name, values in _resolved(filled, config_name).items() if name in OPEN}
    unset = dict.fromkeys(keys.FILLED_IN) if kind is RunConfig else {}  # until the images are known
    return from_plain(kind, plain | unset)


def section(cfg: DictConfig, kind: type[Config]) -> Config:
    """Return a section of a composed configuration whose other keys may lack values that a sweep will give.

    Raises:
        UserError: The section is missing, or a value is invalid.
    """
    node = cfg.get(kind.section)
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else {}
    return from_plain(kind, plain, f"{kind.section}.")


def refuse_idle_without(cfg: DictConfig, typed: Sequence[str]) -> None:
    """Refuse to remove what the recipe does not have; in a sweep such a run is reported as the twin of another.

    Args:
        cfg: Composed values.
        typed: Overrides of the command.

    Raises:
        UserError: The configuration is the same without it.
    """
    for removed in {text for text in typed if text.startswith("without=")} - {"without=nothing"}:
        others = [text for text in typed if text != removed]
        whole = GlobalHydra.instance().config_loader().load_configuration("train", others, RunMode.RUN)
        if OmegaConf.to_container(_without_hydra(whole)) == OmegaConf.to_container(cfg):
            raise UserError(f"{removed} has no effect, because the recipe does not have that ingredient: leave it out")


def _without_hydra(cfg: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def _resolved(cfg: DictConfig, config_name: str) -> dict[str, Any]:
    """Return the resolved values, which are not checked yet."""
    try:
        plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except MissingMandatoryValue as error:
        key = str(error.full_key)
        sentence = keys.sentences(config_name).get(key)
        raise UserError(f"{key} is not given: set {key}=VALUE" + (f" ({sentence})" if sentence else "")) from error
    except OmegaConfBaseException as error:
        raise UserError(str(error).split("\n")[0]) from error
    return plain
