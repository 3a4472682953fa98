from .ceilings import (
    ceiling_for_mean as ceiling_for_mean,
    ceiling_for_subjects as ceiling_for_subjects,
    noise_ceiling as noise_ceiling,
)
from .clusters import (
    ClusterTest as ClusterTest,
    cluster_test as cluster_test,
)
from .partial_correlation import partial as partial
from .permutation import (
    PermutationTest as PermutationTest,
    mantel_test as mantel_test,
    sign_flip_test as sign_flip_test,
)
