"""Threads: made from a message or without one, joined, left, listed.

What is said in a thread goes by the routes of channels. Source: Discord documentation,
"Threads" and "Channel: Start Thread".
"""

from __future__ import annotations

from typing import Final

from shard_node.sandbox import changes, faults, payloads
from shard_node.sandbox.faults import ApiError
from shard_node.sandbox.payloads import Payload
from shard_node.sandbox.rest.call import Call, Reply, Route
from shard_node.sandbox.rest.guilds import check_name
from shard_node.sandbox.world import SandboxGuild

THREADS_MAX: Final = 1_000
"""Discord's limit of active threads in a guild."""


def start_thread(call: Call) -> Reply:
    """POST without a message: THREAD_CREATE."""
    return _start(call, call.state.world.snowflakes.next())


def start_from_message(call: Call) -> Reply:
    """POST under a message: the thread has its identifier. Raises 160004 for a second one."""
    return _start(call, call.message().id)


def _start(call: Call, thread_id: int) -> Reply:
    guild, parent_id = _text_channel(call)
    given = call.form()
    check_name(given.get("name"))
    if thread_id in guild.threads:
        raise ApiError(faults.THREAD_EXISTS)
    if len(guild.threads) >= THREADS_MAX:
        raise ApiError(faults.THREADS_FULL)
    now = payloads.timestamp(call.state.clock.wall_ms())
    owner_id = call.state.world.application_id
    thread = payloads.thread(thread_id, guild.id, parent_id, owner_id, str(given["name"]), now)
    thread["type"] = int(given.get("type") or payloads.PUBLIC_THREAD)
    call.dispatch(changes.create_thread(guild, thread), guild.id)
    return Reply(201, thread)


def _text_channel(call: Call) -> tuple[SandboxGuild, int]:
    channel, guild_id = call.channel()
    if guild_id is None or channel["type"] != payloads.TEXT:
        raise ApiError(faults.NOT_A_TEXT_CHANNEL)
    return call.state.world.guild(guild_id), int(channel["id"])


def join_or_leave(call: Call) -> Reply:
    """PUT or DELETE of a member: taken note of by nobody."""
    channel, _ = call.channel()
    if channel["type"] not in payloads.THREADS:
        raise ApiError(faults.UNKNOWN_CHANNEL)
    return Reply()


def list_active(call: Call) -> Payload:
    """GET a guild's threads that are not archived."""
    threads = [
        thread
        for thread in call.guild().threads.values()
        if not thread["thread_metadata"]["archived"]
    ]
    return {"threads": threads, "members": [], "has_more": False}


_MEMBER: Final = "/channels/{channel}/thread-members/{user}"
ROUTES: Final = (
    Route("POST", "/channels/{channel}/threads", start_thread),
    Route("POST", "/channels/{channel}/messages/{message}/threads", start_from_message),
    Route("PUT", _MEMBER, join_or_leave),
    Route("DELETE", _MEMBER, join_or_leave),
    Route("GET", "/guilds/{guild}/threads/active", list_active),
)
