"""Readers of files for `brainrdl.read`, one module a layout.

A module here is what anyone's reader is: an object that keeps the contract in `brainrdl.readers`, named in the
entry-point group ``brainrdl.readers``. To write another, copy the nearest, and run
``brainrdl.testing.check_reader`` on it.
"""
