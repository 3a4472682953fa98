from .by_name import (
    Alignment as Alignment,
    align as align,
    alignment as alignment,
    concat as concat,
    names as names,
    select as select,
)
from .conversion import (
    check as check,
    from_array as from_array,
    from_tensor as from_tensor,
    to_table as to_table,
    to_tensor as to_tensor,
)
from .estimation import (
    calc_rdm as calc_rdm,
)
from .noise import (
    noise_precision as noise_precision,
)
from .subjects import (
    Groups as Groups,
    groups as groups,
)
