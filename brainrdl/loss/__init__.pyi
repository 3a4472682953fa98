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
from .transfer_losses import (
    probabilistic_loss as probabilistic_loss,
    relational_loss as relational_loss,
    similarity_preserving_loss as similarity_preserving_loss,
)
