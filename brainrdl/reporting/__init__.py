"""One self-contained HTML page about a run: what was found, how, and what it cannot show.

`page` writes it (`report`) from its figures (`drawings`), tables (`tables`), sentences (`wording`) and the text and
references for a methods section (`methods`); `run` holds what all of them look up. The layout is ``report.html.j2``.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
