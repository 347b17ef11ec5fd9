from functools import cache
from typing import Any

import pytest
from omegaconf import OmegaConf

from intel_scenes import keys
from intel_scenes.errors import UserError
from intel_scenes.known_keys import check_keys, nearest, unknown_keys
from tests import small

COMMANDS = sorted(path.stem for path in keys.conf_folder().glob("*.yaml"))
CHOICES = [f"{group.name}={path.stem}" for group in keys.groups("train") for path in keys.files(group.name)]


@cache
def composed(config_name: str, *overrides: str) -> Any:
    return OmegaConf.to_container(small.composed(*overrides, command=config_name))


def said(*overrides: str, config_name: str = "train") -> str:
    (sentence,) = unknown_keys(composed(config_name, *overrides), config_name).values()
    return sentence


@pytest.mark.parametrize("choice", CHOICES)
def test_every_file_of_the_package_sets_known_keys_only(choice: str) -> None:
    images = ["data=synthetic"] if choice == "study=quickstart" else []
    assert unknown_keys(composed("train", choice, *images)) == {}


@pytest.mark.parametrize("config_name", COMMANDS)
def test_every_command_is_checked(config_name: str) -> None:
    assert unknown_keys(composed(config_name), config_name) == {}
    assert said("+a.b=1", config_name=config_name) == "there is no key a.b"


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("+recipe.label_smothing=0.1", "there is no key recipe.label_smothing (did you mean recipe.label_smoothing?)"),
        ("+model.depth=3", "there is no key model.depth: model takes args, library, name, weights"),
        (
            "+augment.hue=0.1",
            "there is no key augment.hue: augment takes brightness, contrast, flip, policy, ratio, rotate, saturation, "
            "scale, vertical_flip",
        ),
        (
            "+sweep={a:1}",
            "there is no key sweep.a: sweep takes confirm, confirm_best, fail_fast, name, plan, plan_file, redo, "
            "shard, trials",
        ),
        ("+a={}", "there is no key a"),
        ("+data.exclude.b=1", "there is no key data.exclude.b (did you mean data.exclude?)"),
        ("+data.num_test=9", "data.num_test is a key of data=synthetic only (remove it with ~data.num_test)"),
    ],
)
def test_a_key_that_no_file_has_is_named_with_what_there_is(override: str, expected: str) -> None:
    assert said(override) == expected


def test_a_key_of_some_files_is_known_where_one_of_them_is_chosen() -> None:
    assert unknown_keys(composed("train", "data=synthetic", "data.num_test=9")) == {}
    assert set(unknown_keys(composed("train", "data=synthetic", "data.source=folder"))) == {
        *("data.num_train", "data.num_test", "data.drawing_seed")
    }


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (
            ["+optim.momentum=0.9"],
            "there is no key optim.momentum: torch.optim.AdamW takes lr, betas, eps, weight_decay",
        ),
        (["+optim.amsgrd=true"], "there is no key optim.amsgrd (did you mean optim.amsgrad?)"),
        (["+optim.params=[1]"], "there is no key optim.params"),
        (
            ["+trainer.gradient_clip=1"],
            "there is no key trainer.gradient_clip (did you mean trainer.gradient_clip_val or",
        ),
        (["+trainer.hue=1"], "there is no key trainer.hue: lightning.pytorch.Trainer does not take it"),
        (
            ["scheduler=step", "+scheduler.factory.milestones=[3]"],
            "there is no key scheduler.factory.milestones: torch.op",
        ),
        (["+scheduler.factory.lr_lambda.pct_start=0.1"], "there is no key scheduler.factory.lr_lambda.pct_start"),
        (["+scheduler.patience=3"], "there is no key scheduler.patience (did you mean scheduler.factory.patience?)"),
        (
            ["logger=csv", "+logger.entity=me"],
            "there is no key logger.entity: lightning.pytorch.loggers.CSVLogger takes",
        ),
        (["+logger.name=me"], "logger.name has no effect, because no logger is chosen"),
    ],
)
def test_keys_are_checked_against_the_arguments_of_their_target(overrides: list[str], expected: str) -> None:
    assert said(*overrides).startswith(expected)


@pytest.mark.parametrize(
    "overrides",
    [
        *(["+optim.amsgrad=true"], ["optim=sgd", "+optim.dampening=0.1"], ["+trainer.gradient_clip_val=1"]),
        *(["scheduler=plateau", "+scheduler.factory.cooldown=1"], ["logger=csv", "+logger.prefix=a"]),
        *(["+scheduler.factory.lr_lambda._convert_=all"], ["logger=wandb", "+logger.entity=me"]),  # it takes anything
        ["optim._target_=some.package.that.is.not.There", "+optim.a=1"],  # which its own error tells
    ],
)
def test_arguments_that_are_taken_or_cannot_be_known_pass(overrides: list[str]) -> None:
    assert unknown_keys(composed("train", *overrides)) == {}


def test_schedulers_in_a_list_are_checked_as_well() -> None:
    plain = composed("train") | {"scheduler": {"interval": "epoch", "factory": {"_target_": "torch.nn.Sequential"}}}
    step = {"_target_": "torch.optim.lr_scheduler.StepLR", "_partial_": True, "step_size": 3, "size": 3}
    plain["scheduler"]["factory"] = {
        **{"_target_": "torch.optim.lr_scheduler.SequentialLR", "_partial_": True},
        **{"milestones": [2], "schedulers": [step]},
    }
    assert list(unknown_keys(plain)) == ["scheduler.factory.schedulers.size"]


def test_the_configuration_of_a_record_is_checked_as_well() -> None:
    cfg = OmegaConf.create(composed("train", "+recipe.smoothing=0.2", "folder=outputs/a", "num_steps=9"))
    record: Any = OmegaConf.to_container(cfg, resolve=True)
    assert unknown_keys(record) == {
        "recipe.smoothing": "there is no key recipe.smoothing (did you mean recipe.label_smoothing?)"
    }


def test_a_refusal_names_every_key() -> None:
    with pytest.raises(UserError) as caught:
        check_keys(composed("train", "+epoch=3", "+optim.learning_rate=0.1"))
    assert str(caught.value) == (
        "there is no key epoch (did you mean epochs?), and there is no key optim.learning_rate (did you mean optim.lr?)"
        "; --help lists all keys"
    )


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        *(("optim.learning_rate", ["optim.lr"]), ("learning_rate", ["optim.lr"]), ("lr", ["optim.lr"])),
        *(("batch_size", ["data.batch_size"]), ("batchsize", ["data.batch_size"]), ("epoch", ["epochs"])),
        *(("trainer.max_epochs", ["epochs"]), ("optimizer", ["optim"]), ("optimizer.lr", ["optim.lr"])),
        *(
            ("optm", ["optim"]),
            ("optmi.lr", ["optim.lr"]),
            ("data.seed", ["seed"]),
            ("model.wieghts", ["model.weights"]),
        ),
        *(("optim._traget_", []), ("optim.name", []), ("colour", [])),
    ],
)
def test_the_nearest_key_is_what_was_meant(name: str, expected: list[str]) -> None:
    choices = ["optim", "optim._target_", "optim.lr", "optim.betas", "epochs", "data.batch_size", "data.split_seed"]
    assert nearest(name, [*choices, "seed", "model.name", "model.weights", "lr_scale", "lr_scaling"]) == expected
