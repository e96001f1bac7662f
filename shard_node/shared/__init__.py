"""The fleet's shared state as a bot's author uses it, and what carries it to and fro.

``backend`` says what the rest needs of a state: ``fleet`` has the broker's, ``alone`` one in
this process's memory. ``submit`` sends transactions, ``reader`` reads LMDB, ``replica`` keeps
rows where LMDB cannot be read, ``deltas`` tells of changes. The other modules are the
primitives.
"""
