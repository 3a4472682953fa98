"""RDMs and patterns in files of arrays: NumPy, MATLAB, HDF5 of rsatoolbox, and activations of networks."""
