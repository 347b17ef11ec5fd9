import re
from pathlib import Path

import pytest
import torchvision

from intel_scenes.record import Origin
from intel_scenes.training import memory
from intel_scenes.training.cost_forecast import forward_gflop
from intel_scenes.training.dry_run import dry_run
from tests.small import DRAWN, asked


def forecast(cache: Path, *overrides: str) -> str:
    images = (*DRAWN, f"data.cache_dir={cache}", "model.weights=null", "threads=1", "trainer=cpu")
    return "\n".join(dry_run(asked(*images, *overrides), Origin()))


def test_a_dry_run_counts_steps_parameters_and_bytes(cache):
    text = forecast(cache, "model=mobilenet_v3_small", "data.image_size=32", "epochs=3", "data.batch_size=16")
    # Of 120 drawn images a tenth becomes the validation split: 108 make six batches of 16.
    assert "108 training images in 6 batches of 16, 18 steps with epochs=3; 12 validation and 30 test images" in text
    network = torchvision.models.mobilenet_v3_small(num_classes=6)
    num = sum(parameter.numel() for parameter in network.parameters())
    assert f"{num:,} parameters" in text
    megabytes = sum(tensor.nbytes for tensor in network.state_dict().values()) / 1e6
    assert f"disk: about {megabytes:.0f} MB" in text
    assert re.search(
        r"time: about \d+ seconds per epoch and \d+ seconds in all on cpu, 32-true, threads=1; measured on 3 steps of "
        r"[\d.]+ s",
        text,
    )


def test_batches_that_are_accumulated_make_fewer_steps(cache):
    options = ("model=resnet9_x0_5", "data.image_size=32", "epochs=3", "data.batch_size=16")
    text = forecast(cache, *options, "++trainer.accumulate_grad_batches=4")
    assert "in 6 batches of 16, 6 steps with epochs=3;" in text  # of 4 and of 2 batches in each epoch


@pytest.mark.parametrize("name", ["resnext50_32x4d", "vit_b_16", "mobilenet_v2"])
def test_grouped_convolutions_and_attention_are_counted_as_torchvision_does(name):
    network = torchvision.models.get_model(name)
    weights = torchvision.models.get_model_weights(name).IMAGENET1K_V1
    assert forward_gflop(network, 224) == pytest.approx(2 * weights.meta["_ops"], rel=0.06)  # counts multiplications
    assert network.training


def test_a_linear_probe_computes_features_once_and_trains_its_head(cache):
    text = forecast(
        cache,
        *("recipe=linear_probe", "model=mobilenet_v3_small", "data.image_size=32", "data.batch_size=16"),
        "noise_scale=4",
    )
    assert re.search(r"features of 150 images, computed once in about \d+ seconds unless data.cache_dir has them", text)
    assert "0.00 to train\n" in text
    assert "1 MB of features" in text  # 1,024 numbers of four bytes for each of 150 images
    assert text.endswith("\nthe time does not include that of noise_scale=4")


@pytest.mark.parametrize(
    ("overrides", "copies"),
    [
        (("optim=sgd", "optim.momentum=0", "recipe=plain"), 0),
        (("optim=sgd", "recipe=plain"), 1),
        (("optim=adamw", "recipe=plain"), 2),
        (("optim=adamw", "recipe=plain", "recipe.ema_decay=0.9"), 3),
    ],
)
def test_disk_space_includes_the_optimizer_state_and_the_average(cache, overrides, copies):
    text = forecast(cache, "model=resnet18", "data.image_size=32", "data.batch_size=16", "epochs=1", *overrides)
    megabytes = sum(parameter.nbytes for parameter in torchvision.models.resnet18(num_classes=6).parameters()) / 1e6
    (more,) = re.findall(r"([\d,]+) MB more during training", text)
    assert float(more) == pytest.approx((1 + copies) * megabytes, abs=1)


def test_memory_includes_the_copy_from_which_a_checkpoint_is_written(cache, monkeypatch):
    # A checkpoint of ResNet18 holds 44.8 MB of weights and as much momentum: 960 and 1,010 MB with these.
    for held_by_the_steps in (870_000_000, 920_000_000):
        monkeypatch.setattr(memory, "peak", lambda device, held=held_by_the_steps: held)
        text = forecast(
            cache, "model=resnet18", "data.image_size=32", "data.batch_size=16", "epochs=1", "optim=sgd", "recipe=plain"
        )
        assert "memory: about 1.0 GB" in text


def test_the_arithmetic_of_a_training_step_is_three_times_that_of_torchvisions_forward(cache):
    text = forecast(cache, "model=resnet18", "data.image_size=224", "data.batch_size=2", "epochs=1")
    (gflop,) = re.findall(r"([\d.]+) to train$", text, re.MULTILINE)
    macs = torchvision.models.ResNet18_Weights.DEFAULT.meta["_ops"]  # in 1e9 multiplications with an addition
    assert float(gflop) == pytest.approx(3 * 2 * macs, rel=0.05)
