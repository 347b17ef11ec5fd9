"""`python -m intel_scenes`, as a user runs it."""

from importlib.metadata import version

import pytest

from intel_scenes.keys import conf_folder
from tests.process import python


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_the_commands_are_listed_with_a_line_each(tmp_path, arguments):
    done = python("-m", "intel_scenes", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=3) for line in done.stdout.splitlines() if line.startswith("  ")]
    assert {line[2] for line in lines} == {f"intel_scenes.{path.stem}" for path in conf_folder().glob("*.yaml")}
    assert all(line[:2] == ["python", "-m"] and len(line[3]) > 20 for line in lines)


def test_it_answers_at_once(tmp_path):
    script = (
        "import sys; sys.modules['hydra'] = None; import runpy; runpy.run_module('intel_scenes', run_name='__main__')"
    )
    assert python("-c", script, cwd=tmp_path).returncode == 0


def test_it_says_its_version(tmp_path):
    done = python("-m", "intel_scenes", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"intel_scenes {version('intel-scenes')}\n")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trian", "there is no command trian (did you mean train?); python -m intel_scenes lists all"),
        ("xyz", "there is no command xyz; python -m intel_scenes lists all"),
        ("compare", "compare is a command of its own: python -m intel_scenes.compare"),
    ],
)
def test_another_word_is_no_command(tmp_path, word, said):
    done = python("-m", "intel_scenes", word, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{said}\n")
