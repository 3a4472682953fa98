"""One self-contained HTML page about a run: what was found, how, and what it cannot show.

`page` writes it (`report`) from its figures (`drawings`), tables (`tables`), sentences (`wording`) and the text and
references for a methods section (`methods`); `run` holds the run and selects rows of its tables. The layout is in
``report.html.j2``. A new figure is a function in `drawings`, a new column of the score tables a line in `tables`.
`model_card` writes the card of an exported model in the same words, `index_page` lists the runs of a sweep, and
`rsa_page` is the page of a plain RSA.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
