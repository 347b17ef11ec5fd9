import itertools
import math
import sys
from dataclasses import replace
from functools import partial

import hydra
import pytest
import torch
import yaml
from lightning.pytorch import Trainer

from intel_scenes.config import NUM_STEPS, OptimConfig
from intel_scenes.errors import UserError
from intel_scenes.keys import conf_folder
from intel_scenes.models.schedules import warmup_cosine
from intel_scenes.runtime import runtime_of_trainer
from intel_scenes.sections import from_plain
from intel_scenes.training.build import (
    build_classifier,
    build_data,
    build_loggers,
    build_network,
    check_parts,
    unguarded,
)
from intel_scenes.training.epoch_budget import with_steps
from tests.small import DRAWN, QUIET, asked


@pytest.fixture
def made(cache):
    """Build the LightningModule of a configuration and its data module, as a run does."""

    def make(*overrides):
        config = asked(
            *DRAWN, "model.weights=null", "trainer=cpu", "recipe=plain", f"data.cache_dir={cache}", *overrides
        )
        data = build_data(config)
        config = with_steps(config, data, config.epochs, folder=None)
        runtime = runtime_of_trainer(config.trainer, 1)
        return build_classifier(config, build_network(config, None, data), data.splits, runtime), data

    return make


@pytest.fixture
def classifier(made):
    """The module alone."""
    return lambda *overrides: made(*overrides)[0]


def test_an_unguarded_schedule_has_the_same_factors_without_hydras_check():
    text = (conf_folder() / "scheduler" / "warmup_cosine.yaml").read_text().replace("${num_steps}", "40")
    guarded = hydra.utils.instantiate(yaml.safe_load(text)["factory"], _convert_="all")
    factor = unguarded(guarded).keywords["lr_lambda"]
    assert type(factor) is partial
    assert type(guarded.keywords["lr_lambda"]) is not partial  # else there is no check to remove
    assert factor(7) == warmup_cosine(7, num_steps=40, warmup_fraction=0.1)


@pytest.mark.parametrize(
    ("overrides", "fused"),
    [
        (("optim=sgd", "model=mobilenet_v2"), True),
        (("optim=sgd", "model=resnet18"), False),
        (("optim=sgd", "model=resnet18", "optim.fused=true"), True),
        (("optim=adamw", "model=resnet18"), True),
    ],
)
def test_sgd_is_fused_on_a_cpu_where_weights_are_many_and_small(overrides, fused, classifier):
    optimizer = classifier(*overrides).configure_optimizers()["optimizer"]
    assert optimizer.defaults["fused"] is fused


def test_the_network_of_a_run_is_in_channels_last(classifier):
    weight = classifier("model=resnet18").network.conv1.weight
    assert weight.is_contiguous(memory_format=torch.channels_last)
    assert not weight.is_contiguous()


def test_the_auxiliary_classifiers_of_a_run_are_trained_as_its_head_is(classifier):
    module = classifier("model=torchvision", "model.name=googlenet", "data.image_size=64", "recipe.head_lr_scale=10")
    parts = {id(parameter): name.split(".")[0] for name, parameter in module.network.named_parameters()}
    groups = module.configure_optimizers()["optimizer"].param_groups
    rates = {parts[id(parameter)]: group["initial_lr"] for group in groups for parameter in group["params"]}
    assert rates["aux1"] == rates["aux2"] == rates["fc"] == pytest.approx(10 * rates["inception5b"])


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        (["optim.betas=[0.9]"], r"^optim: torch\.optim\.AdamW\(.*betas=\[0\.9\].*\) fails with IndexError: "),
        (
            ["optim=sgd", "optim.momentum=fast"],
            r"^optim: torch\.optim\.SGD\(.*momentum=fast.*\) fails with TypeE",
        ),
        (["optim=rmsprop", "optim.alpha=-1"], r"Invalid alpha value: -1; correct a value of optim$"),
        (
            ["optim=sign", "optim.momentum=1"],
            r"^optim: .*\.SignSGD\(.*\) fails with .*Invalid momentum value: 1;",
        ),
    ],
)
def test_wrong_arguments_of_the_optimizer_are_refused_before_any_image_is_read(overrides, message):
    with pytest.raises(UserError, match=message):
        check_parts(asked("data=folder", "data.root=/nowhere", *overrides), ())


class WarmedSGD(torch.optim.SGD):
    """An optimizer that is told the number of steps, as those that warm up by themselves are."""

    def __init__(self, params, lr, num_warmup, num_steps):
        super().__init__(params, lr)
        self.share = num_warmup / num_steps


def test_an_optimizer_that_takes_the_number_of_steps_is_built_once_they_are_known(cache):
    optim = {"_target_": "tests.training.test_build.WarmedSGD", "_partial_": True, "lr": 0.1, "num_warmup": 1}
    config = asked(*DRAWN, "model=resnet9_x0_5", "model.weights=null", "recipe=plain", f"data.cache_dir={cache}")
    config = replace(config, optim=from_plain(OptimConfig, optim | {"num_steps": NUM_STEPS}))
    check_parts(config, ())
    data = build_data(config)
    config = with_steps(config, data, 2, folder=None)
    runtime = runtime_of_trainer(config.trainer, 1)
    classifier = build_classifier(config, build_network(config, None, data), data.splits, runtime)
    assert classifier.configure_optimizers()["optimizer"].share == 1 / (2 * data.num_batches)


def test_a_missing_tracker_is_reported_with_the_command_that_installs_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "mlflow", None)
    monkeypatch.setattr("lightning.pytorch.loggers.mlflow._MLFLOW_AVAILABLE", False)
    with pytest.raises(UserError, match=r'; run pip install "intel-scenes\[mlflow\]", or set logger=none$'):
        build_loggers(replace(asked("logger=mlflow"), folder="run"))


OPTIMIZERS, SCHEDULERS = (
    sorted(path.stem for path in (conf_folder() / group).glob("*.yaml")) for group in ("optim", "scheduler")
)


# All pairs take minutes. By default each scheduler is paired with one optimizer, another one than in test_run.py.
PAIRS = [
    pytest.param(optim, scheduler, marks=() if optim == chosen else pytest.mark.slow)
    for chosen, scheduler in zip(itertools.cycle(reversed(OPTIMIZERS)), SCHEDULERS)
    for optim in OPTIMIZERS
]


@pytest.mark.parametrize(("optim", "scheduler"), PAIRS)
def test_every_optimizer_trains_with_every_scheduler(made, optim, scheduler):
    few = ("model=resnet9_x0_5", "data.image_size=16", "data.batch_size=54", "epochs=2")
    module, data = made(f"optim={optim}", f"scheduler={scheduler}", *few)
    before = module.network.fc.weight.clone()
    trainer = Trainer(
        **QUIET, max_epochs=2, enable_checkpointing=False, use_distributed_sampler=False, log_every_n_steps=1
    )
    trainer.fit(module, data)
    assert trainer.global_step == 4  # 108 training images make two batches
    assert not torch.equal(module.network.fc.weight, before)
    assert all(parameter.isfinite().all() for parameter in module.parameters())
    assert math.isfinite(trainer.callback_metrics["val_loss"])
