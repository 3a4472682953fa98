from .index_page import write_index as write_index
from .page import (
    figures as figures,
    report as report,
)
