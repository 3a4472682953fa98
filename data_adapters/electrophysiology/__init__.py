"""M/EEG and recordings from neurons: MNE, NWB, plain HDF5, and NetCDF of BrainIO."""
