"""A comparison as one page that opens from a disk: `report.html`."""

import base64
import gzip
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from plotly.offline import get_plotlyjs

from intel_scenes import files, pages
from intel_scenes.record import StudyPlan
from intel_scenes.studies.arms import Arm, Configuration
from intel_scenes.studies.collect import said
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.figures import figures
from intel_scenes.studies.naming import few
from intel_scenes.studies.report import RESULTS, Rows, answer, could_have, leaderboard, points, validation_rows

REPORT = "report.html"
NUM_IMAGES = 24  # disputed test images
MAX_MATRIX = 30


@dataclass(frozen=True)
class Disputed:
    """A test image on which the arms disagree.

    Attributes:
        path: `<class>/<file>`.
        label: Name of its class.
        votes: What the arms say, most common first, such as `sea: sgd, adam`.
        picture: A data URL; None where the image was not found.
    """

    path: str
    label: str
    votes: list[str]
    picture: str | None


def render(found: Comparison, rope: float, images: Path | None) -> str:
    """The page.

    Args:
        found: What it shows.
        rope: The largest difference that makes no practical difference, a fraction.
        images: Folder with seg_test; None takes what the runs recorded.
    """
    made = figures(found, rope)
    disputed = _disputed(found, images)
    return pages.render(
        Path(__file__).parent / "templates" / "report.html",
        title=found.folder.resolve().name,
        question=found.plan.question,
        answer=answer(found),
        problems=found.problems,
        notes=found.notes,
        could_have=could_have(found),
        leaderboard=leaderboard(found),
        figures=made,
        validation=validation_rows(found),
        matrix=_matrix(found),
        ledger=_ledger(found),
        confusions=_confusions(found),
        per_class=_per_class(found),
        disputed=disputed,
        found_images=any(image.picture for image in disputed),
        failed=[(run.name, run.summary.error or "") for run in found.failed],
        unfinished=[run.name for run in found.unfinished],
        plan=_plan(found),
        remake=_remake(found),
        rope=f"{100 * rope:g}",
        reference="leader" if found.is_to_leader else f"baseline {found.reference}",
        family=f"all pairs with {found.baseline}" if found.baseline else "all pairs",
        results=RESULTS,
        specs=_json({figure.name: figure.spec for section in made.values() for figure in section}),
        library=base64.b64encode(gzip.compress(get_plotlyjs().encode(), 6, mtime=0)).decode(),
    )


def write_page(found: Comparison, rope: float, images: Path | None = None) -> None:
    """Writes `report.html` into the study's folder."""
    files.write_whole(found.folder / REPORT, render(found, rope, images).encode())


def _json(value: object) -> str:
    """JSON that can stand in a script element whatever its texts hold."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).replace("<", "\\u003c")


def _matrix(found: Comparison) -> Rows:
    """Each arm against each: difference and verdict of the row against the column."""
    labels = [arm.label for arm in found.arms[:MAX_MATRIX]]
    both = [*found.pairs, *(pair.turned() for pair in found.pairs)]
    cells = {(pair.a, pair.b): f"{points(pair.difference)} {pair.text}" for pair in both}
    if len(labels) < 2:
        return []
    return [["", *labels], *([row, *(cells.get((row, column), "") for column in labels)] for row in labels)]


def _ledger(found: Comparison) -> Rows:
    rows = [["arm", "seeds", "seen over seeds", "of the finite test split alone", "left on other images"]]
    for arm in found.arms:
        if (ledger := arm.chosen.ledger) is not None:
            left = "needs five seeds" if ledger.left is None else f"{100 * ledger.left:.2f}"
            spread = [f"{100 * ledger.seen:.2f}", f"{100 * ledger.of_images:.2f}", left]
            rows.append([arm.label, str(len(arm.runs)), *spread])
    return rows if len(rows) > 1 else []


def _confusions(found: Comparison) -> list[tuple[str, list[tuple[str, list[tuple[float, str]]]]]]:
    """Of the leader and of the arm that differs most from it: for each class the shares of what was predicted."""
    told = [arm for arm in found.arms if arm.predicted is not None]
    if not told:
        return []
    shown = [told[0]]
    if len(told) > 1:
        leader = _shares(told[0])
        shown.append(max(told[1:], key=lambda arm: float(np.abs(_shares(arm) - leader).mean())))
    return [(arm.label, _confusion(found, arm)) for arm in shown]


def _shares(arm: Arm) -> npt.NDArray[np.float32]:
    """(N,) share of seeds that have each test image right."""
    assert arm.table is not None
    shares: npt.NDArray[np.float32] = arm.table.mean(axis=0)
    return shares


def _confusion(found: Comparison, arm: Arm) -> list[tuple[str, list[tuple[float, str]]]]:
    """Rows of (class, [(share, percent)]); a class that the test split lacks has no shares."""
    assert arm.predicted is not None
    num = len(found.images.classes)
    counts = np.zeros((num, num))
    np.add.at(counts, (np.broadcast_to(found.images.labels, arm.predicted.shape), arm.predicted), 1)
    totals = counts.sum(axis=1, keepdims=True)
    shares = np.divide(counts, totals, out=np.zeros_like(counts), where=totals > 0)
    return [
        (name, [(float(share), f"{100 * share:.0f}") for share in row] if total else [])
        for name, row, total in zip(found.images.classes, shares, totals.ravel(), strict=True)
    ]


def _per_class(found: Comparison) -> Rows:
    told = [(arm.label, arm.chosen) for arm in found.arms if arm.chosen.per_class is not None]
    rows = [
        [label, *("-" if np.isnan(value) else f"{100 * value:.1f}" for value in one.per_class), _balanced(one)]
        for label, one in told
        if one.per_class is not None
    ]
    return [["arm", *found.images.classes, "balanced"], *rows] if rows else []


def _balanced(one: Configuration) -> str:
    return "" if one.balanced_accuracy is None else f"{100 * one.balanced_accuracy:.1f}"


def _disputed(found: Comparison, images: Path | None) -> list[Disputed]:
    """The test images on which the shares of seeds that are right differ most between arms."""
    told = [arm for arm in found.arms[:MAX_MATRIX] if arm.predicted is not None]
    if len(told) < 2:
        return []
    shares = np.stack([_shares(arm) for arm in told])
    spread = shares.std(axis=0)
    folder = _test_folder(found, images)
    disputed: list[Disputed] = []
    for index in np.argsort(-spread, kind="stable"):
        if len(disputed) == NUM_IMAGES or spread[index] == 0:
            break
        votes = _votes(found, told, int(index))
        if len(votes) > 1:
            path = found.images.paths[index]
            label = found.images.classes[found.images.labels[index]]
            disputed.append(Disputed(path, label, votes, pages.picture(folder / path) if folder else None))
    return disputed


def _votes(found: Comparison, told: Sequence[Arm], index: int) -> list[str]:
    """What most seeds of each arm say."""
    votes: dict[int, list[str]] = {}
    for arm in told:
        assert arm.predicted is not None
        counts: npt.NDArray[np.intp] = np.bincount(arm.predicted[:, index])
        votes.setdefault(int(counts.argmax()), []).append(arm.label)
    ordered = sorted(votes.items(), key=lambda vote: (-len(vote[1]), vote[0]))
    return [f"{found.images.classes[label]}: {few(arms, 3)}" for label, arms in ordered]


def _test_folder(found: Comparison, root: Path | None) -> Path | None:
    """The class folders of the test split, below a root in Kaggle's doubled layout or a plain one, or as recorded."""
    if root is not None:
        return next((folder for folder in (root / "seg_test/seg_test", root / "seg_test") if folder.is_dir()), root)
    recorded = [run.summary.test_folder for run in found.runs if run.summary.test_folder]
    return Path(recorded[0]) if recorded else None


def _plan(found: Comparison) -> Rows:
    """What was planned, and what was added later."""
    plan = found.plan
    if plan == StudyPlan():
        return []
    rows = [[plan.date or "", f"planned {len(plan.planned)} runs", plan.command or ""]]
    for added in plan.added:
        what = [f"added {len(added.runs)}"] if added.runs or not added.changed else []
        what += [f"{key} was {said(old)} and is {said(now)}" for key, (old, now) in added.changed.items()]
        rows.append([added.date or "", "; ".join(what), added.command or ""])
    return rows


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
