from .finished_fits import (
    FitResult as FitResult,
    load_fit as load_fit,
    load_weights as load_weights,
    save_fit as save_fit,
    save_weights as save_weights,
)
from .provenance import (
    Described as Described,
    describe as describe,
    gather_provenance as gather_provenance,
)
from .run_folder import open_folder as open_folder
