"""The supervisor: parent of the broker, the nodes and the sandbox. Standard library only.

``core`` decides (pure), ``loop`` carries out; `python -P -m shardctl.supervisor` runs it.
"""
