from .group_maps import (
    GroupMap as GroupMap,
    group_test as group_test,
)
from .maps import SearchlightMap as SearchlightMap
from .neighbourhoods import (
    Neighbourhoods as Neighbourhoods,
    over_time as over_time,
    sensor_neighbourhoods as sensor_neighbourhoods,
    surface_neighbourhoods as surface_neighbourhoods,
    volume_neighbourhoods as volume_neighbourhoods,
)
from .searching import searchlight as searchlight
