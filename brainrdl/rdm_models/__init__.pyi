from .combinations import (
    Combination as Combination,
    FixedModel as FixedModel,
    InterpolatedModel as InterpolatedModel,
    SelectModel as SelectModel,
    WeightedModel as WeightedModel,
    fit_weights as fit_weights,
)
from .protocol import (
    FittedModel as FittedModel,
    RDMModel as RDMModel,
)
from .reweighting import (
    Reweighted as Reweighted,
    ReweightedModel as ReweightedModel,
    reweight as reweight,
)
