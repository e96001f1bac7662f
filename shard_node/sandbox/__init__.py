"""A strict stand-in for Discord on 127.0.0.1: gateway and REST, API v10.

It serves any library, enforces the rules that Discord enforces, plays users, audits what a
bot answers and makes trouble on command. ``python -m shard_node.sandbox`` runs it alone.

Pure cores (no input, output or clock of their own): ``snowflake``, ``payloads``, ``world``,
``intents``, ``gate``, ``session``, ``protocol``, ``members``. Shells: ``gateway``,
``trouble``, ``server``, ``__main__``. Nothing in this package imports another package of the
project, nor a Discord library.
"""
