"""The report of a comparison: `report.html`, one HTML file that opens without a network."""

import base64
import gzip
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from plotly.offline import get_plotlyjs

from intel_scenes import files, pages
from intel_scenes.errors import counted, few
from intel_scenes.record import StudyPlan, said
from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.choose import Arm, comparable
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.naming import seeds_in_order
from intel_scenes.studies.render.answer import answer
from intel_scenes.studies.render.csv_files import RESULTS
from intel_scenes.studies.render.factor_tables import factor_tables, matched_notes
from intel_scenes.studies.render.factor_tables import shares as factor_shares
from intel_scenes.studies.render.figures import figures
from intel_scenes.studies.render.images import galleries, shares_correct
from intel_scenes.studies.render.pair_tables import class_differences, matrix, pairs_by_factor, single_rows
from intel_scenes.studies.render.sentences import notes, problems, unplanned
from intel_scenes.studies.render.tables import Rows, leaderboard, number, validation_rows
from intel_scenes.studies.render.terms import TOOLTIPS, terms_of

REPORT = "report.html"


def render(comparison: Comparison, images: Path | None) -> str:
    """Return the HTML of the report.

    Args:
        comparison: Comparison to show.
        images: Folder of the images; None uses the folder that the runs recorded.
    """
    figures_by_section = figures(comparison)
    image_galleries = galleries(comparison, images)
    sentences = answer(comparison)
    return pages.render(
        Path(__file__).parent / "templates" / "report.html",
        title=comparison.folder.resolve().name,
        question=comparison.plan.question,
        answer=sentences,
        problems=problems(comparison.notices),
        unplanned=unplanned(comparison.notices),
        notes=notes(comparison.notices),
        terms=terms_of(sentences),
        tooltips=TOOLTIPS,
        tuned=comparison.tuned,
        leaderboard=_board(comparison),
        confirmation=_confirmation(comparison),
        single=single_rows(comparison),
        figures=figures_by_section,
        effects=factor_tables(comparison),
        matched=matched_notes(comparison),
        spread=factor_shares(comparison),
        validation=validation_rows(comparison),
        matrix=matrix(comparison),
        pair_groups=pairs_by_factor(comparison),
        seed_spread=_seed_spread(comparison),
        confusions=_confusions(comparison),
        per_class=_per_class(comparison),
        class_differences=class_differences(comparison),
        galleries=image_galleries,
        has_pictures=any(image.picture for gallery in image_galleries for image in gallery.images),
        failed=[(run.name, run.summary.error or "") for run in comparison.study.failed],
        unfinished=[run.name for run in comparison.study.unfinished],
        plan=_plan(comparison),
        provenance=_provenance(comparison),
        rope=f"{100 * comparison.rope:g}",
        reference=comparison.reference,
        on_test=comparison.on_test,
        on_val=comparison.on_val,
        is_to_leader=comparison.is_to_leader,
        family=_family(comparison),
        few_seeds=_has_few_seeds(comparison),
        results=RESULTS,
        specs=_json({figure.name: figure.spec for section in figures_by_section.values() for figure in section}),
        library=base64.b64encode(gzip.compress(get_plotlyjs().encode(), 6, mtime=0)).decode(),
    )


def write_page(comparison: Comparison, images: Path | None = None) -> None:
    """Write `report.html` into the folder of the study."""
    files.write_whole(comparison.folder / REPORT, files.encoded(render(comparison, images)))


def _json(value: object) -> str:
    """Return JSON that is safe inside a script element, whatever its strings contain."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _board(comparison: Comparison) -> Rows:
    """Return the leaderboard with all factors in one column, so that a phone shows the accuracies beside it."""
    names, *rows = leaderboard(comparison)
    num_factors = len(comparison.factors)  # their columns come first
    arm_of = {id(configuration): arm.label for arm in comparison.arms for configuration in arm.configurations}
    board = [["configuration" if comparison.tuned else "arm", *names[num_factors:]]]
    for configuration, row in zip(comparison.configurations, rows, strict=True):
        tuned = [f"{key}={configuration.values[key]}" for key in comparison.tuned]
        label = ", ".join([*([arm_of[id(configuration)]] if comparison.compared or not tuned else []), *tuned])
        board.append([label, *row[num_factors:]])
    return board


def _confirmation(comparison: Comparison) -> str:
    """Return which seeds chose the configurations and which confirmed them; empty if nothing was confirmed."""
    confirmed = [arm for arm in comparison.arms if arm.confirmed]
    if not confirmed:
        return ""
    planned = {name: arm.chosen_by for arm in comparison.plan.confirmed_arms for name in arm.runs}
    chose = {}
    for arm in confirmed:
        recorded = [seeds for run in arm.tested.runs if (seeds := planned.get(run.name))]
        chose[arm.label] = recorded[0] if recorded else _seeds(arm.chosen)
    tested = {arm.label: _seeds(arm.tested) for arm in confirmed}
    sentence = (
        f"S{_by_seeds(chose)[1:]} chose the configurations; fresh {_by_seeds(tested)} "
        f"confirmed {len(confirmed)} of {len(comparison.arms)} arms. All verdicts rest on the fresh seeds alone."
    )
    return " ".join([sentence, *_second_looks(comparison.plan)])


def _seeds(configuration: Configuration) -> tuple[str, ...]:
    return seeds_in_order(str(run.summary.seed) for run in configuration.runs)


def _by_seeds(seeds: Mapping[str, tuple[str, ...]]) -> str:
    """Return `seeds 1, 2`, or, if the arms differ, `seeds 1, 2 (sgd, adam) and 1, 2, 3 (nadam)`."""
    arms: dict[tuple[str, ...], list[str]] = {}
    for label, own in seeds.items():
        arms.setdefault(own, []).append(label)
    texts = [", ".join(own) + f" ({few(labels)})" * (len(arms) > 1) for own, labels in arms.items()]
    return f"seed{'s' * (sum(map(len, arms)) != 1)} {' and '.join(texts)}"


def _second_looks(plan: StudyPlan) -> list[str]:
    """Return a warning if seeds were added to arms that were already confirmed."""
    confirmed, more = set[tuple[str, ...]](), list[str]()
    for entry in plan.confirmed:
        again = [seed for arm in entry.arms if arm.overrides in confirmed for seed in arm.seeds]
        confirmed |= {arm.overrides for arm in entry.arms}
        more += [f"{', '.join(dict.fromkeys(again))}{f' on {entry.date[:10]}' if entry.date else ''}"] if again else []
    if not more:
        return []
    return [
        f"Fresh seeds were added ({'; '.join(more)}) to arms that were already confirmed. If that was decided after "
        "seeing the verdicts, it raises the rate of false verdicts above 5 %, as any second look at the data does."
    ]


def _family(comparison: Comparison) -> str:
    """Return the family of pairs that are tested together, in words."""
    arms = "confirmed arms" if any(arm.confirmed for arm in comparison.arms) else "arms"
    if comparison.baseline:
        return f"all pairs of {comparison.baseline} with other {arms}"
    return f"all pairs of {arms}"


def _has_few_seeds(comparison: Comparison) -> bool:
    """Return whether a verdict rests on fewer than five seeds."""
    return any(min(pair.num_seeds) < 5 for pair in comparison.pairs if pair.estimate)


def _seed_spread(comparison: Comparison) -> Rows:
    rows = [["arm", "seeds", "total SD", "test-sampling SD", "seed SD"]]
    for arm in comparison.arms:
        if (sds := arm.tested.seed_spread) is not None:
            seed_sd = "needs five seeds" if sds.seed_sd is None else f"{100 * sds.seed_sd:.2f}"
            spread = [f"{100 * sds.total_sd:.2f}", f"{100 * sds.test_sampling_sd:.2f}", seed_sd]
            rows.append([arm.label, str(len(arm.tested.evaluated)), *spread])
    return rows if len(rows) > 1 else []


def _confusions(comparison: Comparison) -> list[tuple[str, list[tuple[str, list[tuple[float, str]]]]]]:
    """Return the confusion matrices of the leader and of the arm that differs most from it, by label."""
    arms = comparable(comparison.arms)
    if not arms:
        return []
    selected = arms[:1]
    if len(arms) > 1:
        leader = shares_correct(arms[0])
        selected = [arms[0], max(arms[1:], key=lambda arm: float(np.abs(shares_correct(arm) - leader).mean()))]
    return [(arm.label, _confusion(comparison, arm)) for arm in selected]


def _confusion(comparison: Comparison, arm: Arm) -> list[tuple[str, list[tuple[float, str]]]]:
    """Return rows of (class, [(share, percent)]); a class without test images has an empty list."""
    assert arm.tested.evaluated
    num = len(comparison.images.classes)
    counts = np.zeros((num, num))
    np.add.at(counts, (np.broadcast_to(comparison.images.labels, arm.tested.predicted.shape), arm.tested.predicted), 1)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    return [
        (name, [(float(share), f"{100 * share:.0f}") for share in row] if total else [])
        for name, row, total in zip(comparison.images.classes, shares, totals.ravel(), strict=True)
    ]


def _per_class(comparison: Comparison) -> Rows:
    rows = [
        [
            arm.label,
            *("-" if np.isnan(value) else f"{100 * value:.1f}" for value in arm.tested.per_class),
            number(arm.tested.balanced_accuracy, ".1f", 100),
        ]
        for arm in comparison.arms
        if arm.tested.per_class is not None
    ]
    return [["arm", *comparison.images.classes, "balanced"], *rows] if rows else []


def _plan(comparison: Comparison) -> Rows:
    """Return what was planned, and what was added, confirmed or named as baseline later, by date."""
    plan = comparison.plan
    if plan == StudyPlan():
        return []
    rows: Rows = []
    for added in plan.added:
        what = [f"added {counted(len(added.runs), 'run')}"] if added.runs or not added.changed else []
        what += [f"changed {key} from {said(old)} to {said(now)}" for key, (old, now) in added.changed.items()]
        rows.append([added.date or "", "; ".join(what), added.command or ""])
    for entry in plan.confirmed:
        fresh = _by_seeds({arm.label: arm.seeds for arm in entry.arms})
        arms = few([arm.label for arm in entry.arms])
        rows.append([entry.date or "", f"confirmed {arms} on {fresh}", entry.command or ""])
    for baseline in plan.baselines:
        completed = f"{counted(baseline.num_completed, 'run')} had completed"
        if plan.confirmed:
            completed += f", {baseline.num_confirming} of them confirming"
        rows.append([baseline.date or "", f"named the baseline {baseline.label}, when {completed}", ""])
    rows.sort(key=lambda row: row[0])
    return [[plan.date or "", f"planned {counted(len(plan.planned), 'run')}", plan.command or ""], *rows]


def _provenance(comparison: Comparison) -> Rows:
    """Return all commands of the study in their order, then code, machine and data of its runs."""
    plan = comparison.plan
    later = [(entry.date or "", entry.command) for entry in plan.added]
    later += [(entry.date or "", entry.command) for entry in plan.confirmed]
    in_order = [plan.command, *(command for _, command in sorted(later, key=lambda entry: entry[0]))]
    commands = [command for command in dict.fromkeys(in_order) if command]
    rows = [[f"command {place}", command] for place, command in enumerate(commands, start=1)]
    if len(commands) == 1:
        rows = [["command", *commands]]
    for name, key in (
        ("commit", "git_commit"),
        ("package", "package_version"),
        ("device", "device"),
        ("precision", "precision"),
        ("threads", "threads"),
        ("data fingerprint", "data_fingerprint"),
    ):
        recorded = [getattr(run.summary, key) for run in comparison.runs]
        values = sorted({str(value) for value in recorded if value is not None})
        if values:
            rows.append([name, ", ".join(values)])
    images = {
        ", ".join(
            f"{number:,} {split}"
            for split, number in (
                ("training", summary.num_train),
                ("validation", summary.num_val),
                ("test", summary.num_test),
            )
            if number is not None
        )
        for summary in (run.summary for run in comparison.runs)
    }
    if known := sorted(filter(None, images)):
        rows.append(["images", "; ".join(known)])
    versions = {json.dumps(run.summary.versions, sort_keys=True) for run in comparison.runs if run.summary.versions}
    rows += [["versions", ", ".join(f"{k} {v}" for k, v in json.loads(text).items())] for text in sorted(versions)]
    duplicates = sorted({path for run in comparison.runs for path in run.summary.test_duplicates or []})
    if duplicates:
        rows.append([f"{len(duplicates)} test images are also training images", ", ".join(duplicates)])
    ended = [run.summary.ended for run in comparison.runs if run.summary.ended]
    return [*rows, ["last run ended", max(ended)]] if ended else rows
