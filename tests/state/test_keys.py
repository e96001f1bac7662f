"""Keys: their bytes, their order, and what names a row."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shard_node.state.errors import BadName
from shard_node.state.keys import (
    ID_MAX,
    NAME_MAX_BYTES,
    PARTITIONS,
    Table,
    gone_key,
    key_of,
    marked_key,
    parse_key,
    partition_of,
    prefix_of,
    swept_key,
    text_prefix,
)

ids = st.integers(0, ID_MAX)
names = st.text(min_size=1, max_size=40).filter(
    lambda text: text.isprintable() and len(text.encode()) <= NAME_MAX_BYTES
)
parts = st.lists(ids | names, min_size=1, max_size=3)
tables = st.sampled_from(Table)

GOLDEN = {
    (Table.VALUE, ("motd",)): "6c01026d6f746400",
    (Table.CONFIG, (81384788765712384,)): "a2020101212308c0802000",
    (Table.MEMBER, (1, 2)): "ff03010000000000000001010000000000000002",
    (Table.ACCOUNT, ("user:80351110224678912",)):
        "ec0802757365723a383033353131313032323436373839313200",
    (Table.BAN, (7, "global")): "ca0a01000000000000000702676c6f62616c00",
    (Table.HISTORY, ("account:user:7", 9)):
        "ca0b026163636f756e743a757365723a3700010000000000000009",
}  # fmt: skip


@pytest.mark.parametrize(("name", "wanted"), GOLDEN.items(), ids=str)
def test_keys_have_the_bytes_that_stores_out_there_have(name: tuple, wanted: str) -> None:
    assert key_of(name[0], *name[1]).hex() == wanted


def test_tables_keep_their_numbers() -> None:
    assert [(table.name, table.value) for table in Table] == [
        ("VALUE", 1), ("CONFIG", 2), ("MEMBER", 3), ("PERMISSION", 4), ("USER", 5),
        ("PREMIUM", 6), ("COOLDOWN", 7), ("ACCOUNT", 8), ("TOTAL", 9), ("BAN", 10),
        ("HISTORY", 11), ("UNDONE", 13), ("ERASED", 14), ("GONE", 15),
        ("OF_USER", 16), ("SWEPT", 17),
    ]  # fmt: skip


@given(tables, parts)
def test_a_key_gives_back_its_parts(table: Table, named: list) -> None:
    key = key_of(table, *named)
    assert parse_key(key) == (table, tuple(named))
    assert key[0] == partition_of(named[0]) < PARTITIONS


@given(tables, parts, parts)
def test_different_rows_have_different_keys(table: Table, one: list, other: list) -> None:
    assert (key_of(table, *one) == key_of(table, *other)) == (one == other)


@given(tables, st.lists(ids, min_size=2, max_size=2), st.lists(ids, min_size=2, max_size=2))
def test_keys_of_one_first_part_lie_in_the_order_of_the_next(t: Table, a: list, b: list) -> None:
    b[0] = a[0]
    assert (key_of(t, *a) < key_of(t, *b)) == (a < b)


@given(tables, parts)
def test_a_deleted_row_is_remembered_in_its_own_partition(table: Table, named: list) -> None:
    place = gone_key(key_of(table, *named))
    assert parse_key(place) == (Table.GONE, (named[0], int(table), *named[1:]))
    assert place[0] == key_of(table, *named)[0]
    assert marked_key(place) == key_of(table, *named)


@given(tables, parts)
def test_what_was_swept_is_remembered_for_its_table_and_partition(
    table: Table, named: list
) -> None:
    key = key_of(table, *named)
    place = swept_key(key)
    assert place[0] == key[0]
    assert parse_key(place)[0] is Table.SWEPT and parse_key(place)[1][1] == table
    assert key_of(*parse_key(place)[:1], *parse_key(place)[1]) == place


@given(ids, names)
def test_what_is_a_users_lies_in_his_partition(user: int, more: str) -> None:
    where = partition_of(user)
    for name in (f"user:{user}", f"user:{user}:{more}", f"account:user:{user}", f"guild:{user}"):
        assert partition_of(name) == where
    key = key_of(Table.ACCOUNT, f"user:{user}")
    assert key.startswith(text_prefix(where, Table.ACCOUNT, f"user:{user}"))


def test_a_name_with_a_number_that_is_no_id_has_a_partition() -> None:
    assert 0 <= partition_of("user:99999999999999999999") < PARTITIONS
    assert 0 <= partition_of("user:") < PARTITIONS


@given(ids, ids)
def test_a_prefix_is_of_whole_parts(one: int, other: int) -> None:
    inside = key_of(Table.MEMBER, one, 5).startswith(prefix_of(Table.MEMBER, other))
    assert inside == (one == other)
    assert not key_of(Table.VALUE, "ab").startswith(prefix_of(Table.VALUE, "a"))


@pytest.mark.parametrize(
    "part", ["", "a\0b", "a\nb", "\ud800", "x" * 201, "é" * 101, -1, ID_MAX + 1, True, None, 1.0]
)
def test_what_names_nothing_is_refused(part: object) -> None:
    with pytest.raises(BadName):
        key_of(Table.VALUE, part)  # type: ignore[arg-type]
    with pytest.raises(BadName):
        key_of(Table.MEMBER, 1, part)  # type: ignore[arg-type]


@given(st.binary(max_size=30))
def test_bytes_that_are_no_key_are_a_value_error(data: bytes) -> None:
    with contextlib.suppress(ValueError):
        parse_key(data)


def test_the_longest_key_fits_into_lmdb() -> None:
    longest = key_of(Table.BAN, "x" * NAME_MAX_BYTES, "y" * NAME_MAX_BYTES)
    assert len(gone_key(longest)) <= 511
