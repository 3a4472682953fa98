"""Errors, checks, files and shared constants: what every other room may use.

Nothing here computes with RDMs. `errors`, `constants`, `rows` (the roles of rows in score tables) and `options` (an
option that is written once becomes checks, signatures and text) import no scientific library, so that the command line
starts quickly; `tensor_checks` needs torch. `threads` sets the number of threads by the size of the work, `files` reads
and writes whole files or none, and `advice` words a refusal for its reader.
"""
