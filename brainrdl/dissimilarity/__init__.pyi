from .measures import (
    CROSS_VALIDATED as CROSS_VALIDATED,
    Crossnobis as Crossnobis,
    Dissimilarity as Dissimilarity,
    Mahalanobis as Mahalanobis,
    Poisson as Poisson,
    PoissonCV as PoissonCV,
    correlation as correlation,
    cosine as cosine,
    count_constant as count_constant,
    crossnobis as crossnobis,
    euclidean as euclidean,
    mahalanobis as mahalanobis,
    poisson as poisson,
    poisson_cv as poisson_cv,
    resolve as resolve,
)
from .pairs import (
    n_conditions_of as n_conditions_of,
    pair_indices as pair_indices,
    to_square as to_square,
)
from .registry import DISSIMILARITIES as DISSIMILARITIES
