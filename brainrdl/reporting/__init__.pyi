from .page import (
    figures as figures,
    report as report,
)
