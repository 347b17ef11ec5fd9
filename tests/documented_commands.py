"""Commands of the documentation: find them, compose them, run them.

A page has its commands in blocks of bash and its Python in blocks of python. They run from the top of the page to its
end in one folder, which holds `photos`, with no network and no GPU. A comment right before a block says why it does not
run:

    <!-- compose: takes minutes -->     its commands are only composed
    <!-- not run: needs a network -->   it holds commands of other programs, too

Several reasons are joined by commas. To try pages: `python -m tests.documented_commands [--compose] PAGE ...`
"""

import argparse
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from hydra.core.override_parser.overrides_parser import OverridesParser

from intel_scenes import cli, config
from intel_scenes.composition import configured
from tests.process import NO_NETWORK, program
from tests.small import composed

ROOT = Path(__file__).parent.parent
PAGES = sorted(
    [
        *ROOT.glob("*.md"),
        *(ROOT / "docs").glob("*.md"),
        *(ROOT / "results").rglob("*.md"),
        ROOT / "examples/README.md",
        ROOT / "benchmarks/README.md",
    ]
)
REASONS = (
    "takes minutes",
    "needs a network",
    "needs weights",
    "needs a scheduler",
    "needs a GPU",
    "needs an own file",
)
RUN, COMPOSE, NOT_RUN = "run", "compose", "not run"
BLOCK_SECONDS = 300
NETWORKS = ("mobilenet_v2", "mobilenet_v3_small", "resnet18", "resnet50")  # have weights in the cache of torch

FENCE = re.compile(r"^(?P<indent> *)```(?P<language>\S*)[^\n]*\n(?P<text>.*?)^(?P=indent)```[ ]*$", re.M | re.S)
MARKER = re.compile(r"^ *<!-- (compose|not run): (.*?) *-->$", re.M)
OURS = re.compile(r"^ *(\$ )?(intel-scenes|\.venv/bin/intel-scenes|(\S*/)?python3? -m intel_scenes)\b", re.M)
HEREDOC = re.compile(r"<<-?\s*(['\"]?)(\w+)\1(.*?)\n.*?^\s*\2$", re.M | re.S)
REDIRECTION = re.compile(r"(?<=\s)\d?(>>?|<)\s*(&\d|[^\s;|&)]+)")
BETWEEN = {";", "&", "&&", "|", "||", "(", ")", ";;"}
SHELL_WORDS = {"cd", "do", "done", "else", "export", "fi", "for", "if", "source", "then", "wait", "while"}
FLAGS_WITH_VALUE = {"--cfg", "--config-dir", "-cd", "--package"}


@dataclass(frozen=True)
class Block:
    """A fenced block of a page.

    Attributes:
        page: Its file.
        line: Number of its first line in the page.
        language: As the fence says, `bash` or `python`.
        text: What stands in it.
        mode: Whether it is run, composed or neither.
        reason: Why it is not run.
    """

    page: Path
    line: int
    language: str
    text: str
    mode: str
    reason: str

    @property
    def place(self) -> str:
        """File and line."""
        return f"{named(self.page)}:{self.line}"

    def commands(self) -> list[list[str]]:
        """Return the simple commands of a bash block, each as its words."""
        return list(commands(self.text))


def named(page: Path) -> str:
    """Return the path of a page in the repository."""
    return str(page.relative_to(ROOT) if page.is_relative_to(ROOT) else page)


def blocks(page: Path, languages: Sequence[str] = ("bash", "python")) -> list[Block]:
    """Return the blocks of a page in some languages, in their order."""
    text, of_page = page.read_text(), []
    for fence in FENCE.finditer(text):
        if fence["language"] in languages:
            before = text[: fence.start()].rstrip("\n").rpartition("\n")[2]
            marker = MARKER.match(before)
            mode, reason = (marker[1], marker[2]) if marker else (RUN, "")
            line = text.count("\n", 0, fence.start()) + 2
            of_page.append(Block(page, line, fence["language"], fence["text"], mode, reason))
    return of_page


def commands(script: str) -> Iterator[list[str]]:
    """Yield the simple commands of a bash script without comments, assignments, redirections and here-documents."""
    script = REDIRECTION.sub("", HEREDOC.sub(r"\3", script).replace("\\\n", " "))
    for line in script.splitlines():
        words = shlex.shlex(line, posix=True, punctuation_chars=";&|()")
        words.whitespace_split = True
        command: list[str] = []
        for word in [*words, ";"]:
            if word in BETWEEN:
                if command and command[0] not in SHELL_WORDS:
                    yield command
                    yield from (one for text in _wrapped(command) for one in commands(text))
                command = []
            elif command or not (re.match(r"\w+=", word) or word in ("do", "then", "else")):
                command.append(word)


def _wrapped(command: Sequence[str]) -> list[str]:
    """Return the script that another command is given to run, such as that of `sbatch --wrap`."""
    return [command[command.index("--wrap") + 1]] if "--wrap" in command[:-1] else []


def arguments_of_ours(command: Sequence[str]) -> tuple[str, list[str]] | None:
    """Return the name of a command of this package and its arguments; None for any other program."""
    words = list(command)
    program = Path(words[0]).name
    if program == "intel-scenes":
        name, *arguments = words[1:] or ["--help"]
    elif program.startswith("python") and words[1:2] == ["-m"] and words[2].partition(".")[0] == "intel_scenes":
        name, *arguments = words[2].split(".")[1:] + words[3:] or ["--help"]
    else:
        return None
    return name, arguments


def compose(name: str, arguments: Sequence[str]) -> None:
    """Compose a command and check its keys and values as the command does; in a sweep, check every value.

    Raises:
        Exception: The command would be refused.
    """
    if name.startswith("-") or {"--help", "-h", "--version"} & set(arguments):
        return
    if name not in config.COMMANDS:
        raise ValueError(f"there is no command {name}")
    arguments = [re.sub(r"\$\{?\w+\}?", "variable", text) for text in arguments]
    flags = [text for text in arguments if text.startswith("-")]
    typed = [
        _quoted(text)
        for place, text in enumerate(arguments)
        if not text.startswith("-") and (place == 0 or arguments[place - 1] not in FLAGS_WITH_VALUE)
    ]
    can_sweep = bool({"-m", "--multirun"} & set(flags)) or any(text.startswith("study=") for text in typed)
    if not can_sweep and name == "train":
        cli.refuse_keys_of_sweeps(typed)
    for overrides in _jobs(typed, can_sweep=can_sweep):
        configured(composed(*overrides, command=name), config.COMMANDS[name])


def _quoted(argument: str) -> str:
    """Quote names of runs and images, which may hold characters that mean something to Hydra."""
    key, _, value = argument.partition("=")
    return f"{key}='{value}'" if key in ("run", "images") and not re.search("['\"]", value) else argument


def _jobs(typed: Sequence[str], *, can_sweep: bool) -> list[list[str]]:
    """Return jobs of a sweep that hold each of its values: those of one key with the first values of the others."""
    values = []
    for override in OverridesParser.create().parse_overrides(list(typed)):
        if not override.is_sweep_override():
            values.append([str(override.input_line)])
        elif not can_sweep:
            raise ValueError(f"{override.input_line} has several values: add -m")
        elif override.is_interval_sweep():
            values.append([f"{override.get_key_element()}={override.value().start}"])
        else:
            key = override.get_key_element()
            values.append([f"{key}={value}" for value in override.sweep_string_iterator()])
    first = [one[0] for one in values]
    others = [[*first[:place], value, *first[place + 1 :]] for place, one in enumerate(values) for value in one[1:]]
    return [first, *others]


def composition_faults(page: Path) -> list[str]:
    """Return a sentence for each command of this package on a page that does not compose."""
    return [
        f"{block.place}: {shlex.join(command)}: {type(error).__name__}: {str(error).splitlines()[0]}"
        for block in blocks(page, ["bash"])
        for command in block.commands()
        if (error := _error_of(block, command))
    ]


def _error_of(block: Block, command: Sequence[str]) -> Exception | None:
    ours = arguments_of_ours(command)
    # Files of one's own are found where they lie: a block that runs tries them.
    if ours is None or (block.mode != COMPOSE and re.search(r"searchpath|--config-dir", shlex.join(command))):
        return None
    try:
        compose(*ours)
    except Exception as error:  # whatever it is, the reader of a page would meet it
        return error
    return None


def faults(page: Path) -> list[str]:
    """Return a sentence for each command on a page that no test would run or compose, without one of the reasons."""
    text, name = page.read_text(), named(page)
    sentences = [sentence for block in blocks(page) for sentence in _faults_of(block)]
    num_markers, num_marked = len(MARKER.findall(text)), sum(block.mode != RUN for block in blocks(page))
    if num_markers != num_marked:
        sentences.append(
            f"{name}: {num_marked} of {num_markers} comments that say why a block does not run precede one"
        )
    # Blank out what blocks hold, so that the lines of what is left keep their numbers.
    outside = FENCE.sub(lambda fence: re.sub(r"[^\n]+", "", fence[0]) if fence["language"] else fence[0], text)
    sentences += [
        f"{name}:{outside.count(chr(10), 0, match.start()) + 1}: a command outside a ```bash block"
        for match in OURS.finditer(outside)
    ]
    shells = [block.place for block in blocks(page, ["sh", "shell", "console", "zsh"])]
    return sentences + [f"{place}: write ```bash" for place in shells]


def _faults_of(block: Block) -> Iterator[str]:
    reasons = [reason.strip() for reason in block.reason.split(",")] if block.reason else []
    for reason in reasons:
        if reason not in REASONS:
            yield f"{block.place}: '{reason}' is none of the reasons {', '.join(REASONS)}"
    if block.language == "python":
        if block.mode == COMPOSE:
            yield f"{block.place}: Python cannot be composed; it runs, or says `not run`"
        return
    for command in block.commands():
        if block.mode == COMPOSE and arguments_of_ours(command) is None:
            yield f"{block.place}: {shlex.join(command)} is no command of this package, which cannot be composed"
        if block.mode == RUN and Path(command[0]).name == "pip":
            yield f"{block.place}: pip needs a network, so the block says `not run: needs a network`"


def prepare(place: Path) -> dict[str, str]:
    """Write the programs and weights that pages need below `place`, and return the environment of their commands."""
    scripts = place / "bin"
    scripts.mkdir(parents=True)
    program(scripts / "intel-scenes", "intel_scenes")
    for name in ("python", "python3"):
        (scripts / name).write_text(f'#!/bin/sh\nexec "{sys.executable}" "$@"\n')
        (scripts / name).chmod(0o755)
    _write_weights(place / "torch/hub/checkpoints")
    kept = {key: value for key, value in os.environ.items() if key != "INTEL_SCENES_DATA"}
    ours = {"PATH": f"{scripts}{os.pathsep}{os.environ['PATH']}", "PYTHONPATH": str(ROOT), "OMP_WAIT_POLICY": "passive"}
    shared = {"TORCH_HOME": str(place / "torch"), "INTEL_SCENES_CACHE": str(place / "cache")}
    without_gpu = {"CUDA_VISIBLE_DEVICES": "", "HF_HUB_OFFLINE": "1", "MPLBACKEND": "agg"}
    return kept | NO_NETWORK | ours | without_gpu | shared


def _write_weights(folder: Path) -> None:
    """Write random weights where torchvision keeps downloaded ones, so that commands with the default weights run."""
    import torch
    from torchvision import models

    folder.mkdir(parents=True)
    with torch.random.fork_rng(), torch.no_grad():
        torch.manual_seed(0)
        for name in NETWORKS:
            network = models.get_model(name).train()
            for module in network.modules():
                if isinstance(module, torch.nn.BatchNorm2d):
                    module.momentum = None  # the running statistics are those of the next batch
            network(torch.randn(8, 3, 64, 64))
            url = models.get_model_weights(name)["DEFAULT"].url
            torch.save(network.state_dict(), folder / url.rpartition("/")[2])


def draw_photos(folder: Path) -> None:
    """Draw the splits `train`, `val` and `test`: 45, 6 and 8 images of 64 pixels for each of six classes.

    The 270 training images fill a batch of any recipe.
    """
    from intel_scenes.data.sources import drawn_folder

    with TemporaryDirectory() as temporary:
        drawn = drawn_folder(Path(temporary), num_train=6 * 51, num_test=6 * 8, size=64, seed=1)
        for split, target in (("seg_train", "train"), ("seg_test", "test")):
            (source,) = (path for path in drawn.rglob(split) if not (path / split).is_dir())
            for scene in sorted(source.iterdir()):
                for number, path in enumerate(sorted(scene.iterdir())):
                    place = folder / ("val" if target == "train" and number >= 45 else target) / scene.name
                    place.mkdir(parents=True, exist_ok=True)
                    path.rename(place / path.name)


def run(
    page: Path, place: Path, environment: Mapping[str, str], stdout: int | None = subprocess.PIPE
) -> subprocess.CompletedProcess[str]:
    """Run the blocks of a page in their order, up to the first that fails, and write what they print to `stdout`."""
    folder = place / "here"
    draw_photos(folder / "photos")
    (place / "home").mkdir()
    return subprocess.run(
        [sys.executable, "-m", "tests.documented_commands", "--here", str(page)],
        cwd=folder,
        env={**environment, "HOME": str(place / "home")},
        stdout=stdout,
        stderr=subprocess.STDOUT,
        text=True,
        check=False,
    )


def _run_here(page: Path) -> int:
    """Run the blocks of a page in the current folder, and return the exit status of the first that fails, else 0."""
    names: dict[str, object] = {"__name__": "__main__"}
    for block in blocks(page):
        if block.mode != RUN:
            continue
        print(f"--- {block.place}", flush=True)
        began = time.monotonic()
        if block.language == "python":
            exec(compile(block.text, block.place, "exec"), names)
        else:
            done = subprocess.run(["bash", "-euo", "pipefail", "-c", block.text], check=False, timeout=BLOCK_SECONDS)
            if done.returncode:
                print(f"{block.place}: exit status {done.returncode}", flush=True)
                return done.returncode
        print(f"--- {block.place} took {time.monotonic() - began:.1f} s", flush=True)
    return 0


def main() -> int:
    """Try pages, and print what their commands print."""
    parser = argparse.ArgumentParser(description="Try the commands of pages.")
    parser.add_argument("pages", nargs="+", type=Path)
    parser.add_argument("--compose", action="store_true", help="run nothing")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    pages = [page.resolve() for page in options.pages]
    if options.here:
        return _run_here(pages[0])
    failed = False
    for page in pages:
        sentences = [*faults(page), *composition_faults(page)]
        print("\n".join(sentences) or f"{named(page)}: every command composes")
        failed = failed or bool(sentences)
    if not options.compose:
        with TemporaryDirectory() as temporary:
            environment = prepare(Path(temporary))
            for page in pages:
                done = run(page, Path(temporary, page.stem), environment, stdout=None)
                failed = failed or done.returncode != 0
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
