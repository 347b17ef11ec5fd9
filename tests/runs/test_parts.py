from functools import partial

import hydra
import yaml

from intel_scenes.models.schedules import warmup_cosine
from intel_scenes.overrides import conf_folder
from intel_scenes.runs.parts import unguarded


def test_the_factor_of_a_schedule_is_called_without_a_guard_and_as_it_was():
    text = (conf_folder() / "scheduler" / "warmup_cosine.yaml").read_text().replace("${num_steps}", "40")
    guarded = hydra.utils.instantiate(yaml.safe_load(text)["factory"], _convert_="all")
    factor = unguarded(guarded).keywords["lr_lambda"]
    assert type(factor) is partial
    assert type(guarded.keywords["lr_lambda"]) is not partial  # else there is nothing to take off
    assert factor(7) == warmup_cosine(7, num_steps=40, warmup_fraction=0.1)
