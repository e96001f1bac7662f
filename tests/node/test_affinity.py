"""Which process an event belongs to, by payloads as the gateway sends them."""

from __future__ import annotations

import inspect
from typing import Any

import disnake.state
import pytest

from shard_node.affinity import KINDS, SILENT_MAX_S, Affinity, Route
from shard_node.wire.lingering import WAITERS, WHOLE, Waits

BUTTON, SELECT = 2, 3
OLD, YOUNG = "a#5", "a#6"


class Own:
    """What the holder knows: views (kind, message or None, custom_id), modals."""

    def __init__(self, *known: Any) -> None:
        self.known = set(known)

    def component(self, kind: int, message: int, custom_id: str) -> bool:
        return bool({(kind, message, custom_id), (kind, None, custom_id)} & self.known)

    def modal(self, user: int, custom_id: str) -> bool:
        return (user, custom_id) in self.known


def waits(owner: str = OLD, **fields: Any) -> Waits:
    return Waits(owner, 4, (0, 1), **fields)


def pressed(
    message: int = 10, custom_id: str = "x", kind: int = BUTTON, **of_message: Any
) -> dict[str, Any]:
    """``answers``: the interaction that the message answers."""
    answers = of_message.pop("answers", None)
    shown: dict[str, Any] = {"id": str(message), **of_message}
    if answers is not None:
        shown["interaction_metadata"] = {"id": str(answers), "type": 2}
    return {
        "type": 3, "message": shown, "member": {"user": {"id": "7"}},
        "data": {"custom_id": custom_id, "component_type": kind},
    }  # fmt: skip


def submitted(custom_id: str = "m", user: int = 7, message: int | None = None) -> dict[str, Any]:
    data: dict[str, Any] = {"type": 5, "user": {"id": str(user)}, "data": {"custom_id": custom_id}}
    if message is not None:
        data["message"] = {"id": str(message)}
    return data


def whole(data: dict[str, Any], own: Own, *told: Waits) -> str:
    affinity = Affinity()
    for one in told:
        assert affinity.put(one, 0.0)
    routes = affinity.of("INTERACTION_CREATE", data, own)
    assert all(route.mode == WHOLE for route in routes)
    assert len(routes) < 2
    return routes[0].owner if routes else ""


NOTHING = Own()
VIEW = waits(components=((10, "x"),))
LOOSE = waits(components=((0, "x"),))
ASKED = waits(components=((0, "x"),), sent=(99,))

COMPONENTS = {
    "a view of that message": (pressed(), NOTHING, [VIEW], OLD),
    "the same custom_id on another message": (pressed(11), NOTHING, [VIEW], ""),
    "another custom_id on that message": (pressed(10, "y"), NOTHING, [VIEW], ""),
    "a select menu of that message": (pressed(kind=SELECT), NOTHING, [VIEW], OLD),
    "an ephemeral message": (pressed(flags=64), NOTHING, [VIEW], OLD),
    "a persistent view of the holder, but that message": (
        pressed(), Own((BUTTON, None, "x")), [VIEW], OLD),
    "the answer to a slash command": (pressed(11, answers=99), NOTHING, [ASKED], OLD),
    "an ephemeral answer to one": (pressed(11, answers=99, flags=64), NOTHING, [ASKED], OLD),
    "its answer, where the holder has such a view too": (
        pressed(11, answers=99), Own((BUTTON, None, "x")), [ASKED], OLD),
    "the holder's answer, with the same custom_id": (
        pressed(11, answers=98), Own((BUTTON, None, "x")), [ASKED], ""),
    "a message of the holder's, by its id": (
        pressed(11), Own((BUTTON, 11, "x")), [LOOSE], ""),
    "nobody knows the message, the old one the custom_id": (pressed(11), NOTHING, [LOOSE], OLD),
    "a followup of an answer": (
        {**pressed(12), "message": {"id": "12", "interaction_metadata": {
            "id": "55", "original_response_message_id": "99"}}}, NOTHING, [ASKED], OLD),
    "the older form of metadata": (
        {**pressed(12), "message": {"id": "12", "interaction": {"id": "99"}}},
        NOTHING, [ASKED], OLD),
    "somebody waits for a button on that message": (
        pressed(20), NOTHING, [waits(sent=(20,), kinds=("button_click",))], OLD),
    "somebody waits for a button, a select came": (
        pressed(20, kind=SELECT), NOTHING, [waits(sent=(20,), kinds=("button_click",))], ""),
    "somebody waits for a select": (
        pressed(20, kind=SELECT), NOTHING, [waits(sent=(20,), kinds=("dropdown",))], OLD),
    "somebody waits for any component": (
        pressed(20, kind=8), NOTHING, [waits(sent=(20,), kinds=("message_interaction",))], OLD),
    "nobody waits for its buttons": (pressed(20), NOTHING, [waits(sent=(20,))], ""),
    "somebody waits, on another message": (
        pressed(21), NOTHING, [waits(sent=(20,), kinds=("button_click",))], ""),
    "the younger of two that know the custom_id": (
        pressed(11), NOTHING, [LOOSE, waits(YOUNG, components=((0, "x"),))], YOUNG),
    "the older of two, by its message": (
        pressed(), NOTHING, [VIEW, waits(YOUNG, components=((0, "x"),))], OLD),
    "the younger knows the custom_id, the older sent it": (
        pressed(11, answers=99), NOTHING, [ASKED, waits(YOUNG, components=((0, "x"),))], OLD),
}  # fmt: skip


@pytest.mark.parametrize("name", COMPONENTS)
def test_a_component_goes_to_whose_message_it_is(name: str) -> None:
    data, own, told, owner = COMPONENTS[name]
    assert whole(data, own, *told) == owner


SHOWN = waits(modals=((7, "m"),))

MODALS = {
    "shown to that user": (submitted(), NOTHING, [SHOWN], OLD),
    "shown to another user": (submitted(user=8), NOTHING, [SHOWN], ""),
    "another modal": (submitted("n"), NOTHING, [SHOWN], ""),
    "the holder has shown it too": (submitted(), Own((7, "m")), [SHOWN], ""),
    "both, but from a message that it sent": (
        submitted(message=20), Own((7, "m")), [waits(modals=((7, "m"),), sent=(20,))], OLD),
    "waited for, by its custom_id": (
        submitted(), NOTHING, [waits(modals=((0, "m"),), kinds=("modal_submit",))], OLD),
    "nobody waits any more": (submitted(), NOTHING, [waits(modals=((0, "m"),))], ""),
    "waited for, opened from its message": (
        submitted(message=20), NOTHING, [waits(sent=(20,), kinds=("modal_submit",))], OLD),
}  # fmt: skip


@pytest.mark.parametrize("name", MODALS)
def test_a_modal_goes_to_who_has_shown_it(name: str) -> None:
    data, own, told, owner = MODALS[name]
    assert whole(data, own, *told) == owner


@pytest.mark.parametrize("kind", [1, 2, 4])
def test_commands_and_pings_are_the_holders(kind: int) -> None:
    everything = waits(sent=(20,), channels=(3,), kinds=("interaction", "application_command"))
    data = {"type": kind, "id": "20", "channel_id": "3", "data": {"name": "x"}}
    assert whole(data, NOTHING, everything) == ""


WAITING = waits(
    sent=(20,),
    channels=(3,),
    kinds=("message", "reaction_add", "raw_message_delete", "message_edit"),
)
EVENTS = {
    "a message in a channel": ("MESSAGE_CREATE", {"id": "1", "channel_id": "3"}, True),
    "a message elsewhere": ("MESSAGE_CREATE", {"id": "1", "channel_id": "4"}, False),
    "a reply to a message of its": (
        "MESSAGE_CREATE", {"id": "1", "channel_id": "4", "message_reference": {"message_id": "20"}},
        True),
    "a reaction to a message of its": (
        "MESSAGE_REACTION_ADD", {"message_id": "20", "channel_id": "4"}, True),
    "a reaction to another": (
        "MESSAGE_REACTION_ADD", {"message_id": "21", "channel_id": "4"}, False),
    "a reaction is taken back": (
        "MESSAGE_REACTION_REMOVE", {"message_id": "20", "channel_id": "3"}, False),
    "its message is changed": ("MESSAGE_UPDATE", {"id": "20", "channel_id": "4"}, True),
    "its message is deleted": ("MESSAGE_DELETE", {"id": "20", "channel_id": "4"}, True),
    "many are, nobody waits for that": (
        "MESSAGE_DELETE_BULK", {"ids": ["20"], "channel_id": "4"}, False),
    "an event of no message": ("GUILD_MEMBER_ADD", {"user": {"id": "7"}}, False),
}  # fmt: skip


@pytest.mark.parametrize("name", EVENTS)
def test_who_waits_for_an_event_gets_a_copy(name: str) -> None:
    event, data, wanted = EVENTS[name]
    affinity = Affinity()
    affinity.put(WAITING, 0.0)
    assert affinity.of(event, data, NOTHING) == ((Route(OLD, WAITERS),) if wanted else ())


def test_all_who_wait_get_a_copy() -> None:
    affinity = Affinity()
    for owner in (OLD, YOUNG):
        affinity.put(waits(owner, channels=(3,), kinds=("message",)), 0.0)
    routes = affinity.of("MESSAGE_CREATE", {"id": "1", "channel_id": "3"}, NOTHING)
    assert {route.owner for route in routes} == {OLD, YOUNG}


def test_what_is_told_later_counts_in_place_of_it_or_in_addition() -> None:
    affinity = Affinity()
    more = waits(components=((11, "y"),), whole=False)
    assert not affinity.put(more, 0.0)  # nobody has told the rest
    assert not affinity
    affinity.put(VIEW, 0.0)
    affinity.put(more, 0.0)
    for data in (pressed(), pressed(11, "y")):
        assert affinity.of("INTERACTION_CREATE", data, NOTHING)
    affinity.put(waits(components=((11, "y"),)), 0.0)
    assert not affinity.of("INTERACTION_CREATE", pressed(), NOTHING)
    affinity.put(waits(over=True), 0.0)
    assert not affinity


def test_living_ones_of_a_shard_are_handed_on_and_silent_ones_forgotten() -> None:
    affinity = Affinity()
    affinity.put(VIEW, 0.0)
    affinity.put(waits(YOUNG), 50.0)
    assert [one.owner for one in affinity.living(1)] == [OLD, YOUNG]
    assert affinity.living(3) == ()
    assert affinity.silent(SILENT_MAX_S) == []
    assert affinity.silent(SILENT_MAX_S + 1) == [OLD]
    assert [one.owner for one in affinity.living()] == [YOUNG]
    assert affinity.forget(YOUNG)
    assert not affinity.forget(YOUNG)


def test_every_kind_is_a_name_that_disnake_dispatches() -> None:
    source = inspect.getsource(disnake.state)
    for event, kinds in KINDS.items():
        assert f"def parse_{event.lower()}(" in source
        for kind in kinds:
            assert f'"{kind}"' in source or "poll_vote" in kind  # that one is put together
