"""Sections of a configuration: frozen dataclasses whose fields are its keys, converted from and to plain values.

A key without a field is refused, and a value is checked as soon as it is known, by the type of its field. A field
without a default is part of every digest. A field with a default was added later: the default means what runs did
before, so a record without the key has that value, and only other values are hashed.
"""

import math
from collections.abc import Collection, Iterator, Mapping
from dataclasses import MISSING, dataclass, fields, is_dataclass
from itertools import pairwise
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, TypeGuard, TypeVar, Union, get_args, get_origin, get_type_hints

from intel_scenes.errors import MissingKey, UserError, did_you_mean
from intel_scenes.files import flatten, shown


@dataclass(frozen=True)
class Whole:
    """Constraint: an integer of at least `least`."""

    least: int

    def refusal(self, value: object) -> str | None:
        """Return what is wrong with a value; None for a valid one."""
        is_whole = type(value) is int and value >= self.least
        return None if is_whole else f"must be a whole number of at least {self.least}"


@dataclass(frozen=True)
class WholeOr:
    """Constraint: an integer of at least `least`, or a name in its place."""

    least: int
    name: str

    def refusal(self, value: object) -> str | None:
        """Return what is wrong with a value; None for a valid one."""
        reason = Whole(self.least).refusal(value)
        return f"{reason}, or {self.name}" if reason and value != self.name else None


@dataclass(frozen=True)
class Above0:
    """Constraint: a finite number above 0."""

    def refusal(self, value: object) -> str | None:
        """Return what is wrong with a value; None for a valid one."""
        return None if _is_number(value) and 0 < value < math.inf else "must be a number above 0"


@dataclass(frozen=True)
class Within:
    """Constraint: a number within a range, its ends included or excluded."""

    low: float
    high: float
    has_open_ends: bool = False

    def refusal(self, value: object) -> str | None:
        """Return what is wrong with a value; None for a valid one."""
        if _is_number(value) and (
            self.low < value < self.high if self.has_open_ends else self.low <= value <= self.high
        ):
            return None
        return f"must be a number from {self.low} to {self.high}{' (both excluded)' * self.has_open_ends}"


@dataclass(frozen=True)
class Choice:
    """Constraint: one of several names, some of which may be written as numbers."""

    names: tuple[str, ...]

    def refusal(self, value: object) -> str | None:
        """Return what is wrong with a value; None for a valid one."""
        return not_one_of(str(value), self.names)


@dataclass(frozen=True)
class Sides:
    """Constraint: a number of pixels, or a list of them."""

    def refusal(self, value: object) -> str | None:
        """Return what is wrong with a value; None for a valid one."""
        sides = value if isinstance(value, tuple) else (value,)
        is_right = bool(sides) and not any(Whole(1).refusal(side) for side in sides)
        return None if is_right else "must be a number of pixels, or a list of them"


@dataclass(frozen=True)
class Windows:
    """Constraint: a list of ascending shares above 0."""

    def refusal(self, value: object) -> str | None:
        """Return what is wrong with a value; None for a valid one."""
        shares = value if isinstance(value, tuple) else ()
        is_right = bool(shares) and all(_is_number(share) and 0 < share <= 1 for share in shares)
        is_right = is_right and all(share < following for share, following in pairwise(shares))
        return None if is_right else "must be a list of ascending numbers above 0 and up to 1, such as [0.1, 1]"


def _is_number(value: object) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool)


Count = Annotated[int, Whole(1)]
Seed = Annotated[int, Whole(0)]
Rate = Annotated[float, Above0()]
Fraction = Annotated[float, Within(0, 1)]
InnerFraction = Annotated[float, Within(0, 1, has_open_ends=True)]
Name = str | int | float  # YAML reads some names as numbers


@dataclass(frozen=True)
class Section:
    """Section of a configuration, whose values are checked by the types of its fields.

    Attributes:
        section: Name of the section, such as `data` of `data.root`; empty at the top level.
    """

    section: ClassVar[str] = ""

    def __post_init__(self) -> None:
        """Check each value by itself.

        Raises:
            UserError: A value has the wrong type, is out of range or misspelled.
        """
        for name, hint in _hints(type(self)).items():
            if reason := _refusal(hint, value := getattr(self, name)):
                key = f"{self.section}.{name}" if self.section else name
                raise UserError(f"{key}={shown(value)} {reason}")


Config = TypeVar("Config", bound=Section)


def keys_without_field(kind: type[Section], plain: Mapping[str, Any], prefix: str = "") -> list[str]:
    """Return the dotted keys of nested plain values that have no field in a configuration."""
    hints, unknown = _hints(kind), []
    for key, value in plain.items():
        hint, name = hints.get(str(key)), f"{prefix}{key}"
        if hint is None:
            is_taken = "others" in hints
        elif _is_section(hint):
            unknown += keys_without_field(hint, value, f"{name}.") if isinstance(value, Mapping) else []
            is_taken = True
        else:
            is_taken = not isinstance(value, Mapping) or get_origin(hint) is Mapping
        if not is_taken:
            unknown += list(flatten({name: value})) or [name]
    return unknown


def from_plain(kind: type[Config], plain: Mapping[str, Any], prefix: str = "") -> Config:
    """Return a configuration from nested plain values; keys without a field are ignored.

    Raises:
        UserError: A key is missing, or a value is invalid.
    """
    hints = _hints(kind)
    values: dict[str, Any] = {}
    if "others" in hints:
        values["others"] = {key: value for key, value in plain.items() if key not in hints}
    for field in fields(kind):
        name, hint = field.name, hints[field.name]
        if name not in plain:
            if name != "others" and field.default is MISSING and field.default_factory is MISSING:
                raise MissingKey(f"{prefix}{name}")
        elif _is_section(hint):
            if not isinstance(plain[name], Mapping):
                raise UserError(f"{prefix}{name}={shown(plain[name])} must be a section of keys")
            values[name] = from_plain(hint, plain[name], f"{prefix}{name}.")
        else:
            values[name] = _frozen(plain[name])
    return kind(**values)


def as_plain(section: Section) -> dict[str, Any]:
    """Return a section as plain values for YAML and JSON, the entries of `others` beside the other fields.

    Keys that were added later are left out while they have their default of null or an empty section.
    """
    plain: dict[str, Any] = {}
    for field in fields(section):
        value = getattr(section, field.name)
        if field.name == "others":
            plain |= {key: _thawed(item) for key, item in value.items()}
        elif not (value is None and field.default is None) and (value or field.default_factory is MISSING):
            plain[field.name] = _thawed(value)
    return plain


def _thawed(value: object) -> object:
    if isinstance(value, Section):
        return as_plain(value)
    if isinstance(value, Mapping):
        return {key: _thawed(item) for key, item in value.items()}
    return [_thawed(item) for item in value] if isinstance(value, list | tuple) else value


def _frozen(value: object) -> object:
    return tuple(_frozen(item) for item in value) if isinstance(value, list) else value


def key_names(kind: type[Section], prefix: str = "") -> Iterator[str]:
    """Yield the dotted names of all fields, such as `data.root`, without the entries of open sections."""
    for name, hint in _hints(kind).items():
        if _is_section(hint):
            yield from key_names(hint, f"{prefix}{name}.")
        elif name != "others":
            yield f"{prefix}{name}"


def _hints(kind: type[Any]) -> dict[str, Any]:
    hints = get_type_hints(kind, include_extras=True)
    return {field.name: hints[field.name] for field in fields(kind)}


def _is_section(hint: Any) -> bool:  # noqa: ANN401
    return isinstance(hint, type) and issubclass(hint, Section)


def _refusal(hint: Any, value: object) -> str | None:  # noqa: ANN401
    """Return what is wrong with a value for a field of this type; None for a valid one."""
    options = get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)
    if value is None and NoneType in options:
        return None
    options = tuple(option for option in options if option is not NoneType)
    if choices := [choice for option in options for choice in _choices(option)]:
        return not_one_of(value, choices)
    reasons = [_refusal_of_one(option, value) for option in options]
    return None if None in reasons else reasons[0]


def _choices(option: Any) -> tuple[object, ...]:  # noqa: ANN401
    if option is bool:
        return (True, False)
    return get_args(option) if get_origin(option) is Literal else ()


def _refusal_of_one(option: Any, value: object) -> str | None:  # noqa: ANN401
    if get_origin(option) is Annotated:
        constraint = get_args(option)[1]
        reason: str | None = constraint.refusal(value)
        return reason
    if get_origin(option) is tuple:
        kinds = get_args(option)
        is_open = len(kinds) == 2 and kinds[1] is Ellipsis
        if not isinstance(value, tuple) or not (is_open or len(value) == len(kinds)):
            return f"must be a list, such as [{value}]" if is_open else f"must be a list of {len(kinds)}"
        pairs = zip(value, [kinds[0]] * len(value) if is_open else kinds, strict=True)
        return next((reason for item, kind in pairs if (reason := _refusal(kind, item))), None)
    if get_origin(option) is not None or is_dataclass(option):  # an open mapping, or a section that has checked itself
        return None if isinstance(value, get_origin(option) or option) else "must be a section of keys"
    if option is float:
        return None if _is_number(value) else "must be a number"
    is_right = isinstance(value, option) and not (option is int and isinstance(value, bool))
    return None if is_right else {str: "must be a name or a path", int: "must be a whole number"}[option]


def not_one_of(value: object, choices: Collection[object]) -> str | None:
    """Return what is wrong with a value that must be one of several; None where it is one of them."""
    if value in tuple(choices):
        return None
    names = [str(choice).lower() if isinstance(choice, bool) else str(choice) for choice in choices]  # as in YAML
    return f"must be one of {', '.join(names)}{did_you_mean(str(shown(value)), names)}"
