"""Every operation, and who applies it. Literal, so that it can be read."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from shard_node.state import economy, rollback, values

AnyOp = (
    economy.Transfer
    | economy.Deposit
    | economy.Withdraw
    | economy.SetFloor
    | values.SetValue
    | values.DeleteValue
    | rollback.Rollback
)

APPLY: Final[dict[type[Any], Callable[..., Any]]] = {
    economy.Transfer: economy.apply_transfer,
    economy.Deposit: economy.apply_deposit,
    economy.Withdraw: economy.apply_withdraw,
    economy.SetFloor: economy.apply_set_floor,
    values.SetValue: values.apply_set_value,
    values.DeleteValue: values.apply_delete_value,
    rollback.Rollback: rollback.apply_rollback,
}
