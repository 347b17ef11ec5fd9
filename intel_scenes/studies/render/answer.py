"""The answer of a study: a few sentences, each with its uncertainty."""

from collections.abc import Sequence
from statistics import mode

from intel_scenes.errors import few, percentage
from intel_scenes.studies.arms import Configuration
from intel_scenes.studies.choose import RATES, Arm
from intel_scenes.studies.comparison import Comparison
from intel_scenes.studies.naming import label_of
from intel_scenes.studies.pairs import Pair
from intel_scenes.studies.render.learning_curves import curve_sentences
from intel_scenes.studies.render.power import detectable, needed
from intel_scenes.studies.render.sentences import edge_advice, edge_step, gaps
from intel_scenes.studies.render.tables import p_value, points
from intel_scenes.studies.statistics.effects import Effects, Interaction, LevelDifference
from intel_scenes.studies.statistics.verdicts import BETTER, EQUAL, NONE_SHOWN, NOT_TUNED, UNTESTABLE, WORSE

MAX_RATES = 10  # arms whose best rate is listed
MAX_DETAILED = 6  # arms that are listed with their differences; of more, only some names


def answer(comparison: Comparison) -> list[str]:
    """Return the sentences at the top of a report: learning curves, effects of factors, the leader, the other arms."""
    if not comparison.arms:
        return ["No run is completed, so there is nothing to compare yet."]
    is_search = len(comparison.arms) == 1 and comparison.tuned
    is_rate_tuned = bool(set(comparison.tuned) & set(RATES))
    missing = gaps(comparison.notices)
    return [
        *curve_sentences(comparison),
        *([_best(comparison)] if is_search else []),
        *(_factors(comparison.effects[comparison.primary], comparison.on_test) if comparison.effects else []),
        *_leader(comparison),
        *([] if is_search else _others(comparison)),
        *([_best(comparison)] if is_rate_tuned and not is_search else []),
        *([f"Note that {'; '.join(missing[:3])}."] if missing else []),
    ]


def _factors(effects: Effects, on_test: str) -> list[str]:
    """Return a sentence for each interaction with its simple effects, then one for each factor without interactions."""
    shown = [interaction for interaction in effects.interactions if interaction.is_shown]
    by_factor: dict[str, list[LevelDifference]] = {}
    for effect in effects.main:
        if not any(effect.factor in interaction.factors for interaction in shown):
            by_factor.setdefault(effect.factor, []).append(effect)
    ordered = sorted(by_factor.items(), key=lambda item: min(effect.p_holm for effect in item[1]))
    return [
        *(_interaction(interaction, effects.simple) for interaction in shown),
        *(_factor(*item, on_test) for item in ordered),
    ]


def _interaction(interaction: Interaction, simple: Sequence[LevelDifference]) -> str:
    factor, other = interaction.factors
    differing = [
        difference
        for difference in simple
        if {difference.factor, difference.within.partition("=")[0]} == {factor, other}
        and difference.verdict in (BETTER, WORSE)
    ]
    parts = []
    for difference in sorted(differing, key=lambda difference: -abs(difference.difference)):
        better, worse, interval = _better_first(difference)
        better = label_of({difference.factor: better}, [difference.factor])
        parts.append(f"with {difference.within}, {better} is better than {worse} ({interval})")
    effects = few(parts, 3) if parts else "no significant difference was found within any level"
    return f"The effect of {factor} depends on {other} (interaction, {p_value(interaction.p_holm, 'p')}): {effects}."


def _factor(factor: str, differences: Sequence[LevelDifference], on_test: str) -> str:
    ordered = sorted(differences, key=lambda effect: -abs(effect.difference))
    shown = [_better_first(effect) for effect in ordered if effect.verdict in (BETTER, WORSE)]
    if not shown:
        better, worse, interval = _better_first(ordered[0])
        if all(effect.verdict == NOT_TUNED for effect in differences):
            return f"{factor}: its levels cannot be compared, because they were not tuned equally."
        if all(effect.verdict == EQUAL for effect in differences):
            finding = f"all levels are practically equal in {on_test}"
        else:
            finding = f"no significant difference in {on_test} was found"
        return f"{factor}: {finding} (the largest is {better} over {worse}, {interval})."
    parts = [f"{better} is better than {worse} ({interval})" for better, worse, interval in shown]
    return f"{factor}: significant differences in {on_test}: {few(parts, 3)}."


def _better_first(effect: LevelDifference) -> tuple[str, str, str]:
    """Return the level with the higher mean, the other level, and their difference with its interval."""
    low, high = effect.verdict_interval()
    if effect.difference < 0:
        return effect.against, effect.level, f"{points(-effect.difference)} points; {points(-high)} to {points(-low)}"
    return effect.level, effect.against, f"{points(effect.difference)} points; {points(low)} to {points(high)}"


def _leader(comparison: Comparison) -> list[str]:
    leader = comparison.arms[0]
    accuracy = f"{percentage(leader.chosen.val_accuracy)}{_corrected(comparison)}"
    tied = [arm.label for arm in comparison.arms[1:] if arm.chosen.val_accuracy == leader.chosen.val_accuracy]
    num_fresh = len(leader.confirmed.runs) if leader.confirmed else 0
    fresh = f" on {num_fresh} fresh seed{'s' * (num_fresh > 1)}" if num_fresh else ""
    test = f"{percentage(leader.tested.test_accuracy)}{_interval(leader.tested)}{fresh}."
    if len(comparison.arms) == 1:
        return [f"{comparison.on_val.capitalize()} {accuracy}. {comparison.on_test.capitalize()} {test}"]
    if tied:
        labels = few([leader.label, *tied])
        return [
            f"{labels} tie for the best {comparison.on_val}: {accuracy}. {leader.label}: {comparison.on_test} {test}"
        ]
    return [f"{leader.label} has the best {comparison.on_val}: {accuracy}. {comparison.on_test.capitalize()} {test}"]


def _corrected(comparison: Comparison) -> str:
    if comparison.corrected is not None:
        return f" ({percentage(comparison.corrected)} with the choice made on the other seeds)"
    if len(comparison.arms) > 1 and len(comparison.arms[0].chosen.runs) == 1:
        return " (with one seed, the bias from choosing the best arm is unknown)"
    return ""


def _interval(configuration: Configuration) -> str:
    if configuration.interval is None:
        return ""
    scope = "" if configuration.estimate else ", over test images alone"
    return f" (95 % CI {100 * configuration.interval[0]:.1f} to {100 * configuration.interval[1]:.1f}{scope})"


def _others(comparison: Comparison) -> list[str]:
    """Return sentences about the other arms, grouped by their verdict against the reference."""
    if len(comparison.arms) == 1:
        return []
    groups: dict[str, list[Pair]] = {}
    for pair in comparison.to_reference():
        if pair.text:
            groups.setdefault(pair.text, []).append(pair)
    if not groups:
        return ["Nothing can be compared: a comparison needs two arms with predictions."]
    name = f"{'the baseline ' if comparison.baseline else ''}{comparison.reference}"
    is_unequal = any(arm.is_unequal for arm in comparison.arms if arm.label == comparison.reference)
    words = {
        BETTER: f"Significantly better than {name}",
        WORSE: f"Significantly worse than {name}",
        EQUAL: f"Practically equal to {name}",
        NONE_SHOWN: f"No significant difference from {name}",
        UNTESTABLE: f"Cannot be distinguished from {name} with one seed (seed=1,2,3 runs three)",
        NOT_TUNED: f"Not comparable with {name}, because {'its own' if is_unequal else 'their'} tuning is incomplete",
    }
    sentences = [f"{words[text]}: {_listed(groups[text])}." for text in words if text in groups]
    num_arms, num_worse = sum(map(len, groups.values())), len(groups.get(WORSE, []))
    num_untested = len(groups.get(UNTESTABLE, [])) + len(groups.get(NOT_TUNED, []))
    if comparison.baseline is None and num_arms > 2 and num_worse + num_untested < num_arms:
        untested = f"; {num_untested} cannot be tested" if num_untested else ""
        count = str(num_worse or "None")
        is_or_are = "is" if num_worse < 2 else "are"
        sentences.insert(
            0, f"{count} of the {num_arms} other arms {is_or_are} significantly worse than {name}{untested}."
        )
    return [*sentences, *sensitivity(comparison)]


def _listed(pairs: Sequence[Pair]) -> str:
    """Return the labels with their differences and intervals; of many arms, some labels alone."""
    if len(pairs) > MAX_DETAILED:
        return few([pair.a for pair in pairs])
    texts = []
    for pair in pairs:
        margin = ""
        if (interval := pair.verdict_interval()) is not None:
            margin = f" ({points(pair.difference)} points; {points(interval[0])} to {points(interval[1])})"
        texts.append(f"{pair.a}{margin}")
    return ", ".join(texts)


def sensitivity(comparison: Comparison) -> list[str]:
    """Return what the study could have detected, if some arm does not differ significantly from the reference."""
    close = [pair for pair in comparison.to_reference() if pair.text == NONE_SHOWN]
    if comparison.design is None or not close:
        return []
    num_seeds = mode(min(pair.num_seeds) for pair in close)
    sentences = f"{detectable(comparison.design, num_seeds)}.", f"{needed(comparison.design)}."
    return [" ".join(sentence[0].upper() + sentence[1:] for sentence in sentences)]


def _best(comparison: Comparison) -> str:
    """Return the tuned values that validation chose, by arm if there are several."""
    if len(comparison.arms) == len(comparison.tuned) == 1 and comparison.tuned[0] in RATES:
        return f"Best learning rate: {_rate_to_set(comparison.arms[0], comparison.tuned[0])}."
    is_rate = bool(set(comparison.tuned) & set(RATES))
    parts = [_chosen(comparison, arm) for arm in comparison.arms]
    if len(comparison.arms) > 1:
        parts = [f"{arm.label} {part}" for arm, part in zip(comparison.arms, parts, strict=True)]
    left = len(parts) - MAX_RATES
    more = [f"and {left} more"] if left > 0 else []
    return f"Best {'learning rate' if is_rate else 'by validation'}: {'; '.join([*parts[:MAX_RATES], *more])}."


def _rate_to_set(arm: Arm, key: str) -> str:
    """Return the best learning rate of a search over it alone, and what to type next: that rate, or a value beyond it.

    The rate is the effective one of the record, so `lr_scaling` is switched off in the advice.
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
    """Return the configurations that tie with the chosen one on validation, as a part of a sentence."""
    ties = [
        ", ".join(f"{key}={configuration.values[key]}" for key in tuned)
        for configuration in arm.configurations[1:]
        if (len(configuration.runs), configuration.val_accuracy) == (len(arm.chosen.runs), arm.chosen.val_accuracy)
    ]
    return [f"tied with {few(ties)}"] if ties else []


def _chosen(comparison: Comparison, arm: Arm) -> str:
    """Return the chosen values of the tuned factors of an arm, and which of them lie at the edge of the search space.

    The rate is the effective one of the record: `lr_scale` and `lr_scaling` have multiplied it.
    """
    lr = arm.chosen.mean("lr") if set(comparison.tuned) & set(RATES) else None
    typed = [f"{key}={arm.chosen.values[key]}" for key in comparison.tuned if lr is None or key != "optim.lr"]
    text = ", ".join(typed)
    if lr is not None:
        text = f"optim.lr={lr:.3g}" + (f" ({text})" if typed else "")
    advice = {edge.key: edge_advice(edge) for edge in arm.edges}
    hints = [hint if len(comparison.tuned) == 1 else f"{key} {hint}" for key, hint in advice.items()]
    return ", ".join([text, *_ties(arm, comparison.tuned), *hints])
