"""The daemon's thin shells: sockets, supervisor, store, Discord's REST, folders, logs."""
