"""The durable state of a fleet: one LMDB environment, one writer thread, group commit.

``store.records`` says what is kept (no lmdb in it, so that pure code may name it);
``store.environment`` keeps it; ``store.writer`` groups what waits into one commit.
"""
