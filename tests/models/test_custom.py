import hashlib
from itertools import count
from pathlib import Path

import pytest
import torch

from intel_scenes.config import ModelConfig
from intel_scenes.errors import UserError
from intel_scenes.models.backbones import heads
from intel_scenes.models.libraries import build, features_key, preprocessing_of, resolve_weights, source_digest

SOURCE = """
from torch import nn, zeros
from torchvision import models

class Told(nn.Module):
    def __init__(self, num_classes, width=8):
        super().__init__()
        self.out, self.conv = nn.Linear(width, num_classes), nn.Conv2d(3, width, 3)  # not in the order of use
    def forward(self, images):
        return self.out(self.conv(images).mean((2, 3)))

class Fixed(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 10, bias=False))

class Convolutional(nn.Sequential):
    def __init__(self, num_classes):
        super().__init__(nn.Conv2d(3, num_classes, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten())

class Headless(nn.Sequential):
    def __init__(self):
        super().__init__(nn.Conv2d(3, 4, 3))

class Loud(Fixed):
    def forward(self, images):
        return {"logits": super().forward(images)}

def ours(num_classes):
    return models.mobilenet_v3_small(num_classes=num_classes)

def number(num_classes):
    return 3

def broken(num_classes):
    raise RuntimeError("no such thing")
"""
NUMBERS = count()


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a module with networks, in a package of the current folder."""
    name = f"mine{next(NUMBERS)}"
    (tmp_path / name).mkdir()
    (tmp_path / name / "nets.py").write_text(SOURCE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.syspath_prepend("/nowhere")  # takes what the import appends off again
    return f"{name}.nets"


def of(target: str, weights: str | None = None, **args: object) -> ModelConfig:
    return ModelConfig(target, weights, "custom", target, args)


def made(target: str, weights: str | None = None, **args: object) -> torch.nn.Module:
    model = of(target, weights, **args)
    return build(model, 6, weights=resolve_weights(model), image_size=16)


def refusal(target: str, weights: str | None = None, **args: object) -> str:
    with pytest.raises(UserError) as caught:
        made(target, weights, **args)
    return str(caught.value)


def test_a_class_of_the_current_folder_is_given_the_number_of_classes_and_further_arguments(module: str) -> None:
    network = made(f"{module}.Told", width=5)
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 6)
    ((name, head),) = heads(network).items()
    assert (name, head.in_features) == ("out", 5)


def test_the_last_linear_layer_of_another_is_replaced(module: str) -> None:
    network = made(f"{module}.Fixed")
    assert network(torch.zeros(2, 3, 16, 16)).shape == (2, 6)
    ((name, head),) = heads(network).items()
    assert (name, head.in_features, head.bias) == ("3", 4, None)


def test_a_network_may_end_in_something_else_than_a_linear_layer(module: str) -> None:
    assert heads(made(f"{module}.Convolutional")) == {}


def test_a_function_may_make_the_network(module: str) -> None:
    assert list(heads(made(f"{module}.ours"))) == ["classifier.3"]


def test_the_whole_image_is_used_at_224_px_with_the_normalization_of_imagenet(module: str) -> None:
    seen = preprocessing_of(of(f"{module}.Told"))
    assert (seen.crop_size, seen.resize_size, seen.mean) == (224, 224, (0.485, 0.456, 0.406))


def test_weights_of_a_file_are_loaded_without_a_head_for_other_classes(module: str, tmp_path: Path) -> None:
    torch.manual_seed(1)
    theirs = build(of(f"{module}.Told"), 9, weights=None, image_size=16).state_dict()
    torch.save(theirs, tmp_path / "weights.pth")
    ours = made(f"{module}.Told", "weights.pth").state_dict()
    assert torch.equal(ours["conv.weight"], theirs["conv.weight"])
    assert ours["out.weight"].shape == (6, 8)
    assert f"{module}.Told has no published weights" in refusal(f"{module}.Told", "DEFAULT")


def test_the_digest_is_that_of_the_file_and_features_of_another_source_are_others(module: str, tmp_path: Path) -> None:
    model = of(f"{module}.Told")
    path = tmp_path / module.replace(".", "/")
    assert source_digest(model) == hashlib.sha256(path.with_suffix(".py").read_bytes()).hexdigest()
    before = features_key(model)
    path.with_suffix(".py").write_text(SOURCE.replace("width=8", "width=88"))
    assert features_key(model) != before


def test_a_source_that_changed_is_imported_anew(module: str, tmp_path: Path) -> None:
    assert made(f"{module}.Told").conv.out_channels == 8
    (tmp_path / f"{module.replace('.', '/')}.py").write_text(SOURCE.replace("width=8", "width=88"))
    assert made(f"{module}.Told").conv.out_channels == 88


def test_features_of_torchvision_and_timm_have_different_keys() -> None:
    keys = [features_key(ModelConfig("resnet34", None, library)) for library in ("torchvision", "timm")]
    assert keys[0] == "resnet34"  # as before there were others
    assert keys[1] != keys[0]


@pytest.mark.parametrize(
    ("name", "said"),
    [
        (
            "Headless",
            "{}.Headless has neither a parameter num_classes nor a linear layer to replace: add the parameter",
        ),
        (
            "Loud",
            "{}.Loud returns dict for one image, but must return logits of shape (1, 6): change its forward()",
        ),
        ("number", "{}.number returns a int, but must return a torch.nn.Module: change it"),
        (
            "broken",
            "{}.broken cannot be called (RuntimeError: no such thing): set its arguments in model.args",
        ),
    ],
)
def test_what_is_no_network_is_refused_in_one_sentence(module: str, name: str, said: str) -> None:
    assert refusal(f"{module}.{name}").startswith(said.format(module))


def test_a_misspelt_class_or_module_is_refused_with_the_nearest_names(module: str, tmp_path: Path) -> None:
    (tmp_path / "networks.py").write_text(SOURCE)
    source = tmp_path / f"{module.replace('.', '/')}.py"
    assert refusal(f"{module}.Tolled") == (
        f"{source} has no Tolled (did you mean Told?): correct model._target_={module}.Tolled"
    )
    assert refusal(f"{module}.Absent") == f"{source} has no Absent: correct model._target_={module}.Absent"
    assert "the installed packages (did you mean networks?): write it" in refusal("netwroks.Told")


def test_a_wrong_argument_or_a_module_that_is_not_there_is_refused(module: str, tmp_path: Path) -> None:
    assert "unexpected keyword argument 'depth'" in refusal(f"{module}.Told", depth=3)
    assert refusal("absent.nets.Told") == (
        f"model._target_=absent.nets.Told is in no Python file of the current folder ({tmp_path}) or the installed "
        "packages: write it as package.module.Class"
    )
    (tmp_path / "faulty.py").write_text("import nothing_of_this_name")
    assert refusal("faulty.Net") == (
        "faulty.Net cannot be imported (ModuleNotFoundError: No module named 'nothing_of_this_name'): correct "
        f"{tmp_path / 'faulty.py'}"
    )


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (("a", None, "custom"), "model._target_=null must be package.module.Class"),
        (("a", None, "custom", "Class"), "model._target_=Class must be package.module.Class"),
        (
            ("a", None, "timm", "a.B"),
            "model._target_=a.B has no effect with model.library=timm: set model.lib",
        ),
        (("a", None, "torchvision", None, {"b": 1}), "model.args.b has no effect with model.library=torchvision"),
        (("a", None, "tim"), "model.library=tim must be one of torchvision, timm, custom (did you mean timm?)"),
    ],
)
def test_keys_without_effect_are_refused(values: tuple[object, ...], said: str) -> None:
    with pytest.raises(UserError) as caught:
        ModelConfig(*values)
    assert str(caught.value).startswith(said)
