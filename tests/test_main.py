"""`intel-scenes` and `python -m intel_scenes`, as a user runs them."""

import json
import os
import sys
from importlib.metadata import version

import pytest

from intel_scenes import __main__
from intel_scenes.keys import conf_folder
from tests.process import forked, python
from tests.small import DRAWN, SMALL

# What the script of [project.scripts] does that pip writes.
CONSOLE = "import sys; from intel_scenes.__main__ import main_of_console; sys.exit(main_of_console())"


@pytest.mark.parametrize("arguments", [(), ("--help",)])
def test_the_commands_are_listed_with_a_line_each(tmp_path, arguments):
    done = python("-m", "intel_scenes", *arguments, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    lines = [line.split(maxsplit=2) for line in done.stdout.splitlines() if line.startswith("  ")]
    assert {line[1] for line in lines} == {path.stem for path in conf_folder().glob("*.yaml")}
    assert all(line[0] == "intel-scenes" and line[2] for line in lines)


def test_the_list_of_commands_does_not_import_hydra(tmp_path):
    script = (
        "import sys; sys.modules['hydra'] = None; import runpy; runpy.run_module('intel_scenes', run_name='__main__')"
    )
    done = python("-c", script, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "  intel-scenes train " in done.stdout


def test_it_says_its_version(tmp_path):
    done = python("-m", "intel_scenes", "--version", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, f"intel_scenes {version('intel-scenes')}\n")


@pytest.mark.parametrize(
    ("word", "said"),
    [
        ("trian", "there is no command trian (did you mean train?); intel-scenes --help lists all commands"),
        ("xyz", "there is no command xyz; intel-scenes --help lists all commands"),
    ],
)
def test_another_word_is_no_command(tmp_path, word, said):
    done = python("-m", "intel_scenes", word, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"{said}\n")


@pytest.mark.parametrize("name", __main__.COMMANDS)
def test_every_command_says_its_version_without_importing_torch(tmp_path, name):
    script = f"import sys; sys.modules['torch'] = None; sys.argv[1:] = ['{name}', '--version']; {CONSOLE}"
    done = python("-c", script, cwd=tmp_path)
    assert (done.returncode, done.stdout, done.stderr) == (0, f"intel_scenes {version('intel-scenes')}\n", "")


@pytest.mark.parametrize(
    ("arguments", "status"),
    [(["--help"], 0), (["-m", "optim=sgd,adamv"], 1)],
)
def test_the_console_command_answers_as_the_module_does_and_without_importing_torch(tmp_path, arguments, status):
    script = f"import sys; sys.modules['torch'] = None; sys.argv[1:] = ['train', *{arguments!r}]; {CONSOLE}"
    done, as_module = python("-c", script, cwd=tmp_path), python("-m", "intel_scenes.train", *arguments, cwd=tmp_path)
    assert done.returncode == status
    assert (done.returncode, done.stdout, done.stderr) == (as_module.returncode, as_module.stdout, as_module.stderr)
    assert not list(tmp_path.iterdir())


def test_a_sweep_by_the_console_command_is_found_again_by_the_module(tmp_path, cache):
    arguments = ["-m", *DRAWN, *SMALL, "model=resnet9_x0_5", "epochs=1", "seed=1,2", f"data.cache_dir={cache}"]
    done = forked("intel_scenes", "train", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    summaries = [json.loads(path.read_text()) for path in tmp_path.glob("multirun/by-seed/*/summary.json")]
    assert sorted((summary["seed"], summary["status"]) for summary in summaries) == [(1, "completed"), (2, "completed")]
    again = forked("intel_scenes.train", *arguments, cwd=tmp_path)
    assert again.returncode == 0, again.stderr
    assert "all runs were finished before" in again.stdout


def test_a_command_is_the_main_module_and_finds_modules_of_the_current_folder(tmp_path):
    """The processes of DDP and of launchers start the main module by its name."""
    (tmp_path / "found_here.py").write_text("")
    script = (
        "import runpy, sys; from intel_scenes import cli; "
        "told = lambda: print(sys.modules['__main__'].__spec__.name, sys.argv[1:]); "
        "cli.start = lambda *_, **__: (__import__('found_here'), told()); "
        "sys.path.pop(0); sys.argv[1:] = ['compare', 'folder=x']; " + CONSOLE
    )
    done = python("-c", script, cwd=tmp_path, env=os.environ | {"PYTHONPATH": os.pathsep.join(filter(None, sys.path))})
    assert (done.returncode, done.stdout) == (0, "intel_scenes.compare ['folder=x']\n"), done.stderr
