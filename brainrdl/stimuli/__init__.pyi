from .augmentation import (
    Augmentation as Augmentation,
    Draws as Draws,
)
from .categories import different_category as different_category
from .inputs import Inputs as Inputs
from .joining import join_stimuli as join_stimuli
from .named_images import (
    Batch as Batch,
    Stimuli as Stimuli,
)
from .near_duplicates import (
    groups_of_similar as groups_of_similar,
    similar_between as similar_between,
    similar_images as similar_images,
)
from .streams import ImageStream as ImageStream
from .transforms import (
    ImageTransform as ImageTransform,
    default_transform as default_transform,
)
