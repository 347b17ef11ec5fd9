"""A comparison as one page that opens from a disk: `report.html`."""

import base64
import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from plotly.offline import get_plotlyjs

from intel_scenes import files, pages
from intel_scenes.record import StudyPlan, said
from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.choose import Arm, comparable
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.naming import few, seeds_in_order
from intel_scenes.studies.render.answer import answer
from intel_scenes.studies.render.csv_files import RESULTS
from intel_scenes.studies.render.factor_tables import factor_tables, matched_notes
from intel_scenes.studies.render.factor_tables import shares as factor_shares
from intel_scenes.studies.render.figures import figures
from intel_scenes.studies.render.images import galleries, shares
from intel_scenes.studies.render.pair_tables import class_differences, matrix, pairs_by_factor, single_rows
from intel_scenes.studies.render.sentences import notes, problems, unplanned
from intel_scenes.studies.render.tables import Rows, leaderboard, validation_rows

REPORT = "report.html"


def render(found: Comparison, images: Path | None) -> str:
    """The page.

    Args:
        found: What it shows.
        images: Folder of the images; None takes what the runs recorded.
    """
    made = figures(found)
    shown = galleries(found, images)
    return pages.render(
        Path(__file__).parent / "templates" / "report.html",
        title=found.folder.resolve().name,
        question=found.plan.question,
        answer=answer(found),
        problems=problems(found.notices),
        unplanned=unplanned(found.notices),
        notes=notes(found.notices),
        leaderboard=_board(found),
        chose=_chose(found),
        single=single_rows(found),
        figures=made,
        effects=factor_tables(found),
        matched=matched_notes(found),
        spread=factor_shares(found),
        validation=validation_rows(found),
        matrix=matrix(found),
        pair_groups=pairs_by_factor(found),
        ledger=_ledger(found),
        confusions=_confusions(found),
        per_class=_per_class(found),
        class_differences=class_differences(found),
        galleries=shown,
        found_images=any(image.picture for gallery in shown for image in gallery.images),
        failed=[(run.name, run.summary.error or "") for run in found.study.failed],
        unfinished=[run.name for run in found.study.unfinished],
        plan=_plan(found),
        remake=_remake(found),
        rope=f"{100 * found.rope:g}",
        reference=found.reference,
        on_test=found.on_test,
        on_val=found.on_val,
        is_to_leader=found.is_to_leader,
        family=_family(found),
        few_seeds=_has_few_seeds(found),
        results=RESULTS,
        specs=_json({figure.name: figure.spec for section in made.values() for figure in section}),
        library=base64.b64encode(gzip.compress(get_plotlyjs().encode(), 6, mtime=0)).decode(),
    )


def write_page(found: Comparison, images: Path | None = None) -> None:
    """Writes `report.html` into the study's folder."""
    files.write_whole(found.folder / REPORT, render(found, images).encode())


def _json(value: object) -> str:
    """JSON that can stand in a script element whatever its texts hold."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _board(found: Comparison) -> Rows:
    """The leaderboard with the factors in one column, so that a phone shows accuracies beside it."""
    names, *rows = leaderboard(found)
    num_factors = len(found.factors)  # whose columns come first
    arm_of = {id(one): arm.label for arm in found.arms for one in arm.configurations}
    board = [["configuration" if found.tuned else "arm", *names[num_factors:]]]
    for one, row in zip(found.configurations, rows, strict=True):
        tuned = [f"{key}={one.values[key]}" for key in found.tuned]
        label = ", ".join([*([arm_of[id(one)]] if found.compared or not tuned else []), *tuned])
        board.append([label, *row[num_factors:]])
    return board


def _chose(found: Comparison) -> str:
    """Which seeds chose and which confirmed; empty where nothing was confirmed."""
    confirmed = [arm for arm in found.arms if arm.confirmed]
    if not confirmed:
        return ""
    planned = {name: arm.chosen_by for arm in found.plan.confirmed_arms for name in arm.runs}
    chose = {}
    for arm in confirmed:
        told = [seeds for run in arm.tested.runs if (seeds := planned.get(run.name))]
        chose[arm.label] = told[0] if told else _seeds(arm.chosen)  # where the plan does not say it
    tested = {arm.label: _seeds(arm.tested) for arm in confirmed}
    sentence = (
        f"S{_by_seeds(chose)[1:]} chose the configurations; fresh {_by_seeds(tested)} "
        f"confirmed {len(confirmed)} of {len(found.arms)} arms, and all verdicts rest on these alone."
    )
    return " ".join([sentence, *_second_looks(found.plan)])


def _seeds(one: Configuration) -> tuple[str, ...]:
    return seeds_in_order(str(run.summary.seed) for run in one.runs)


def _by_seeds(seeds: Mapping[str, tuple[str, ...]]) -> str:
    """As `seeds 1, 2`, or where arms differ `seeds 1, 2 (sgd, adam) and 1, 2, 3 (nadam)`."""
    arms: dict[tuple[str, ...], list[str]] = {}
    for label, own in seeds.items():
        arms.setdefault(own, []).append(label)
    texts = [", ".join(own) + f" ({few(labels)})" * (len(arms) > 1) for own, labels in arms.items()]
    return f"seed{'s' * (sum(map(len, arms)) != 1)} {' and '.join(texts)}"


def _second_looks(plan: StudyPlan) -> list[str]:
    """A sentence where seeds were added to arms that were confirmed already."""
    known, more = set[tuple[str, ...]](), list[str]()
    for entry in plan.confirmed:
        again = [seed for arm in entry.arms if arm.overrides in known for seed in arm.seeds]
        known |= {arm.overrides for arm in entry.arms}
        more += [f"{', '.join(dict.fromkeys(again))}{f' on {entry.date[:10]}' if entry.date else ''}"] if again else []
    if not more:
        return []
    return [
        f"Fresh seeds were added ({'; '.join(more)}) to arms that were confirmed already: verdicts could be "
        "seen before, and such a second look at the data raises the rate of false verdicts above 5 %."
    ]


def _family(found: Comparison) -> str:
    """The pairs that are tested together, in words."""
    arms = "confirmed arms" if any(arm.confirmed for arm in found.arms) else "arms"
    if found.baseline:
        return f"all pairs of {found.baseline} with other {arms}"
    return f"all pairs of {arms}"


def _has_few_seeds(found: Comparison) -> bool:
    """Whether a verdict rests on fewer than five seeds, where the arms may differ in their variances."""
    return len(found.arms) > 2 and any(min(pair.num_seeds) < 5 for pair in found.pairs if pair.estimate)


def _ledger(found: Comparison) -> Rows:
    rows = [["arm", "seeds", "total SD", "test-sampling SD", "seed SD"]]
    for arm in found.arms:
        if (sds := arm.tested.seed_spread) is not None:
            seed_sd = "needs five seeds" if sds.seed_sd is None else f"{100 * sds.seed_sd:.2f}"
            spread = [f"{100 * sds.total_sd:.2f}", f"{100 * sds.test_sampling_sd:.2f}", seed_sd]
            rows.append([arm.label, str(len(arm.tested.evaluated)), *spread])
    return rows if len(rows) > 1 else []


def _confusions(found: Comparison) -> list[tuple[str, list[tuple[str, list[tuple[float, str]]]]]]:
    """Of the leader and of the arm that differs most from it: for each class the shares of what was predicted."""
    told = comparable(found.arms)
    if not told:
        return []
    shown = [told[0]]
    if len(told) > 1:
        leader = shares(told[0])
        shown.append(max(told[1:], key=lambda arm: float(np.abs(shares(arm) - leader).mean())))
    return [(arm.label, _confusion(found, arm)) for arm in shown]


def _confusion(found: Comparison, arm: Arm) -> list[tuple[str, list[tuple[float, str]]]]:
    """Rows of (class, [(share, percent)]); a class that the test split lacks has no shares."""
    assert arm.tested.evaluated
    num = len(found.images.classes)
    counts = np.zeros((num, num))
    np.add.at(counts, (np.broadcast_to(found.images.labels, arm.tested.predicted.shape), arm.tested.predicted), 1)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    return [
        (name, [(float(share), f"{100 * share:.0f}") for share in row] if total else [])
        for name, row, total in zip(found.images.classes, shares, totals.ravel(), strict=True)
    ]


def _per_class(found: Comparison) -> Rows:
    told = [(arm.label, arm.tested) for arm in found.arms if arm.tested.per_class is not None]
    rows = [
        [label, *("-" if np.isnan(value) else f"{100 * value:.1f}" for value in one.per_class), _balanced(one)]
        for label, one in told
        if one.per_class is not None
    ]
    return [["arm", *found.images.classes, "balanced"], *rows] if rows else []


def _balanced(one: Configuration) -> str:
    return "" if one.balanced_accuracy is None else f"{100 * one.balanced_accuracy:.1f}"


def _plan(found: Comparison) -> Rows:
    """What was planned, and what was added, confirmed or named later, in the order of their dates."""
    plan = found.plan
    if plan == StudyPlan():
        return []
    rows: Rows = []
    for added in plan.added:
        what = [f"added {len(added.runs)}"] if added.runs or not added.changed else []
        what += [f"{key} was {said(old)} and is {said(now)}" for key, (old, now) in added.changed.items()]
        rows.append([added.date or "", "; ".join(what), added.command or ""])
    for entry in plan.confirmed:
        fresh = _by_seeds({arm.label: arm.seeds for arm in entry.arms})
        arms = few([arm.label for arm in entry.arms])
        rows.append([entry.date or "", f"decided to confirm {arms} by {fresh}", entry.command or ""])
    for one in plan.baselines:
        there = f"{one.num_completed} runs were complete"
        if plan.confirmed:
            there += f", {one.num_confirming} of them confirming"
        rows.append([one.date or "", f"baseline {one.label} was named, when {there}", ""])
    rows.sort(key=lambda row: row[0])
    return [[plan.date or "", f"planned {len(plan.planned)} runs", plan.command or ""], *rows]


def _remake(found: Comparison) -> Rows:
    """How to reproduce it."""
    rows = [["command", found.plan.command]] if found.plan.command else []
    for name, key in (
        ("commit", "git_commit"),
        ("package", "package_version"),
        ("device", "device"),
        ("precision", "precision"),
        ("threads", "threads"),
        ("data fingerprint", "data_fingerprint"),
    ):
        known = [getattr(run.summary, key) for run in found.runs]
        values = sorted({str(value) for value in known if value is not None})
        if values:
            rows.append([name, ", ".join(values)])
    versions = {json.dumps(run.summary.versions, sort_keys=True) for run in found.runs if run.summary.versions}
    rows += [["versions", ", ".join(f"{k} {v}" for k, v in json.loads(one).items())] for one in sorted(versions)]
    duplicates = sorted({path for run in found.runs for path in run.summary.test_duplicates or []})
    if duplicates:
        rows.append([f"{len(duplicates)} test images are also in train", ", ".join(duplicates)])
    ended = [run.summary.ended for run in found.runs if run.summary.ended]
    return [*rows, ["last run ended", max(ended)]] if ended else rows
