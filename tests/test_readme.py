"""The README's commands are the ones that CI and the wheel test run, and the pages name what there is."""

import re
from pathlib import Path

import pytest

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


PAGES = sorted(
    path for path in ROOT.glob("**/*.md") if ".venv" not in path.parts and not path.is_relative_to(ROOT / "tests")
)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there_and_nothing_is_left_to_fill_in(page):
    text = page.read_text()
    links = re.findall(r"\]\((?!https?:)([^)#]+)", text)
    assert [link for link in links if not (page.parent / link).exists()] == []
    assert re.findall(r"TODO|TBD|FIXME|XXX|<[a-z_]+>", text) == []


def test_the_readme_links_to_every_page():
    links = re.findall(r"\]\((?!https?:)([^)#]+)", (ROOT / "README.md").read_text())
    assert [page for page in (ROOT / "docs").glob("*.md") if str(page.relative_to(ROOT)) not in links] == []
