"""An audit, told: the answer, a table, `audit.csv`, `exclude.txt` and the page `audit.html`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import astuple, fields
from itertools import combinations
from pathlib import Path

from intel_scenes import files, pages
from intel_scenes.auditing.audit_images import EXCLUDE, NO_CLEANLAB, PAGE, TABLE, Audit
from intel_scenes.auditing.find import MAX_NEAR_PAIRS, Finding
from intel_scenes.auditing.judge import Judgement
from intel_scenes.data.progress_bar import bar

NUM_SHOWN = 36  # findings of a kind with their pictures
NUM_PAIRS = 10  # class pairs in the table

CAVEAT = (
    "The estimate takes for wrong what the frozen backbone confuses with confidence, and misses what it does not see: "
    "it is a hint at the size of the label noise and no bound, for a network may learn the very labels that look wrong."
)


def write(audit: Audit, folder: Path) -> list[str]:
    """Writes `audit.html`, `audit.csv` and, but for a check by flipped labels, `exclude.txt`, each whole or not at all.

    Returns:
        The names of the files.
    """
    columns = [field.name for field in fields(Finding)]
    files.write_csv(folder / TABLE, columns, (astuple(finding) for finding in audit.findings))
    files.write_whole(folder / PAGE, _page(audit).encode())
    if audit.recovery is not None:
        return [PAGE, TABLE]
    files.write_whole(folder / EXCLUDE, _exclude(audit).encode())
    return [PAGE, TABLE, EXCLUDE]


def told(audit: Audit) -> str:
    """The answer and a short table, for a terminal."""
    lines = _aligned(_counts(audit))
    if audit.judgements:
        lines += ["", *_aligned(_class_pairs(audit.judgements["train"], audit)[:4])]
    return "\n".join([*answer(audit), "", *lines])


def _aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    widths = [max(map(len, cells)) for cells in zip(*rows, strict=True)]
    return [
        "  " + "  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows
    ]


def answer(audit: Audit) -> list[str]:
    """What matters most, in a few sentences."""
    twice = _of(audit, "identical")
    has_val = "val" in audit.scenes
    of_test, of_val = ([pair for pair in twice if pair.split != pair.other_split == split] for split in ("test", "val"))
    within = [pair for pair in twice if pair.split == pair.other_split == "train"]
    copies = []
    for pairs, split, what in (
        (of_test, "test", "in train or val as well" if has_val else "in train as well"),
        (of_val, "validation", "in train as well"),
        (within, "train", "a copy of another"),
    ):
        if pairs:
            images = f"{split} image is" if len(pairs) == 1 else f"{split} images are"
            copies.append(f"{len(pairs)} {images} {what}, {_flagged(pairs)} under another label")
    elsewhere = "val or test" if has_val else "test"
    said = [f"{'; '.join(copies)}." if copies else f"No file of train is there twice or in {elsewhere} as well."]
    if not audit.judgements:
        return [*said, f"Labels were not judged: {NO_CLEANLAB}."]
    train, test = audit.judgements["train"], audit.judgements["test"]
    most_often = f", most often {_class_pairs(train, audit)[1][0]}" if train.noise else ""
    said.append(
        f"About {train.noise:.1%} of the train labels and {test.noise:.1%} of the test labels look wrong{most_often}: "
        f"by that estimate, a network that is always right would have a test accuracy of about {1 - test.noise:.0%}."
    )
    if (again := audit.recovery) is not None:
        said.append(
            f"Of {again.flipped} train labels that were flipped for a check, {again.recall:.1%} are flagged, and "
            f"{again.early:.1%} lie in the first {again.depth:.0%} of the ranking; {again.precision:.1%} of those "
            "flagged had been flipped (more are wrong: the flips come on top of the labels that were wrong before)."
        )
    return said


def _counts(audit: Audit) -> list[list[str]]:
    """Rows of (what, how many, details)."""
    odd = Counter(finding.reason.partition(":")[0] for finding in _of(audit, "odd") if finding.reason)
    images = {(finding.split, finding.path) for finding in _of(audit, "odd")}
    near = _of(audit, "near")
    rows = [
        ["unreadable images", len(_of(audit, "unreadable")), ""],
        ["odd images", len(images), ", ".join(f"{kind} {count}" for kind, count in odd.most_common())],
        ["identical pairs", *_pair_counts(audit, _of(audit, "identical"))],
        [f"nearly identical pairs (distance up to {audit.near})", *_pair_counts(audit, near)],
    ]
    for split, judgement in audit.judgements.items():
        share = f"of {len(judgement.order):,}, estimated noise {judgement.noise:.1%}"
        rows.append([f"likely wrong {split} labels", int(judgement.flagged.sum()), share])
    return [[str(cell) for cell in row] for row in rows]


def _pair_counts(audit: Audit, pairs: Sequence[Finding]) -> list[object]:
    across = sum(pair.split != pair.other_split for pair in pairs)
    number = f"{len(pairs)} or more" if len(pairs) == MAX_NEAR_PAIRS else len(pairs)
    return [number, f"{across} across {_listed(audit.scenes)}, {_flagged(pairs)} under two labels"]


def _listed(names: Iterable[str]) -> str:
    """`train, val and test`."""
    *others, last = names
    return f"{', '.join(others)} and {last}"


def _class_pairs(judgement: Judgement, audit: Audit) -> list[list[str]]:
    """A head, and a row for each pair of classes, that with the most labels estimated to be wrong first."""
    classes, number = audit.scenes["train"].classes, len(judgement.order)
    wrong = {
        (a, b): float(judgement.joint[a, b] + judgement.joint[b, a]) for a, b in combinations(range(len(classes)), 2)
    }
    rows = [["classes", "taken for each other", "estimated wrong labels", "share of all labels"]]
    for (a, b), share in sorted(wrong.items(), key=lambda item: -item[1]):
        confused = f"{judgement.confusion[a, b]} + {judgement.confusion[b, a]}"
        rows.append([f"{classes[a]} / {classes[b]}", confused, f"{share * number:.0f}", f"{share:.2%}"])
    return rows


def _exclude(audit: Audit) -> str:
    form = "CLASS/FILE" if audit.scenes["train"].has_class_folders else "path"
    lines = [f"# Images of train for data.exclude, one {form} on a line."]
    for heading, paths in audit.exclude:
        lines += [f"# {len(paths)} with {heading}:", *paths]
    return "\n".join(lines) + "\n"


def _page(audit: Audit) -> str:
    labels = {
        split: [finding for finding in _of(audit, "label") if finding.split == split] for split in audit.judgements
    }
    shown = {
        "identical": _of(audit, "identical"),
        "near": _of(audit, "near"),
        "train": labels.get("train", []),
        "test": labels.get("test", []),
        "val": labels.get("val", []),
        "unreadable": _of(audit, "unreadable"),
        "odd": _one_of_each_first(_of(audit, "odd")),
    }
    totals = {name: len(findings) for name, findings in shown.items()}
    return pages.render(
        Path(__file__).parent / "templates" / "audit.html",
        answer=answer(audit),
        counts=_counts(audit),
        shown={name: findings[:NUM_SHOWN] for name, findings in shown.items()},
        totals=totals,
        pictures=_pictures(audit, [finding for findings in shown.values() for finding in findings[:NUM_SHOWN]]),
        class_pairs={
            split: _class_pairs(judgement, audit)[: NUM_PAIRS + 1] for split, judgement in audit.judgements.items()
        },
        caveat=CAVEAT,
        no_cleanlab=NO_CLEANLAB,
        facts=[[name, str(value)] for name, value in files.flatten(audit.facts).items()],
        files={"table": TABLE, "exclude": EXCLUDE if audit.recovery is None else None},
    )


def _one_of_each_first(odd: Sequence[Finding]) -> list[Finding]:
    """In turns one of each kind, so that no kind crowds out another."""
    seen: Counter[str] = Counter()
    turns = []
    for finding in odd:
        kind = str(finding.reason).partition(":")[0]
        turns.append(seen[kind])
        seen[kind] += 1
    return [finding for _, finding in sorted(zip(turns, odd, strict=True), key=lambda pair: pair[0])]


def _pictures(audit: Audit, findings: Sequence[Finding]) -> dict[tuple[str, str], str | None]:
    """By split and path."""
    wanted = {(finding.split, finding.path) for finding in findings}
    wanted |= {(pair.other_split, pair.other_path) for pair in findings if pair.other_split and pair.other_path}
    files_of = {
        (split, path): scenes.file(index)
        for split, scenes in audit.scenes.items()
        for index, path in enumerate(scenes.paths)
    }
    with bar(len(wanted), "pictures") as progress:
        made = {}
        for split, path in sorted(wanted):
            file = files_of.get((split, path))  # None of an image that cannot be decoded
            made[split, path] = pages.picture(file) if file else None
            progress.update()
        return made


def _of(audit: Audit, kind: str) -> list[Finding]:
    return [finding for finding in audit.findings if finding.kind == kind]


def _flagged(pairs: Sequence[Finding]) -> str:
    number = sum(bool(pair.flagged) for pair in pairs)
    return "all" if pairs and number == len(pairs) else str(number)
