from .building import (
    make_loss as make_loss,
    make_network as make_network,
    make_stimuli as make_stimuli,
    make_student as make_student,
    make_task as make_task,
    make_teacher as make_teacher,
    make_terms as make_terms,
    transform_of as transform_of,
)
from .files import (
    check as check,
    dump as dump,
    load as load,
    save as save,
)
from .final_fit import chosen_steps as chosen_steps
from .running import (
    evaluate_run as evaluate_run,
    run as run,
)
from .schema import (
    Recipe as Recipe,
    section_of as section_of,
)
from .starter import template as template
from .sweeping import (
    points as points,
    sweep as sweep,
)
