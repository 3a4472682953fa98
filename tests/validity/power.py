"""Power predicted from pilots, and found in simulated studies: ``python tests/validity/power.py --out FILE``.

Pilots of 24 stimuli and 8 subjects are drawn from `population`. Each predicts the power of studies of other sizes to
find the effect that is true there. The power of these studies is in ``docs/validity/intervals.csv`` (scores against
subjects, no folds), where studies of all sizes were drawn from the same population.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd
import population

from brainrdl.inference import power
from brainrdl.rdms import from_array

N_STIMULI, N_SUBJECTS = 24, 8
FOUND = Path(__file__).parents[2] / "docs" / "validity" / "intervals.csv"


def predictions(seed: int, noise: float, comparator: str, what: str, studies: pd.DataFrame) -> pd.DataFrame:
    """Predict, from one pilot, the power of all studies to find their true effect."""
    sample = population.draw(np.random.default_rng([seed, int(noise)]), N_STIMULI, N_SUBJECTS, noise)
    names = [str(k) for k in range(N_STIMULI)]
    pilot = from_array(sample.subjects, names, descriptors={"subject": [str(k) for k in range(N_SUBJECTS)]})
    better, worse = (from_array(rdm, names) for rdm in (sample.better, sample.worse))
    sizes = {size: sorted(studies[size].unique()) for size in ("n_stimuli", "n_subjects")}
    other = worse if what == "gain" else None
    return power(better, pilot, minus=other, comparator=comparator, effect=studies["truth"].mean(), **sizes)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--out", type=Path, required=True, help="CSV file to write")
    parser.add_argument("--pilots", type=int, default=100)
    arguments = parser.parse_args()
    studies = pd.read_csv(FOUND).query("design == 'no folds' and against == 'subjects' and what != 'no gain'")
    rows = []
    for noise, comparator, what in ((1.0, "cosine", "gain"), (2.0, "corr", "gain"), (2.0, "spearman", "score")):
        cells = studies.query("noise == @noise and comparator == @comparator and what == @what")
        cells = cells[cells["rejected"] < 0.98]
        found = pd.concat([predictions(k, noise, comparator, what, cells) for k in range(arguments.pilots)])
        for cell in cells.itertuples():
            mine = found.query("n_stimuli == @cell.n_stimuli and n_subjects == @cell.n_subjects")
            rows.append({
                "comparator": comparator, "what": what, "noise": f"{noise:g}", "stimuli": cell.n_stimuli,
                "subjects": cell.n_subjects, "sd of studies": f"{cell.sd:.4f}",
                "predicted sd": f"{(mine['sd'] ** 2).mean() ** 0.5:.4f}", "power of studies": f"{cell.rejected:.2f}",
                "its standard error": f"{(cell.rejected * (1 - cell.rejected) / cell.n_sets) ** 0.5:.2f}",
                "predicted power": f"{mine['power'].mean():.2f}", "sd over pilots": f"{mine['power'].std():.2f}",
                "power_error": f"{(mine['power_error'] ** 2).mean() ** 0.5:.2f}", "pilots": arguments.pilots,
            })  # fmt: skip
        pd.DataFrame(rows).to_csv(arguments.out, index=False)


if __name__ == "__main__":
    main()
