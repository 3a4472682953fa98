from .ceilings import (
    ceiling_for_mean as ceiling_for_mean,
    ceiling_for_subjects as ceiling_for_subjects,
    noise_ceiling as noise_ceiling,
)
from .partial_correlation import partial as partial
