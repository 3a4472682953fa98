"""M/EEG and recordings of neurons: MNE, NWB, plain HDF5, and BrainIO's NetCDF."""
