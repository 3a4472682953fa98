from .comparators import (
    Similarity as Similarity,
    cka as cka,
    corr as corr,
    corr_cov as corr_cov,
    cosine as cosine,
    cosine_cov as cosine_cov,
    resolve as resolve,
    rho_a as rho_a,
    soft_spearman as soft_spearman,
    spearman as spearman,
    tau_a as tau_a,
)
from .registry import SIMILARITIES as SIMILARITIES
