"""Every command and every block of Python on the pages runs, or is composed and says why it does not run."""

import os
import re
from pathlib import Path

import pytest

import intel_scenes
from tests.documented_commands import (
    PAGES,
    REASONS,
    ROOT,
    RUN,
    arguments_of_ours,
    blocks,
    commands,
    compose,
    composition_faults,
    faults,
    named,
    prepare,
    run,
)


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_of_a_page_runs_or_says_why_not(page: Path) -> None:
    assert faults(page) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_every_command_of_a_page_composes(page: Path) -> None:
    assert composition_faults(page) == []


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_python_on_a_page_is_python(page: Path) -> None:
    for block in blocks(page, ["python"]):
        compile(block.text, block.place, "exec")


def test_the_reference_has_every_public_name() -> None:
    listed = re.findall(r"^\.\. auto\w+:: intel_scenes\.(\w+)$", (ROOT / "docs/api.md").read_text(), re.MULTILINE)
    assert sorted(listed) == sorted(intel_scenes.__all__)


@pytest.fixture(scope="session")
def environment(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return prepare(tmp_path_factory.mktemp("documentation") / "shared")


@pytest.mark.slow
@pytest.mark.parametrize("page", [page for page in PAGES if any(one.mode == RUN for one in blocks(page))], ids=named)
def test_a_page_runs_from_top_to_bottom(page: Path, environment: dict[str, str], tmp_path: Path) -> None:
    done = run(page, tmp_path, environment)
    assert done.returncode == 0, done.stdout[-5000:]


def page_of(text: str, folder: Path) -> Path:
    page = folder / "page.md"
    page.write_text(text)
    return page


def test_a_script_is_split_into_its_commands() -> None:
    script = """
        A=1 intel-scenes train 'a=[1,2]' \\
            "b=c d"   # a comment; not a command
        cat > file <<'END'
        intel-scenes is not called; nor is (this)
        END
        for gpu in 0 1; do CUDA_VISIBLE_DEVICES=$gpu python -m intel_scenes.train & done; wait
        sbatch --wrap "intel-scenes train study=models" && ls 2>&1 | wc >counts
    """
    assert list(commands(script)) == [
        ["intel-scenes", "train", "a=[1,2]", "b=c d"],
        ["cat"],
        ["python", "-m", "intel_scenes.train"],
        ["sbatch", "--wrap", "intel-scenes train study=models"],
        ["intel-scenes", "train", "study=models"],
        ["ls"],
        ["wc"],
    ]
    assert arguments_of_ours(["python", "-m", "intel_scenes.train", "epochs=1"]) == ("train", ["epochs=1"])
    assert arguments_of_ours(["intel-scenes", "predict", "run=latest"]) == ("predict", ["run=latest"])
    assert arguments_of_ours(["python", "train.py"]) is None


@pytest.mark.parametrize(
    ("name", "arguments"),
    [
        ("train", ["optmi=adam"]),
        ("train", ["epochs=x"]),
        ("train", ["-m", "optim=adam,adamv"]),
        ("train", ["-m", "optim=adam", "epochs=3,x"]),
        ("train", ["optim=adam,sgd"]),
        ("train", ["sweep.confirm=5"]),
        ("predict", ["run=latest"]),
        ("trian", []),
    ],
)
def test_a_command_that_would_be_refused_does_not_compose(name: str, arguments: list[str]) -> None:
    with pytest.raises(Exception, match=r"\S"):
        compose(name, arguments)


def test_what_no_test_would_look_at_is_named(tmp_path: Path) -> None:
    fence = "```"
    page = page_of(
        f"""
<!-- compose: because -->
{fence}bash
intel-scenes train
ls
{fence}

<!-- not run: needs a GPU -->

Between.

    intel-scenes train

{fence}
python -m intel_scenes.train
{fence}

{fence}text
intel-scenes train
{fence}

<!-- compose: takes minutes, needs weights -->
{fence}python
1 + 1
{fence}

{fence}sh
ls
{fence}

{fence}bash
pip install intel-scenes
{fence}
""",
        tmp_path,
    )
    assert [text.removeprefix(f"{page}:").lstrip() for text in faults(page)] == [
        f"4: 'because' is none of the reasons {', '.join(REASONS)}",
        "4: ls is no command of this package, which cannot be composed",
        "24: Python cannot be composed; it runs, or says `not run`",
        "32: pip needs a network, so the block says `not run: needs a network`",
        "2 of 3 comments that say why a block does not run precede one",
        "12: a command outside a ```bash block",
        "15: a command outside a ```bash block",
        "28: write ```bash",
    ]


def test_a_page_stops_at_its_first_block_that_fails(tmp_path: Path) -> None:
    fence = "```"
    page = page_of(
        f"""
{fence}bash
ls photos/train/sea > listed
test $(wc -l < listed) = 45
{fence}
<!-- not run: needs a network -->
{fence}bash
exit 3
{fence}
{fence}python
one = 1
{fence}
{fence}python
assert one == 1
{fence}
{fence}bash
false
touch after
{fence}
""",
        tmp_path,
    )
    done = run(page, tmp_path / "place", {**os.environ, "PYTHONPATH": str(ROOT)})
    assert done.returncode == 1
    assert f"{page}:17: exit status 1" in done.stdout
    assert not (tmp_path / "place/here/after").exists()
