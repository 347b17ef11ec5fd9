from dataclasses import dataclass, fields, replace

import pytest

from intel_scenes.config import RunConfig
from intel_scenes.digests import Digests, Facts, digests, hashed, is_neutral
from intel_scenes.sections import Section, as_plain, from_plain
from tests.small import resolved

FACTS = Facts(weights="a", data="b", precision="32-true", threads=1)


def digested(*overrides: str, facts: Facts = FACTS) -> Digests:
    return digests(resolved(*overrides), facts)


def test_a_key_that_came_later_is_hashed_only_where_it_differs_from_its_default() -> None:
    @dataclass(frozen=True)
    class Before(Section):
        lr: float
        label: str

    @dataclass(frozen=True)
    class After(Before):
        shuffled: bool = True

    def values(part: Section) -> dict[str, object]:
        return dict(hashed(part))

    old = {"lr": 0.1, "label": "a"}
    assert values(from_plain(After, old)) == values(from_plain(Before, old)) == old
    assert values(from_plain(After, old | {"shuffled": True})) == old
    assert values(from_plain(After, old | {"shuffled": False})) == old | {"shuffled": False}


def test_squares_which_all_runs_had_before_whole_pictures_are_not_hashed() -> None:
    now, before = as_plain(resolved()), as_plain(resolved())
    del before["data"]["store_rule"]
    assert now["data"]["store_rule"] == "square"
    assert digests(from_plain(RunConfig, before), FACTS) == digests(from_plain(RunConfig, now), FACTS)
    assert digested("data.store_rule=whole") != digested()
    assert digested(facts=replace(FACTS, stored=(232, "bilinear"))) != digested()


def test_what_every_loss_and_choice_was_before_weights_and_metrics_is_not_hashed() -> None:
    now, before = as_plain(resolved()), as_plain(resolved())
    assert (now.pop("primary_metric"), now["recipe"].pop("class_weight")) == ("accuracy", 0)
    assert digests(from_plain(RunConfig, now), FACTS) == digests(from_plain(RunConfig, before), FACTS)


def test_what_was_never_measured_before_is_not_hashed() -> None:
    before = as_plain(resolved())
    assert before.pop("noise_scale") == 0
    assert digests(from_plain(RunConfig, before), FACTS) == digested("noise_scale=0")


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
    assert digested(override) == digested()


@pytest.mark.parametrize(
    "override",
    [
        *("epochs=11", "optim.lr=0.002", "lr_scale=2", "optim=adam", "scheduler=step", "model=resnet18"),
        *("data.batch_size=16", "data.image_size=64", "data.split_seed=1", "augment=flip", "recipe.ema_decay=0.9"),
        *("augment.rotate=10", "augment.vertical_flip=0.5", "augment.saturation=0.1"),
        *("recipe.label_smoothing=0.2", "+trainer.gradient_clip_val=1"),
        *("recipe.class_weight=0.5", "primary_metric=balanced_accuracy", "noise_scale=4"),
        *("batch_growth=1", "data.passes_per_epoch=2", "averages=[0.1]"),
    ],
)
def test_what_changes_the_result_changes_both_digests(override: str) -> None:
    other, usual = digested(override), digested()
    assert other.config != usual.config
    assert other.configuration != usual.configuration


def test_the_seed_changes_the_digest_of_the_run_and_not_of_its_configuration() -> None:
    one, two = digested("seed=1"), digested("seed=2")
    assert one.config != two.config
    assert one.configuration == two.configuration
    assert one.configuration != digested("data.split_seed=2").configuration


@pytest.mark.parametrize(
    ("override", "is_free"),
    [
        *((text, True) for text in ("optim.lr=0.1", "scheduler=step", "epochs=3", "seed=2", "recipe.views=flip")),
        *((text, True) for text in ("recipe.class_weight=1", "primary_metric=balanced_accuracy")),
        *((text, False) for text in ("optim=sgd", "data.batch_size=16", "model=resnet18", "recipe.mixup=0.2")),
        ("averages=[0.1]", False),
    ],
)
def test_a_budget_depends_on_what_an_epoch_costs(override: str, is_free: bool) -> None:
    assert (digested(override).budget == digested().budget) is is_free


def test_digests_depend_neither_on_the_order_of_keys_nor_on_how_a_number_is_written() -> None:
    usual = as_plain(resolved())
    backwards = {
        key: dict(reversed(value.items())) if isinstance(value, dict) else value
        for key, value in reversed(usual.items())
    }
    assert digests(from_plain(RunConfig, backwards), FACTS) == digested()
    assert digested("lr_scale=1") == digested("lr_scale=1.0")


@pytest.mark.parametrize("fact", [one.name for one in fields(FACTS)])
def test_open_values_are_hashed_as_resolved(fact: str) -> None:
    other, usual = digested(facts=replace(FACTS, **{fact: "other"})), digested()
    assert other.config != usual.config
    assert other.configuration != usual.configuration


@pytest.mark.parametrize(
    "key",
    [
        *("data.root", "data.cache_dir", "logger", "logger.save_dir", "study", "sweep.name", "sweep.plan", "keep_last"),
        *("hydra/launcher", "hydra.run.dir", "hydra/launcher.n_jobs"),
        *("trainer.enable_progress_bar", "trainer.profiler", "folder"),
    ],
)
def test_keys_without_effect_on_the_result_are_neutral(key: str) -> None:
    assert is_neutral(key)


@pytest.mark.parametrize(
    "key",
    [
        *("data", "data.root_seed", "data.batch_size", "model", "model.weights", "seed", "studying", "sweeper.x"),
        *(
            "trainer",
            "trainer.precision",
            "trainer.devices",
            "trainer.strategy",
            "trainer.gradient_clip_val",
            "my.logger",
            "optim.lr",
            "epochs",
        ),
    ],
)
def test_other_keys_are_not_neutral_however_alike_they_are_spelt(key: str) -> None:
    assert not is_neutral(key)


def test_equal_steps_count_by_the_epochs_that_they_come_to() -> None:
    assert digested("equal_steps=true") == digested()
    assert digested("equal_steps=true", "epochs=20") == digested("epochs=20")


def test_a_share_of_the_training_images_is_hashed_and_all_of_them_are_not() -> None:
    assert digested("data.train_fraction=1.0") == digested()
    assert digested("data.train_fraction=0.5") != digested()
    assert digested("data.train_fraction=0.5", "data.subset_seed=0") != digested("data.train_fraction=0.5")
    one, other = (digested("data.train_fraction=0.5", f"seed={seed}") for seed in (1, 2))
    assert one.configuration == other.configuration, "each seed draws its own subset, and they are one configuration"
