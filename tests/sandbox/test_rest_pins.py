from __future__ import annotations

import pytest

from tests.support.sandbox_client import Box, in_sandbox


@pytest.mark.parametrize("path", ["messages/pins", "pins"])
def test_pin_and_unpin(path: str) -> None:
    @in_sandbox()
    async def body(box: Box) -> None:
        base = f"/channels/{box.channel}"
        sent = [await box.call("POST", f"{base}/messages", {"content": "x"}) for _ in range(2)]
        message = sent[0].json["id"]
        async with box.gateway() as client:
            for _ in range(2):
                assert (await box.call("PUT", f"{base}/{path}/{message}")).status == 204
            assert (await client.until("MESSAGE_UPDATE"))["pinned"] is True
            told = await client.until("CHANNEL_PINS_UPDATE")
            assert told["channel_id"] == str(box.channel)
            found = (await box.call("GET", f"{base}/{path}")).json
            pinned = [i["message"] for i in found["items"]] if "messages" in path else found
            assert [each["id"] for each in pinned] == [message]
            assert (await box.call("DELETE", f"{base}/{path}/{message}")).status == 204
            assert (await client.until("MESSAGE_UPDATE"))["pinned"] is False
        assert (await box.call("PUT", f"{base}/{path}/1")).fault == (404, 10008)

    body()
