"""Output of an audit: the summary for a terminal, `audit.csv`, `exclude.txt` and the page `audit.html`."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import astuple, fields
from itertools import combinations
from pathlib import Path

from intel_scenes import files, pages
from intel_scenes.auditing.audit_images import EXCLUDE, NO_CLEANLAB, PAGE, TABLE, AuditResult
from intel_scenes.auditing.findings import MAX_NEAR_PAIRS, Finding
from intel_scenes.auditing.label_issues import LabelIssues
from intel_scenes.data.progress_bar import bar
from intel_scenes.errors import counted, percentage

NUM_SHOWN = 36  # findings of each kind that are shown with their images
NUM_PAIRS = 10  # class pairs in the table

# Wording of the kinds of odd images, as in "2 of another size".
ODD_KINDS = {
    "size": "of another size",
    "mode": "in another colour mode",
    "one colour": "nearly of one colour",
    "grey": "without colour",
}

CAVEAT = (
    "The estimate counts a label as wrong if the frozen backbone is confident of another class, and misses errors "
    "that the backbone cannot see. It is a hint at the amount of label noise, not a bound, because a network may learn "
    "the very labels that look wrong."
)


def write(result: AuditResult, folder: Path) -> list[str]:
    """Write `audit.html`, `audit.csv` and, unless labels were flipped, `exclude.txt`, each whole or not at all.

    Returns:
        The names of the files.
    """
    columns = [field.name for field in fields(Finding)]
    files.write_csv(folder / TABLE, columns, (astuple(finding) for finding in result.findings))
    files.write_whole(folder / PAGE, files.encoded(_page(result)))
    if result.recovery is not None:
        return [PAGE, TABLE]
    files.write_whole(folder / EXCLUDE, _exclude(result).encode())
    return [PAGE, TABLE, EXCLUDE]


def summary_text(result: AuditResult) -> str:
    """Return the headline and a short table, for a terminal."""
    lines = _aligned(_counts(result))
    class_pairs = _class_pairs(result.label_issues["train"], result) if result.label_issues else []
    if len(class_pairs) > 1:
        lines += ["", *_aligned(class_pairs[:4])]
    return "\n".join([*headline(result), "", *lines])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def headline(result: AuditResult) -> list[str]:
    """Return the main findings, one sentence each."""
    identical = _of(result, "identical")
    has_val = "val" in result.scenes
    in_test, in_val = (
        [pair for pair in identical if pair.split != pair.other_split == split] for split in ("test", "val")
    )
    within = [pair for pair in identical if pair.split == pair.other_split == "train"]
    counts = []
    for pairs, split, where in (
        (in_test, "test", "also in the training or validation set" if has_val else "also in the training set"),
        (in_val, "validation", "also in the training set"),
        (within, "training", "identical to another training image"),
    ):
        if pairs:
            verb = "is" if len(pairs) == 1 else "are"
            counts.append(f"{counted(len(pairs), f'{split} image')} {verb} {where} ({_labels_differ(pairs)})")
    splits = "training, validation or test" if has_val else "training or test"
    sentences = [f"{'; '.join(counts)}." if counts else f"No training image has a copy in the {splits} set."]
    if not result.label_issues:
        return [*sentences, f"Labels were not checked: {NO_CLEANLAB}."]
    train, test = result.label_issues["train"], result.label_issues["test"]
    pairs_of_classes = _class_pairs(train, result)[1:]
    confused = f", most often between {pairs_of_classes[0][0].replace(' / ', ' and ', 1)}" if pairs_of_classes else ""
    limit = percentage(1 - test.noise, 0)
    consequence = "" if limit == "100 %" else f"; a perfect classifier would then reach about {limit} test accuracy"
    sentences.append(
        f"An estimated {percentage(train.noise)} of the training labels and {percentage(test.noise)} of the test "
        f"labels are wrong{confused}{consequence}."
    )
    if (check := result.recovery) is not None:
        sentences.append(
            f"Of {check.flipped} training labels that were flipped for the check, {percentage(check.recall)} are "
            f"flagged (recall) and {percentage(check.early)} are among the first {percentage(check.depth, 0)} of the "
            f"ranking; {percentage(check.precision)} of the flagged labels had been flipped (precision, a lower bound, "
            "because others were wrong before)."
        )
    return sentences


def _labels_differ(pairs: Sequence[Finding]) -> str:
    number = sum(bool(pair.flagged) for pair in pairs)
    if number == len(pairs):
        return "with a different label"
    return f"{number} with a different label" if number else "with the same label"


def _counts(result: AuditResult) -> list[list[str]]:
    """Return rows of (kind, number, details)."""
    odd = Counter(finding.reason.partition(":")[0] for finding in _of(result, "odd") if finding.reason)
    images = {(finding.split, finding.path) for finding in _of(result, "odd")}
    rows = [
        ["unreadable images", len(_of(result, "unreadable")), ""],
        ["odd images", len(images), ", ".join(f"{count} {ODD_KINDS[kind]}" for kind, count in odd.most_common())],
        ["duplicate pairs", *_pair_counts(result, _of(result, "identical"))],
        [f"near-duplicate pairs (distance up to {result.near})", *_pair_counts(result, _of(result, "near"))],
    ]
    for split, issues in result.label_issues.items():
        details = f"of {len(issues.order):,}; {percentage(issues.noise)} estimated to be wrong"
        rows.append([f"likely wrong {split} labels", int(issues.flagged.sum()), details])
    return [[str(cell) for cell in row] for row in rows]


def _pair_counts(result: AuditResult, pairs: Sequence[Finding]) -> list[object]:
    if not pairs:
        return [0, ""]
    across = sum(pair.split != pair.other_split for pair in pairs)
    number = f"{len(pairs)} or more" if len(pairs) == MAX_NEAR_PAIRS else len(pairs)
    *others, last = result.scenes
    return [number, f"{across} across {', '.join(others)} and {last}; {_flagged(pairs)} with different labels"]


def _class_pairs(issues: LabelIssues, result: AuditResult) -> list[list[str]]:
    """Return a table head, and a row for each pair of confused classes, by falling number of wrong labels."""
    classes, number = result.scenes["train"].classes, len(issues.order)
    wrong = {(a, b): float(issues.joint[a, b] + issues.joint[b, a]) for a, b in combinations(range(len(classes)), 2)}
    rows = [["classes", "confused images", "estimated wrong labels", "share of all labels"]]
    for (a, b), share in sorted(wrong.items(), key=lambda item: -item[1]):
        if not issues.confusion[a, b] + issues.confusion[b, a]:
            continue
        confused = f"{issues.confusion[a, b]} + {issues.confusion[b, a]}"
        rows.append([f"{classes[a]} / {classes[b]}", confused, f"{share * number:.0f}", percentage(share, 2)])
    return rows


def _exclude(result: AuditResult) -> str:
    form = "CLASS/FILE" if result.scenes["train"].has_class_folders else "path"
    lines = [f"# Training images for data.exclude, one {form} per line."]
    for reason, paths in result.exclude:
        lines += [f"# {len(paths)} {reason}:", *map(line_of, paths)]
    return "\n".join(lines) + "\n"


def line_of(path: str) -> str:
    """Return a path as one line, in JSON where it would be read as several lines or as a comment."""
    is_plain = path.splitlines() == [path.strip()] and not path.startswith(("#", '"'))
    return path if is_plain else json.dumps(path)


def _page(result: AuditResult) -> str:
    labels = {
        split: [finding for finding in _of(result, "label") if finding.split == split] for split in result.label_issues
    }
    shown = {
        "identical": _of(result, "identical"),
        "near": _of(result, "near"),
        "train": labels.get("train", []),
        "test": labels.get("test", []),
        "val": labels.get("val", []),
        "unreadable": _of(result, "unreadable"),
        "odd": _alternating(_of(result, "odd")),
    }
    totals = {name: len(findings) for name, findings in shown.items()}
    return pages.render(
        Path(__file__).parent / "templates" / "audit.html",
        headline=headline(result),
        counts=_counts(result),
        shown={name: findings[:NUM_SHOWN] for name, findings in shown.items()},
        totals=totals,
        pictures=_pictures(result, [finding for findings in shown.values() for finding in findings[:NUM_SHOWN]]),
        class_pairs={
            split: _class_pairs(issues, result)[: NUM_PAIRS + 1] for split, issues in result.label_issues.items()
        },
        caveat=CAVEAT,
        no_cleanlab=NO_CLEANLAB,
        split_names={"train": "Training", "val": "Validation", "test": "Test"},
        facts=[[name, str(value)] for name, value in files.flatten(result.facts).items()],
        files={"table": TABLE, "exclude": EXCLUDE if result.recovery is None else None},
        num_excluded=result.num_excluded,
    )


def _alternating(odd: Sequence[Finding]) -> list[Finding]:
    """Return findings of the kinds in turn, so that a frequent kind does not hide the others."""
    counts: Counter[str] = Counter()
    turns = []
    for finding in odd:
        kind = str(finding.reason).partition(":")[0]
        turns.append(counts[kind])
        counts[kind] += 1
    return [finding for _, finding in sorted(zip(turns, odd, strict=True), key=lambda pair: pair[0])]


def _pictures(result: AuditResult, findings: Sequence[Finding]) -> dict[tuple[str, str], str | None]:
    """Return thumbnails as data URLs by split and path; None for images that cannot be decoded."""
    images = {(finding.split, finding.path) for finding in findings}
    images |= {(pair.other_split, pair.other_path) for pair in findings if pair.other_split and pair.other_path}
    files_of = {
        (split, path): scenes.file(index)
        for split, scenes in result.scenes.items()
        for index, path in enumerate(scenes.paths)
    }
    with bar(len(images), "drawing thumbnails", is_brief=True) as progress:
        thumbnails = {}
        for split, path in sorted(images):
            file = files_of.get((split, path))  # none for an image that cannot be decoded
            thumbnails[split, path] = pages.picture(file) if file else None
            progress.update()
        return thumbnails


def _of(result: AuditResult, kind: str) -> list[Finding]:
    return [finding for finding in result.findings if finding.kind == kind]


def _flagged(pairs: Sequence[Finding]) -> str:
    number = sum(bool(pair.flagged) for pair in pairs)
    return "all" if pairs and number == len(pairs) else str(number)
