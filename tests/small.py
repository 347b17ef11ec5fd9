"""What makes a run small enough for a test: the overrides DRAWN or other images, then SMALL; of a Trainer, QUIET."""

import copy
from functools import cache
from typing import Any

import hydra
from hydra._internal.config_loader_impl import ConfigLoaderImpl
from hydra.core.override_parser.overrides_parser import OverridesParser
from omegaconf import DictConfig

from intel_scenes import keys
from intel_scenes.composition import configured
from intel_scenes.config import RunConfig

DRAWN = ("data=synthetic", "data.num_train=120", "data.num_test=30", "data.store_size=40")
SMALL = (
    *("data.image_size=16", "model=resnet9_x0_5", "model.weights=null", "epochs=1", "threads=1"),
    *("trainer=cpu", "trainer.enable_progress_bar=false"),
)
SMALLEST = "shufflenet_v2_x0_5"  # network of torchvision
QUIET: dict[str, Any] = {
    **{"accelerator": "cpu", "logger": False, "num_sanity_val_steps": 0},
    **{"enable_progress_bar": False, "enable_model_summary": False},
}


@cache
def composed(*overrides: str, command: str = "train") -> DictConfig:
    """What Hydra composes of `overrides`: of the groups once, then with the values, as Hydra does in one call."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    first = [one for one in parsed if one.is_hydra_override() or (keys.conf_folder() / str(one.key_or_group)).is_dir()]
    whole = copy.deepcopy(_of_groups(command, *(str(one.input_line) for one in first)))
    ConfigLoaderImpl._apply_overrides_to_config([one for one in parsed if one not in first], whole)
    return whole


@cache
def _of_groups(command: str, *overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(keys.conf_folder()), version_base="1.3"):
        return hydra.compose(command, list(overrides))


def asked(*overrides: str) -> RunConfig:
    """What a run is asked to do by `overrides`."""
    return configured(composed(*overrides), RunConfig)


def resolved(*overrides: str, num_steps: int = 1) -> RunConfig:
    """The same once the images are known, which make a single step unless said otherwise."""
    config = asked(*overrides)
    return config.resolved(folder="run", epochs=config.epochs, num_steps=num_steps)
