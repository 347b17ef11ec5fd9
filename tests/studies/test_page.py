import base64
import gzip
import json
import re
import shutil
import subprocess

import numpy as np
import pytest
from PIL import Image
from plotly.offline import get_plotlyjs

from intel_scenes import record
from intel_scenes.config import CompareConfig
from intel_scenes.studies.publish import compare_and_write
from tests.studies.made import leave_run, leave_study

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync", "--virtual-time-budget=20000", "--enable-logging=stderr"),
)


OPTIONS = CompareConfig(baseline=None, rope=0.5)


def page(study, images=None):
    compare_and_write(study, OPTIONS, images=images)
    return (study / "report.html").read_text()


@pytest.fixture(scope="module")
def study(tmp_path_factory):
    """Sixty runs: twenty arms of three seeds."""
    folder = tmp_path_factory.mktemp("study")
    leave_study(folder, {f"optim{number}": 0.1 * number for number in range(20)}, 3, num_images=300)
    return folder


def test_the_page_is_one_small_file_that_asks_no_network(study):
    text = page(study)
    assert len(text.encode()) < 3_000_000
    assert "default-src 'none'" in text
    outside = re.sub(r'<script type="application/octet-stream".*?</script>', "", text, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", outside)
    packed = re.search(r'id="lib">([^<]*)<', text)[1]
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()


def test_the_sections_stand_in_their_order(study):
    found = re.findall(r'<section id="([\w-]+)"', page(study))
    assert found == [
        *("leaderboard", "differences-section", "curves", "gap-section", "cost", "factors", "pairs", "ledger"),
        *("confusion", "images", "method"),
    ]


def test_every_figure_has_a_place_numbers_and_words(study):
    text = page(study)
    specs = json.loads(re.search(r'id="specs">(.*?)</script>', text)[1])
    places = re.findall(r'<div class="plot" id="([\w-]+)" role="img" aria-label="([^"]+)">', text)
    assert [name for name, _ in places] == list(specs)
    assert text.count("<summary>Numbers</summary>") == text.count('data-save="svg"') == len(specs)


def test_what_comes_from_a_record_is_never_markup(tmp_path):
    evil = "</script><script>alert(1)</script><b>x</b>"
    for seed in (1, 2):
        for optim, share in ((evil, 0.9), ("sgd", 0.5)):
            right = np.random.default_rng(seed).random(60) < share
            leave_run(tmp_path, f"{share}{seed}", {"optim": optim, "seed": seed}, right, classes=[evil, *"bcdef"])
    leave_run(tmp_path, "failed", {"optim": evil, "seed": 3}, right, status="failed", error=evil, config_digest=None)
    text = page(tmp_path)
    assert "<script>alert" not in text
    assert "<b>x" not in text
    names = [trace.get("name", "") for spec in specs_of(text).values() for trace in spec["data"]]
    assert not any("<" in name for name in names)


def specs_of(text):
    return json.loads(re.search(r'id="specs">(.*?)</script>', text)[1])


def test_the_images_that_arms_disagree_on_are_shown_where_they_are_found(tmp_path):
    folder, rng = tmp_path / "data/seg_test/seg_test", np.random.default_rng(0)
    for optim in ("sgd", "adam"):
        for seed in (1, 2):
            right = rng.random(60) < 0.9
            right[7] = optim == "sgd"
            leave_run(tmp_path / "study", f"{optim}{seed}", {"optim": optim, "seed": seed}, right)
    assert "The images were not found" in page(tmp_path / "study")
    (folder / "forest").mkdir(parents=True)
    Image.new("RGB", (150, 150), "green").save(folder / "forest/test00007.jpg")
    text = page(tmp_path / "study", tmp_path / "data")
    assert text.count("data:image/jpeg;base64,") == 1
    shown = text[text.index('id="images"') :]
    assert "forest/test00007.jpg" in shown
    assert "forest: sgd" in shown
    assert "glacier: adam" in shown


def test_a_study_with_one_run_or_none_has_a_page(tmp_path):
    leave_study(tmp_path / "one", {"sgd": 0}, 1)
    assert "nothing to compare it with" in page(tmp_path / "one")
    leave_run(tmp_path / "none", "a", {"optim": "sgd"}, np.ones(6, bool), status="failed", error="e")
    assert "No run is completed" in page(tmp_path / "none")


def test_odd_records_have_a_page_too(tmp_path):
    rng = np.random.default_rng(0)
    for optim in ("sgd", "adam"):
        for seed in (1, 2):
            unknown = {
                "train_accuracy": None,
                "fit_seconds": None,
                "parameters": None,
                "versions": None,
                "classes": None,
            }
            unknown |= {"device": None, "images_per_second": None, "test_duplicates": None}
            leave_run(tmp_path, f"{optim}{seed}", {"optim": optim, "seed": seed}, rng.random(30) < 0.8, **unknown)
    head = ",".join(record.HISTORY_COLUMNS)
    (tmp_path / "sgd1" / record.HISTORY).write_text(f"{head}\n")
    (tmp_path / "adam1" / record.HISTORY).write_text(f"{head}\n0,10,0.1,nan,0.5,nan,nan,nan,100\n")
    (tmp_path / "adam2" / record.HISTORY).write_text(f"{head}\n0,10,0.1,nan,0.5,nan,nan,nan,100\n")
    assert "NaN" not in json.dumps(specs_of(page(tmp_path)))


PROBE = """<script>
addEventListener("load", () => setTimeout(() => {
  document.querySelector("th button").click();
  const wide = [...document.querySelectorAll("main *, header *")].filter(
    one => !one.closest(".wide") && one.getBoundingClientRect().right > innerWidth + 1);
  console.log("probe " + JSON.stringify({
    overflow: document.documentElement.scrollWidth - innerWidth,
    wide: wide.map(one => one.outerHTML.slice(0, 80)).slice(0, 5),
    places: document.querySelectorAll(".plot[data-drawn]").length,
    drawn: document.querySelectorAll(".plot[data-drawn] .plot-container").length,
    first: document.querySelector("table.sortable tbody td").textContent}));
}, 8000));
</script></body>"""


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine to open the page in")
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_draws_every_figure_without_an_error_or_an_overflow(study, tmp_path, width):
    (tmp_path / "report.html").write_text(page(study).replace("</body>", PROBE))
    frame = f'<iframe src="report.html" width="{width}" height="900"></iframe>'  # no window is as narrow as a phone
    (tmp_path / "frame.html").write_text(f"<!doctype html><body>{frame}</body>")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1500,1000"]
    done = subprocess.run(
        [*command, "--dump-dom", f"file://{tmp_path}/frame.html"], capture_output=True, text=True, timeout=120
    )
    said = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert len(said) == 1, said
    found = json.loads(re.search(r"probe (\{.*\})", said[0])[1])
    assert found["overflow"] <= 0, found
    assert found["wide"] == []
    assert found["drawn"] == found["places"] > 10
    assert found["first"] == "optim9", "a click on the first column sorts it"


def test_arms_that_are_numbers_stand_on_axes_of_categories(tmp_path):
    for seed in (1, 2):
        for rate in (0.001, 0.01, 0.1):
            right = np.random.default_rng(seed).random(60) < 0.5 + rate
            leave_run(tmp_path, f"{rate}-{seed}", {"optim.lr": rate, "seed": seed}, right)
    specs = specs_of(page(tmp_path))
    for name in ("differences", "gap"):
        assert specs[name]["layout"]["yaxis"]["type"] == "category"
        assert {label for trace in specs[name]["data"] for label in trace["y"]} <= {
            *("optim.lr=0.001", "optim.lr=0.01", "optim.lr=0.1"),
        }


def test_epochs_count_from_one_on_the_curves(tmp_path):
    leave_run(tmp_path, "one", {"seed": 1}, np.arange(60) > 20, epochs=3)
    text = page(tmp_path)
    curves = specs_of(text)["curves-0"]
    assert [trace["x"] for trace in curves["data"]] == [[1, 2, 3]] * 2
    numbers = text.partition(">epoch</th>")[2].partition("</table>")[0]
    assert re.findall(r'<th scope="row">(\d+)</th>', numbers) == ["1", "2", "3"]
