"""`python -m intel_scenes`: the commands."""

import ast
import sys
from pathlib import Path

from intel_scenes import __version__
from intel_scenes.errors import did_you_mean

COMMANDS = ("train", "compare", "evaluate", "predict", "audit", "bench")


def main(arguments: list[str]) -> int:
    """Lists the commands; returns the exit status."""
    if arguments[:1] == ["--version"]:
        sys.stdout.write(f"intel_scenes {__version__}\n")
        return 0
    if not arguments or arguments[0] in ("-h", "--help"):
        lines = [f"  python -m intel_scenes.{name.ljust(9)} {_purpose(name)}" for name in COMMANDS]
        sys.stdout.write("\n".join(["The commands, each with a --help of its own:\n", *lines, ""]))
        return 0
    word = arguments[0]
    if word in COMMANDS:
        sys.stderr.write(f"{word} is a command of its own: python -m intel_scenes.{word}\n")
    else:
        near = did_you_mean(word, COMMANDS)
        sys.stderr.write(f"there is no command {word}{near}; python -m intel_scenes lists all\n")
    return 1


def _purpose(name: str) -> str:
    """What a command says of itself, without importing it."""
    documented = ast.get_docstring(ast.parse(Path(__file__).with_name(f"{name}.py").read_text())) or ""
    return documented.partition(": ")[2].rstrip(".").replace("`", "")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
