from shard_node.sandbox.interactions import Interaction
from shard_node.sandbox.modals import Modals


def opener(number: int, guild_id: int = 7) -> Interaction:
    return Interaction(number, f"t{number}", 2, guild_id, 1, 2, 0.0)


def test_the_latest_of_a_guild_is_taken_once() -> None:
    modals = Modals()
    for number, custom_id in ((1, "a:1"), (2, "a:2"), (3, "b")):
        modals.show(opener(number), {"custom_id": custom_id})
    modals.show(opener(4, guild_id=8), {"custom_id": "a:3"})
    taken = [modals.take(7, "a") for _ in range(3)]
    assert [shown and shown[1]["custom_id"] for shown in taken] == ["a:2", "a:1", None]


def test_bounded() -> None:
    modals = Modals(modals_max=2)
    for number in range(5):
        modals.show(opener(number), {"custom_id": str(number)})
    assert len(modals) == 2
    assert modals.take(7, "0") is None
