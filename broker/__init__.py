"""The daemon in the middle of a fleet.

``core`` and ``services`` are pure: events and a time in, effects out. ``ports`` are the thin
shells around sockets, the supervisor, the store and Discord's REST; ``daemon`` is the loop.
"""
