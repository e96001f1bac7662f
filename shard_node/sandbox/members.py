"""Request Guild Members (op 8) and its answer in chunks. Pure.

Source: Discord's gateway events documentation, "Request Guild Members".
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from shard_node.sandbox import intents as intent
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.world import SandboxGuild

CHUNK_MEMBERS_MAX = 1_000
QUERY_MEMBERS_MAX = 100
USER_IDS_MAX = 100
NONCE_BYTES_MAX = 32


@dataclass(frozen=True, slots=True)
class MembersRequest:
    """A checked op 8. ``user_ids`` None asks by ``query`` (a prefix; empty is everybody)."""

    guild_id: int
    query: str
    limit: int
    user_ids: tuple[int, ...] | None
    presences: bool
    nonce: str | None

    @property
    def whole_list(self) -> bool:
        """Whether it asks for every member, which needs the GUILD_MEMBERS intent."""
        return self.user_ids is None and not self.query and self.limit == 0


def parse(data: dict[str, Any]) -> MembersRequest:
    """Check the ``d`` of an op 8. ValueError, TypeError: not what Discord takes."""
    guild_id = data["guild_id"]
    if isinstance(guild_id, list):
        (guild_id,) = guild_id
    user_ids = data.get("user_ids")
    if user_ids is None and not isinstance(data.get("query"), str):
        msg = "neither query nor user_ids"
        raise ValueError(msg)
    nonce = data.get("nonce")
    if not isinstance(nonce, str) or len(nonce.encode()) > NONCE_BYTES_MAX:
        nonce = None
    return MembersRequest(
        guild_id=int(guild_id),
        query=data.get("query") or "",
        limit=int(data.get("limit") or 0),
        user_ids=None if user_ids is None else _user_ids(user_ids),
        presences=bool(data.get("presences", False)),
        nonce=nonce,
    )


def _user_ids(given: Any) -> tuple[int, ...]:
    several = given if isinstance(given, list) else [given]
    if len(several) > USER_IDS_MAX:
        msg = f"over {USER_IDS_MAX} user_ids"
        raise ValueError(msg)
    return tuple(int(user_id) for user_id in several)


def permitted(request: MembersRequest, intents: int) -> bool:
    """Whether a session's intents allow the request; Discord leaves others unanswered."""
    if request.whole_list and not intents & intent.GUILD_MEMBERS:
        return False
    return not request.presences or bool(intents & intent.GUILD_PRESENCES)


def chunks(guild: SandboxGuild, request: MembersRequest) -> list[Payload]:
    """The GUILD_MEMBERS_CHUNK payloads that answer a request: at least one."""
    found = sorted(_found(guild, request))
    parts = [found[i : i + CHUNK_MEMBERS_MAX] for i in range(0, len(found), CHUNK_MEMBERS_MAX)]
    parts = parts or [[]]
    return [_chunk(guild, request, part, i, len(parts)) for i, part in enumerate(parts)]


def _found(guild: SandboxGuild, request: MembersRequest) -> list[int]:
    if request.user_ids is not None:
        return [i for i in dict.fromkeys(request.user_ids) if i in guild.members]
    if request.whole_list:
        return list(guild.members)
    limit = min(request.limit or QUERY_MEMBERS_MAX, QUERY_MEMBERS_MAX)
    prefix = request.query.casefold()
    return [i for i, member in guild.members.items() if _matches(member, prefix)][:limit]


def _matches(member: Payload, prefix: str) -> bool:
    names = (member["user"]["username"], member.get("nick") or "")
    return any(name.casefold().startswith(prefix) for name in names)


def _chunk(
    guild: SandboxGuild, request: MembersRequest, part: list[int], index: int, count: int
) -> Payload:
    payload: Payload = {
        "guild_id": str(guild.id),
        "members": [guild.members[i] for i in part],
        "chunk_index": index,
        "chunk_count": count,
    }
    if request.user_ids is not None and index == 0:
        payload["not_found"] = [str(i) for i in request.user_ids if i not in guild.members]
    if request.presences:
        payload["presences"] = [guild.presences[i] for i in part if i in guild.presences]
    if request.nonce is not None:
        payload["nonce"] = request.nonce
    return payload
