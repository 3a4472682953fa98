from .categories import different_category as different_category
from .named_images import (
    Batch as Batch,
    Stimuli as Stimuli,
)
from .transforms import (
    ImageTransform as ImageTransform,
    default_transform as default_transform,
)
