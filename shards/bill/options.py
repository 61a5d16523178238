"""Options: what the flag --plan of extract and distill says."""

from dataclasses import dataclass
from pathlib import Path

from shards.bill.cards import CARDS, Card
from shards.command.arguments import near, options_as_flags
from shards.command.ranges import POSITIVE, Range, number
from shards.errors import BadInput, UnknownName

_NOT_NEGATIVE = number("of at least 0", lambda x: x >= 0)
_NUMBERS: dict[str, Range] = {"dollars_per_hour": _NOT_NEGATIVE, "seconds": POSITIVE}
_NAMES = (*_NUMBERS, "device_profile", "save")


AS_FLAGS = options_as_flags("plan", "device_profile", "dollars_per_hour")
"""Options that may be flags of their own; each asks for a plan, also where --plan is left out."""


@dataclass(frozen=True)
class PlanOptions:
    """How a plan is made."""

    dollars_per_hour: int | float = 0.75
    """What an hour of the machine costs."""
    seconds: int | float = 60
    """How long the probes of this machine last, all together, about."""
    card: Card | None = None
    """The card that is predicted; None: the device at hand is measured."""
    save: Path | None = None
    """Where the plan goes as JSON too."""


def parse_plan(flag: str) -> PlanOptions:
    """What `--plan dollars_per_hour=0.75,device_profile=h100,seconds=30,save=FILE` says, any of these or none.

    BadInput for what is no option or no such value, UnknownName for a card that nobody knows.
    """
    values: dict[str, str] = {}
    for option in filter(None, flag.split(",") if flag != "true" else ()):
        name, equals, value = option.partition("=")
        if name not in _NAMES or not equals:
            raise BadInput(f"--plan {option}: expected {'=, '.join(_NAMES)}=, several by commas{near(name, _NAMES)}")
        values[name] = value
    numbers = {name: _number(name, values[name], limit) for name, limit in _NUMBERS.items() if name in values}
    profile, save = values.get("device_profile"), values.get("save")
    if profile is not None and profile not in CARDS:
        raise UnknownName("--plan device_profile", profile, CARDS)
    return PlanOptions(card=CARDS[profile] if profile else None, save=Path(save) if save else None, **numbers)


def _number(name: str, text: str, limit: Range) -> float:
    try:
        value = float(text)
    except ValueError:
        raise BadInput(f"--plan {name}={text}: expected {limit.expected}") from None
    limit.check(f"--plan {name}", value)
    return value
