from .index_page import write_index as write_index
from .model_card import card_of as card_of
from .page import (
    figures as figures,
    report as report,
)
