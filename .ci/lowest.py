"""Print a constraint for each dependency of pyproject.toml: the lowest version that it allows."""

import re
import tomllib
from pathlib import Path

project = tomllib.loads((Path(__file__).parent.parent / "pyproject.toml").read_text())["project"]
for requirement in (*project["dependencies"], *project["optional-dependencies"]["dev"]):
    if floor := re.match(r"([\w.-]+)>=([\w.]+)", requirement):
        print(f"{floor[1]}=={floor[2]}")
