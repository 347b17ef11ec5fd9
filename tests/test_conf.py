import math
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
import timm
import torch
import yaml
from hydra.utils import get_object
from omegaconf import DictConfig, OmegaConf
from torch import nn
from torchvision import models

import intel_scenes.cli  # noqa: F401  # which conf/ calls
from intel_scenes.keys import conf_folder
from intel_scenes.models.own import OWN
from intel_scenes.sweeps.names import run_name
from tests import small

CONF = conf_folder()
FILES = sorted(CONF.rglob("*.yaml"))
GROUPS = {path.name: sorted(file.stem for file in path.glob("*.yaml")) for path in CONF.iterdir() if path.is_dir()}
GROUPS.pop("hydra")  # its files are Hydra's own to check
NAMED = {
    **{"torchvision": ["model.name=densenet121"], "timm": ["model.name=test_vit"]},
    "custom": ["model._target_=package.module.Class"],
}


@cache
def composed(*overrides: str) -> DictConfig:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        return hydra.compose("train", list(overrides))


def plain(*overrides: str, num_steps: int = 10) -> dict[str, Any]:
    cfg = composed(*overrides).copy()
    cfg.num_steps, cfg.folder = num_steps, "run"
    found: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True, throw_on_missing=True)  # type: ignore[assignment]
    return found


def targets(value: object) -> Iterator[str]:
    if isinstance(value, dict):
        if value.get("_target_") not in (None, "???"):
            yield value["_target_"]
        value = list(value.values())
    if isinstance(value, list):
        for item in value:
            yield from targets(item)


def relative(path: Path) -> str:
    return str(path.relative_to(CONF).with_suffix(""))


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.parent == CONF], ids=relative)
def test_every_choice_composes_to_plain_values(path: Path) -> None:
    found = plain(f"{path.parent.name}={path.stem}", *NAMED.get(path.stem, []))
    assert {"data", "augment", "model", "optim", "scheduler", "trainer", "logger", "recipe"} <= found.keys()


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_every_target_exists(path: Path) -> None:
    for target in targets(yaml.safe_load(path.read_text())):
        assert callable(get_object(target))


@pytest.mark.parametrize("path", FILES, ids=relative)
def test_every_file_opens_with_what_it_is_for(path: Path) -> None:
    lines = path.read_text().splitlines()
    if lines[0] == "# @package _global_":
        lines = lines[1:]
    assert re.match(r"# \w", lines[0])


def test_the_groups_of_the_contract_are_there() -> None:
    assert {"data", "augment", "model", "optim", "scheduler", "recipe", "trainer", "logger"} <= GROUPS.keys()


def test_keys_that_others_rely_on_are_there() -> None:
    found = plain()
    assert {"epochs", "seed", "threads", "lr_scale", "lr_scaling", "sweep"} <= found.keys()
    assert {"name", "weights"} <= found["model"].keys()
    names = {"root", "image_size", "batch_size", "val_fraction", "store_size", "cache_dir"}
    assert names <= found["data"].keys()


@pytest.mark.parametrize("name", GROUPS["model"])
def test_every_model_is_a_classifier_of_its_library_with_its_default_weights_or_our_own(name: str) -> None:
    found = plain(f"model={name}", *NAMED.get(name, []))["model"]
    if found["name"] in OWN or found.get("library") == "custom":
        assert found["weights"] is None
    elif found.get("library") == "timm":
        assert found["weights"] == "DEFAULT"
        assert found["name"].partition(".")[0] in timm.list_models()
    else:
        assert found["weights"] == "DEFAULT"
        assert found["name"] in models.list_models(module=models)


def test_another_model_has_to_be_named() -> None:
    with pytest.raises(Exception, match=r"model\.name"):
        plain("model=torchvision")


@pytest.mark.parametrize("name", GROUPS["optim"])
def test_every_optimizer_file_is_a_partial_with_its_rate(name: str) -> None:
    keys = yaml.safe_load((CONF / "optim" / f"{name}.yaml").read_text())
    assert list(keys)[:3] == ["_target_", "_partial_", "lr"]
    assert keys["_partial_"] is True
    assert keys["lr"] > 0


@pytest.mark.parametrize("name", GROUPS["optim"])
def test_every_optimizer_takes_a_step_with_the_numbers_of_its_file(name: str) -> None:
    found = plain(f"optim={name}")["optim"]
    weight = nn.Parameter(torch.ones(2))
    optimizer = hydra.utils.instantiate(found, _convert_="all")([{"params": [weight]}])
    for key in found.keys() - {"_target_", "_partial_"}:
        value = optimizer.param_groups[0][key]
        assert list(value) == found[key] if isinstance(found[key], list) else value == found[key]
    weight.sum().backward()
    optimizer.step()
    assert (weight < 1).all()  # downhill


@pytest.mark.parametrize("num_steps", [1, 2, 7, 1000])
@pytest.mark.parametrize("name", GROUPS["scheduler"])
def test_every_schedule_lasts_for_the_whole_training(name: str, num_steps: int) -> None:
    found = plain(f"scheduler={name}", num_steps=num_steps)["scheduler"]
    optimizer = torch.optim.SGD([{"params": [nn.Parameter(torch.ones(1))], "lr": 0.5}])
    scheduler = hydra.utils.instantiate(found["factory"], _convert_="all")(optimizer)
    for _ in range(num_steps):
        assert 0 < optimizer.param_groups[0]["lr"] <= 0.5 * (1 + 1e-9)
        optimizer.step()
        scheduler.step(*([1.0] if found["interval"] == "validation" else []))
    assert found["interval"] in ("step", "epoch", "validation")


def test_the_notebooks_recipe_is_the_notebooks_training() -> None:
    found = plain("recipe=notebook")
    assert found["model"] == {"name": "resnet34", "weights": "DEFAULT"}
    assert found["optim"] == {
        **{"_target_": "torch.optim.SGD", "_partial_": True, "lr": 0.001, "momentum": 0.9},
        **{"weight_decay": 0.0, "nesterov": False, "fused": "auto"},
    }
    assert found["scheduler"] == {
        "interval": "epoch",
        "factory": {
            **{"_target_": "torch.optim.lr_scheduler.StepLR", "_partial_": True},
            **{"step_size": 7, "gamma": 0.1},
        },
    }
    assert (found["lr_scale"], found["lr_scaling"]) == (1.0, "none")
    assert (found["data"]["batch_size"], found["data"]["image_size"], found["data"]["crop_fraction"]) == (32, 224, 1.0)
    no_jitter = dict.fromkeys(("vertical_flip", "rotate", "brightness", "contrast", "saturation"), 0.0)
    assert found["augment"] == {"scale": [1.0, 1.0], "ratio": [1.0, 1.0], "flip": 0.5, "policy": None, **no_jitter}
    nothing = {"head_first": False, "trains_norms": True, "mixup": 0, "cutmix": 0, "train_size": None, "views": 1}
    rates = {"label_smoothing": 0.0, "class_weight": 0.0, "head_lr_scale": 1.0, "first_lr_scale": 1.0}
    assert found["recipe"] == {"trained": "all", "ema_decay": None, **rates, **nothing}


@pytest.mark.parametrize(
    ("override", "group", "key", "expected"),
    [
        ("model=resnet152", "model", "name", "resnet152"),
        ("optim=adamw", "optim", "_target_", "torch.optim.AdamW"),
        ("scheduler=plateau", "scheduler", "interval", "validation"),
        ("augment=none", "augment", "flip", 0.0),
        ("data.batch_size=64", "data", "batch_size", 64),
        ("data=synthetic", "data", "source", "synthetic"),
    ],
)
def test_the_command_line_beats_a_recipe(override: str, group: str, key: str, expected: object) -> None:
    for overrides in ([override, "recipe=notebook"], ["recipe=notebook", override]):
        assert plain(*overrides)[group][key] == expected
    assert plain(override, "recipe=notebook")["data"]["image_size"] == 224


def test_another_optimizer_or_model_of_a_recipe_comes_with_its_own_numbers() -> None:
    found = plain("recipe=scratch", "optim=adamw", "model=resnet18")
    assert found["optim"] == plain("optim=adamw")["optim"]
    assert found["model"] == {"name": "resnet18", "weights": None}
    assert plain("recipe=scratch")["model"]["name"] == "resnet9_x0_5"


def test_the_folder_of_the_environment_serves_real_images_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INTEL_SCENES_DATA", "/scenes")
    assert plain("data=intel")["data"]["root"] == "/scenes"
    assert plain("data=folder")["data"]["root"] == "/scenes"
    assert plain("data=synthetic")["data"]["root"] is None
    monkeypatch.delenv("INTEL_SCENES_DATA")
    assert plain("data=intel")["data"]["root"] is None


@pytest.mark.parametrize("name", ["cpu", "auto", "debug", "gpu", "ddp"])
def test_every_trainer_inherits_the_rule_for_precision(name: str) -> None:
    assert plain(f"trainer={name}")["trainer"]["precision"] == "auto"


def test_single_runs_and_sweeps_lie_where_the_contract_says() -> None:
    with hydra.initialize_config_dir(str(CONF), version_base="1.3"):
        found = hydra.compose("train", ["seed=2", "sweep.name=mine"], return_hydra_config=True).hydra
    name = run_name(["seed=2"])
    assert found.run.dir == f"outputs/{name}"
    assert (found.sweep.dir, found.sweep.subdir) == ("multirun/mine", name)


def test_each_arm_of_the_recipe_study_is_another_configuration() -> None:
    arms = yaml.safe_load((CONF / "study" / "recipe.yaml").read_text())["hydra"]["sweeper"]["params"]["without"].split(
        ","
    )
    assert set(arms) == set(GROUPS["without"])
    found = {yaml.safe_dump(plain("study=recipe", f"without={arm}")) for arm in arms}
    assert len(found) == len(arms)


@pytest.mark.parametrize(("name", "num_arms", "total"), [("optimizers", 3, 45), ("schedulers", 8, 88)])
def test_a_study_that_tunes_and_compares_confirms_on_more_seeds_than_it_tunes_by(
    name: str, num_arms: int, total: int
) -> None:
    text = (CONF / "study" / f"{name}.yaml").read_text()
    study = yaml.safe_load(text)
    levels = {key: str(value).split(",") for key, value in study["hydra"]["sweeper"]["params"].items()}
    num_tuning = math.prod(map(len, levels.values()))
    assert math.prod(len(levels[key]) for key in study["study"]["compared"]) == num_arms
    num_seeds = plain(f"study={name}")["sweep"]["confirm"]
    assert num_seeds == 5 > len(levels["seed"])
    assert num_tuning + num_arms * num_seeds == total
    for number in (f"{num_tuning} runs that choose", f"{num_arms * num_seeds} that confirm", f"Cost: {total} runs"):
        assert number in text
    assert plain(f"study={name}", "sweep.confirm=3")["sweep"]["confirm"] == 3, "what was typed holds"


@pytest.mark.parametrize(
    "overrides",
    [
        (*small.DRAWN, *small.SMALL),
        ("optim.lr=0.1", "optim=sgd", "~optim.nesterov", "+trainer.limit_train_batches=4"),
        ("recipe=linear_probe", "recipe.label_smoothing=0", "model=timm", "model.name=test_vit", "scheduler=step"),
    ],
)
def test_the_quicker_composition_of_tests_is_that_of_hydra(overrides: tuple[str, ...]) -> None:
    assert small.composed(*overrides) == composed(*overrides)
