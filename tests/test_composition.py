import pytest

from intel_scenes import config, keys
from intel_scenes.composition import configured, section
from intel_scenes.config import CompareConfig, RunConfig, SweepConfig
from intel_scenes.errors import UserError
from tests.small import composed


def refusal(config_name: str, *overrides: str) -> str:
    with pytest.raises(UserError) as caught:
        configured(composed(*overrides, command=config_name), config.COMMANDS[config_name])
    return str(caught.value)


@pytest.mark.parametrize("config_name", sorted(config.COMMANDS))
def test_a_key_without_a_value_is_named_with_the_sentence_beside_it(config_name: str) -> None:
    missing = [key for key in keys.of_file(keys.conf_folder() / f"{config_name}.yaml") if key.default == "???"]
    for key in [key for key in missing if keys.is_public(key.name, config_name)][:1]:
        told = f"{key.name} is not given: set {key.name}=VALUE ({key.sentence})"
        assert refusal(config_name) == told
        assert key.sentence


def test_a_key_of_a_chosen_file_without_a_value_is_named_too() -> None:
    assert (
        refusal("train", "model=torchvision")
        == "model.name is not given: set model.name=VALUE (name of the model in its library)"
    )


def test_a_value_that_refers_to_no_key_is_reported_in_one_line() -> None:
    assert refusal("train", "model.weights=${weight}") == "Interpolation key 'weight' not found"


def test_a_section_is_read_where_other_keys_have_no_value_yet() -> None:
    cfg = composed("model=torchvision", "sweep.name=${model.weights}", "compare.rope=1")
    with pytest.raises(UserError, match=r"^model\.name is not given"):
        configured(cfg, RunConfig)
    assert section(cfg, SweepConfig) == SweepConfig("DEFAULT", trials=16, plan=False, redo=None, fail_fast=False)
    compare = section(cfg, CompareConfig)
    assert (compare.baseline, compare.rope, compare.bounds["recipe.first_lr_scale"]) == (None, 1, [0, 1])
    assert section(composed("folder=.", command="compare"), CompareConfig).bounds == compare.bounds


def test_a_section_that_is_wrong_or_missing_is_reported() -> None:
    with pytest.raises(UserError, match=r"^sweep\.trials=0 must be a whole number of at least 1$"):
        section(composed("sweep.trials=0"), SweepConfig)
    with pytest.raises(UserError, match=r"^every run needs sweep\.name,"):
        section(composed("~sweep"), SweepConfig)


def test_what_a_run_knows_later_is_filled_in_wherever_a_file_refers_to_it() -> None:
    overrides = ("+optim.warmup_steps=${num_steps}", "scheduler=constant", "+scheduler.factory.total=[1,${epochs}]")
    config = configured(composed(*overrides, "epochs=4", "+trainer.profiler=${folder}/log"), RunConfig)
    known = config.resolved(folder="run", epochs=4, num_steps=28)
    assert known.optim.others["warmup_steps"] == 28
    assert known.scheduler.factory["total"] == [1, 4]
    assert known.trainer.others["profiler"] == "run/log"


def test_a_schedule_of_epochs_takes_those_that_a_budget_determines() -> None:
    cfg = composed("budget_minutes=1", "scheduler=constant", "+scheduler.factory.total=${epochs}")
    known = configured(cfg, RunConfig).resolved(folder="run", epochs=7, num_steps=28)
    assert (known.epochs, known.scheduler.factory["total"]) == (7, 7)


def test_a_schedule_that_counts_steps_somewhere_changes_the_rate_after_each() -> None:
    said = refusal("train", "scheduler.interval=epoch", "scheduler=constant", "+scheduler.factory.at=[1,${num_steps}]")
    assert (
        said == "scheduler.interval=epoch does not fit this schedule, which counts steps: set scheduler.interval=step"
    )
