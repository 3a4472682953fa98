from .bayes_factors import (
    bayes_factor as bayes_factor,
    bayes_factor_of_t as bayes_factor_of_t,
)
from .ceiling_tests import (
    CeilingTest as CeilingTest,
    ceiling_test as ceiling_test,
)
from .ceilings import (
    ceiling_for_mean as ceiling_for_mean,
    ceiling_for_subjects as ceiling_for_subjects,
    noise_ceiling as noise_ceiling,
)
from .clusters import (
    ClusterTest as ClusterTest,
    cluster_test as cluster_test,
)
from .condition_influence import influence_of_conditions as influence_of_conditions
from .corrections import corrected as corrected
from .latencies import (
    Latency as Latency,
    latency as latency,
    latency_difference as latency_difference,
)
from .movies import (
    CrossTemporal as CrossTemporal,
    TimeCourses as TimeCourses,
    cross_temporal as cross_temporal,
    score_movie as score_movie,
)
from .p_values import format_p as format_p
from .partial_correlation import partial as partial
from .permutation import (
    PermutationTest as PermutationTest,
    mantel_test as mantel_test,
    sign_flip_test as sign_flip_test,
)
from .planning import (
    power as power,
    smallest_design as smallest_design,
)
