"""What the readers share: text, tables, arrays, HDF5 and MATLAB files, and measurements.

Modules here read bytes within bounds and refuse what is damaged; they know nothing about a particular format.
"""
