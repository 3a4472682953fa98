from .comparators import (
    cka as cka,
    corr as corr,
    corr_cov as corr_cov,
    cosine as cosine,
    cosine_cov as cosine_cov,
    label_of as label_of,
    resolve as resolve,
    rho_a as rho_a,
    soft_spearman as soft_spearman,
    spearman as spearman,
    tau_a as tau_a,
    tau_b as tau_b,
)
from .kernels import (
    bures as bures,
    bures_metric as bures_metric,
    cka_rbf as cka_rbf,
    cka_unbiased as cka_unbiased,
    riemannian as riemannian,
    rv as rv,
)
from .registry import SIMILARITIES as SIMILARITIES
from .shapes import (
    procrustes as procrustes,
    shape_distance as shape_distance,
)
from .traits import (
    Reference as Reference,
    Similarity as Similarity,
    Traits as Traits,
    comparator as comparator,
)
