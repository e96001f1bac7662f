"""What waits for its commit lies over what is durable, for scans as well."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from broker.core.overlay import Overlay
from broker.core.stateport import MemoryPort

keys = st.binary(min_size=2, max_size=3).map(lambda key: bytes(byte % 3 for byte in key))
changes = st.dictionaries(keys, st.none() | st.binary(max_size=1), max_size=8)
steps = st.lists(changes | st.sampled_from(["seal", "scan"]), max_size=20)


@given(changes, steps, keys, st.just(b"") | keys)
def test_a_scan_sees_all_layers_as_one(
    durable: dict, steps: list, prefix: bytes, after: bytes
) -> None:
    port = MemoryPort()
    port.view.write(durable)
    overlay = Overlay(port)
    rows = dict(durable)
    for step in [*steps, "scan"]:
        if step == "seal":
            overlay.seal()
        elif step == "scan":
            wanted = sorted(
                (key, row)
                for key, row in rows.items()
                if row is not None and key.startswith(prefix) and key > after
            )
            assert list(overlay.scan(prefix, after)) == wanted
        else:
            overlay.layer.writes.update(step)
            rows |= step
