"""The README's commands are the ones that CI and the wheel test run, and the pages are short and name what there is."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parent.parent
COMMANDS = re.findall(r"^(?: {4})?(python3 -m venv .*)$", (ROOT / "README.md").read_text(), re.MULTILINE)
LISTS = ("api.md", "keys.md", "record.md")  # pages of docs/ that list all there is, however many words it takes


def test_the_readme_has_two_commands_of_one_line_that_set_up_everything():
    assert len(COMMANDS) == 2
    for command in COMMANDS:
        assert command.startswith("python3 -m venv .venv && .venv/bin/pip install ")


def test_ci_runs_exactly_the_test_command_of_the_readme():
    between = re.search(r"^# readme:test\n(.*)\n# end$", (ROOT / ".ci/run").read_text(), re.MULTILINE)
    assert between is not None
    assert between[1] == COMMANDS[1]


PAGES = sorted(
    path
    for path in ROOT.glob("**/*.md")
    if not {".venv", "build"} & {*path.parts} and not path.is_relative_to(ROOT / "tests")
)


def links_of(page: Path) -> list[str]:
    """The files that a page links to, by their relative paths."""
    return re.findall(r"\]\((?!https?:)([^)#]+)", page.read_text())


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_what_a_page_links_to_is_there_and_nothing_is_left_to_fill_in(page):
    assert [link for link in links_of(page) if not (page.parent / link).exists()] == []
    assert re.findall(r"TODO|TBD|FIXME|XXX|<[a-z_]+>|\bOUTPUT_[A-Z]+\b", page.read_text()) == []


DOCS = sorted(path for path in (ROOT / "docs").glob("*.md") if path.name != "index.md")


def test_the_readme_links_to_every_page():
    links = links_of(ROOT / "README.md")
    assert [page.name for page in DOCS if page.name not in LISTS and f"docs/{page.name}" not in links] == []


def test_the_contents_of_the_site_are_all_pages():
    index = (ROOT / "docs/index.md").read_text()
    entries = re.findall(
        r"^(?:.* <)?([\w./-]+)>?$", "\n".join(re.findall(r"```{toctree}\n(.*?)```", index, re.S)), re.M
    )
    pages = {(ROOT / "docs" / f"{entry}.md").resolve() for entry in entries if entry != "compare-two-optimizers"}
    sought = {
        page for page in PAGES if page.parent == ROOT / "docs" or "results" in page.parts or "benchmarks" in page.parts
    }
    elsewhere = {ROOT / name for name in ("CONTRIBUTING.md", "CHANGELOG.md", "examples/README.md")}
    assert pages - elsewhere == sought - {ROOT / "docs/index.md"}


def test_the_readme_takes_four_minutes_to_read():
    assert len((ROOT / "README.md").read_text().split()) <= 900


@pytest.mark.parametrize("page", [page for page in DOCS if page.name not in LISTS], ids=lambda page: page.name)
def test_a_page_takes_five_minutes_to_read(page):
    generated = re.compile("<!-- generated from conf/.*<!-- end of the generated part -->", re.DOTALL)  # a list as well
    assert len(generated.sub("", page.read_text()).split()) < 1200


def test_the_citation_is_whole_and_of_this_version():
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # The schema 1.2.0 of the Citation File Format asks for these four.
    assert citation["cff-version"] == "1.2.0"
    assert citation["message"]
    assert citation["title"]
    assert all({"name", "family-names", "alias"} & author.keys() for author in citation["authors"])
    assert (citation["version"], citation["license"]) == (project["version"], project["license"])
