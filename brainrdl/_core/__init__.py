"""Errors, checks, files and shared constants: what every other room may use.

Nothing here knows about RDMs. `errors`, `constants` and `options` (an option that is written once becomes checks,
signatures and text) import no scientific library, so that the command line starts quickly; `tensor_checks` needs torch.
`threads` sets the number of threads by the size of the work, and `files` reads and writes whole files or none.
`terms` says what things are called in figures and sentences, `advice` words a refusal for its reader.
"""
