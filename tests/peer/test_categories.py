"""Topics by their names and by their bodies; what a handler of a category gets."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from shard_node.errors import RemoteError, RequestFailed, ShardNodeError
from shard_node.peer.failures import answered_with
from shard_node.peer.handlers import Handlers, Message, decoder, topic_name
from shard_node.wire.bodies import ErrorBody, ShardReady
from shard_node.wire.categories import Broadcast, CommandExec, MemberFields, MemberUpdate
from shard_node.wire.codec import encode_body

UPDATE = MemberUpdate(5, 6, MemberFields(nick="n"), 1, 2)


class Own(msgspec.Struct):
    """A bot's own topic."""

    x: int


def heard(handlers: Handlers, topic: str, body: Any) -> Any:
    """The body that the only handler of a topic gets."""
    handler = handlers.single[topic]
    data = encode_body(body)
    return Message(handler.decode, data, topic, "a", "normal", 0.0).body


@pytest.mark.parametrize("topic", ["MEMBER_UPDATE", MemberUpdate])
def test_a_category_is_heard_typed_by_its_name_and_by_its_body(topic: Any) -> None:
    handlers = Handlers()
    assert handlers.listen(topic, print)
    assert handlers.topics == ("MEMBER_UPDATE",)
    assert heard(handlers, "MEMBER_UPDATE", UPDATE) == UPDATE
    assert handlers.unlisten("MEMBER_UPDATE", print)


def test_names_and_bodies_are_one_topic() -> None:
    handlers = Handlers()
    assert handlers.listen("SHARD_READY", print)
    assert not handlers.listen(ShardReady, repr)
    assert len(handlers.events["SHARD_READY"]) == 2
    assert topic_name(Own) == "Own"


def test_a_wrong_body_is_an_error_that_names_topic_and_sender() -> None:
    handlers = Handlers()
    handlers.listen("MEMBER_UPDATE", print)
    with pytest.raises(ShardNodeError, match="MEMBER_UPDATE from a") as caught:
        heard(handlers, "MEMBER_UPDATE", {"nick": "n"})
    assert caught.value.code == "E_BAD_BODY"


@pytest.mark.parametrize("body", [{"cog": "trade"}, Broadcast({"cog": "trade"})])
def test_a_broadcast_of_a_map_is_a_broadcast(body: Any) -> None:
    handlers = Handlers()
    handlers.listen("BROADCAST", print)
    assert heard(handlers, "BROADCAST", body) == Broadcast({"cog": "trade"})
    with pytest.raises(ShardNodeError, match="BROADCAST from a"):
        heard(handlers, "BROADCAST", 5)


def test_a_service_of_a_category_gets_its_body() -> None:
    handlers = Handlers()
    handlers.serve("COMMAND_EXEC", print)
    asked = CommandExec(5, "ping")
    assert handlers.services["COMMAND_EXEC"].decode(encode_body(asked)) == asked
    handlers.serve("own", print)
    assert handlers.services["own"].decode(encode_body({"x": 1})) == {"x": 1}


def test_a_category_costs_a_message_no_more_than_a_struct() -> None:
    """The decoder is msgspec's own, without a step in between; of a BROADCAST it is not."""
    assert type(decoder(MemberUpdate)) is type(decoder(Own))
    assert type(decoder(Broadcast)) is not type(decoder(Own))


def test_a_refusal_keeps_its_code_and_hint() -> None:
    body = ErrorBody("E_BAD_OPTION", "/add needs left", "usage: /add left=INTEGER")
    error = answered_with("COMMAND_EXEC", encode_body(body))
    assert isinstance(error, RemoteError)
    assert (error.code, error.hint, error.retryable) == (body.code, body.hint, False)
    assert (str(error), error.type_name) == ("COMMAND_EXEC: /add needs left", "")


def test_what_a_handler_raised_keeps_its_type() -> None:
    body = ErrorBody("E_REMOTE", "KeyError: 'k'", details={"type": "KeyError"})
    error = answered_with("x", encode_body(body))
    assert isinstance(error, RequestFailed)
    assert (error.code, error.type_name) == ("E_REMOTE", "KeyError")  # type: ignore[attr-defined]
    assert "log" in error.hint
