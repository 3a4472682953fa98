from .feature_cache import (
    FeatureStore as FeatureStore,
    FolderStore as FolderStore,
    MemoryStore as MemoryStore,
    digest_network as digest_network,
    key_of as key_of,
)
from .layers import (
    Captured as Captured,
    capture as capture,
    check_layers as check_layers,
    describe_layers as describe_layers,
    gradient_problems as gradient_problems,
    layer_names as layer_names,
    read_layers as read_layers,
)
from .networks import (
    Network as Network,
    build as build,
    known_names as known_names,
)
from .readout import (
    POOLS as POOLS,
    Readout as Readout,
    ReadoutHead as ReadoutHead,
    check_groups as check_groups,
    pool_patterns as pool_patterns,
    readouts_of as readouts_of,
)
from .student import (
    Student as Student,
    StudentOutput as StudentOutput,
)
from .weights import load_weights as load_weights
