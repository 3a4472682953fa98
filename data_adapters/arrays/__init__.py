"""RDMs and patterns in files of arrays: NumPy, MATLAB, rsatoolbox's HDF5, and activations of networks."""
