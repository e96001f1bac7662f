from shard_node.sandbox.replay import ReplayBuffer


def kept(buffer: ReplayBuffer, seq: int = 0) -> list[int]:
    return [number for number, _, _ in buffer.since(seq)]


def test_bounded_in_number() -> None:
    buffer = ReplayBuffer(3, 1_000)
    for seq in range(1, 6):
        buffer.append(seq, "X", "{}")
    assert kept(buffer) == [3, 4, 5]
    assert buffer.floor == 2
    assert kept(buffer, 4) == [5]


def test_bounded_in_bytes() -> None:
    buffer = ReplayBuffer(100, 10)
    buffer.append(1, "X", "123456")
    buffer.append(2, "X", "123456")
    assert kept(buffer) == [2]
    buffer.append(3, "X", "12345678901")
    assert kept(buffer) == []
    assert buffer.floor == 3
