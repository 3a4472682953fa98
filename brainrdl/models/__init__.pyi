from .axes import Axes as Axes
from .feature_cache import (
    FeatureStore as FeatureStore,
    MemoryStore as MemoryStore,
    ShardStore as ShardStore,
    digest_network as digest_network,
    key_of as key_of,
)
from .fitted import (
    FittedWeights as FittedWeights,
    build_fitted as build_fitted,
    fitted_student as fitted_student,
    read_fitted as read_fitted,
)
from .gradients import gradient_problems as gradient_problems
from .layer_table import describe_layers as describe_layers
from .layers import (
    Captured as Captured,
    capture as capture,
    check_layers as check_layers,
    layer_names as layer_names,
    read_layers as read_layers,
)
from .networks import (
    Network as Network,
    build as build,
    known_names as known_names,
)
from .pooling import (
    pool_patterns as pool_patterns,
    possible_pools as possible_pools,
)
from .pools import (
    POOLS as POOLS,
    check_pool as check_pool,
)
from .readout import (
    Readout as Readout,
    ReadoutHead as ReadoutHead,
    check_groups as check_groups,
    readouts_of as readouts_of,
)
from .student import (
    Student as Student,
    StudentOutput as StudentOutput,
)
from .trained_on import TrainedOn as TrainedOn
from .weights import load_weights as load_weights
