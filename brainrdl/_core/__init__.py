"""Errors, checks, files and shared constants, which every other room may use.

Nothing here computes with RDMs. Some modules import no scientific library, so that the command line starts quickly:
`errors`, `constants`, `rows` (the roles of rows in score tables), `registry` (functions by name, imported when they
are used), `factories` (functions of a user's own package) and `options` (an option that is defined once gives
checks, signatures and text). `given_values` reads numbers and names in whatever type they come. `tensor_checks`
needs torch, and so does `random_numbers`, which seeds global generators. `threads` sets the number of threads from
the size of the work, `files` reads and writes files safely, `packed` limits what a compressed file may unpack to,
`progress` shows how long slow work will take, `locks` keeps two processes from writing into one folder, and
`signals` ends a process that is asked to stop.
"""
