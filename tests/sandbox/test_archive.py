from __future__ import annotations

from shard_node.sandbox.archive import Archive, Entry, buttons

BOT = "9"


def entry(identifier: int, channel: int = 1, **payload: object) -> Entry:
    fields = {"id": str(identifier), "author": {"id": BOT}} | payload
    return Entry(identifier, channel, None, fields)


def test_the_oldest_is_forgotten() -> None:
    archive = Archive(messages_max=10)
    for identifier in range(100):
        archive.add(entry(identifier, channel=identifier % 3))
    assert len(archive) == 10
    assert archive.find(0, 0) is None
    assert archive.find(0, 99) is not None
    assert archive.find(1, 99) is None


def test_removing_a_channel() -> None:
    archive = Archive()
    for identifier in range(10):
        archive.add(entry(identifier, channel=identifier % 2))
    archive.remove_channel(0)
    assert len(archive) == 5
    assert list(archive.newest(0)) == []


def test_hidden_messages_are_in_no_list() -> None:
    archive = Archive()
    hidden = entry(1)
    hidden.hidden = True
    archive.add(hidden)
    assert list(archive.newest(1)) == []
    assert archive.find(1, 1) is hidden


def test_pressable_buttons() -> None:
    rows = [
        {
            "type": 1,
            "components": [
                {"type": 2, "custom_id": "a"},
                {"type": 2, "custom_id": "b", "disabled": True},
                {"type": 2, "url": "https://example.org"},
            ],
        },
        {"type": 9, "components": [], "accessory": {"type": 2, "custom_id": "c"}},
    ]
    message = entry(1, components=rows)
    assert [button["custom_id"] for button in buttons(message.payload)] == ["a", "c"]
    archive = Archive()
    archive.add(message)
    archive.add(entry(2, author={"id": "8"}, components=rows))
    assert len(archive.pressable([1], BOT, buttons)) == 2


def test_chatter_drives_out_only_chatter() -> None:
    archive = Archive(messages_max=2, chatter_max=3)
    archive.add(entry(1))
    for identifier in range(2, 10):
        archive.add(Entry(identifier, 1, None, {"id": str(identifier)}, chatter=True))
    archive.add(entry(10))
    assert [found.id for found in archive.newest(1)] == [10, 9, 8, 7, 1]
    archive.add(entry(11))
    assert archive.find(1, 1) is None
    assert len(archive) == 5
