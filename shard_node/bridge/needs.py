"""What of disnake the bridge relies on, by name: asked for by ``check`` before anything runs.

Everything below that begins with an underscore, and every name that disnake does not
document, is relied on by the module named beside it.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Need(NamedTuple):
    """``owner`` must have the attribute ``name``."""

    owner: str
    name: str


class Sets(NamedTuple):
    """The function ``owner`` must set the instance attribute ``name``."""

    owner: str
    name: str


class Takes(NamedTuple):
    """The function ``owner`` must take a parameter ``name``."""

    owner: str
    name: str


_CLIENT = "disnake.client:Client"
_SHARDED = "disnake.shard:AutoShardedClient"
_SHARD = "disnake.shard:Shard"
_SOCKET = "disnake.gateway:DiscordWebSocket"
_STATE = "disnake.state:ConnectionState"
_COMMANDS = "disnake.ext.commands.interaction_bot_base:InteractionBotBase"

NEEDS: Final[tuple[Need | Sets | Takes, ...]] = (
    # install
    Need("disnake.shard", "DiscordWebSocket"),
    Need("disnake.shard", "Shard"),
    Need("disnake.http:Route", "BASE"),
    Need("disnake.asset:Asset", "BASE"),
    Need("disnake.asset:Asset", "BASE_MEDIA"),
    Need(_CLIENT, "login"),
    Need(_CLIENT, "before_identify_hook"),
    Need(_CLIENT, "_schedule_event"),
    Need(_SHARDED, "connect"),
    Need(_SHARDED, "close"),
    Need(_SHARDED, "launch_shards"),
    Need(_COMMANDS, "_sync_application_commands"),
    # gateway
    Need(_SOCKET, "IDENTIFY"),
    Need(_SOCKET, "HEARTBEAT"),
    Need(_SOCKET, "send_as_json"),
    Need(_SOCKET, "send_heartbeat"),
    Need(_SOCKET, "resume"),
    Need(_SOCKET, "open"),
    Need(_SOCKET, "close"),
    Need(_SOCKET, "latency"),
    Sets(f"{_SOCKET}.__init__", "session_id"),
    Sets(f"{_SOCKET}.__init__", "sequence"),
    Sets(f"{_SOCKET}.__init__", "resume_gateway"),
    Sets(f"{_SOCKET}.__init__", "socket"),
    Sets(f"{_SOCKET}.__init__", "_close_code"),
    Sets(f"{_SOCKET}.__init__", "_keep_alive"),
    Sets(f"{_SOCKET}.from_client", "_connection"),
    Sets(f"{_SOCKET}.from_client", "_discord_parsers"),
    Takes(f"{_SOCKET}.from_client", "gateway"),
    Takes(f"{_SOCKET}.from_client", "initial"),
    Takes(f"{_SOCKET}.from_client", "resume"),
    Takes(f"{_SOCKET}.from_client", "sequence"),
    Takes(f"{_SOCKET}.from_client", "session"),
    Takes(f"{_SOCKET}.from_client", "shard_id"),
    Need("disnake.gateway:ReconnectWebSocket", "__init__"),
    Need("disnake.gateway:KeepAliveHandler", "ack"),
    Sets("disnake.gateway:KeepAliveHandler.__init__", "_last_ack"),
    Sets("disnake.gateway:KeepAliveHandler.__init__", "_last_send"),
    Sets("disnake.gateway:KeepAliveHandler.__init__", "interval"),
    Sets("disnake.gateway:KeepAliveHandler.__init__", "ws"),
    Need(_SHARD, "_cancel_task"),
    Need(_SHARD, "_handle_disconnect"),
    Need(_SHARD, "disconnect"),
    Need(_SHARD, "launch"),
    Need(_SHARD, "reconnect"),
    Need(_SHARD, "reidentify"),
    Sets(f"{_SHARD}.__init__", "_client"),
    Sets(f"{_SHARD}.__init__", "_handled_exceptions"),
    Sets(f"{_SHARD}.__init__", "_queue_put"),
    Sets(f"{_SHARD}.__init__", "_reconnect"),
    Sets(f"{_SHARD}.__init__", "_task"),
    Sets(f"{_SHARD}.__init__", "ws"),
    # hold
    Need("disnake.shard:EventType", "resume"),
    Need("disnake.shard:EventType", "terminate"),
    Need("disnake.shard", "EventItem"),
    Need("disnake.client", "SessionStartLimit"),
    Need("disnake.http:HTTPClient", "get_bot_gateway"),
    Sets(f"{_SHARDED}.__init__", "_AutoShardedClient__shards"),
    Sets(f"{_SHARDED}.__init__", "_AutoShardedClient__queue"),
    Sets(f"{_SHARDED}.__init__", "shard_ids"),
    Sets("disnake.state:AutoShardedConnectionState.__init__", "shards_launched"),
    Sets("disnake.state:AutoShardedConnectionState.__init__", "shard_ids"),
    Sets(f"{_CLIENT}.__init__", "_connection"),
    # reports, witness
    Need(_STATE, "parse_ready"),
    Need(_STATE, "parse_resumed"),
    Need(_STATE, "parse_guild_create"),
    Need(_STATE, "parse_guild_delete"),
    Need(_STATE, "_remove_guild"),
    # feeds
    Need(_STATE, "_get_guild"),
    *(
        Need(_STATE, f"parse_{event}")
        for event in (
            "guild_member_add",
            "guild_member_update",
            "guild_member_remove",
            "guild_role_create",
            "guild_role_update",
            "guild_role_delete",
            "entitlement_create",
            "entitlement_update",
            "entitlement_delete",
        )
    ),
    Sets(f"{_STATE}.__init__", "parsers"),
    Sets(f"{_STATE}.__init__", "dispatch"),
    Sets(f"{_STATE}.clear", "_guilds"),
    Sets(f"{_STATE}.clear", "_voice_clients"),
    # tap, tracking, warm, keeping
    Need(_SOCKET, "log_receive"),
    Need(_SOCKET, "debug_log_receive"),
    Need(_CLIENT, "_run_event"),
    Need("disnake.ui.view:View", "_scheduled_task"),
    Need("disnake.ui.modal:Modal", "_scheduled_task"),
    Need(_STATE, "_add_guild_from_data"),
    Need(_STATE, "_get_create_guild"),
    Need(_STATE, "_guild_needs_chunking"),
    Need(_STATE, "chunk_guild"),
    Need(_STATE, "call_handlers"),
    Sets(f"{_STATE}.__init__", "_chunk_requests"),
    Sets(f"{_STATE}.__init__", "application_id"),
    Sets(f"{_STATE}.clear", "_users"),
    Sets(f"{_STATE}.parse_ready", "application_flags"),
    Sets(f"{_SHARDED}.__init__", "_get_client"),
    Sets(f"{_SOCKET}.from_client", "_connection"),
    Need("disnake.flags:ApplicationFlags", "_from_value"),
    Need("disnake.member:Member", "_presence_update"),
    Need("disnake.guild:Guild", "_add_member"),
    # lingering, passing, inject, loops
    Need(_CLIENT, "wait_for"),
    Need(_CLIENT, "_dispatch_gateway_error"),
    Need(_STATE, "store_view"),
    Need(_STATE, "store_modal"),
    Sets(f"{_CLIENT}.__init__", "_listeners"),
    Sets(f"{_STATE}.clear", "_view_store"),
    Sets(f"{_STATE}.clear", "_modal_store"),
    Sets("disnake.ui.view:ViewStore.__init__", "_views"),
    Sets("disnake.ui.modal:ModalStore.__init__", "_modals"),
    Need("disnake.ui.view:View", "is_persistent"),
    Need("disnake.ext.tasks:Loop", "start"),
    Sets("disnake.ext.tasks:Loop.__init__", "_handle"),
    # remote
    *(
        Need(_SOCKET, name)
        for name in (
            "PRESENCE",
            "VOICE_STATE",
            "REQUEST_MEMBERS",
            "request_chunks",
            "voice_state",
            "change_presence",
        )
    ),
    Need(_SHARDED, "_get_websocket"),
    Sets(f"{_SHARDED}.__init__", "_get_websocket"),
    # commands
    Sets(f"{_COMMANDS}.__init__", "_command_sync_flags"),
    Sets(f"{_COMMANDS}.__init__", "_sync_queued"),
    Sets(f"{_COMMANDS}.__init__", "_test_guilds"),
    Need(_COMMANDS, "_cache_application_commands"),
    Need(_COMMANDS, "_ordered_unsynced_commands"),
    Need("disnake.ext.commands.flags:CommandSyncFlags", "_sync_enabled"),
    Need("disnake.ext.commands.flags:CommandSyncFlags", "_from_value"),
    # execute: install, slash, prefix, stage, replies
    Need("disnake.http:HTTPClient", "get_member"),
    Takes("disnake.http:HTTPClient.request", "route"),
    Takes("disnake.http:HTTPClient.request", "form"),
    Takes("disnake.webhook.async_:AsyncWebhookAdapter.request", "multipart"),
    Takes("disnake.webhook.async_:AsyncWebhookAdapter.request", "payload"),
    Need("disnake.ext.commands.base_core:InvokableApplicationCommand", "_call_local_error_handler"),
    Need("disnake.ext.commands.core:Command", "dispatch_error"),
    Need("disnake.ext.commands.bot_base:BotBase", "get_context"),
    Sets(f"{_COMMANDS}.__init__", "all_slash_commands"),
    Need("disnake.user:BaseUser", "_to_minimal_user_json"),
    Sets("disnake.member:Member.__init__", "_user"),
    Sets("disnake.role:Role._update", "_secondary_color"),
    Sets("disnake.role:Role._update", "_tertiary_color"),
    Sets("disnake.role:Role._update", "_icon"),
    Sets("disnake.role:Role._update", "_emoji"),
    Sets("disnake.role:Role._update", "_flags"),
    # commands
    Sets(f"{_STATE}.clear", "_global_application_commands"),
    Sets(f"{_STATE}.clear", "_guild_application_commands"),
)
