"""What a study shows, in a few sentences with their doubt."""

from collections.abc import Sequence
from statistics import mode

from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.choose import RATES, Arm
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.naming import few
from intel_scenes.studies.pairs import Pair
from intel_scenes.studies.render.learning_curves import curve_sentences
from intel_scenes.studies.render.power import detectable, needed
from intel_scenes.studies.render.sentences import edge_advice, edge_step, gaps
from intel_scenes.studies.render.tables import p_value, points
from intel_scenes.studies.statistics.effects import Effects, Interaction, LevelDifference
from intel_scenes.studies.statistics.verdicts import BETTER, EQUAL, NONE_SHOWN, NOT_TUNED, UNTESTABLE, WORSE

MOST_RATES = 10  # arms whose best rate is named
FEW_ARMS = 6  # that are named with their differences


def answer(found: Comparison) -> list[str]:
    """What the study shows: of the factors where it is factorial, then of the best arm and those not shown worse."""
    if not found.arms:
        return ["No run is completed, so there is nothing to compare yet."]
    is_search = len(found.arms) == 1 and found.tuned
    is_rated = bool(set(found.tuned) & set(RATES))
    missing = gaps(found.notices)
    return [
        *curve_sentences(found),
        *([_best(found)] if is_search else []),
        *(_factors(found.effects[found.primary], found.on_test) if found.effects else []),
        *_leader(found),
        *([] if is_search else _others(found)),
        *([_best(found)] if is_rated and not is_search else []),
        *([f"But {'; '.join(missing[:3])}."] if missing else []),
    ]


def _factors(effects: Effects, on_test: str) -> list[str]:
    """A sentence for each factor whose effect depends on no other, and for each interaction its simple effects."""
    shown = [one for one in effects.interactions if one.is_shown]
    by_factor: dict[str, list[LevelDifference]] = {}
    for one in effects.main:
        if not any(one.factor in interaction.factors for interaction in shown):
            by_factor.setdefault(one.factor, []).append(one)
    ordered = sorted(by_factor.items(), key=lambda item: min(one.p_holm for one in item[1]))
    return [*(_interaction(one, effects.simple) for one in shown), *(_factor(*item, on_test) for item in ordered)]


def _interaction(interaction: Interaction, simple: Sequence[LevelDifference]) -> str:
    one, other = interaction.factors
    differing = [
        difference
        for difference in simple
        if {difference.factor, difference.within.partition("=")[0]} == {one, other}
        and difference.verdict in (BETTER, WORSE)
    ]
    parts = []
    for difference in sorted(differing, key=lambda difference: -abs(difference.difference)):
        better, worse, interval = _better_first(difference)
        parts.append(f"with {difference.within} {better} over {worse} ({interval})")
    found = few(parts, 3) if parts else "no significant difference within a level of the other was found"
    return f"The effect of {one} depends on {other} (interaction, {p_value(interaction.p_holm, 'p')}): {found}."


def _factor(factor: str, differences: Sequence[LevelDifference], on_test: str) -> str:
    ordered = sorted(differences, key=lambda one: -abs(one.difference))
    shown = [_better_first(one) for one in ordered if one.verdict in (BETTER, WORSE)]
    if not shown:
        better, worse, interval = _better_first(ordered[0])
        if all(one.verdict == NOT_TUNED for one in differences):
            return f"{factor}: levels are not comparable, because tuning was unequal."
        if all(one.verdict == EQUAL for one in differences):
            says = f"all levels are practically equal in {on_test}"
        else:
            says = f"no significant difference in {on_test} was found"
        return f"{factor}: {says} (largest {better} over {worse}, {interval})."
    parts = [f"{better} over {worse} ({interval})" for better, worse, interval in shown]
    return f"{factor}: significant differences in {on_test}: {few(parts, 3)}."


def _better_first(one: LevelDifference) -> tuple[str, str, str]:
    """The level with the higher mean, the other, and the difference with its interval."""
    low, high = one.verdict_interval()
    if one.difference < 0:
        return one.against, one.level, f"{points(-one.difference)} points; {points(-high)} to {points(-low)}"
    return one.level, one.against, f"{points(one.difference)} points; {points(low)} to {points(high)}"


def _leader(found: Comparison) -> list[str]:
    leader = found.arms[0]
    accuracy = f"{100 * leader.chosen.val_accuracy:.1f} %{_corrected(found)}"
    tied = [arm.label for arm in found.arms[1:] if arm.chosen.val_accuracy == leader.chosen.val_accuracy]
    num_fresh = len(leader.confirmed.runs) if leader.confirmed else 0
    fresh = f" on {num_fresh} fresh seed{'s' * (num_fresh > 1)}" if num_fresh else ""
    test = f"{100 * leader.tested.test_accuracy:.1f} %{_interval(leader.tested)}{fresh}."
    if len(found.arms) == 1:
        return [f"{found.on_val.capitalize()} {accuracy}. {found.on_test.capitalize()} {test}"]
    if tied:
        named = few([leader.label, *tied])
        return [f"{named} tie for the best {found.on_val}: {accuracy}. {leader.label}: {found.on_test} {test}"]
    return [f"{leader.label} has the best {found.on_val}: {accuracy}. {found.on_test.capitalize()} {test}"]


def _corrected(found: Comparison) -> str:
    if found.corrected is not None:
        return f" ({100 * found.corrected:.1f} % with the choice made on the other seeds)"
    if len(found.arms) > 1 and len(found.arms[0].chosen.runs) == 1:
        return " (one seed, so how much it owes to being chosen is unknown)"
    return ""


def _interval(one: Configuration) -> str:
    if one.interval is None:
        return ""
    over = "" if one.estimate else ", images alone"
    return f" (95 % CI {100 * one.interval[0]:.1f} to {100 * one.interval[1]:.1f}{over})"


def _others(found: Comparison) -> list[str]:
    """What the other arms are against the reference, those of one verdict together."""
    if len(found.arms) == 1:
        return []
    groups: dict[str, list[Pair]] = {}
    for pair in found.to_reference():
        if pair.text:
            groups.setdefault(pair.text, []).append(pair)
    if not groups:
        return ["Nothing can be compared: that takes two arms with predictions."]
    it = f"the baseline {found.reference}" if found.baseline else "it" if found.is_to_leader else found.reference
    is_unequal = any(arm.is_unequal for arm in found.arms if arm.label == found.reference)
    words = {
        BETTER: f"Significantly better than {it}",
        WORSE: f"Significantly worse than {it}",
        EQUAL: f"Practically equal to {it}",
        NONE_SHOWN: f"No significant difference from {it} was found for",
        UNTESTABLE: f"Cannot be distinguished from {it} with one seed (seed=1,2,3 asks for three)",
        NOT_TUNED: f"Not comparable with {it}, because {'its own' if is_unequal else 'their'} tuning is incomplete",
    }
    sentences = [
        f"{words[text]}{'' if text == NONE_SHOWN else ':'} {_named(groups[text])}." for text in words if text in groups
    ]
    num_arms, num_worse = sum(map(len, groups.values())), len(groups.get(WORSE, []))
    num_untested = len(groups.get(UNTESTABLE, [])) + len(groups.get(NOT_TUNED, []))
    if found.baseline is None and num_arms > 2 and num_worse + num_untested < num_arms:
        untested = f", and {num_untested} cannot be tested" if num_untested else ""
        count = "None" if not num_worse else f"Only {num_worse}"
        sentences.insert(
            0,
            f"{count} of the {num_arms} other arms {'was' if num_worse < 2 else 'were'} shown to be worse"
            f" than {it}{untested}.",
        )
    return [*sentences, *could_have(found)]


def _named(pairs: Sequence[Pair]) -> str:
    """Labels with their differences and intervals, as few as can be read."""
    if len(pairs) > FEW_ARMS:
        return few([pair.a for pair in pairs])
    return ", ".join(f"{pair.a}{_margin(pair)}" for pair in pairs)


def _margin(pair: Pair) -> str:
    """The difference with the interval that goes with its verdict."""
    if (interval := pair.verdict_interval()) is None:
        return ""
    low, high = interval
    return f" ({points(pair.difference)} points; {points(low)} to {points(high)})"


def could_have(found: Comparison) -> list[str]:
    """What the study could have shown, where some arm is not shown to differ from the reference."""
    close = [pair for pair in found.to_reference() if pair.text == NONE_SHOWN]
    if found.design is None or not close:
        return []
    num_seeds = mode(min(pair.num_seeds) for pair in close)
    sentence = f"{detectable(found.design, num_seeds)}; {needed(found.design)}."
    return [sentence[0].upper() + sentence[1:]]


def _best(found: Comparison) -> str:
    """The tuned values that validation chose, for each arm where there are several."""
    if len(found.arms) == len(found.tuned) == 1 and found.tuned[0] in RATES:
        return f"Best learning rate: {_rate_to_set(found.arms[0], found.tuned[0])}."
    is_rate = bool(set(found.tuned) & set(RATES))
    parts = [_chosen(found, arm) for arm in found.arms]
    if len(found.arms) > 1:
        parts = [f"{arm.label} {part}" for arm, part in zip(found.arms, parts, strict=True)]
    left = len(parts) - MOST_RATES
    more = [f"and {left} more"] if left > 0 else []
    return f"Best {'learning rate' if is_rate else 'by validation'}: {'; '.join([*parts[:MOST_RATES], *more])}."


def _rate_to_set(arm: Arm, key: str) -> str:
    """The best rate of a search for nothing else, and what to type next: the rate itself, or a value beyond the edge.

    The rate is that of the record, so what has scaled it is left out or set to none.
    """
    lr, typed = arm.chosen.mean("lr"), f"{key}={arm.chosen.values[key]}"
    rate = value = typed
    if lr is not None:
        is_scaled = any(run.overrides.get("lr_scaling", "none") != "none" for run in arm.chosen.runs)
        rate = f"{lr:.3g}" if key == "optim.lr" else f"{lr:.3g} ({typed})"
        value = f"optim.lr={lr:.3g}{' lr_scaling=none' * is_scaled}"
    step = edge_step(arm.edges[0]) if arm.edges else f"set {value}"
    return f"{', '.join([rate, *_ties(arm, [key])])}; {step}"


def _ties(arm: Arm, tuned: Sequence[str]) -> list[str]:
    """What is as good on validation as what was chosen, as a part of a sentence."""
    ties = [
        ", ".join(f"{key}={one.values[key]}" for key in tuned)
        for one in arm.configurations[1:]
        if (len(one.runs), one.val_accuracy) == (len(arm.chosen.runs), arm.chosen.val_accuracy)
    ]
    return [f"tied with {few(ties)}"] if ties else []


def _chosen(found: Comparison, arm: Arm) -> str:
    """The best values of the tuned factors of an arm, and whether they lie at the edge of what was tried.

    The rate is that of the record, which lr_scale and lr_scaling have multiplied.
    """
    lr = arm.chosen.mean("lr") if set(found.tuned) & set(RATES) else None
    typed = [f"{key}={arm.chosen.values[key]}" for key in found.tuned if lr is None or key != "optim.lr"]
    text = ", ".join(typed)
    if lr is not None:
        text = f"optim.lr={lr:.3g}" + (f" ({text})" if typed else "")
    advice = {edge.key: edge_advice(edge) for edge in arm.edges}
    told = [said if len(found.tuned) == 1 else f"{key} {said}" for key, said in advice.items()]
    return ", ".join([text, *_ties(arm, found.tuned), *told])
