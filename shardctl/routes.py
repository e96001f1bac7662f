"""The operator's routing rules, ``[[routes]]`` of the settings, as ``fleet.json`` holds them.

    [[routes]]
    category = "PRICES"
    to = ["node:a", "node:b"]     # or "node:a", "pool:NAME", "nobody"
    lane = "low"                  # or "high", "normal", "control"

The broker reads them (broker/config.py); a rule holds for what is published to a category.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final

from shard_node.wire.identity import is_node_name
from shard_node.wire.lanes import Lane
from shard_node.wire.limits import ROUTES_MAX, TOPIC_MAX_CHARS
from shardctl.errors import ConfigError

RULE_NODES_MAX: Final = 256
RULE_KEYS: Final = ("category", "to", "lane")
LANES: Final = tuple(lane.name.lower() for lane in Lane)
NODE: Final = "node:"
POOL: Final = "pool:"
NOBODY: Final = "nobody"
TO_ALLOWED: Final = (
    f'"node:a", ["node:a", "node:b"] (at most {RULE_NODES_MAX}), "pool:NAME" or "nobody"'
)
_EXAMPLE: Final = '[[routes]]\ncategory = "PRICES"\nto = ["node:a", "node:b"]\nlane = "low"'


def read_rules(path: Path, text: str, value: Any, under: tuple[str, ...]) -> tuple[Any, ...]:
    """The rules as the broker takes them. Raises ConfigError with the line of the first bad one.

    ``under`` is the dotted place of the table that holds them.
    """

    def fail(number: int, key: str, message: str, allowed: str, hint: str = "") -> ConfigError:
        where = f"{path}:{line_of(text, (*under, 'routes'), number, key)}"
        return ConfigError(
            f"{where}: {message}", consequence=f"{allowed} Nothing was done.", hint=hint
        )

    if not isinstance(value, list) or not all(isinstance(rule, dict) for rule in value):
        raise fail(
            0, "", "routes is no list of tables.", "Each rule is a table of its own.", _EXAMPLE
        )
    if len(value) > ROUTES_MAX:
        text_of = f"{len(value)} rules are too many."
        raise fail(ROUTES_MAX, "", text_of, f"Allowed: at most {ROUTES_MAX} [[routes]].")
    rules: list[dict[str, Any]] = []
    for number, rule in enumerate(value):
        _check_rule(rule, number, fail)
        if any(other["category"] == rule["category"] for other in rules):
            message = f"a second rule for {rule['category']!r}."
            raise fail(number, "category", message, "Allowed: one rule for a category.")
        rules.append(_as_broker_reads(rule))
    return tuple(rules)


def _check_rule(rule: Mapping[str, Any], number: int, fail: Callable[..., ConfigError]) -> None:
    for key in rule:
        if key not in RULE_KEYS:
            near = difflib.get_close_matches(key, RULE_KEYS, n=1)
            hint = f"did you mean {near[0]!r}?" if near else ""
            raise fail(number, key, f"unknown key {key!r}.", f"Allowed: {_all(RULE_KEYS)}.", hint)
    category = rule.get("category")
    if category is None:
        raise fail(number, "", "a rule without a category.", "It names what it is for.", _EXAMPLE)
    if not isinstance(category, str) or not 0 < len(category) <= TOPIC_MAX_CHARS:
        message = f"category = {category!r} is not allowed."
        raise fail(number, "category", message, f"Allowed: a text of 1-{TOPIC_MAX_CHARS}.")
    if _is_brokers(category):
        message = f"category = {category!r} is the broker's own."
        raise fail(number, "category", message, "It is not routed by rules.")
    if rule.keys() == {"category"}:
        message = f"the rule for {category!r} says neither `to` nor `lane`."
        raise fail(number, "category", message, "It would change nothing.", _EXAMPLE)
    if "lane" in rule and rule["lane"] not in LANES:
        message = f"lane = {rule['lane']!r} is not allowed."
        raise fail(number, "lane", message, f"Allowed: {_all(LANES, quoted=True)}.")
    if "to" in rule and not _is_destination(rule["to"]):
        message = f"to = {rule['to']!r} is not allowed."
        raise fail(number, "to", message, f"Allowed: {TO_ALLOWED}.", _meant(rule["to"]))


def _is_destination(to: Any) -> bool:
    if isinstance(to, list):
        return 0 < len(to) <= RULE_NODES_MAX and all(map(_is_node, to))
    pool = isinstance(to, str) and to.startswith(POOL) and is_node_name(to.removeprefix(POOL))
    return to == NOBODY or _is_node(to) or pool


def _is_node(to: Any) -> bool:
    return isinstance(to, str) and to.startswith(NODE) and is_node_name(to.removeprefix(NODE))


def _meant(to: Any) -> str:
    """What somebody probably meant who left the kind out."""
    if to == []:
        return f'to = "{NOBODY}"'
    names = to if isinstance(to, list) else [to]
    if not all(isinstance(name, str) and is_node_name(name.removeprefix(NODE)) for name in names):
        return ""
    meant = [f'"{NODE}{name.removeprefix(NODE)}"' for name in names]
    return f"to = [{', '.join(meant)}]" if isinstance(to, list) else f"to = {meant[0]}"


def _is_brokers(category: str) -> bool:
    """Only where there are rules: the vocabulary takes its time to load."""
    from shard_node.wire.topics import BROKERS_OWN

    return category in BROKERS_OWN


def _as_broker_reads(rule: Mapping[str, Any]) -> dict[str, Any]:
    """Nodes by their bare names, in a list."""
    to = rule.get("to")
    if isinstance(to, str) and to.startswith(NODE):
        to = [to]
    if isinstance(to, list):
        to = list(dict.fromkeys(name.removeprefix(NODE) for name in to))
    return {"category": rule["category"], "to": to, "lane": rule.get("lane")}


def in_words(rule: Mapping[str, Any]) -> str:
    """A rule as a person reads it: ``PRICES -> node:a, node:b, lane low``."""
    to, lane = rule.get("to"), rule.get("lane")
    if isinstance(to, list):
        to = ", ".join(NODE + name for name in to)
    parts = [to or "its subscribers", f"lane {lane}" if lane else ""]
    return f"{rule['category']} -> " + ", ".join(filter(None, parts))


def _all(words: tuple[str, ...], *, quoted: bool = False) -> str:
    return ", ".join(f'"{word}"' for word in words) if quoted else ", ".join(words)


_TABLE: Final = re.compile(r"^\s*(\[\[?)\s*([^\[\]]+?)\s*\]\]?\s*(#.*)?$")
_ASSIGNMENT: Final = re.compile(r"^\s*[\"']?([A-Za-z0-9_\-]+)[\"']?\s*=")


def _key_of(line: str) -> str | None:
    found = _ASSIGNMENT.match(line)
    return found[1] if found else None


def line_of(text: str, path: tuple[str, ...], number: int, key: str = "") -> int:
    """The line, from 1, of ``key`` in the table ``[[path]]`` that is the ``number``-th from 0.

    The line of the table where the key has none of its own; the line that begins with the
    last name of the path where the rules are written in line.
    """
    seen, found = -1, 0
    for line_number, line in enumerate(text.splitlines(), 1):
        if table := _TABLE.match(line):
            if found:
                return found
            names = tuple(part.strip().strip("\"'") for part in table[2].split("."))
            seen += names == path and table[1] == "[["
            if names == path and seen == number:
                found = line_number
        elif _key_of(line) == (key if found else path[-1]):
            return line_number
    return found or 1
