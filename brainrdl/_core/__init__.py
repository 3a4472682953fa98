"""Errors, checks, files and shared constants: what every other room may use.

Nothing here computes with RDMs. `errors`, `constants` and `rows` (the roles of rows in score tables) import no
scientific library, so that the command line starts quickly; `tensor_checks` needs torch. `files` reads and writes whole
files or none, `advice` words a refusal for its reader.
"""
