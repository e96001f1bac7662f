"""The durable state of a fleet: LMDB environments, one writer thread each, group commit.

The broker's own records: ``store.records`` says what is kept (no lmdb in it, so that pure code
may name it), ``store.environment`` keeps it, ``store.writer`` groups what waits into one commit.

The state that shards share, in an environment of its own: ``store.state`` reads, and
``store.statewriter`` commits what ``shard_node.state`` computed. While a broker runs:
``store.snapshot`` (hot copies), ``store.trim`` (the log behind one), ``store.statestats``.
While none runs: ``store.check`` and ``store.replay``, ``snapshot.restore``, ``store.partitions``
(import), all behind the broker's lock (``store.offline``).
"""
