from .matching import match_layers as match_layers
from .pair_sampling import random_pairs as random_pairs
from .rdm_loss import (
    FORMS as FORMS,
    SCALES as SCALES,
    Decay as Decay,
    RDMLoss as RDMLoss,
    check_rdm_loss as check_rdm_loss,
    differentiable_names as differentiable_names,
)
