"""The command line: each command calls one function of the Python API, prints the result, and says where it is.

`app` defines the commands, `file_commands` those about files and data sets, `rsa_command` plain RSA,
`searchlight_command` the searchlight, and `power_command` the one that plans a study. `rdm_files` reads RDMs for them,
`common` has the options, tables and figures that they share, `summary_tables` prints the scores of a student,
`spelling` says how messages spell an option, and `completion` what the shell completes. Everything heavy is imported
inside a command, when it is needed, and `late_imports` defers what rsatoolbox would load for figures.
"""
