"""Errors, checks, files and shared constants: what every other room may use.

Nothing here knows about RDMs. `errors` and `constants` import no scientific library, so that the command line starts
quickly; `tensor_checks` needs torch. `files` reads and writes whole files or none, `terms` says what things are called
in figures and sentences, `registry` looks up functions by name without importing them.
"""
