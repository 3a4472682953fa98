"""Jobs on a Dask cluster, here on this computer."""

from __future__ import annotations

import runpy
import warnings
from pathlib import Path

import joblib
import pandas as pd
import pytest

from brainrdl.evaluation.cross_validation import cross_validate

MODULE = runpy.run_path(str(Path(__file__).with_name("test_jobs.py")))


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::ResourceWarning")  # of dask and tornado
def test_a_dask_cluster_gives_the_results_of_one_process(tmp_path: Path) -> None:
    distributed = pytest.importorskip("distributed", reason="the extra 'cluster' is not installed")
    options = MODULE["OPTIONS"] | {"steps": 6, "controls": ["permuted"]}
    serial = cross_validate(MODULE["students"](), *MODULE["data"](), **options)
    with (
        distributed.LocalCluster(
            n_workers=2, threads_per_worker=2, dashboard_address=None, local_directory=str(tmp_path / "dask")
        ) as cluster,
        distributed.Client(cluster),
        joblib.parallel_config("dask"),
        warnings.catch_warnings(),
    ):
        found = cross_validate(MODULE["students"](), *MODULE["data"](), out=tmp_path / "run", **options)
    pd.testing.assert_frame_equal(found.scores, serial.scores, check_exact=True)
    assert len(list((tmp_path / "run").rglob("weights.safetensors"))) == 12
