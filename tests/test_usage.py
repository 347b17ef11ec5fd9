import re
from pathlib import Path
from typing import Any

import hydra
import pytest
from omegaconf import OmegaConf

from intel_scenes import keys, usage

COMMANDS = sorted(path.stem for path in keys.conf_folder().glob("*.yaml"))


def shown(config_name: str, *overrides: str, width: int = 80) -> str:
    with hydra.initialize_config_dir(str(keys.conf_folder()), version_base="1.3"):
        composed: Any = OmegaConf.to_container(hydra.compose(config_name, list(overrides), return_hydra_config=True))
    choices = composed["hydra"]["runtime"]["choices"]
    return usage.text(config_name, composed, choices, lambda group: [path.stem for path in keys.files(group)], width)


@pytest.mark.parametrize("path", sorted(keys.conf_folder().rglob("*.yaml")), ids=lambda path: path.stem)
def test_every_public_key_has_a_sentence(path: Path) -> None:
    set_elsewhere = keys.sentences("train")
    for key in keys.of_file(path):
        if "${" not in str(key.default):
            assert key.sentence or not keys.is_public(key.name, "train") or key.name in set_elsewhere, key.name
    is_of_group = path.parent.parent == keys.conf_folder()
    if is_of_group and path.read_text().splitlines()[0] != keys.GLOBAL:  # whose keys are explained where they stand
        without = [key.name for key in keys.of_file(path) if not key.sentence and "${" not in str(key.default)]
        assert [name for name in without if keys.is_public(name, "train")] == []


@pytest.mark.parametrize("config_name", COMMANDS)
def test_every_group_has_a_sentence(config_name: str) -> None:
    assert all(group.sentence for group in keys.groups(config_name))


def test_a_sentence_is_the_comment_behind_the_value() -> None:
    found = {key.name: key for key in keys.of_file(keys.conf_folder() / "data" / "intel.yaml")}
    assert found["data.batch_size"] == keys.Key(
        "data.batch_size",
        32,
        "global batch size: images per step, over all devices; full puts all training images into one batch",
    )
    assert found["data.cache_dir"].sentence == "folder of the decoded images, shared by all runs"
    sentences = [keys.sentences("train", frozenset({("data", name)}))["data.root"] for name in ("intel", "synthetic")]
    assert sentences[0].startswith("folder with seg_train and seg_test;")
    assert sentences[1] == "they are drawn into a folder below data.cache_dir"


@pytest.mark.parametrize("width", [80, 120])
@pytest.mark.parametrize("config_name", COMMANDS)
def test_the_text_fits_the_terminal_and_is_free_of_what_is_not_for_users(config_name: str, width: int) -> None:
    text = shown(config_name, width=width)
    assert max(map(len, text.splitlines())) <= width
    assert not re.search(r"\$\{|_target_|_partial_|hydra\b|num_steps", text)
    assert bool(re.search(r"^  folder\b", text, re.MULTILINE)) == (config_name == "compare")


def test_each_key_is_shown_with_its_value_and_its_sentence() -> None:
    text = shown("train", width=120)
    assert re.search(r"^  epochs=10 +passes over the training images;", text, re.MULTILINE)
    assert re.search(r"^  data\.root=\$INTEL_SCENES_DATA +folder with seg_train", text, re.MULTILINE)
    assert re.search(r"^  data\.cache_dir=~/\.cache/intel_scenes\n? +folder of the", text, re.MULTILINE)
    assert re.search(r"^  optim\.weight_decay=0\.01 +decoupled", text, re.MULTILINE), "the default recipe takes AdamW"
    assert re.search(r"^  optim\.nesterov=true +Nesterov", shown("train", "optim=sgd_nesterov"), re.MULTILINE)
    assert re.search(r"^  run +required: a finished run, or a list", shown("evaluate"), re.MULTILINE)


def test_the_files_of_each_group_are_listed() -> None:
    text = shown("train", width=120)
    for group in keys.groups("train"):
        (names,) = re.findall(
            rf"^  {group.name}: ((?:[\w, \n])+?)\n      {re.escape(group.sentence[:20])}", text, re.MULTILINE
        )
        assert re.split(r",\s+", names) == [path.stem for path in keys.files(group.name)]
    assert re.search(
        r"^  quickstart +Do two backbones and two optimizers differ on drawn scenes\?$", text, re.MULTILINE
    )
