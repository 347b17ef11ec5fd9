import math
from collections import UserList
from functools import cache
from pathlib import Path
from typing import Any

import hydra
import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer
from omegaconf import OmegaConf

from intel_scenes.errors import UserError
from intel_scenes.sweeps.names import conf_folder
from intel_scenes.training.configuration import (
    check,
    digests,
    effective_lr,
    num_devices,
    num_steps,
    of_record,
    resolve_precision,
    resolve_threads,
    warn_of_late_steps,
)

FACTS = {"weights": "a", "data": "b", "precision": "32-true", "threads": 1}
RESERVED = {
    *("max_epochs", "min_epochs", "max_steps", "min_steps", "max_time", "fast_dev_run", "logger", "callbacks"),
    *("default_root_dir", "enable_checkpointing", "val_check_interval", "check_val_every_n_epoch"),
    *("limit_val_batches", "overfit_batches", "num_sanity_val_steps", "use_distributed_sampler", "plugins"),
}


class Batches(UserList[torch.Tensor]):
    """Lightning takes a plain list for several loaders."""


class Line(LightningModule):
    def __init__(self) -> None:
        super().__init__()
        self.layer = torch.nn.Linear(1, 1)

    def training_step(self, batch: torch.Tensor, batch_idx: int) -> torch.Tensor:
        return self.layer(batch).sum()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


@cache
def composed(overrides: tuple[str, ...]) -> str:
    with hydra.initialize_config_dir(str(conf_folder()), version_base="1.3"):
        cfg = hydra.compose("train", [*overrides, "num_steps=1", "folder=run"])
    return OmegaConf.to_yaml(cfg, resolve=True)


def plain(*overrides: str) -> dict[str, Any]:
    """What a run sees of `overrides`, as plain values."""
    found: dict[str, Any] = OmegaConf.to_container(OmegaConf.create(composed(overrides)))  # type: ignore[assignment]
    return found


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        check(plain(*overrides))
    return str(caught.value)


def test_the_defaults_are_in_order() -> None:
    check(plain())
    check(plain("recipe=notebook"))
    check(plain("data=synthetic"))


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "3.0", "abc", "True", "null", "[1]"])
@pytest.mark.parametrize("key", ["epochs", "data.batch_size", "data.store_size"])
def test_counts_are_whole_numbers_from_one(key: str, value: str) -> None:
    shown = "None" if value == "null" else value
    assert refusal(f"{key}={value}") == f"{key}={shown} must be a whole number of at least 1"


@pytest.mark.parametrize("key", ["threads", "data.image_size"])
def test_counts_that_can_be_left_open_are_checked_where_they_are_given(key: str) -> None:
    check(plain(f"{key}=null"))
    check(plain(f"{key}=1"))
    for value in ("0", "1.5", "True", "two"):
        assert refusal(f"{key}={value}") == f"{key}={value} must be a whole number of at least 1"


def test_the_size_of_whole_pictures_can_be_left_to_the_network() -> None:
    check(plain("data=folder"))
    check(plain("data.store_rule=whole", "data.store_size=null"))
    refused = "data.store_size=None must be a whole number of at least 1"
    assert refusal("data=folder", "data.store_rule=square") == refused
    assert refusal("data=synthetic", "data.store_rule=whole", "data.store_size=null") == refused
    assert refusal("data=folder", "data.store_size=0") == "data.store_size=0 must be a whole number of at least 1"
    assert refusal("data.store_rule=all") == "data.store_rule=all must be one of square, whole"
    enlarged = refusal("data=folder", "model=resnet50", "recipe.train_size=2000")
    assert enlarged.startswith("recipe.train_size=2000 enlarges images of data.store_size=232 more than 8 times: ")


def test_the_rule_that_all_runs_had_before_is_not_hashed() -> None:
    now, before = plain(), plain()
    del before["data"]["store_rule"]
    assert now["data"]["store_rule"] == "square"
    assert digests(now, FACTS) == digests(before, FACTS)
    assert digests(plain("data.store_rule=whole"), FACTS) != digests(now, FACTS)


def test_a_record_without_a_later_key_has_the_value_of_its_time(tmp_path: Path) -> None:
    old, new = plain(), plain("data=folder")
    del old["data"]["store_rule"]
    for found, expected in ((old, plain()), (new, new)):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(found))
        assert of_record(tmp_path) == expected
    for content in ("- a list", "data: null", "seed: 1"):
        (tmp_path / "config.yaml").write_text(content)
        with pytest.raises(UserError, match=r"config\.yaml is no configuration: move the folder away$"):
            of_record(tmp_path)


def test_a_key_of_a_record_that_nothing_takes_is_named_and_ignored(tmp_path: Path, caplog) -> None:
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(plain("+recipe.class_weights=true")))
    assert of_record(tmp_path)["recipe"]["label_smoothing"] == 0.1
    (said,) = caplog.messages
    assert "there is no key recipe.class_weights" in said
    assert said.endswith("; it is ignored")


@pytest.mark.parametrize("key", ["data.num_train", "data.num_test"])
def test_the_numbers_of_drawn_images_are_checked(key: str) -> None:
    assert refusal("data=synthetic", f"{key}=0") == f"{key}=0 must be a whole number of at least 1"


@pytest.mark.parametrize("key", ["seed", "data.split_seed"])
def test_seeds_are_whole_numbers_from_zero(key: str) -> None:
    check(plain(f"{key}=0"))
    for value in ("-1", "0.5", "True", "one"):
        assert refusal(f"{key}={value}") == f"{key}={value} must be a whole number of at least 0"
    assert refusal(f"{key}=null") == f"{key}=None must be a whole number of at least 0"


@pytest.mark.parametrize("value", ["0", "0.0", "-0.1", "nan", "inf", "x", "True", "[0.1]"])
@pytest.mark.parametrize("key", ["optim.lr", "lr_scale", "recipe.head_lr_scale"])
def test_rates_are_numbers_above_zero(key: str, value: str) -> None:
    assert refusal(f"{key}={value}") == f"{key}={value} must be a number above 0"


def test_an_optimizer_without_a_rate_is_refused() -> None:
    assert refusal("optim.lr=null") == "optim.lr=None must be a number above 0"
    assert refusal("~optim.lr") == "optim.lr=None must be a number above 0"


@pytest.mark.parametrize("value", ["0", "1", "0.0", "1.0", "-0.1", "2", "nan", "half", "True"])
@pytest.mark.parametrize("key", ["data.val_fraction", "recipe.ema_decay"])
def test_shares_that_leave_something_on_both_sides(key: str, value: str) -> None:
    assert refusal(f"{key}={value}") == f"{key}={value} must be a number from 0 to 1 (both excluded)"


def test_ranges_with_their_ends() -> None:
    check(plain("recipe.label_smoothing=0", "data.crop_fraction=1", "optim.weight_decay=0"))
    assert refusal("recipe.label_smoothing=1.1") == "recipe.label_smoothing=1.1 must be a number from 0 to 1"
    assert refusal("recipe.label_smoothing=-0.1") == "recipe.label_smoothing=-0.1 must be a number from 0 to 1"
    assert refusal("data.crop_fraction=0") == "data.crop_fraction=0 must be a number from 0.01 to 1"
    assert refusal("data.crop_fraction=1.5") == "data.crop_fraction=1.5 must be a number from 0.01 to 1"
    assert refusal("optim.weight_decay=-1").startswith("optim.weight_decay=-1 must be a number from 0 to")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("lr_scaling=liner", "lr_scaling=liner must be one of none, linear, sqrt (did you mean linear?)"),
        ("lr_scaling=xyz", "lr_scaling=xyz must be one of none, linear, sqrt"),
        ("lr_scaling=null", "lr_scaling=None must be one of none, linear, sqrt (did you mean none?)"),
        ("lr_scaling=[linear]", "lr_scaling=['linear'] must be one of none, linear, sqrt"),
        ("data.on_unreadable=skipp", "data.on_unreadable=skipp must be one of error, skip (did you mean skip?)"),
        (
            "data.source=folders",
            "data.source=folders must be one of intel, folder, synthetic (did you mean folder?)",
        ),
        (
            "scheduler.interval=epochs",
            "scheduler.interval=epochs must be one of step, epoch, validation (did you mean epoch?)",
        ),
    ],
)
def test_a_choice_is_refused_with_all_choices_and_the_near_one(override: str, sentence: str) -> None:
    assert refusal(override).startswith(sentence)


@pytest.mark.parametrize("name", sorted(RESERVED))
def test_trainer_arguments_on_which_the_record_relies_are_refused(name: str) -> None:
    assert refusal(f"++trainer.{name}=1").startswith(f"trainer.{name} would make the record untrue: leave it out")


def test_other_trainer_arguments_pass() -> None:
    check(plain("++trainer.gradient_clip_val=1", "++trainer.limit_train_batches=2", "trainer=debug"))


def test_augmentation_has_no_effect_on_features_computed_once() -> None:
    check(plain("recipe=linear_probe"))
    for augment in ("flip", "crop"):
        said = refusal("recipe=linear_probe", f"augment={augment}")
        assert said.startswith("augment has no effect with recipe.trained=head")
        assert said.endswith("set augment=none")
    assert refusal("recipe=linear_probe", "augment.scale=0.5").startswith("augment has no effect")
    assert refusal("recipe=linear_probe", "compile=true").startswith("compile=true has no effect")
    for override in ("head_lr_scale=2", "head_first=true", "mixup=0.2", "train_size=64", "views=flip"):
        said = refusal("recipe=linear_probe", f"recipe.{override}")
        assert said.startswith(f"recipe.{override.partition('=')[0]} has no effect with recipe.trained=head")
    assert said.endswith("leave it at 1")
    assert refusal("recipe=linear_probe", "recipe.train_size=64").endswith("leave it at null")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("first_lr_scale=0", "recipe.first_lr_scale=0 must be a number from"),
        ("first_lr_scale=2", "recipe.first_lr_scale=2 must be a number from"),
        ("mixup=-0.1", "recipe.mixup=-0.1 must be a number from 0"),
        ("views=2", "recipe.views=2 must be one of 1, flip, flip_crops"),
        ("head_first=yess", "recipe.head_first=yess must be one of True, False"),
        ("train_size=[64,big]", "recipe.train_size=[64, 'big'] must be a number of pixels, or a list of such"),
        (
            "train_size=[8,16,24,32,40,48,56,64,72,80,88]",
            "recipe.train_size=[8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88] has",
        ),
        ("mixup=inf", "recipe.mixup=inf must be a number from 0"),
        (
            "train_size=4096",
            "recipe.train_size=4096 enlarges images of data.store_size=150 more than 8 times: lower it",
        ),
        ("train_size=[]", "recipe.train_size=[] must be a number of pixels, or a list of such"),
    ],
)
def test_parts_of_a_recipe_are_checked(override: str, sentence: str) -> None:
    assert refusal(f"recipe.{override}").startswith(sentence)


def test_a_switch_is_true_or_false() -> None:
    for key in ("compile", "dry_run", "keep_last"):
        assert refusal(f"{key}=flase").startswith(f"{key}=flase must be one of True, False")


def test_a_folder_has_no_effect_on_drawn_images() -> None:
    sentence = refusal("data=synthetic", "data.root=/scenes")
    assert sentence.startswith("data.root has no effect with data=synthetic")


@pytest.mark.parametrize(
    ("overrides", "expected"),
    [
        (["optim.lr=0.02"], 0.02),
        (["optim.lr=0.02", "data.batch_size=128"], 0.02),
        (["optim.lr=0.02", "lr_scale=3"], 0.06),
        (["optim.lr=0.02", "lr_scaling=linear", "data.batch_size=128"], 0.08),
        (["optim.lr=0.02", "lr_scaling=linear", "data.batch_size=8"], 0.005),
        (["optim.lr=0.02", "lr_scaling=sqrt", "data.batch_size=128"], 0.04),
        (["optim.lr=0.02", "lr_scaling=sqrt", "data.batch_size=64", "lr_scale=0.5"], 0.01 * math.sqrt(2)),
        (["optim=adamw", "lr_scale=10", "lr_scaling=linear"], 0.003),
    ],
)
def test_the_effective_rate_is_the_files_scaled_as_asked(overrides: list[str], expected: float) -> None:
    assert effective_lr(plain(*overrides)) == pytest.approx(expected)


@pytest.mark.parametrize(
    ("limits", "expected"),
    [
        ([], 14),
        (["limit_train_batches=3"], 6),
        (["limit_train_batches=1"], 2),
        (["limit_train_batches=1.0"], 14),
        (["limit_train_batches=100"], 14),
        (["limit_train_batches=0.5"], 6),  # 3.5 batches are 3
        (["limit_train_batches=0.3"], 4),
        (["accumulate_grad_batches=2"], 8),  # the last of seven batches makes a step of its own
        (["accumulate_grad_batches=7"], 2),
        (["accumulate_grad_batches=10"], 2),
        (["accumulate_grad_batches=3", "limit_train_batches=0.6"], 4),
    ],
)
def test_the_number_of_steps_is_what_lightning_makes_of_two_epochs_of_seven_batches(
    limits: list[str], expected: int
) -> None:
    found = plain("epochs=2", "trainer=cpu", *(f"+trainer.{limit}" for limit in limits))
    assert num_steps(found, 7) == expected
    arguments = {key: value for key, value in found["trainer"].items() if key not in ("precision", "devices")}
    trainer = Trainer(
        **(arguments | {"enable_progress_bar": False}),
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(), Batches([torch.ones(2, 1)] * 7))
    assert trainer.global_step == expected


def test_threads_are_those_asked_for_or_at_least_one() -> None:
    assert resolve_threads(plain("threads=3")) == 3
    assert resolve_threads(plain()) >= 1


def precision(*overrides: str) -> str:
    trainer = plain(*overrides)["trainer"]
    return resolve_precision(trainer["precision"], trainer["accelerator"])


def test_precision_on_a_cpu_is_float32_unless_another_is_asked_for() -> None:
    assert precision("trainer=cpu") == "32-true"
    assert precision("trainer=cpu", "trainer.precision=bf16-mixed") == "bf16-mixed"


@pytest.mark.parametrize(("bf16", "expected"), [(True, "bf16-mixed"), (False, "32-true")])
def test_precision_on_a_gpu_is_bfloat16_where_it_computes_it(
    monkeypatch: pytest.MonkeyPatch, bf16: bool, expected: str
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: bf16)
    assert precision("trainer=auto") == expected
    assert precision("trainer=gpu") == expected
    assert precision("trainer=cpu") == "32-true"


@pytest.mark.parametrize(
    "override",
    [
        *("data.root=/elsewhere", "data.cache_dir=/elsewhere", "logger=csv", "keep_last=true", "sweep.name=mine"),
        "data.device_resident=true",
        *("sweep.plan=true", "trainer.enable_progress_bar=false", "trainer.accelerator=cpu", "study=models"),
        *("threads=7", "trainer.precision=32-true", "model.weights=/tmp/weights.pth"),  # they count as they came out
    ],
)
def test_what_does_not_change_the_result_does_not_change_the_digests(override: str) -> None:
    assert digests(plain(override), FACTS) == digests(plain(), FACTS)


@pytest.mark.parametrize(
    "override",
    [
        *("epochs=11", "optim.lr=0.002", "lr_scale=2", "optim=adam", "scheduler=step", "model=resnet18"),
        *("data.batch_size=16", "data.image_size=64", "data.split_seed=1", "augment=flip", "recipe.ema_decay=0.9"),
        *("recipe.label_smoothing=0.2", "+trainer.gradient_clip_val=1"),
    ],
)
def test_what_changes_the_result_changes_both_digests(override: str) -> None:
    other, usual = digests(plain(override), FACTS), digests(plain(), FACTS)
    assert all(other[key] != usual[key] for key in usual)


def test_the_seed_changes_the_digest_of_the_run_and_not_of_its_configuration() -> None:
    one, two = digests(plain("seed=1"), FACTS), digests(plain("seed=2"), FACTS)
    assert one["config_digest"] != two["config_digest"]
    assert one["configuration_digest"] == two["configuration_digest"]
    other_cut = digests(plain("data.split_seed=2"), FACTS)
    assert one["configuration_digest"] != other_cut["configuration_digest"]


def test_digests_depend_neither_on_the_order_of_keys_nor_on_how_a_number_is_written() -> None:
    usual = plain()
    backwards = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value
        for key, value in reversed(usual.items())
    }
    assert digests(backwards, dict(reversed(FACTS.items()))) == digests(usual, FACTS)
    assert digests(plain("lr_scale=1"), FACTS) == digests(plain("lr_scale=1.0"), FACTS)


@pytest.mark.parametrize("fact", FACTS)
def test_what_was_left_open_counts_as_it_came_out(fact: str) -> None:
    other, usual = digests(plain(), FACTS | {fact: "other"}), digests(plain(), FACTS)
    assert all(other[key] != usual[key] for key in ("config_digest", "configuration_digest"))


def test_a_step_beyond_the_last_epoch_is_told_once_the_epochs_are_known(caplog: pytest.LogCaptureFixture) -> None:
    late = ("scheduler=step", "scheduler.factory.step_size=12")
    check(plain(*late, "budget_minutes=1"))
    warn_of_late_steps(plain(*late) | {"epochs": 13})
    assert caplog.messages == []
    warn_of_late_steps(plain(*late) | {"epochs": 12})
    check(plain(*late))
    told = "scheduler.factory.step_size=12 is beyond the last of {} epochs: the rate stays"
    assert caplog.messages == [told.format(12), told.format(10)]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        *(({"devices": devices}, 1) for devices in (1, "1", [3], "3,")),
        *(({"devices": devices}, 2) for devices in (2, "2", [0, 1], "0,1")),
        *(({"devices": devices, "accelerator": "cpu"}, 1) for devices in ("auto", -1, "-1")),
        *(({"devices": devices}, 4) for devices in ("auto", -1, "-1")),
        ({"devices": 1, "num_nodes": 2}, 2),
        ({"devices": 1, "strategy": "ddp"}, 1),
        ({"devices": -1, "strategy": "ddp", "accelerator": "cpu"}, 2),
    ],
)
def test_devices_are_counted_as_lightning_reads_them(monkeypatch, arguments, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    assert num_devices({"accelerator": "auto"} | arguments) == expected
