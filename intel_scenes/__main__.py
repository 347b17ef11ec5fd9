"""`intel-scenes` and `python -m intel_scenes`: list the commands, or run one, such as `intel-scenes train`."""

import ast
import os
import runpy
import sys
from pathlib import Path

from intel_scenes import __version__
from intel_scenes.errors import did_you_mean

COMMANDS = ("train", "compare", "evaluate", "predict", "audit", "bench")


def main(arguments: list[str]) -> int:
    """Run a command, which ends the process; or list the commands and return the exit status."""
    if arguments[:1] == ["--version"]:
        sys.stdout.write(f"intel_scenes {__version__}\n")
        return 0
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  intel-scenes {name.ljust(9)} {_purpose(name)}" for name in COMMANDS]
        title = "Commands; each has its own --help, and runs as `python -m intel_scenes.NAME` too:\n"
        sys.stdout.write("\n".join([title, *lines, ""]))
        return 0
    word, *rest = arguments
    if word not in COMMANDS:
        near = did_you_mean(word, COMMANDS)
        sys.stderr.write(f"there is no command {word}{near}; intel-scenes --help lists all commands\n")
        return 1
    # As the main module, like `python -m`: the processes of a launcher and of DDP find it by that name.
    sys.argv = [word, *rest]
    runpy.run_module(f"intel_scenes.{word}", run_name="__main__", alter_sys=True)
    return 0


def main_of_console() -> int:
    """Run the console command, which finds modules of the current folder as `python -m` does."""
    if not sys.flags.safe_path:
        sys.path.insert(0, os.getcwd())
    return main(sys.argv[1:])


def _purpose(name: str) -> str:
    """Return what a command does, from its docstring, without importing it."""
    docstring = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{name}.py").read_text())) or ""
    return docstring.partition(": ")[2].rstrip(".").replace("`", "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
