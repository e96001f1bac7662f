"""Every operation, and who applies it. Literal, so that it can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from shard_node.state import (
    cooldowns,
    economy,
    erasing,
    guild_config,
    members,
    moderation,
    permissions,
    premium,
    rollback,
    sweeping,
    users,
    values,
)

AnyOp = (
    economy.Transfer
    | economy.Deposit
    | economy.Withdraw
    | economy.SetFloor
    | values.SetValue
    | values.DeleteValue
    | guild_config.UpdateConfig
    | guild_config.DeleteConfig
    | members.UpdateMember
    | members.DeleteMember
    | permissions.UpdatePermission
    | permissions.DeletePermission
    | users.UpdateUser
    | users.DeleteUser
    | premium.GrantPremium
    | premium.RevokePremium
    | cooldowns.AcquireCooldown
    | cooldowns.ClearCooldown
    | moderation.BanUser
    | moderation.UnbanUser
    | erasing.ForgetUser
    | rollback.Rollback
    | sweeping.Sweep
)

APPLY: Final[dict[type[Any], Callable[..., Any]]] = {
    economy.Transfer: economy.apply_transfer,
    economy.Deposit: economy.apply_deposit,
    economy.Withdraw: economy.apply_withdraw,
    economy.SetFloor: economy.apply_set_floor,
    values.SetValue: values.apply_set_value,
    values.DeleteValue: values.apply_delete_value,
    guild_config.UpdateConfig: guild_config.apply_update,
    guild_config.DeleteConfig: guild_config.apply_delete,
    members.UpdateMember: members.apply_update,
    members.DeleteMember: members.apply_delete,
    permissions.UpdatePermission: permissions.apply_update,
    permissions.DeletePermission: permissions.apply_delete,
    users.UpdateUser: users.apply_update,
    users.DeleteUser: users.apply_delete,
    premium.GrantPremium: premium.apply_grant,
    premium.RevokePremium: premium.apply_revoke,
    cooldowns.AcquireCooldown: cooldowns.apply_acquire,
    cooldowns.ClearCooldown: cooldowns.apply_clear,
    moderation.BanUser: moderation.apply_ban,
    moderation.UnbanUser: moderation.apply_unban,
    erasing.ForgetUser: erasing.apply_forget,
    rollback.Rollback: rollback.apply_rollback,
    sweeping.Sweep: sweeping.apply_sweep,
}

_BY_LOWER: Final = {kind.__name__.lower(): kind.__name__ for kind in APPLY}
KINDS: Final = tuple(sorted(_BY_LOWER.values()))
"""The names of all operations, as records of the log have them."""


def kind_of(text: str) -> str | None:
    """The operation that is meant, in whatever case; None for none."""
    return _BY_LOWER.get(text.lower())
