"""What crosses the socket: messages, lanes, targets, codec, limits.

Imports the standard library and msgspec only. The page shard-protocol(7) describes the
same bytes for clients in other languages.
"""
