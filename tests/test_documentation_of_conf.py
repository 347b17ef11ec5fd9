"""The pages that docs/generate.py writes from conf/ are those of its present files and comments."""

import importlib.util
from pathlib import Path
from types import ModuleType

import pytest

from intel_scenes import keys

DOCS = Path(__file__).parent.parent / "docs"


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("docs_generate", DOCS / "generate.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_the_pages_are_those_of_the_present_configuration_files(generator, capsys):
    status = generator.main(["--check"])
    assert capsys.readouterr().err == ""
    assert status == 0


def test_a_changed_comment_makes_the_page_of_keys_stale(generator, capsys, monkeypatch):
    of_file = keys.of_file

    def changed(path):
        return tuple(keys.Key(key.name, key.default, key.sentence.replace("passes", "rounds")) for key in of_file(path))

    monkeypatch.setattr(keys, "of_file", changed)
    assert generator.main(["--check"]) == 1
    assert capsys.readouterr().err == "docs/keys.md is stale: run python docs/generate.py\n"


def test_every_key_has_a_comment(generator):
    assert generator.undocumented() == []


def test_a_key_without_a_comment_is_named(generator, monkeypatch):
    sentences = dict(keys.sentences("train"))
    del sentences["data.batch_size"]
    monkeypatch.setattr(keys, "sentences", lambda command: sentences if command == "train" else {})
    assert "data/intel.yaml: data.batch_size" in generator.undocumented()


def test_the_page_of_configuration_names_every_file_of_every_group():
    text = (DOCS / "configuration.md").read_text()
    parts = dict(part.split("`\n", 1) for part in text.split("\n### `")[1:])
    for group in keys.groups("train"):
        assert [path.stem for path in keys.files(group.name) if f"- `{path.stem}`" not in parts[group.name]] == []


def test_the_page_of_keys_names_every_key_of_the_command_line():
    text = (DOCS / "keys.md").read_text()
    names = [key.name for key in keys.of_file(keys.conf_folder() / "train.yaml") if key.default is not None]
    names += [key.name for group in ("data", "recipe") for path in keys.files(group) for key in keys.of_file(path)]
    names = [name for name in names if name.startswith(("data.", "recipe.", "sweep.")) and "_target_" not in name]
    assert [name for name in names if f"`{name}`" not in text] == []
