"""Readers of files for `brainrdl.read`, one module per layout.

Each module defines a reader in the way that anyone can: an object that follows the contract in `brainrdl.readers`,
listed in the entry-point group ``brainrdl.readers``. To write another reader, copy the most similar one, and run
``brainrdl.testing.check_reader`` on it.
"""
