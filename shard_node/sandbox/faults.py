"""Discord's REST errors that the sandbox gives, one literal row each.

Source: Discord documentation, "Opcodes and Status Codes: JSON".
"""

from __future__ import annotations

from typing import Any, Final, NamedTuple


class Fault(NamedTuple):
    """HTTP status, JSON code and message."""

    status: int
    code: int
    message: str


NOT_FOUND: Final = Fault(404, 0, "404: Not Found")
UNAUTHORIZED: Final = Fault(401, 0, "401: Unauthorized")
UNKNOWN_CHANNEL: Final = Fault(404, 10003, "Unknown Channel")
UNKNOWN_GUILD: Final = Fault(404, 10004, "Unknown Guild")
UNKNOWN_MEMBER: Final = Fault(404, 10007, "Unknown Member")
UNKNOWN_MESSAGE: Final = Fault(404, 10008, "Unknown Message")
UNKNOWN_ROLE: Final = Fault(404, 10011, "Unknown Role")
UNKNOWN_USER: Final = Fault(404, 10013, "Unknown User")
UNKNOWN_EMOJI: Final = Fault(404, 10014, "Unknown Emoji")
UNKNOWN_WEBHOOK: Final = Fault(404, 10015, "Unknown Webhook")
UNKNOWN_BAN: Final = Fault(404, 10026, "Unknown Ban")
UNKNOWN_INTERACTION: Final = Fault(404, 10062, "Unknown interaction")
UNKNOWN_COMMAND: Final = Fault(404, 10063, "Unknown application command")
UNKNOWN_COMMAND_PERMISSIONS: Final = Fault(404, 10066, "Unknown application command permissions")
WEBHOOKS_FULL: Final = Fault(400, 30007, "Maximum number of webhooks reached (15)")
COMMANDS_FULL: Final = Fault(400, 30032, "Maximum number of application commands reached (100)")
TOO_LARGE: Final = Fault(413, 40005, "Request entity too large")
ALREADY_ACKNOWLEDGED: Final = Fault(400, 40060, "Interaction has already been acknowledged.")
MISSING_ACCESS: Final = Fault(403, 50001, "Missing Access")
NOT_YOUR_MESSAGE: Final = Fault(403, 50005, "Cannot edit a message authored by another user")
EMPTY_MESSAGE: Final = Fault(400, 50006, "Cannot send an empty message")
NOT_A_TEXT_CHANNEL: Final = Fault(400, 50008, "Cannot send messages in a non-text channel")
MISSING_PERMISSIONS: Final = Fault(403, 50013, "Missing Permissions")
INVALID_WEBHOOK_TOKEN: Final = Fault(401, 50027, "Invalid Webhook Token")
INVALID_ROLE: Final = Fault(400, 50028, "Invalid Role")
INVALID_FORM: Final = Fault(400, 50035, "Invalid Form Body")
INVALID_API_VERSION: Final = Fault(400, 50041, "Invalid API version")
THREAD_EXISTS: Final = Fault(400, 160004, "A thread has already been created for this message")
THREADS_FULL: Final = Fault(400, 160006, "Maximum number of active threads reached")
INVALID_JSON: Final = Fault(400, 50109, "The request body contains invalid JSON.")


class ApiError(Exception):
    """Ends a request with a fault; ``errors`` names the fields of an invalid form."""

    def __init__(self, fault: Fault, errors: dict[str, Any] | None = None) -> None:
        super().__init__(fault.message)
        self.fault = fault
        self.errors = errors

    def body(self) -> dict[str, Any]:
        """Discord's error object."""
        body: dict[str, Any] = {"message": self.fault.message, "code": self.fault.code}
        if self.errors is not None:
            body["errors"] = self.errors
        return body


def invalid_field(name: str, code: str, message: str) -> ApiError:
    """50035 with one field's complaint, in Discord's nested form."""
    return ApiError(INVALID_FORM, {name: {"_errors": [{"code": code, "message": message}]}})
