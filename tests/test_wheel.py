"""The package as it is installed: a wheel, used from an empty folder, offline."""

import json
import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest

from tests.process import NO_NETWORK, python
from tests.test_readme import COMMANDS

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    """A folder with the contents of the wheel, as an installation has them."""
    place = tmp_path_factory.mktemp("wheel")
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    subprocess.run(
        [*pip, "wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", str(place), str(ROOT)], check=True
    )
    (wheel,) = place.glob("*.whl")
    subprocess.run([*pip, "install", "--no-deps", "--target", str(place / "site"), str(wheel)], check=True)
    return place / "site"


def with_wheel(installed, folder, *arguments):
    paths = {"PYTHONPATH": str(installed), "INTEL_SCENES_CACHE": str(folder / "cache")}
    return python(*arguments, cwd=folder, env=os.environ | NO_NETWORK | paths, timeout=400)


def test_the_wheel_brings_its_configuration(installed, tmp_path):
    done = with_wheel(
        installed,
        tmp_path,
        "-c",
        "import intel_scenes.cli as c, intel_scenes.keys as o; print(c.__file__, o.conf_folder())",
    )
    assert done.stdout.split() == [str(installed / "intel_scenes/cli.py"), str(installed / "intel_scenes/conf")]
    assert (installed / "intel_scenes/py.typed").exists()


def test_the_long_description_links_to_nothing_that_lies_beside_the_readme(installed):
    (metadata,) = installed.glob("*.dist-info/METADATA")
    _, description = metadata.read_text().split("\n\n", 1)
    assert description.startswith("# intel_scenes\n")
    assert "](http" in description
    assert re.findall(r"\]\((?!https?:)", description) == []


def test_the_main_job_of_the_readme_runs_offline(installed, tmp_path):
    (arguments,) = COMMANDS[0].split(" && .venv/bin/python ")[1:]
    small = ("epochs=1", "++trainer.limit_train_batches=4", "data.num_test=60", "threads=1")
    done = with_wheel(installed, tmp_path, *arguments.split(), *small)
    assert done.returncode == 0, done.stderr
    summaries = [json.loads(path.read_text()) for path in tmp_path.glob("multirun/quickstart/*/summary.json")]
    assert [summary["status"] for summary in summaries] == ["completed"] * 8
    assert {summary["git_commit"] for summary in summaries} == {None}, "an installed package knows of no repository"
    assert "8 of 8 runs complete" in done.stdout
    (page,) = tmp_path.glob("multirun/quickstart/report.html")
    assert "has the best validation accuracy" in page.read_text()


def test_the_console_command_is_installed(installed, tmp_path):
    command = str(installed / "bin/intel-scenes")
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert with_wheel(installed, tmp_path, command, "--version").stdout == f"intel_scenes {version}\n"
    done = with_wheel(installed, tmp_path, command, "train", "optmi=adam")
    said = "there is no key optmi (did you mean optim?); --help lists all keys\n"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", said)
