from .catalogue import (
    DataFile as DataFile,
    DataInfo as DataInfo,
    cache_folder as cache_folder,
    info as info,
    names as names,
)
from .download import (
    fetch as fetch,
    kept as kept,
    missing as missing,
)
from .example_files import write_example_files as write_example_files
from .loaders import (
    NamedData as NamedData,
    load as load,
)
from .simulation import simulate_subjects as simulate_subjects
