import math
import re
from collections import UserList
from dataclasses import replace
from pathlib import Path

import pytest
import torch
import yaml
from lightning.pytorch import LightningModule, Trainer

from intel_scenes import config, files
from intel_scenes.config import RunConfig, check, of_record, warn_of_late_steps
from intel_scenes.errors import UserError
from intel_scenes.sections import as_plain, from_plain, keys_without_field
from tests import small
from tests.small import resolved

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


def asked(*overrides: str) -> RunConfig:
    """What a run is asked to do by `overrides`, checked."""
    found = small.asked(*overrides)
    check(found)
    return found


def refusal(*overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        asked(*overrides)
    return str(caught.value)


def test_the_defaults_are_in_order() -> None:
    asked()
    asked("recipe=notebook")
    asked("data=synthetic")


@pytest.mark.parametrize("value", ["0", "-1", "2.5", "3.0", "abc", "true", "null", "[1]"])
@pytest.mark.parametrize("key", ["epochs", "data.passes_per_epoch", "data.store_size"])
def test_counts_are_whole_numbers_from_one(key: str, value: str) -> None:
    assert refusal(f"{key}={value}") == f"{key}={value} must be a whole number of at least 1"


def test_a_batch_is_a_number_of_images_or_full() -> None:
    assert asked("data.batch_size=full").data.batch_size == "full"
    for value in ("0", "2.5", "true", "null", "all"):
        assert refusal(f"data.batch_size={value}") == (
            f"data.batch_size={value} must be a whole number of at least 1, or full"
        )


@pytest.mark.parametrize("scaling", ["none", "linear", "sqrt"])
def test_full_is_the_number_of_images_as_soon_as_it_is_known(scaling: str) -> None:
    options = ("optim.lr=0.02", f"lr_scaling={scaling}")
    number, full = (asked(*options, f"data.batch_size={size}") for size in (128, "full"))
    assert full.with_batch_size(128) == number
    assert full.with_batch_size(128).lr == pytest.approx({"none": 0.02, "linear": 0.08, "sqrt": 0.04}[scaling])
    assert number.with_batch_size(7) == number
    one_step_of_four = asked(*options, "data.batch_size=32", "++trainer.accumulate_grad_batches=4")
    assert one_step_of_four.lr == pytest.approx(number.lr)


def test_several_passes_per_epoch_are_for_a_head_alone() -> None:
    check(asked("recipe=linear_probe", "data.passes_per_epoch=3"))
    with pytest.raises(UserError) as caught:
        check(asked("data.passes_per_epoch=3"))
    assert str(caught.value) == (
        "data.passes_per_epoch=3 is for recipe.trained=head only, because an image is augmented once per epoch: leave "
        "it out, and set epochs instead"
    )


@pytest.mark.parametrize(
    ("overrides", "sentence"),
    [
        (["data.batch_size=full"], "data.batch_size=full, which is all training images and cannot grow"),
        (["scheduler=plateau"], "scheduler.interval=validation, which sets the rate during the training"),
        (["recipe=plain", "budget_minutes=3"], "budget_minutes, which times steps of one size"),
        (["study_minutes=3"], "study_minutes, which times steps of one size"),
        (["compile=true"], "compile=true, which would compile for each batch size"),
        (
            ["++trainer.accumulate_grad_batches=2"],
            "trainer.accumulate_grad_batches, which makes steps of equal batches",
        ),
        (["++trainer.limit_train_batches=1"], "trainer.limit_train_batches, which leaves out images"),  # one batch
        (["++trainer.limit_train_batches=0.5"], "trainer.limit_train_batches, which leaves out images"),
    ],
)
def test_batch_growth_is_refused_where_the_number_of_batches_is_fixed(overrides: list[str], sentence: str) -> None:
    check(asked("batch_growth=1", "++trainer.limit_train_batches=1.0"))
    with pytest.raises(UserError) as caught:
        check(asked("batch_growth=1", *overrides))
    assert str(caught.value) == f"batch_growth cannot be combined with {sentence}: leave one of them out"


@pytest.mark.parametrize("key", ["threads", "data.image_size"])
def test_counts_that_can_be_left_open_are_checked_where_they_are_given(key: str) -> None:
    asked(f"{key}=null")
    asked(f"{key}=1")
    for value in ("0", "1.5", "true", "two"):
        assert refusal(f"{key}={value}") == f"{key}={value} must be a whole number of at least 1"


def test_the_size_of_whole_pictures_can_be_left_to_the_network() -> None:
    asked("data=folder")
    asked("data.store_rule=whole", "data.store_size=null")
    refused = "data.store_size=null must be a whole number of at least 1"
    assert refusal("data=folder", "data.store_rule=square") == refused
    assert refusal("data=synthetic", "data.store_rule=whole", "data.store_size=null") == refused
    assert refusal("data=folder", "data.store_size=0") == "data.store_size=0 must be a whole number of at least 1"
    assert refusal("data.store_rule=all") == "data.store_rule=all must be one of square, whole"
    enlarged = refusal("data=folder", "data.store_size=232", "recipe.train_size=2000")
    assert enlarged.startswith("recipe.train_size=2000 enlarges images of data.store_size=232 more than 8 times: ")
    with pytest.raises(UserError, match=r"^recipe\.train_size=2000 enlarges images"):
        config.check_sizes(asked("data=folder", "recipe.train_size=2000"), 232)


def test_a_record_without_a_later_key_has_the_value_of_its_time(tmp_path: Path) -> None:
    old, new = as_plain(resolved()), as_plain(resolved("data=folder"))
    del old["data"]["store_rule"]
    for held, expected in ((old, resolved()), (new, resolved("data=folder"))):
        (tmp_path / "config.yaml").write_text(yaml.safe_dump(held))
        assert of_record(tmp_path) == expected
    for content in ("- a list", "data: null"):
        (tmp_path / "config.yaml").write_text(content)
        with pytest.raises(UserError, match=r"config\.yaml is not a (valid )?configuration.*: move the folder away$"):
            of_record(tmp_path)
    del new["recipe"]["views"]
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(new))
    with pytest.raises(UserError, match=r"lacks recipe\.views, which every run has: add it there, or run again$"):
        of_record(tmp_path)


def test_an_unknown_key_of_a_record_is_named_and_ignored(tmp_path: Path, caplog) -> None:
    held = as_plain(resolved())
    held["recipe"]["class_weights"] = True
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(held))
    assert of_record(tmp_path) == resolved()
    assert caplog.messages == [f"{tmp_path / 'config.yaml'}: unknown key recipe.class_weights; it is ignored"]


def test_a_class_that_a_record_names_is_not_imported(tmp_path: Path) -> None:
    held = as_plain(resolved())
    held["optim"]["_target_"] = "a.package.of.a.Stranger"
    (tmp_path / "config.yaml").write_text(yaml.safe_dump(held))
    assert of_record(tmp_path).optim.others["_target_"] == "a.package.of.a.Stranger"


def test_a_configuration_is_written_and_read_as_it_was() -> None:
    for overrides in ((), ("data=synthetic", "recipe=scratch"), ("recipe=linear_probe", "trainer=debug", "logger=csv")):
        one = resolved(*overrides)
        assert from_plain(RunConfig, yaml.safe_load(yaml.safe_dump(as_plain(one)))) == one


def test_every_key_but_those_of_open_sections_is_a_field() -> None:
    held = as_plain(resolved())
    assert keys_without_field(RunConfig, held) == []
    assert keys_without_field(RunConfig, {"a": {"b": 1}, "data": {"c": {}}, "optim": {"any": 1}, "seed": {"d": 2}}) == [
        *("a.b", "data.c", "seed.d")
    ]


def test_a_key_that_is_taken_out_is_missed() -> None:
    assert (
        refusal("~recipe.mixup")
        == "every run needs recipe.mixup, but no file or override sets it: set ++recipe.mixup=VALUE"
    )
    assert refusal("data=synthetic", "~data.num_test").startswith("every run needs data.num_test,")
    assert refusal("~optim.lr").startswith("every run needs optim.lr,")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("data.root=5", "data.root=5 must be a name or a path"),
        ("study.compared=optim", "study.compared=optim must be a list, such as [optim]"),
        ("augment.scale=0.5", "augment.scale=0.5 must be a list of 2"),
        ("augment.scale=[0.5]", "augment.scale=[0.5] must be a list of 2"),
        ("augment.scale=[a,b]", "augment.scale=['a', 'b'] must be a number"),
        (
            "augment.scale=[0.9,0.5]",
            "augment.scale=[0.9, 0.5] and augment.ratio=[0.75, 1.3333333333333333] must each be",
        ),
        ("trainer.precision=8", "trainer.precision=8 must be one of auto, 32"),
        ("trainer.devices=1.5", "trainer.devices=1.5 must be"),
        ("compare.natural_bounds=10", "compare.natural_bounds=10 must be a list"),
        (
            "compare.natural_bounds=[lr_scale]",
            "compare.natural_bounds=['lr_scale'] must be a list of KEY=NUMBER, such as [optim.weight_decay=0]",
        ),
    ],
)
def test_a_value_of_another_kind_is_refused_by_its_key(override: str, sentence: str) -> None:
    assert refusal(override).startswith(sentence)


@pytest.mark.parametrize("override", ["sweep.name=20260301", "compare.baseline=64"])
def test_a_name_may_be_a_number(override: str) -> None:
    key, _, number = override.partition("=")
    assert files.flatten(as_plain(asked(override)))[key] == int(number)


@pytest.mark.parametrize("key", ["data.num_train", "data.num_test"])
def test_the_numbers_of_drawn_images_are_checked(key: str) -> None:
    assert refusal("data=synthetic", f"{key}=0") == f"{key}=0 must be a whole number of at least 1"


@pytest.mark.parametrize("key", ["seed", "data.split_seed"])
def test_seeds_are_whole_numbers_from_zero(key: str) -> None:
    asked(f"{key}=0")
    for value in ("-1", "0.5", "true", "one"):
        assert refusal(f"{key}={value}") == f"{key}={value} must be a whole number of at least 0"
    assert refusal(f"{key}=null") == f"{key}=null must be a whole number of at least 0"


@pytest.mark.parametrize("value", ["0", "0.0", "-0.1", "nan", "inf", "x", "true", "[0.1]"])
@pytest.mark.parametrize("key", ["optim.lr", "lr_scale", "recipe.head_lr_scale"])
def test_rates_are_numbers_above_zero(key: str, value: str) -> None:
    assert refusal(f"{key}={value}") == f"{key}={value} must be a number above 0"


def test_an_optimizer_without_a_rate_is_refused() -> None:
    assert refusal("optim.lr=null") == "optim.lr=null must be a number above 0"


@pytest.mark.parametrize("value", ["0", "1", "0.0", "1.0", "-0.1", "2", "nan", "half", "true"])
@pytest.mark.parametrize("key", ["data.val_fraction", "recipe.ema_decay"])
def test_shares_that_leave_something_on_both_sides(key: str, value: str) -> None:
    assert refusal(f"{key}={value}") == f"{key}={value} must be a number from 0 to 1 (both excluded)"


def test_ranges_with_their_ends() -> None:
    asked("recipe.label_smoothing=0", "data.crop_fraction=1", "optim.weight_decay=0")
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
        ("lr_scaling=null", "lr_scaling=null must be one of none, linear, sqrt"),
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
    assert refusal(f"++trainer.{name}=1").startswith(f"trainer.{name} is managed by intel_scenes: leave it out")


@pytest.mark.parametrize("number", ["0", "1.5", "true", "null"])
@pytest.mark.parametrize("name", ["accumulate_grad_batches", "num_nodes"])
def test_batches_of_a_step_and_machines_are_counted(name: str, number: str) -> None:
    said = refusal(f"+trainer.{name}={number}")
    assert said == f"trainer.{name}={number} must be a whole number of at least 1"


def test_other_trainer_arguments_pass() -> None:
    asked("++trainer.gradient_clip_val=1", "++trainer.limit_train_batches=2", "trainer=debug")


def test_augmentation_has_no_effect_on_features_computed_once() -> None:
    asked("recipe=linear_probe")
    for augment in ("flip", "crop"):
        said = refusal("recipe=linear_probe", f"augment={augment}")
        assert said.startswith("augment has no effect with recipe.trained=head")
        assert said.endswith("set augment=none")
    for override in ("scale=[0.5,1]", "vertical_flip=0.5"):
        assert refusal("recipe=linear_probe", f"augment.{override}").startswith("augment has no effect")
    assert refusal("recipe=linear_probe", "compile=true").startswith("compile=true has no effect")
    for override in ("head_lr_scale=2", "head_first=true", "mixup=0.2", "train_size=64", "views=flip"):
        said = refusal("recipe=linear_probe", f"recipe.{override}")
        assert said.startswith(f"recipe.{override.partition('=')[0]} has no effect with recipe.trained=head")
    assert said.endswith("set recipe.views=1")
    assert refusal("recipe=linear_probe", "recipe.train_size=64").endswith("set recipe.train_size=null")


@pytest.mark.parametrize(
    ("override", "sentence"),
    [
        ("first_lr_scale=0", "recipe.first_lr_scale=0 must be a number from"),
        ("first_lr_scale=2", "recipe.first_lr_scale=2 must be a number from"),
        ("mixup=-0.1", "recipe.mixup=-0.1 must be a number from 0"),
        ("views=2", "recipe.views=2 must be one of 1, flip, flip_crops"),
        ("head_first=yess", "recipe.head_first=yess must be one of true, false"),
        ("train_size=[64,big]", "recipe.train_size=[64, 'big'] must be a number of pixels, or a list of them"),
        (
            "train_size=[8,16,24,32,40,48,56,64,72,80,88]",
            "recipe.train_size=[8, 16, 24, 32, 40, 48, 56, 64, 72, 80, 88] has",
        ),
        ("mixup=inf", "recipe.mixup=inf must be a number from 0"),
        (
            "train_size=4096",
            "recipe.train_size=4096 enlarges images of data.store_size=150 more than 8 times: lower it",
        ),
        ("train_size=[]", "recipe.train_size=[] must be a number of pixels, or a list of them"),
    ],
)
def test_parts_of_a_recipe_are_checked(override: str, sentence: str) -> None:
    assert refusal(f"recipe.{override}").startswith(sentence)


def test_a_switch_is_true_or_false() -> None:
    for key in ("compile", "dry_run", "keep_last"):
        assert refusal(f"{key}=flase").startswith(f"{key}=flase must be one of true, false")


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
    assert asked(*overrides).lr == pytest.approx(expected)


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
    found = asked("epochs=2", "trainer=cpu", *(f"+trainer.{limit}" for limit in limits)).trainer
    assert found.num_steps(found.num_batches(7), epochs=2) == expected
    arguments = {key: value for key, value in as_plain(found).items() if key not in ("precision", "devices")}
    trainer = Trainer(
        **(arguments | {"enable_progress_bar": False}),
        max_epochs=2,
        logger=False,
        enable_checkpointing=False,
        enable_model_summary=False,
    )
    trainer.fit(Line(), Batches([torch.ones(2, 1)] * 7))
    assert trainer.global_step == expected


def test_a_step_beyond_the_last_epoch_causes_a_warning_once_the_epochs_are_known(
    caplog: pytest.LogCaptureFixture,
) -> None:
    late = ("scheduler=step", "scheduler.factory.step_size=12")
    warn_of_late_steps(replace(asked(*late), epochs=13))
    assert caplog.messages == []
    warn_of_late_steps(replace(asked(*late), epochs=12))
    warn_of_late_steps(asked(*late))
    told = "scheduler.factory.step_size=12 is not below epochs={}, so the learning rate never changes: lower it, or "
    told += "choose another scheduler"
    assert caplog.messages == [told.format(12), told.format(10)]


@pytest.mark.parametrize(
    ("scale", "ratio"), [("[0,1]", "[1,1]"), ("[0.5,0.4]", "[1,1]"), ("[0.5,1.1]", "[1,1]"), ("[0.5,1]", "[0,1]")]
)
def test_a_range_of_crops_that_is_empty_or_out_of_bounds_is_named(scale: str, ratio: str) -> None:
    said = refusal(f"augment.scale={scale}", f"augment.ratio={ratio}")
    assert said.endswith("must each be two ascending numbers above 0, and those of scale at most 1")
    assert said.startswith("augment.scale=[")


def test_a_ratio_of_crops_without_effect_is_named() -> None:
    said = refusal("augment.scale=[1,1]", "augment.ratio=[0.75,1.5]")
    assert said.endswith("the ratio has no effect on whole images, so change one of them")
    asked("augment.scale=[1,1]", "augment.ratio=[1,1]")


@pytest.mark.parametrize("flip", ["-0.1", "1.1"])
def test_a_probability_out_of_bounds_is_named(flip: str) -> None:
    assert refusal(f"augment.flip={flip}") == f"augment.flip={flip} must be a number from 0 to 1"


def test_the_seed_of_a_run_draws_its_subset_unless_one_is_given() -> None:
    assert asked("seed=3", "data.train_fraction=0.5").subset_seed == 3
    assert asked("seed=3", "data.train_fraction=0.5", "data.subset_seed=0").subset_seed == 0


@pytest.mark.parametrize("fraction", ["0", "1.5"])
def test_a_share_of_the_training_images_lies_above_0_and_up_to_1(fraction: str) -> None:
    with pytest.raises(UserError, match=rf"^data\.train_fraction={fraction} must be a number from 1e-09 to 1"):
        asked(f"data.train_fraction={fraction}")


@pytest.mark.parametrize(
    ("typed", "expected"),
    [
        (
            ["data.subset_seed=1"],
            "data.subset_seed has no effect on the whole training set: leave it out, or set data.",
        ),
        (["equal_steps=true"], "equal_steps has no effect on the whole training set: leave it out, or set data."),
        (
            ["data.train_fraction=0.5", "equal_steps=true", "budget_minutes=3"],
            "equal_steps has no effect with budget_minutes, which determines the epochs: leave one of them out",
        ),
        *(
            (
                ["data.train_fraction=0.5", "equal_steps=true", f"scheduler={name}"],
                "equal_steps=true does not fit a schedule that counts epochs, because it trains smaller subsets",
            )
            for name in ("step", "plateau")
        ),
    ],
)
def test_what_has_no_effect_on_a_share_of_the_training_images_is_refused(typed: list[str], expected: str) -> None:
    keys = {text.partition("=")[0] for text in typed}
    with pytest.raises(UserError, match=rf"^{re.escape(expected)}"):
        check(asked(*typed), keys)


@pytest.mark.parametrize("windows", ["[]", "0.5", "[0, 0.5]", "[0.5, 1.5]", "[1, 0.5]", "[0.5, 0.5]", "[true]"])
def test_windows_of_averages_are_ascending_shares(windows: str) -> None:
    expected = "must be a list of ascending numbers above 0 and up to 1, such as [0.1, 1]"
    with pytest.raises(UserError, match=rf"^averages=.* {re.escape(expected)}$"):
        asked(f"averages={windows}")


def test_all_training_images_may_be_one_of_the_shares_of_a_sweep() -> None:
    typed = ["data.train_fraction=1", "equal_steps=true", "data.subset_seed=1", "scheduler=constant"]
    check(asked(*typed), {text.partition("=")[0] for text in typed})


def test_augmentations_combine_by_their_keys() -> None:
    colors = {"brightness": 0.4, "contrast": 0.4, "saturation": 0.4}
    both = asked("augment=color", "augment.vertical_flip=0.5", "augment.rotate=10").augment
    assert both == replace(asked().augment, **colors, vertical_flip=0.5, rotate=10)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("rotate=181", "augment.rotate=181 must be a number from 0 to 180"),
        ("brightness=1.5", "augment.brightness=1.5 must be a number from 0 to 1"),
        ("vertical_flip=-1", "augment.vertical_flip=-1 must be a number from 0 to 1"),
    ],
)
def test_changes_of_angle_and_colour_lie_in_their_ranges(override: str, told: str) -> None:
    assert refusal(f"augment.{override}") == told


def test_a_switch_of_an_optimizer_is_true_or_false() -> None:
    assert refusal("optim.fused=maybe") == "optim.fused=maybe must be one of auto, true, false"
    assert refusal("optim=sgd_nesterov", "optim.nesterov=1.5") == "optim.nesterov=1.5 must be one of true, false"
    asked("optim.fused=null")
