from .combinations import (
    Combination as Combination,
    FixedModel as FixedModel,
    InterpolatedModel as InterpolatedModel,
    SelectModel as SelectModel,
    WeightedModel as WeightedModel,
    fit_weights as fit_weights,
)
from .partitioning import partition_variance as partition_variance
from .protocol import (
    FittedModel as FittedModel,
    RDMModel as RDMModel,
)
from .regression import (
    coefficients as coefficients,
    regress as regress,
)
from .reweighting import (
    Reweighted as Reweighted,
    ReweightedModel as ReweightedModel,
    reweight as reweight,
)
