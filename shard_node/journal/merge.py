"""Changes of a guild brought into its raw payload, as the library's parsers do with its objects.

For the cleaning of segments alone: caches are fed by the parsers themselves. What a whole guild
has no place for (members of threads, members that a voice state brought) stays beside it as
events, ``RawGuild.rest``; so do a change that is not known and all that come after it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

import msgspec

from shard_node.journal.tables import Payload, Table, Tables, decode, encode

_DRAWN_AS_VOICE: Final = (2, 13)
"""Channel types whose scheduled events go with them."""
_USER_KEYS: Final = (
    "username", "discriminator", "global_name", "avatar", "avatar_decoration_data",
    "public_flags", "collectibles", "primary_guild",
)  # fmt: skip
_MEMBER_KEYS: Final = (
    "premium_since", "avatar", "banner", "communication_disabled_until", "avatar_decoration_data",
)  # fmt: skip
_KEPT: Final = ("channels", "members", "presences", "threads", "voice_states")
"""What a GUILD_UPDATE adds to and does not replace."""
_KEPT_IF_ABSENT: Final = ("guild_scheduled_events", "member_count", "stage_instances")


class RawGuild:
    """A guild's payload, open for changes. ``raw`` is its JSON, ``own_id`` the bot's user."""

    def __init__(self, raw: bytes, own_id: str) -> None:
        self.tables = Tables(raw)
        self._own_id = own_id
        self._thread_members = dict[str, Table]()
        self._voices = Table()
        self._unknown = list[tuple[str, Payload]]()
        self.id = str(self.tables.value("id"))

    def merge(self, event: str, data: Payload) -> bool:
        """Bring a change in. False: not known; it and all later ones are in ``rest``."""
        act = _ACTS.get(event)
        if act is not None and not self._unknown:
            act(self, data)
            return True
        self._unknown.append((event, data))
        return False

    def whole(self) -> bytes:
        """The guild as JSON."""
        return self.tables.whole()

    def rest(self) -> list[bytes]:
        """Texts of events to be fed after ``whole``, in this order."""
        events = list[tuple[str, Payload]]()
        for thread, members in self._thread_members.items():
            ids = {"guild_id": self.id, "id": thread, "member_count": len(members)}
            if members and thread in self._table("threads"):
                added = {"added_members": list(members.values())}
                events.append(("THREAD_MEMBERS_UPDATE", ids | added))
        events += (("VOICE_STATE_UPDATE", data) for data in self._voices.values())
        events += self._unknown
        return [encode({"op": 0, "t": event, "s": 0, "d": data}) for event, data in events]

    def _table(self, name: str) -> Table:
        return self.tables.table(name)

    def _sounds(self) -> list[Payload]:
        return self.tables.value("soundboard_sounds") or []

    def _count(self, change: int) -> None:
        count = self.tables.value("member_count")
        if count is not None:
            self.tables.put(member_count=count + change)

    # -- The guild itself

    def _create(self, data: Payload) -> None:
        unavailable = data.get("unavailable")
        if unavailable is False:
            self._update(data)
        elif unavailable is None:  # joined anew: the library makes another object
            self.tables.replace(data, ())
            self._thread_members, self._voices = {}, {}

    def _update(self, data: Payload) -> None:
        for name in _KEPT_IF_ABSENT:
            if data.get(name) is None and self.tables.value(name) is not None:
                data = {**data, name: self.tables.value(name)}
        self.tables.replace(data, _KEPT)
        for member in data.get("members") or ():
            self._put_member(member)
        for presence in data.get("presences") or ():
            if str(presence["user"]["id"]) in self._table("members"):
                self._table("presences")[str(presence["user"]["id"])] = presence
        for channel in data.get("channels") or ():
            self._channel_create(channel)
        for thread in data.get("threads") or ():
            self._put_thread(thread)
        for state in data.get("voice_states") or ():
            self._put_voice(state)

    def _delete(self, data: Payload) -> None:
        if data.get("unavailable"):
            self.tables.put(unavailable=True)

    # -- Channels and threads

    def _channel_create(self, data: Payload) -> None:
        self._table("channels")[str(data["id"])] = data

    def _channel_update(self, data: Payload) -> None:
        old = self._table("channels").get(str(data["id"]))
        if old is not None:
            self._table("channels")[str(data["id"])] = {"type": old["type"], **data}

    def _channel_delete(self, data: Payload) -> None:
        gone = self._table("channels").pop(str(data["id"]), None)
        if gone is not None and gone["type"] in _DRAWN_AS_VOICE:
            events = self._table("guild_scheduled_events")
            for key in [key for key, one in events.items() if _same(one.get("channel_id"), data)]:
                del events[key]

    def _channel_pins_update(self, data: Payload) -> None:
        channel = str(data["channel_id"])
        found = self._table("channels").get(channel) or self._table("threads").get(channel)
        if found is not None:
            found["last_pin_timestamp"] = data.get("last_pin_timestamp")

    def _put_thread(self, data: Payload) -> None:
        self._table("threads")[str(data["id"])] = data
        self._thread_members.pop(str(data["id"]), None)

    def _thread_create(self, data: Payload) -> None:
        known = str(data["id"]) in self._table("threads")
        self._put_thread(data)
        parent = self._table("channels").get(str(data["parent_id"]))
        if not known and data.get("newly_created") and parent and parent["type"] in (15, 16):
            parent["last_message_id"] = data["id"]

    def _thread_update(self, data: Payload) -> None:
        old = self._table("threads").get(str(data["id"]))
        if old is None:
            self._put_thread(data)
            return
        old["rate_limit_per_user"] = data.get("rate_limit_per_user", 0)
        old["flags"] = data.get("flags", 0)
        old["applied_tags"] = data.get("applied_tags", [])
        old.update((key, data[key]) for key in ("name", "thread_metadata") if key in data)

    def _thread_delete(self, data: Payload) -> None:
        self._table("threads").pop(str(data["id"]), None)
        self._thread_members.pop(str(data["id"]), None)

    def _thread_list_sync(self, data: Payload) -> None:
        threads = self._table("threads")
        parents = set(map(str, data["channel_ids"])) if "channel_ids" in data else None
        for key, one in list(threads.items()):
            if parents is None or str(one["parent_id"]) in parents:
                del threads[key]
                self._thread_members.pop(key, None)
        synced = {str(one["id"]) for one in data.get("threads") or ()}
        for one in data.get("threads") or ():
            self._put_thread(one)
        for member in data.get("members") or ():
            if str(member["id"]) in synced:
                self._add_thread_member(str(member["id"]), member)

    def _thread_member_update(self, data: Payload) -> None:
        thread = self._table("threads").get(str(data["id"]))
        if thread is not None:
            thread["member"] = data

    def _thread_members_update(self, data: Payload) -> None:
        key = str(data["id"])
        thread = self._table("threads").get(key)
        if thread is None:
            return
        for member in data.get("added_members") or ():
            if str(member.get("user_id", self._own_id)) == self._own_id:
                thread["member"] = member
            else:
                self._add_thread_member(key, member)
        for gone in data.get("removed_member_ids") or ():
            if str(gone) != self._own_id:
                self._thread_members.get(key, {}).pop(str(gone), None)

    def _add_thread_member(self, thread: str, member: Payload) -> None:
        user = str(member.get("user_id", self._own_id))
        self._thread_members.setdefault(thread, {})[user] = member

    # -- Members

    def _put_member(self, member: Payload) -> None:
        """In place of what was there: a member that is made anew is offline."""
        user = str(member["user"]["id"])
        self._table("members")[user] = member
        self._table("presences").pop(user, None)

    def _member_add(self, data: Payload) -> None:
        self._put_member(data)
        self._count(1)

    def _member_remove(self, data: Payload) -> None:
        user = str(data["user"]["id"])
        self._count(-1)
        self._table("members").pop(user, None)
        self._table("presences").pop(user, None)

    def _member_update(self, data: Payload) -> None:
        old = self._table("members").get(str(data["user"]["id"]))
        if old is None:
            self._put_member(data)
            return
        old.update((key, data.get(key)) for key in _MEMBER_KEYS)
        old.update((key, data[key]) for key in ("nick", "pending") if key in data)
        old["roles"], old["flags"] = data["roles"], data.get("flags", 0)
        _update_user(old["user"], data["user"])

    def _presence_update(self, data: Payload) -> None:
        user = str(data["user"]["id"])
        member = self._table("members").get(user)
        if member is not None:
            self._table("presences")[user] = data
            if len(data["user"]) > 1:
                _update_user(member["user"], data["user"])

    def _members_chunk(self, data: Payload) -> None:
        members = self._table("members")
        presences = {str(one["user"]["id"]): one for one in data.get("presences") or ()}
        for member in data.get("members") or ():
            user = str(member["user"]["id"])
            if user not in members or members[user].get("joined_at") is None:
                self._put_member(member)
                if user in presences:
                    self._table("presences")[user] = presences[user]

    def _voice_state_update(self, data: Payload) -> None:
        self._put_voice(data)
        user = str(data["user_id"])
        self._voices.pop(user, None)
        if data.get("channel_id") is not None and "member" in data:
            # Whether such a member is kept is a setting of the bot's: the parser decides.
            self._voices[user] = data
            if user not in self._table("members"):
                self._put_member(data["member"])

    def _put_voice(self, data: Payload) -> None:
        states, user = self._table("voice_states"), str(data["user_id"])
        channel = data.get("channel_id")
        if (channel is None or str(channel) not in self._table("channels")) and user in states:
            del states[user]
        else:
            states[user] = data

    # -- Roles and what is small

    def _role_create(self, data: Payload) -> None:
        roles = self._table("roles")
        for key, role in roles.items():
            role["position"] = role.get("position", 0) + (key != self.id)
        roles[str(data["role"]["id"])] = data["role"]

    def _role_delete(self, data: Payload) -> None:
        gone = self._table("roles").pop(str(data["role_id"]), None)
        if gone is not None:
            for role in self._table("roles").values():
                place = role.get("position", 0)
                role["position"] = place - (place > gone.get("position", 0))

    def _role_update(self, data: Payload) -> None:
        role = data["role"]
        if str(role["id"]) in self._table("roles"):
            self._table("roles")[str(role["id"])] = role

    def _sound_create(self, data: Payload) -> None:
        self._put_sounds((*self._sounds(), data))

    def _sound_update(self, data: Payload) -> None:
        self._put_sounds(
            data if _same(one["sound_id"], data, "sound_id") else one for one in self._sounds()
        )

    def _sound_delete(self, data: Payload) -> None:
        self._put_sounds(
            one for one in self._sounds() if not _same(one["sound_id"], data, "sound_id")
        )

    def _put_sounds(self, sounds: Iterable[Payload]) -> None:
        self.tables.put(soundboard_sounds=list(sounds))


def _update_user(user: Payload, new: Payload) -> None:
    if "username" in new:
        user.update((key, new.get(key, 0 if key == "public_flags" else None)) for key in _USER_KEYS)


def _same(value: object, data: Payload, key: str = "id") -> bool:
    return str(value) == str(data[key])


def _replaces(*keys: str) -> Callable[[RawGuild, Payload], None]:
    def act(guild: RawGuild, data: Payload) -> None:
        guild.tables.put(**{key: data[key] for key in keys})

    return act


def _puts(table: str) -> Callable[[RawGuild, Payload], None]:
    def act(guild: RawGuild, data: Payload) -> None:
        guild.tables.table(table)[str(data["id"])] = data

    return act


def _puts_known(table: str) -> Callable[[RawGuild, Payload], None]:
    def act(guild: RawGuild, data: Payload) -> None:
        if str(data["id"]) in guild.tables.table(table):
            guild.tables.table(table)[str(data["id"])] = data

    return act


def _drops(table: str) -> Callable[[RawGuild, Payload], None]:
    def act(guild: RawGuild, data: Payload) -> None:
        guild.tables.table(table).pop(str(data["id"]), None)

    return act


_ACTS: Final[dict[str, Callable[[RawGuild, Payload], None]]] = {
    "CHANNEL_CREATE": RawGuild._channel_create,
    "CHANNEL_DELETE": RawGuild._channel_delete,
    "CHANNEL_PINS_UPDATE": RawGuild._channel_pins_update,
    "CHANNEL_UPDATE": RawGuild._channel_update,
    "GUILD_CREATE": RawGuild._create,
    "GUILD_DELETE": RawGuild._delete,
    "GUILD_EMOJIS_UPDATE": _replaces("emojis"),
    "GUILD_MEMBERS_CHUNK": RawGuild._members_chunk,
    "GUILD_MEMBER_ADD": RawGuild._member_add,
    "GUILD_MEMBER_REMOVE": RawGuild._member_remove,
    "GUILD_MEMBER_UPDATE": RawGuild._member_update,
    "GUILD_ROLE_CREATE": RawGuild._role_create,
    "GUILD_ROLE_DELETE": RawGuild._role_delete,
    "GUILD_ROLE_UPDATE": RawGuild._role_update,
    "GUILD_SCHEDULED_EVENT_CREATE": _puts("guild_scheduled_events"),
    "GUILD_SCHEDULED_EVENT_DELETE": _drops("guild_scheduled_events"),
    "GUILD_SCHEDULED_EVENT_UPDATE": _puts_known("guild_scheduled_events"),
    "GUILD_SOUNDBOARD_SOUNDS_UPDATE": _replaces("soundboard_sounds"),
    "GUILD_SOUNDBOARD_SOUND_CREATE": RawGuild._sound_create,
    "GUILD_SOUNDBOARD_SOUND_DELETE": RawGuild._sound_delete,
    "GUILD_SOUNDBOARD_SOUND_UPDATE": RawGuild._sound_update,
    "GUILD_STICKERS_UPDATE": _replaces("stickers"),
    "GUILD_UPDATE": RawGuild._update,
    "PRESENCE_UPDATE": RawGuild._presence_update,
    "STAGE_INSTANCE_CREATE": _puts("stage_instances"),
    "STAGE_INSTANCE_DELETE": _drops("stage_instances"),
    "STAGE_INSTANCE_UPDATE": _puts_known("stage_instances"),
    "THREAD_CREATE": RawGuild._thread_create,
    "THREAD_DELETE": RawGuild._thread_delete,
    "THREAD_LIST_SYNC": RawGuild._thread_list_sync,
    "THREAD_MEMBERS_UPDATE": RawGuild._thread_members_update,
    "THREAD_MEMBER_UPDATE": RawGuild._thread_member_update,
    "THREAD_UPDATE": RawGuild._thread_update,
    "VOICE_STATE_UPDATE": RawGuild._voice_state_update,
}


class _Text(msgspec.Struct):
    t: str
    d: msgspec.Raw


_decode_text: Final = msgspec.json.Decoder(_Text).decode


def merged(first: bytes, whole: bool, changes: Iterable[bytes], own_id: str) -> RawGuild:
    """A guild from its first piece (``whole``: the JSON of a guild, else the text of its
    GUILD_CREATE) and the texts of the changes after it. Raises ValueError, KeyError, TypeError
    for what is none."""
    guild = RawGuild(first if whole else bytes(_decode_text(first).d), own_id)
    for text in changes:
        told = _decode_text(text)
        guild.merge(told.t, decode(told.d))
    return guild
