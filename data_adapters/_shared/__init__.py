"""What the readers share: text, tables, arrays, HDF5 and MATLAB files, and measurements.

Modules here check sizes before they read, and refuse files that are damaged; they know nothing about a data set.
"""
