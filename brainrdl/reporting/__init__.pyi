from .model_card import card_of as card_of
from .page import (
    figures as figures,
    report as report,
)
