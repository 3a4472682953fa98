"""The direction of the main finding of the MNIST experiment, from the data to the rows, with fewer digits and steps."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest

from docs.experiments import mnist, small
from docs.experiments.protocol import main, results_of


@pytest.fixture(scope="module")
def rows(data_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> pd.DataFrame:
    if not (data_folder / "mnist").is_dir():
        pytest.skip("mnist is not in BRAINRDL_DATA (CONTRIBUTING.md, Real data)")
    folder = tmp_path_factory.mktemp("small")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setattr(mnist, "WORK", folder)
        patch.setattr(mnist, "RESULTS", folder)
        main(small.EXPERIMENT, ["--out", str(folder)])
    return results_of("small", folder).rows()


@pytest.mark.slow
def test_a_teachers_rdms_help_a_student_with_few_labels_and_more_than_its_classes_do(rows: pd.DataFrame) -> None:
    errors = rows.pivot(index="seed", columns="method", values="error")
    assert len(errors) == 3
    assert (errors["RDL, several stages"] < errors["cross-entropy"]).all()
    assert (errors["RDL, several stages"] < errors["permuted within class"]).all()
