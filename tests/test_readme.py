"""The README's commands are the ones that CI and the wheel test run."""

import re
from pathlib import Path

import pytest

from intel_scenes.keys import conf_folder

ROOT = Path(__file__).parent.parent
COMMANDS = re.findall(r"^    (python3 -m venv .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)


def test_the_readme_has_two_commands_of_one_line_that_set_up_everything():
    assert len(COMMANDS) == 2
    for command in COMMANDS:
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_ci_runs_exactly_the_test_command_of_the_readme():
    between = re.search(r"^# readme:test\n(.*)\n# end$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert between is not None
    assert between[1] == COMMANDS[1]


def test_what_the_readme_links_to_is_there_and_nothing_is_left_to_fill_in():
    text = (ROOT / "README.md").read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert links
    assert [link for link in links if not (ROOT / link).exists()] == []
    assert re.findall(r"TODO|TBD|FIXME|XXX|<[a-z_]+>", text) == []


GROUPS = {path.name for path in conf_folder().iterdir() if path.is_dir()} - {"hydra"}


@pytest.mark.parametrize("group", sorted(GROUPS))
def test_the_readme_names_every_configuration_file(group):
    (row,) = re.findall(rf"^\| `{group}` \|(.*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
    assert sorted(re.findall(r"`([a-z0-9_]+)`", row.split("|")[0])) == sorted(
        path.stem for path in (conf_folder() / group).glob("*.yaml")
    )
