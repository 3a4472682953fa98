from .channelwise import (
    braycurtis as braycurtis,
    canberra as canberra,
    chebyshev as chebyshev,
    cityblock as cityblock,
    hamming as hamming,
    jaccard as jaccard,
    pairwise as pairwise,
)
from .cross_validated import (
    correlation_cv as correlation_cv,
    euclidean_cv as euclidean_cv,
    is_reliable as is_reliable,
)
from .measures import (
    Crossnobis as Crossnobis,
    Dissimilarity as Dissimilarity,
    Mahalanobis as Mahalanobis,
    Poisson as Poisson,
    PoissonCV as PoissonCV,
    Traits as Traits,
    correlation as correlation,
    cosine as cosine,
    count_constant as count_constant,
    crossnobis as crossnobis,
    euclidean as euclidean,
    label_of as label_of,
    mahalanobis as mahalanobis,
    poisson as poisson,
    poisson_cv as poisson_cv,
    resolve as resolve,
    traits_of as traits_of,
)
from .pairs import (
    n_conditions_of as n_conditions_of,
    pair_indices as pair_indices,
    to_square as to_square,
)
from .registry import DISSIMILARITIES as DISSIMILARITIES
