from .simulated_experiment import (
    digits as digits,
    run as run,
)
