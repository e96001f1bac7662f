import pytest

from shard_node.sandbox.config import ConfigError, SandboxConfig


@pytest.mark.parametrize(
    ("name", "value"),
    [("port", 70_000), ("guilds", -1), ("shards", 0), ("max_concurrency", 0), ("seed", -1)],
)
def test_a_setting_out_of_range_is_named(name: str, value: int) -> None:
    with pytest.raises(ConfigError, match=rf"{name} is {value}; it must lie between"):
        SandboxConfig(**{name: value})


def test_defaults_are_discords() -> None:
    config = SandboxConfig()
    assert (config.identify_window_s, config.session_starts_total) == (5.0, 1_000)
    assert (config.sends_max, config.sends_window_s) == (120, 60.0)
