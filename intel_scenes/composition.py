"""From what Hydra composes to a configuration: beyond this, values are typed and nothing of OmegaConf is left."""

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
    """A command's configuration, every key known and every value checked by itself.

    Args:
        cfg: As composed, perhaps with Hydra's own part.
        kind: Of the configuration.

    Raises:
        UserError: Nothing takes a key, a key has no value, or a value is of no use.
    """
    (config_name,) = (name for name, one in config.COMMANDS.items() if one is kind)
    filled = _without_hydra(cfg)
    if kind is RunConfig:
        for key, placeholder in (("num_steps", config.NUM_STEPS), ("folder", config.FOLDER)):
            if not OmegaConf.is_missing(cfg, key):
                raise UserError(
                    f"{key}={cfg[key]} is filled in by the run itself: leave it out (hydra.run.dir sets a folder)"
                )
            filled[key] = placeholder
    check_keys(OmegaConf.to_container(filled), config_name, with_targets=False)  # type: ignore[arg-type]
    plain = _resolved(filled, config_name)
    has_own_epochs = plain.get("budget_minutes") is not None or plain.get("equal_steps") is True
    if has_own_epochs and "epochs" in plain:
        filled["epochs"] = config.EPOCHS
        plain |= {name: values for name, values in _resolved(filled, config_name).items() if name in OPEN}
    unknown = dict.fromkeys(keys.FILLED_IN) if kind is RunConfig else {}  # until the images are known
    return from_plain(kind, plain | unknown)


def section(cfg: DictConfig, kind: type[Config]) -> Config:
    """A section of a composed configuration, of which other keys may still lack their values: a sweep gives them.

    Raises:
        UserError: The section is missing, or a value is of no use.
    """
    node = cfg.get(kind.section)
    plain: Any = OmegaConf.to_container(node, resolve=True) if isinstance(node, DictConfig) else {}
    return from_plain(kind, plain, f"{kind.section}.")


def refuse_idle_without(cfg: DictConfig, typed: Sequence[str]) -> None:
    """Refuses to take out what the recipe does not have; in a sweep such a run is named as the same as another.

    Args:
        cfg: As composed.
        typed: The overrides of the command that runs.

    Raises:
        UserError: The configuration is the same without it.
    """
    for taken_out in {text for text in typed if text.startswith("without=")} - {"without=nothing"}:
        others = [text for text in typed if text != taken_out]
        whole = GlobalHydra.instance().config_loader().load_configuration("train", others, RunMode.RUN)
        if OmegaConf.to_container(_without_hydra(whole)) == OmegaConf.to_container(cfg):
            raise UserError(f"{taken_out} has no effect: the recipe does not have that, leave it out")


def _without_hydra(cfg: DictConfig) -> DictConfig:
    return OmegaConf.masked_copy(cfg, [str(key) for key in cfg if key != "hydra"])


def _resolved(cfg: DictConfig, config_name: str) -> dict[str, Any]:
    """Plain values, which may be any until a configuration is made of them."""
    try:
        plain: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    except MissingMandatoryValue as error:
        key = str(error.full_key)
        sentence = keys.sentences(config_name).get(key)
        raise UserError(f"{key} is not given: set {key}=VALUE" + (f": {sentence}" if sentence else "")) from error
    except OmegaConfBaseException as error:
        raise UserError(str(error).split("\n")[0]) from error
    return plain
