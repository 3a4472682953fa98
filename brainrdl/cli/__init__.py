"""The command line: each command calls one function of the Python API, prints the result, and says where it is.

`app` holds the commands, `file_commands` those about files and data sets, `rdm_files` how they read RDMs, and `common`
the options, tables and figures that they share. Everything heavy is imported inside a command, when it is needed.
"""
