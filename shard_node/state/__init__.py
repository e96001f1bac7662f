"""What the fleet's shared state is: rows, keys, operations, and the pure ``apply``.

It runs alike on views of LMDB and on a dict; nothing here reads a clock or a file.
"""
