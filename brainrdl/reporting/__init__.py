"""One self-contained HTML page about a run, a plain RSA, a movie or several runs: what was found, how, and its limits.

`page` writes it (`report`): it recognises what is reported, and composes the page of an evaluation or a fit.
`rsa_page`, `movie_page` and `side_by_side` compose those of a plain RSA, of an RDM movie and of several runs. The parts
of a plain RSA (`rsa_source`) are in `rsa_figures`, `rsa_tables`, `rsa_wording` and `rsa_methods`. Every page has the
same parts (`frame`): the answer, figures, tables, methods and caveats, in the layout of ``page.html.j2`` and
``parts.html.j2``, with the style ``page.css`` and the script ``page.js``.

The parts of an evaluation are its figures (`drawings`), tables (`tables`), sentences (`wording`), and the text and
references for a methods section (`methods`, with `fit_details` on network, optimisation and data); `run` holds the run
and selects rows of its tables, and `target_names` names a target without a region. `hover` stores the values of RDMs
that a reader can point at, and `bibliography` writes BibTeX. A new figure is a function in `drawings`, a new column of
the score tables a line in `tables`. `model_card` writes the card of an exported model in the same words, and
`index_page` lists the runs of a sweep.
"""

from lazy_loader import attach_stub

__getattr__, __dir__, __all__ = attach_stub(__name__, __file__)
