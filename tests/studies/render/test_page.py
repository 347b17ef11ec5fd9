import base64
import gzip
import itertools
import json
import re
import shutil
import statistics
import subprocess
from dataclasses import replace

import numpy as np
import pytest
from PIL import Image
from plotly.offline import get_plotlyjs

from intel_scenes import record
from intel_scenes.config import CompareConfig
from intel_scenes.record import Baseline, Confirmation, ConfirmedArm, StudyPlan, write_study
from intel_scenes.studies.comparison import compare
from intel_scenes.studies.publish import compare_and_write
from intel_scenes.studies.render.cost_figures import Point, frontier, text_places
from intel_scenes.studies.render.pair_tables import class_differences, pairs_by_factor, single_rows
from tests.studies.simulated import table, world
from tests.studies.simulated_records import leave, leave_run, leave_study

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
def of_twenty(tmp_path_factory):
    """Return the page of sixty runs: twenty arms with three seeds."""
    folder = tmp_path_factory.mktemp("study")
    leave_study(folder, {f"optim{number}": 0.1 * number for number in range(20)}, 3, num_images=300)
    return page(folder)


SHIFTS = {
    "model": {"resnet18": 0.0, "resnet34": 0.3, "resnet50": 0.6, "convnext_tiny": 1.0},
    "optim": {"sgd": 0.0, "adamw": 0.3, "nadam": 0.2},
    "scheduler": {"constant": 0.0, "cosine": 0.2, "onecycle": 0.1},
}


def leave_factorial(folder, without=()):
    """Write runs of 4 backbones x 3 optimizers x 3 schedulers with three seeds, without some of the arms."""
    rng = np.random.default_rng(2)
    images = world(rng, 240)
    for levels in itertools.product(*SHIFTS.values()):
        typed = dict(zip(SHIFTS, levels, strict=True))
        rows = table(rng, images, 3, 0.3, sum(SHIFTS[key][level] for key, level in typed.items()))
        if any(set(levels) >= set(one) for one in without):
            continue
        for seed, row in enumerate(rows, start=1):
            own = {"model_name": levels[0], "init_digest": f"{levels[0]} {seed}"}
            own["fit_seconds"] = 100 * (1 + list(SHIFTS["model"]).index(levels[0])) + len(levels[2])
            leave_run(folder, f"{'-'.join(levels)}-{seed}", typed | {"seed": seed}, row > 0, **typed, **own)


@pytest.fixture(scope="module")
def factorial(tmp_path_factory):
    """Return the folder of 108 runs: 36 arms with three seeds."""
    folder = tmp_path_factory.mktemp("factorial")
    leave_factorial(folder)
    return folder


@pytest.fixture(scope="module")
def of_factorial(factorial):
    """Return the page of the 108 runs."""
    return page(factorial)


def test_the_page_is_one_small_file_that_needs_no_network(of_twenty):
    text = of_twenty
    assert len(text.encode()) < 3_000_000
    assert "default-src 'none'" in text
    outside = re.sub(r'<script type="application/octet-stream".*?</script>', "", text, flags=re.DOTALL)
    assert not re.findall(r"""(?:src|href)=["'](?!#|data:)""", outside)
    packed = re.search(r'id="lib">([^<]*)<', text)[1]
    assert gzip.decompress(base64.b64decode(packed)).decode() == get_plotlyjs()


def test_the_sections_stand_in_their_order(of_twenty):
    sections = re.findall(r'<section id="([\w-]+)"', of_twenty)
    assert sections == [
        *("leaderboard", "differences-section", "cost", "curves", "gap-section", "pairs", "seed-spread"),
        *("classes", "images", "method"),
    ]


def test_every_figure_has_a_place_numbers_and_a_description(of_twenty):
    text = of_twenty
    specs = json.loads(re.search(r'id="specs">(.*?)</script>', text)[1])
    places = re.findall(r'<div class="plot" id="([\w-]+)" role="img" aria-label="([^"]+)">', text)
    assert [name for name, _ in places] == list(specs)
    assert text.count("<summary>Numbers</summary>") == text.count('data-save="svg"') == len(specs)


def test_texts_of_a_record_are_never_markup(tmp_path):
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


def test_disputed_images_are_shown_if_their_files_are_found(tmp_path):
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
    assert re.search(r"Validation accuracy [\d.]+ %\. Test accuracy [\d.]+ % \(95 % CI", page(tmp_path / "one"))
    leave_run(tmp_path / "none", "a", {"optim": "sgd"}, np.ones(6, bool), status="failed", error="e")
    assert "No run is completed" in page(tmp_path / "none")


def test_records_with_unknown_values_have_a_page(tmp_path):
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
  const ends = Object.fromEntries([...document.querySelectorAll("#leaderboard thead th")].map(
    one => [one.textContent.replace("\u00a0", " "), one.getBoundingClientRect().right]));
  const labels = [...document.querySelectorAll("#minutes .textpoint text")].map(one => one.getBoundingClientRect());
  const over = (a, b) => a.left < b.right && b.left < a.right && a.top < b.bottom && b.top < a.bottom;
  console.log("probe " + JSON.stringify({
    overflow: document.documentElement.scrollWidth - innerWidth,
    wide: wide.map(one => one.outerHTML.slice(0, 80)).slice(0, 5),
    places: document.querySelectorAll(".plot[data-drawn]").length,
    drawn: document.querySelectorAll(".plot[data-drawn] .plot-container").length,
    ends: ends,
    narrowest: Math.min(...[...document.querySelectorAll("#differences svg, #minutes svg")].map(
      one => one.getBoundingClientRect().width).filter(one => one > 0)),
    scrolling: [...document.querySelectorAll(".wide")].filter(
      one => one.querySelector(".plot") && one.scrollWidth > one.clientWidth
        && !one.closest(".single, .pairs")).length,
    labels: labels.length,
    colliding: labels.filter((a, i) => labels.some((b, j) => i < j && over(a, b))).length,
    accuracies: document.querySelector("#leaderboard table").getBoundingClientRect().top,
    first: document.querySelector("table.sortable tbody th").textContent}));
}, 8000));
</script></body>"""


@pytest.mark.skipif(not CHROMIUM, reason="no Chromium on this machine to open the page in")
@pytest.mark.parametrize("width", [400, 1400])
def test_a_browser_draws_every_figure_of_36_arms_without_an_error_or_an_overflow(of_factorial, tmp_path, width):
    (tmp_path / "report.html").write_text(of_factorial.replace("</body>", PROBE))
    frame = f'<iframe src="report.html" width="{width}" height="900"></iframe>'  # no window is as narrow as a phone
    (tmp_path / "frame.html").write_text(f"<!doctype html><body>{frame}</body>")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", "--window-size=1500,1000"]
    done = subprocess.run(
        [*command, "--dump-dom", f"file://{tmp_path}/frame.html"], capture_output=True, text=True, timeout=120
    )
    messages = [line for line in done.stderr.splitlines() if "CONSOLE" in line]
    assert len(messages) == 1, messages
    probe = json.loads(re.search(r"probe (\{.*\})", messages[0])[1])
    assert probe["overflow"] <= 0, probe
    assert probe["wide"] == []
    assert probe["drawn"] == probe["places"] > 10
    assert probe["first"] == "resnet50/sgd/onecycle", "a click on the first column sorts it"
    assert probe["accuracies"] < 800, "the leaderboard starts in the first view"
    assert max(probe["ends"]["val %"], probe["ends"]["test %"]) < width
    assert probe["ends"]["against the leader"] < 1400
    assert probe["narrowest"] >= 480, "figures with names of arms are drawn so wide, and scroll where the page is not"
    assert probe["scrolling"] == 0, "all other figures fit"
    assert probe["labels"] > 0
    assert probe["colliding"] == 0


def test_arms_named_by_numbers_are_categories_on_axes(tmp_path):
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


def test_epochs_count_from_one_in_the_curves(tmp_path):
    leave_run(tmp_path, "one", {"seed": 1}, np.arange(60) > 20, epochs=3)
    text = page(tmp_path)
    curves = specs_of(text)["curves-0"]
    assert [trace["x"] for trace in curves["data"]] == [[1, 2, 3]] * 2
    numbers = text.partition(">epoch</th>")[2].partition("</table>")[0]
    assert re.findall(r'<th scope="row">(\d+)</th>', numbers) == ["1", "2", "3"]


def accuracies(folder, **levels):
    """Return the test accuracies in percent of the runs of some levels, read from their summaries."""
    summaries = [json.loads(path.read_text()) for path in folder.glob("*/summary.json")]
    return [100 * one["test_accuracy"] for one in summaries if all(one[key] == level for key, level in levels.items())]


def test_marginal_means_and_their_interactions_are_means_over_the_other_factors(factorial, of_factorial):
    specs = specs_of(of_factorial)
    (means,) = specs["mean-1"]["data"]
    assert sorted(means["x"]) == ["adamw", "nadam", "sgd"]
    for optim, mean in zip(means["x"], means["y"], strict=True):
        assert mean == pytest.approx(statistics.fmean(accuracies(factorial, optim=optim)), abs=0.006)
    assert all(reach > 0 for reach in means["error_y"]["array"])
    first = next(
        spec
        for name, spec in specs.items()
        if name.startswith("interaction") and spec["data"][0]["name"][:5] == "optim"
    )
    levels = first["layout"]["xaxis"]["ticktext"]
    for trace in first["data"]:
        group = trace["name"].partition("=")[2]
        expected = [
            statistics.fmean(accuracies(factorial, optim=group, **{key: level}))
            for level in levels
            for key in ("model", "scheduler")
            if level in SHIFTS[key]
        ]
        assert trace["y"] == pytest.approx(expected, abs=0.006)
        assert trace["mode"] == "markers", "names have no order"
    shares = re.findall(r'<td>(\d+) %</td><td><span class="bar"', of_factorial)
    assert 98 <= sum(map(int, shares)) <= 102


def test_an_incomplete_design_is_shown_over_its_matched_cells_and_names_them(tmp_path):
    leave_factorial(tmp_path, without=[("resnet18", "nadam"), ("resnet34", "nadam")])
    text = page(tmp_path)
    (means,) = specs_of(text)["mean-1"]["data"]
    for optim, mean in zip(means["x"], means["y"], strict=True):
        matched = [
            *accuracies(tmp_path, optim=optim, model="resnet50"),
            *accuracies(tmp_path, optim=optim, model="convnext_tiny"),
        ]
        assert mean == pytest.approx(statistics.fmean(matched), abs=0.006)
    assert "optim: means over the 6 matched cells that have all of its levels: convnext_tiny/constant" in text
    assert "scheduler: means over" not in text, "it is complete"
    assert "The best level" not in text


def test_points_are_joined_where_the_levels_of_a_factor_are_numbers(tmp_path):
    rng = np.random.default_rng(0)
    for rate, optim, seed in itertools.product((0.1, 0.01, 0.001), ("sgd", "adam"), (1, 2)):
        typed = {"optim": optim, "lr_scale": rate, "seed": seed}
        leave_run(tmp_path, f"{optim}-{rate}-{seed}", typed, rng.random(60) < 0.8, optim=optim)
    specs = specs_of(page(tmp_path))
    by_factor = {
        specs[name]["layout"]["xaxis"]["title"]["text"]: specs[name]["data"][0] for name in ("mean-0", "mean-1")
    }
    assert by_factor["lr_scale"]["x"] == ["0.001", "0.01", "0.1"]
    assert by_factor["lr_scale"]["mode"] == "lines+markers"
    assert by_factor["optim"]["mode"] == "markers"


def test_a_learning_rate_alone_is_shown_with_the_standard_error_of_its_seeds(tmp_path):
    for rate, shares in ((0.01, (0.5, 0.6, 0.7)), (0.1, (0.8, 0.8, 0.8))):
        for seed, share in enumerate(shares, start=1):
            right = np.random.default_rng(seed).permutation(60) < 60 * share
            leave_run(tmp_path, f"{rate}-{seed}", {"optim.lr": rate, "seed": seed}, right)
    (line,) = specs_of(page(tmp_path))["response"]["data"]
    assert (line["x"], line["y"]) == ([0.01, 0.1], [60, 80])
    assert line["error_y"]["array"] == pytest.approx([10 / np.sqrt(3), 0], abs=1e-3)


def test_pairs_of_many_arms_are_grouped_by_the_factor_in_which_they_differ(factorial):
    groups = pairs_by_factor(compare(factorial))
    assert [group.title for group in groups] == [
        "54 pairs of arms that differ in model alone",  # 9 x 6
        "36 pairs of arms that differ in optim alone",  # 12 x 3
        "36 pairs of arms that differ in scheduler alone",
        "504 pairs of arms that differ in more than one factor",
    ]
    assert [len(group.rows) - 1 for group in groups] == [54, 36, 36, 504]
    for arm, other, *_ in groups[1].rows[1:]:
        assert [arm.split("/")[place] == other.split("/")[place] for place in (0, 1, 2)] == [True, False, True]


def test_arms_with_a_single_run_are_in_one_table(tmp_path):
    right = np.zeros((3, 60), bool)
    right[0, :50], right[1, 2:48], right[2, 10:52] = True, True, True
    for optim, row in zip(("sgd", "adam", "lion"), right, strict=True):
        leave_run(tmp_path, optim, {"optim": optim, "seed": 1}, row)
    names, *rows = single_rows(compare(tmp_path))
    assert names == ["arm", "only this arm correct", "only sgd correct", "p (McNemar)"]
    assert rows == [
        ["adam", "0", "4", "0.125"],  # 2 / 2^4
        ["lion", "2", "10", "0.039"],  # 2 (1 + 12 + 66) / 2^12
    ]
    text = page(tmp_path)
    assert 'id="pairs"' not in text
    assert text.count("Arms with a single run") == 1


def test_differences_by_class_are_those_of_a_study_of_its_images_alone(tmp_path):
    rng = np.random.default_rng(1)
    tables = {optim: rng.random((3, 120)) < share for optim, share in (("sgd", 0.9), ("adam", 0.7))}
    for optim, rows in tables.items():
        for seed, row in enumerate(rows, start=1):
            typed = {"optim": optim, "seed": seed}
            leave_run(tmp_path / "all", f"{optim}{seed}", typed, row)
            leave_run(tmp_path / "one", f"{optim}{seed}", typed, row[2::6])  # glaciers
    (names, row) = class_differences(compare(tmp_path / "all"))
    (pair,) = compare(tmp_path / "one").to_reference()
    difference = float(np.mean(tables["adam"][:, 2::6]) - np.mean(tables["sgd"][:, 2::6]))
    low, high = pair.estimate.interval()
    assert pair.estimate.value == pytest.approx(difference)
    assert row[names.index("glacier")] == f"{100 * difference:+.1f} ({100 * low:+.1f} to {100 * high:+.1f})"


def test_images_of_leader_and_runner_up_are_those_that_most_seeds_of_only_one_classify_correctly(tmp_path):
    for seed, optim in itertools.product((1, 2, 3), ("sgd", "adam", "lion")):
        right = np.ones(60, bool)
        if optim == "adam":
            right[[4, 5]], right[8] = False, seed != 1  # wrong in one seed of three only
        if optim == "lion":
            right[[4, 10, 11]] = False
        leave_run(tmp_path, f"{optim}{seed}", {"optim": optim, "seed": seed}, right)
    text = page(tmp_path)
    gallery = text.partition("Leader and runner-up differ on 2 of 60 test images")[2].partition("disagree most")[0]
    assert re.findall(r"test(\d+).jpg</div>", gallery) == ["00004", "00005"]
    assert "sea: sgd" in gallery
    assert "street: adam" in gallery


def test_the_frontier_is_chosen_on_validation_whatever_the_test_accuracy():
    points = [
        Point("cheap", 1.0, 0.80, 0.95, (0.9, 1.0)),
        Point("dear", 2.0, 0.90, 0.70, (0.6, 0.8)),
        Point("dominated", 3.0, 0.85, 0.99, (0.9, 1.0)),
    ]
    assert [point.label for point in frontier(points)] == ["cheap", "dear"]


def test_a_label_that_would_overlap_another_is_left_out():
    close = [("resnet50/adamw", 5.0, 50.0), ("resnet50/nadam", 5.1, 50.5), ("resnet50/sgd", 5.05, 49.0)]
    labels = [*close, ("resnet18/sgd", 1.0, 10.0)]
    assert text_places(labels, (0.0, 10.0), (0.0, 100.0)) == ["middle right", "middle left", None, "middle right"]
    assert text_places([("x" * 60, 5.0, 50.0)], (0.0, 10.0), (0.0, 100.0)) == [None], "wider than the figure"


def test_intervals_are_named_by_their_adjustment_and_p_better_is_not_on_the_page(of_twenty):
    text = of_twenty
    assert "Holm-adjusted over all pairs of arms, not simultaneous" in text
    assert "P(better)" not in text
    thin, *thick = specs_of(text)["differences"]["data"]
    assert thin["name"] == "simultaneous (Bonferroni)"
    reach = dict(zip(thin["y"], thin["error_x"]["array"], strict=True))
    for trace in thick:
        for label, holm in zip(trace["y"], trace["error_x"]["array"], strict=True):
            assert 0 < holm <= reach[label] + 0.011


def test_long_lists_of_notices_are_folded(tmp_path):
    leave_study(tmp_path, {f"optim{number}": 0 for number in range(11)}, 2, num_images=60)
    for number in range(11):
        leave_run(
            tmp_path, f"failed{number}", {"optim": f"optim{number}", "seed": 9}, np.ones(6, bool), status="failed"
        )
    box = page(tmp_path).partition('id="problems"')[2].partition("</div>")[0]
    assert box.count("<li>") >= 11
    assert box.partition("<details>")[0].count("<li>") == 8
    assert re.search(r"<summary>\d+ more</summary>", box)


def test_the_page_says_which_seeds_chose_and_which_confirmed(tmp_path):
    confirmed = []
    for optim in ("sgd", "adam", "lion"):
        for seed in (1, 2, 3):  # the third came after the choice
            leave(tmp_path, optim, seed, 0.8)
        if optim != "lion":
            names = tuple(leave(tmp_path, optim, seed, 0.9).name for seed in (101, 102, 103))
            confirmed.append(ConfirmedArm(optim, (f"optim={optim}",), ("1", "2"), ("101", "102", "103"), names))
    sgd, adam = confirmed
    plan = StudyPlan(compared=("optim",), confirmed=(Confirmation(None, None, (sgd, adam)),))
    write_study(tmp_path, plan)
    text = page(tmp_path)
    assert "Seeds 1, 2 chose the configurations; fresh seeds 101, 102, 103 confirmed 2 of 3 arms" in text
    assert "over all pairs of confirmed arms" in text
    assert "second look" not in text
    later = replace(adam, chosen_by=("1", "2", "3"))
    write_study(tmp_path, replace(plan, confirmed=(Confirmation(None, None, (sgd, later)),)))
    assert "Seeds 1, 2, 3 (adam) and 1, 2 (sgd) chose the configurations; fresh seeds 101, 102, 103" in page(tmp_path)


def test_seeds_added_to_confirmed_arms_are_a_second_look_at_the_data(tmp_path):
    first, second, other = [], [], []
    for optim, arms in (("sgd", first), ("adam", first), ("lion", other)):
        for seed in (1, 2):
            leave(tmp_path, optim, seed, 0.8)
        names = tuple(leave(tmp_path, optim, seed, 0.9).name for seed in (101, 102, 103))
        arms.append(ConfirmedArm(optim, (f"optim={optim}",), ("1", "2"), ("101", "102"), names[:2]))
        second.append(replace(arms[-1], seeds=("103",), runs=names[2:]))
    entries = (
        Confirmation("2026-11-01T10:00:00+00:00", "python -m first", tuple(first)),
        Confirmation("2026-11-02T10:00:00+00:00", "python -m other", tuple(other)),
        Confirmation("2026-11-03T10:00:00+00:00", "python -m more", tuple(second)),
    )
    baseline = Baseline("sgd", "2026-11-02T12:00:00+00:00", num_completed=12, num_confirming=6)
    plan = StudyPlan(date="2026-10-31", compared=("optim",), confirmed=entries[:2], baselines=(baseline,))
    write_study(tmp_path, plan)
    assert "second look" not in page(tmp_path), "a first confirmation of another arm is no second look"
    write_study(tmp_path, replace(plan, confirmed=entries))
    text = page(tmp_path)
    assert "Fresh seeds were added (103 on 2026-11-03) to arms that were already confirmed" in text
    planned = text.partition('class="plan"')[2].partition("</details>")[0]
    events = [
        "confirmed sgd, adam on seeds 101, 102",
        "confirmed lion on seeds 101, 102",
        "named the baseline sgd, when 12 runs had completed, 6 of them confirming",
        "confirmed sgd, adam, lion on seed 103",
    ]
    places = [planned.find(event) for event in events]
    assert min(places) > 0, planned
    assert places == sorted(places), "by date"
    reproduce = text.partition('class="provenance"')[2].partition("</details>")[0]
    commands = re.findall(r'<th scope="row">command (\d)</th><td>([^<]*)</td>', reproduce)
    assert commands == [("1", "python -m first"), ("2", "python -m other"), ("3", "python -m more")]


def test_the_page_explains_the_terms_that_its_answer_uses(tmp_path):
    leave_study(tmp_path, {"sgd": 0, "adam": 0.1}, 3)
    terms = re.findall(r"<dt>([^<]+)</dt>", page(tmp_path))
    assert {"arm", "95 % CI", "significant", "smallest detectable difference"} <= set(terms)
    assert "fresh seeds" not in terms
    assert "power law" not in terms


@pytest.mark.parametrize(("num_seeds", "warns"), [(3, True), (5, False)])
def test_the_page_has_the_numbers_of_images_and_warns_of_few_seeds(tmp_path, num_seeds, warns):
    for seed, optim in itertools.product(range(num_seeds), ("sgd", "adam")):
        leave(tmp_path, optim, seed, 0.8 + 0.01 * seed, num_train=5000)
    text = page(tmp_path)
    num_test = compare(tmp_path).runs[0].summary.num_test
    assert f"<td>5,000 training, {num_test:,} test</td>" in text
    assert ("rest on fewer than five seeds" in text) is warns
