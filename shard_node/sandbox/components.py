"""What users do with components: values picked in selects, modals filled in. Pure.

Source: Discord documentation, "Component Reference" and "Interactions: Receiving and
Responding".
"""

from __future__ import annotations

from typing import Any, Final

from shard_node.sandbox.gestures import (
    CHANNEL,
    MENTIONABLE,
    ROLE,
    STRING,
    USER,
    Dice,
    Options,
    Unplayable,
)
from shard_node.sandbox.payloads import Payload

ROW, BUTTON, STRING_SELECT, TEXT_INPUT, LABEL = 1, 2, 3, 4, 18
ENTITY_SELECTS: Final = {5: USER, 6: ROLE, 7: MENTIONABLE, 8: CHANNEL}
"""Select component type -> the option type that names the same things."""
SELECTS: Final = frozenset({STRING_SELECT, *ENTITY_SELECTS})
TEXT_MAX_CHARS: Final = 4000

Given = dict[str, Any]


class Filler:
    """Fills components in; what entity selects name is in ``options.resolved``."""

    def __init__(self, options: Options, dice: Dice) -> None:
        self._options = options
        self._dice = dice

    def picked(self, select: Payload, given: Any = None) -> list[str]:
        """Values for a select: those given, else as few as it takes, at least one."""
        if isinstance(given, str):
            given = [given]
        wanted = [str(value) for value in given or ()]
        if select["type"] != STRING_SELECT:
            return self._entities(select, wanted)
        offered = [str(option["value"]) for option in select.get("options") or []]
        unknown = [value for value in wanted if value not in offered]
        if unknown or not offered:
            raise Unplayable(
                f"the select offers no {unknown[0]!r}" if unknown else "the select offers nothing",
                f"there are: {', '.join(offered)}",
            )
        return wanted or offered[: _fewest(select)]

    def _entities(self, select: Payload, wanted: list[str]) -> list[str]:
        kind = ENTITY_SELECTS[select["type"]]
        for value in wanted:
            self._options.name(kind, value)
        if wanted:
            return wanted
        option = {"type": kind, "channel_types": select.get("channel_types")}
        drawn = (self._options.thing(option) for _ in range(_fewest(select)))
        return list(dict.fromkeys(drawn))

    def submitted(self, components: list[Payload], given: Given) -> list[Payload]:
        """A modal's components as they are submitted; ``given`` has values by custom_id."""
        return [self._submitted(component, given) for component in components]

    def _submitted(self, component: Payload, given: Given) -> Payload:
        kind = component["type"]
        filled: Payload = {"type": kind, "id": component["id"]}
        if kind == ROW:
            filled["components"] = self.submitted(component.get("components") or [], given)
        elif kind == LABEL:
            filled["component"] = self._submitted(component["component"], given)
        elif "custom_id" in component:
            filled["custom_id"] = component["custom_id"]
            filled |= self._value(component, given.get(component["custom_id"]))
        return filled

    def _value(self, component: Payload, given: Any) -> Payload:
        if component["type"] in SELECTS:
            return {"values": self.picked(component, given)}
        if component["type"] == TEXT_INPUT:
            return {"value": self._text(component) if given is None else str(given)}
        return {"values": []}

    def _text(self, component: Payload) -> str:
        most = component.get("max_length") or TEXT_MAX_CHARS
        least = component.get("min_length") or 1
        prefilled = component.get("value")
        if prefilled:
            return str(prefilled)
        return self._options.text({"type": STRING, "min_length": least, "max_length": most})


def _fewest(select: Payload) -> int:
    least = select.get("min_values")
    return max(1, 1 if least is None else int(least))


def select_data(select: Payload, values: list[str], resolved: Payload) -> Payload:
    """``data`` of a choice in a select."""
    data: Payload = {
        "custom_id": select["custom_id"],
        "component_type": select["type"],
        "id": select.get("id", 1),
        "values": values,
    }
    if resolved:
        data["resolved"] = resolved
    return data


def modal_data(modal: Payload, components: list[Payload], resolved: Payload) -> Payload:
    """``data`` of a submitted modal."""
    data: Payload = {"custom_id": modal["custom_id"], "components": components}
    if resolved:
        data["resolved"] = resolved
    return data
