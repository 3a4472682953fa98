"""Audits: each fault is found where it was made, sound data give no warning, and guesses give their evidence."""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rsatoolbox.data import Dataset, TemporalDataset
from rsatoolbox.inference import boot_noise_ceiling
from rsatoolbox.rdm import RDMs, calc_rdm
from scipy.spatial.distance import pdist, squareform
from scipy.stats import rankdata

from brainrdl import BrainrdlError, Stimuli, rdms
from brainrdl.datasets.simulation import simulate_subjects
from brainrdl.dissimilarity.measures import crossnobis
from brainrdl.doctor import dissimilarity_kinds as kinds
from brainrdl.doctor.auditing import Audit, audit
from brainrdl.doctor.rdm_findings import with_others
from brainrdl.inference.ceilings import ceiling_for_mean, ceiling_for_subjects

NAMES = [f"image_{i:02d}" for i in range(20)]
SEEDS = range(10)


def subjects(n: int = 5, names: list[str] = NAMES, **options: Any) -> RDMs:
    patterns = torch.randn(len(names), 30, generator=torch.Generator().manual_seed(0))
    return simulate_subjects(patterns, names, n_subjects=n, noise=0.5, **options)


def edited(given: RDMs, edit: Any, **options: Any) -> RDMs:
    """Change the square RDMs in place, and wrap them again."""
    squares = given.get_matrices()
    edit(squares)
    squares[:, range(given.n_cond), range(given.n_cond)] = 0
    values = torch.tensor(np.stack([squareform(square, checks=False) for square in squares]))
    descriptors = {key: list(column) for key, column in given.rdm_descriptors.items() if key != "index"}
    return rdms.from_tensor(values, rdms.names(given), descriptors=descriptors, **options)


def one(found: Audit, what: str) -> Any:
    """Give the row of the only finding called `what`."""
    rows = found.findings[found.findings["what"] == what]
    assert len(rows) == 1, f"{what}: {len(rows)} findings"
    return rows.iloc[0]


def levels(found: Audit) -> dict[str, str]:
    return dict(zip(found.findings["what"], found.findings["level"], strict=True))


# A sound file


def test_sound_rdms_have_no_warning_and_can_teach() -> None:
    found = audit(subjects())
    assert found.can_teach
    assert "warning" not in set(found.findings["level"])
    assert found.facts == {
        "holds": "RDMs",
        "rdms": 5,
        "conditions": 20,
        "pairs": 190,
        "subjects": [f"simulated-0{s}" for s in range(1, 6)],
        "rois": ["IT"],
        "sessions": None,
        "layers": None,
        "models": None,
        "times": None,
        "measure": None,
    }


def test_the_text_has_sections_and_one_finding_per_line() -> None:
    found = audit(subjects())
    lines = str(found).splitlines()
    assert [line for line in lines if line in ("Names", "Values", "Kind", "Subjects")] == [
        *("Names", "Values", "Kind", "Subjects")
    ]
    told = [line for line in lines if line.startswith(("  ok ", "  note ", "  warning "))]
    assert len(told) == len(found.findings)
    assert len({line.index(what) for line, what in zip(told, found.findings["what"], strict=True)}) == 1  # aligned
    assert lines[-1].startswith("Can teach: 0 warnings, ")


def test_json_and_table_hold_every_finding() -> None:
    found = audit(subjects())
    told = json.loads(json.dumps(found.to_dict()))
    assert list(found.findings) == ["level", "what", "where", "value", "advice"]
    assert [item["value"] for item in told["findings"]] == list(found.findings["value"])
    assert {item["section"] for item in told["findings"]} == {"Names", "Values", "Kind", "Subjects"}
    assert told["can_teach"] is True


# Files


def test_a_file_is_read_and_its_reader_named(tmp_path: Path) -> None:
    np.save(tmp_path / "rdm.npy", squareform(subjects(1).dissimilarities[0]))
    found = audit(tmp_path / "rdm.npy", names=NAMES)
    assert found.facts["reader"] == "numpy"
    assert found.can_teach
    assert audit(tmp_path / "rd*.npy", names=NAMES).facts["reader"] == "numpy"


def test_a_refused_file_is_a_finding_and_cannot_teach(tmp_path: Path) -> None:
    square = squareform(subjects(1).dissimilarities[0])
    square[2, 3] += 1
    np.save(tmp_path / "rdm.npy", square)
    found = audit(tmp_path / "rdm.npy", names=NAMES)
    assert not found.can_teach
    assert "is not symmetric: [2, 3]" in one(found, "refused")["value"]
    assert str(found).endswith("Cannot teach: 1 warning, 0 notes, 0 ok.")
    with pytest.raises(BrainrdlError, match=r"nothing to draw for '.*rdm\.npy': .* not symmetric"):
        found.figure()


def test_a_file_that_is_not_there_is_a_finding() -> None:
    assert "there is no file 'none.csv'" in one(audit("none.csv"), "refused")["value"]


def test_other_objects_are_refused() -> None:
    with pytest.raises(
        BrainrdlError, match=r"audit needs a path, rsatoolbox's RDMs, a Dataset or a list .*, got ndarray"
    ):
        audit(np.zeros((3, 3)))  # type: ignore[arg-type]
    with pytest.raises(BrainrdlError, match="got list"):
        audit([])


def test_options_of_a_file_are_refused_for_data_in_memory() -> None:
    with pytest.raises(BrainrdlError, match=r"\['names', 'variable'\] can only be used with a file"):
        audit(subjects(), names=NAMES, variable="x")


# Names


def test_each_fault_of_a_name_is_found() -> None:
    names = ["cat", "Cat", "dog ", "", "e\u0301te", "été", "a.png", *NAMES[:5]]
    given = subjects(3, [name or "blank" for name in names])
    given.pattern_descriptors["stimulus"] = names
    found = audit(given)
    assert one(found, "nearly equal names")["value"] == "['cat = Cat']"
    assert one(found, "spaces at the ends")["value"] == "['dog ']"
    assert one(found, "blank names")["value"] == "['']"
    assert one(found, "decomposed letters")["value"] == "['e\u0301te']"
    assert one(found, "letters beyond ASCII")["where"] == "2 of 12 names"
    assert one(found, "file suffixes")["value"] == "['a.png']"
    assert not found.can_teach  # because of the blank name
    given.pattern_descriptors["stimulus"][3] = "bird"
    assert audit(given).can_teach


def test_spaces_underscores_and_composed_letters_make_near_duplicates() -> None:
    given = subjects(3, NAMES[:8])
    given.pattern_descriptors["stimulus"] = ["my cat", "my_cat", "e\u0301", "é", *NAMES[:4]]
    assert one(audit(given), "nearly equal names")["value"] == "['my cat = my_cat', 'e\u0301 = é']"


def test_repeated_names_keep_rdms_from_teaching() -> None:
    given = subjects()
    given.pattern_descriptors["stimulus"][3] = NAMES[0]
    found = audit(given)
    assert not found.can_teach
    assert one(found, "repeated names")["value"] == "['image_00']"
    assert "occur more than once" in one(found, "refused as a teacher")["value"]


def test_rdms_without_names_are_checked_but_cannot_teach() -> None:
    given = subjects()
    del given.pattern_descriptors["stimulus"]
    found = audit(given)
    assert not found.can_teach
    assert "no descriptor 'stimulus' (known: index)" in one(found, "names of conditions")["value"]
    assert one(found, "agreement")["level"] == "ok"
    assert "stimulus" not in given.pattern_descriptors


@pytest.mark.parametrize(
    ("names", "level", "value"),
    [
        (["c1", "c2", "c3"], "ok", "sorted, both as text and by number"),
        (["c1", "c2", "c10"], "note", "sorted by number, not as text (2 before 10)"),
        (["c1", "c10", "c2"], "note", "sorted as text, not by number (10 before 2)"),
        (["c2", "c1", "c3"], "note", "not sorted: ['c2', 'c1', 'c3']"),
    ],
)
def test_the_order_of_names_is_reported(names: list[str], level: str, value: str) -> None:
    row = one(audit(rdms.from_array([0.3, 0.5, 0.7], names)), "order")
    assert (row["level"], row["value"]) == (level, value)


# Values


def test_the_range_is_that_of_all_rdms() -> None:
    assert one(audit(rdms.from_array([[0.2, 0.5, 0.8], [0.1, 0.5, 0.3]], list("abc"))), "range")["value"] == (
        "0.1 to 0.8, mean 0.4"
    )


@pytest.mark.parametrize(("measure", "level"), [("crossnobis", "ok"), ("correlation", "warning"), (None, "note")])
def test_negative_values_are_judged_by_the_measure(measure: str | None, level: str) -> None:
    def cut(squares: Any) -> None:
        squares[1, 0, 1:3] = squares[1, 1:3, 0] = -0.5

    row = one(audit(edited(subjects(2), cut, measure=measure)), "negative values")
    assert row["level"] == level
    assert row["where"] == "1 of 2 RDMs: ['simulated-02']"
    assert row["value"].startswith("0.526 % of all pairs")  # 2 of 380


def test_nan_is_counted_and_a_condition_without_any_pair_is_named() -> None:
    def lose(squares: Any) -> None:
        squares[:, 4, :] = squares[:, :, 4] = np.nan
        squares[0, 7, :] = squares[0, :, 7] = np.nan

    found = audit(edited(subjects(), lose))
    rows = found.findings[found.findings["what"] == "conditions with only NaN"]
    assert rows[["level", "where", "value"]].to_numpy().tolist() == [
        ["warning", "every RDM", "['image_04']"],
        ["note", "1 of 5 RDMs: ['simulated-01']", "['image_07']"],
    ]
    assert (
        one(found, "missing pairs (NaN)")["value"] == "11.9 % of all pairs, 10 % in every RDM"
    )  # 113 of 950, 19 of 190


def test_a_condition_equally_far_from_all_is_found() -> None:
    def flatten(squares: Any) -> None:
        squares[2, 7, :] = squares[2, :, 7] = 1

    row = one(audit(edited(subjects(), flatten)), "equally far from all")
    assert (row["level"], row["value"]) == ("warning", "['image_07 (simulated-03: 1)']")


def test_a_pair_at_distance_0_is_found() -> None:
    def merge(squares: Any) -> None:
        squares[1, 3, 4] = squares[1, 4, 3] = 0

    row = one(audit(edited(subjects(), merge)), "pairs at distance 0")
    assert (row["level"], row["value"]) == ("warning", "['image_03 = image_04']")
    assert row["where"] == "1 of 5 RDMs: ['simulated-02']"


def test_zeros_of_ranks_and_of_category_models_are_as_they_should_be() -> None:
    ranks = rankdata(subjects(1).dissimilarities[0]) - 1
    category = np.append(np.arange(19) % 2, 2)  # the last one stands alone, equally far from all
    categories = (category[:, None] != category).astype(float)
    for values in (ranks, categories):
        found = levels(audit(rdms.from_array(values, NAMES)))
        assert (found["pairs at distance 0"], found["equally far from all"]) == ("ok", "ok")


def test_rdms_that_can_teach_nothing_are_reported() -> None:
    found = audit(rdms.from_tensor(torch.ones(2, 190), NAMES))
    assert not found.can_teach
    assert "is constant: every pair is 1.0" in one(found, "refused")["value"]
    with pytest.raises(BrainrdlError, match="there is nothing to draw for 'RDMs': RDM 0"):
        found.figure()


def test_rdms_of_whole_numbers_are_checked_and_left_as_they_are() -> None:
    given = RDMs(np.arange(1, 11)[None], pattern_descriptors={"stimulus": list("abcde")})
    found = audit(given)
    assert found.figure().axes
    assert (given.dissimilarities.dtype.kind, found.can_teach) == ("i", True)


# Kind


def patterns(seed: int, n: int = 40, k: int = 25) -> np.ndarray:
    """Four loose groups of patterns, so that there is some structure."""
    rng = np.random.default_rng(seed)
    return rng.normal(size=(n, k)) + rng.uniform(0, 2) * rng.normal(size=(4, k))[np.arange(n) % 4]


def percentiles(x: np.ndarray) -> np.ndarray:
    ranks = rankdata(pdist(x, "correlation"))
    return (ranks - 1) / (len(ranks) - 1)


def standardised(x: np.ndarray) -> np.ndarray:
    pairs = pdist(x, "correlation")
    return (pairs - pairs.mean()) / pairs.std()


def of_runs(x: np.ndarray) -> np.ndarray:
    runs = 0.3 * x + np.random.default_rng(0).normal(size=(3, *x.shape))
    return crossnobis(torch.tensor(runs)).numpy()


KINDS = {
    kinds.CORRELATION: lambda x: pdist(x, "correlation"),
    kinds.SQUARED: lambda x: pdist(x, "sqeuclidean") / x.shape[1],
    kinds.PLAIN: pdist,
    kinds.RANKS: lambda x: rankdata(pdist(x, "correlation")),
    "percentiles": percentiles,
    kinds.SIMILARITY: lambda x: 1 - pdist(x, "correlation"),
    kinds.Z_SCORED: standardised,
    kinds.SIGNED: of_runs,
    kinds.TWO_VALUES: lambda x: pdist(np.arange(len(x))[:, None] % 4, "hamming"),
    kinds.UNKNOWN: lambda x: np.random.default_rng(int(1e6 * x[0, 0] ** 2)).uniform(size=len(pdist(x))),
}


@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("kind", KINDS)
def test_the_kind_of_a_simulated_rdm_is_recognised(kind: str, seed: int) -> None:
    pairs = KINDS[kind](patterns(seed))
    assert kinds.likely(pairs).name == {"percentiles": kinds.RANKS}.get(kind, kind)


@pytest.mark.parametrize("kind", [kinds.CORRELATION, kinds.SQUARED, kinds.RANKS, kinds.SIMILARITY])
def test_the_kind_is_recognised_in_float32_and_with_a_missing_condition(kind: str) -> None:
    square = squareform(KINDS[kind](patterns(0)).astype(np.float32).astype(float))
    if kind != kinds.RANKS:  # there the missing ranks leave holes
        square[3] = square[:, 3] = np.nan
    assert kinds.likely(squareform(square, checks=False)).name == kind


@pytest.mark.parametrize("seed", SEEDS)
def test_squared_or_not_is_left_open_where_both_fit(seed: int) -> None:
    x = np.random.default_rng(seed).normal(size=(20, 5000))
    assert {kinds.likely(pairs).name for pairs in (pdist(x), pdist(x, "sqeuclidean"))} == {kinds.EITHER}


def test_what_may_be_1_minus_r_is_recognised_by_other_rdms() -> None:
    x = patterns(0)
    common = 3 * np.random.default_rng(9).normal(size=x.shape[1])
    near, clear = pdist(x + common, "correlation"), pdist(x, "correlation")
    assert near.mean() < 0.5
    assert kinds.likely(near).name == kinds.COMMON
    found = kinds.likely_of_all(np.stack([near, clear]))
    assert [kind.name for kind in found] == [kinds.CORRELATION] * 2
    assert found[0].evidence.endswith("other RDMs here clearly do")


def test_a_kind_is_worded_as_likely_and_gives_its_evidence() -> None:
    x = patterns(0, n=20)
    both = np.stack([pdist(x, "correlation"), rankdata(pdist(x))])
    found = audit(rdms.from_array(both, NAMES, descriptors={"subject": ["1", "2"]}))
    told = found.findings[found.findings["what"] == "dissimilarity"]
    assert list(told["where"]) == ["1 of 2 RDMs: ['subject 1']", "1 of 2 RDMs: ['subject 2']"]
    assert told["value"].iloc[1] == "likely ranks (190 values equally spaced from 1 to 190 (step 1))"
    assert one(found, "mixed kinds")["level"] == "note"


def test_crossnobis_rdms_with_and_without_negative_values_are_one_kind() -> None:
    squares = pdist(patterns(0, n=20), "sqeuclidean")
    values = torch.tensor(np.stack([squares, squares - 1.001 * squares.min()]))
    found, other = (
        audit(rdms.from_tensor(values, NAMES, measure=measure, descriptors={"subject": ["1", "2"]}))
        for measure in ("crossnobis", None)
    )
    row = one(found, "dissimilarity")
    assert (row["level"], row["where"]) == ("ok", "all 2 RDMs")
    assert row["value"].startswith("crossnobis, as the file says")
    assert "mixed kinds" not in levels(found)
    assert "mixed kinds" in levels(other)


def test_ranks_of_crossnobis_distances_are_still_found() -> None:
    ranks = rdms.from_array(rankdata(pdist(patterns(0, n=20))), NAMES)
    ranks.dissimilarity_measure = "crossnobis"
    assert one(audit(ranks), "dissimilarity")["value"].startswith("likely ranks")


@pytest.mark.parametrize("n", [3, 4, 8])
def test_small_rdms_are_not_over_interpreted(n: int) -> None:
    values = np.random.default_rng(0).uniform(0.5, 1, n * (n - 1) // 2)
    assert kinds.likely(values).name in (kinds.UNKNOWN, kinds.CORRELATION, kinds.SQUARED, kinds.EITHER)
    assert kinds.likely(np.full(3, np.nan)).name  # nothing known: no crash
    assert n > 4 or kinds.likely(values).evidence.endswith("too few conditions without NaN to decide")


@pytest.mark.parametrize("seed", SEEDS)
def test_squared_distances_of_mean_1_are_not_mistaken_for_1_minus_r(seed: int) -> None:
    pairs = pdist(patterns(seed), "sqeuclidean")
    assert kinds.likely(pairs / pairs.mean()).name == kinds.SQUARED


def test_a_square_root_repairs_the_triangles_of_squared_distances() -> None:
    row = one(audit(rdms.from_array(pdist(patterns(1, n=20, k=4), "sqeuclidean"), NAMES)), "triangle inequality")
    assert row["level"] == "note"
    assert row["value"].endswith(" of the 1140 triples; by 0 % after a square root")
    assert row["advice"] == "typical of squared distances"


@pytest.mark.parametrize("power", [1, 2])
def test_triangle_violations_are_those_of_brute_force(power: int) -> None:
    square = squareform(pdist(patterns(1, n=12), "sqeuclidean")) ** (power / 2)
    square[2, 5] = square[5, 2] = np.nan
    violated = [
        max(sides) > sum(sides) - max(sides)
        for i, j, k in combinations(range(12), 3)
        if not np.isnan(sides := [square[i, j], square[i, k], square[j, k]]).any()
    ]
    assert len(violated) == 220 - 10
    assert kinds.triangle_violations(square) == pytest.approx(np.mean(violated))
    assert (np.mean(violated) > 0) == (power == 2)


def test_of_many_conditions_some_are_drawn_and_the_audit_says_so() -> None:
    names = [f"c{i:03d}" for i in range(150)]
    row = one(audit(subjects(2, names)), "triangle inequality")
    assert "of the 280840 triples of 120 conditions drawn at random (seed 0)" in row["value"]
    square = squareform(np.random.default_rng(0).uniform(size=150 * 149 // 2))
    part, drawn = kinds.complete(square)
    assert (len(drawn), drawn) == (120, sorted(set(drawn)))
    assert kinds.triangle_violations(square) == kinds.triangle_violations(part)


def test_a_few_equally_spaced_values_are_not_ranks() -> None:
    assert kinds.likely(np.array([0.5, 0.7, 0.9])).name == kinds.UNKNOWN


# Subjects


def test_the_noise_ceiling_is_rsatoolboxs() -> None:
    given = subjects(6)
    expected = {name: boot_noise_ceiling(given, method=name) for name in ("corr", "spearman")}
    value = ", ".join(f"{name} {low:.3f} to {high:.3f}" for name, (low, high) in expected.items())
    assert one(audit(given), "noise ceiling")["value"] == value


def test_agreement_is_with_the_mean_of_the_others_and_names_the_ceilings_of_the_report() -> None:
    rows = subjects(4).dissimilarities
    single = [np.corrcoef(rows[s], np.delete(rows, s, 0).mean(0))[0, 1] for s in range(4)]
    np.testing.assert_allclose(with_others(torch.tensor(rows)).numpy(), single)
    value = one(audit(subjects(4)), "agreement")["value"]
    assert f"r = {np.mean(single):.3f} (mean of 4)" in value
    of_mean, of_subjects = ceiling_for_mean(torch.tensor(rows)), ceiling_for_subjects(torch.tensor(rows))
    assert f"to reach {of_mean:.3f} with the mean RDM and {of_subjects:.3f} with single subjects" in value


def test_subjects_who_share_nothing_are_warned_about() -> None:
    values = np.random.default_rng(0).uniform(0.5, 1, (5, 190))
    assert one(audit(rdms.from_array(values, NAMES), subject_by="index"), "agreement")["level"] == "warning"


def test_an_outlier_is_found_and_named() -> None:
    def shuffle(squares: Any) -> None:
        order = np.random.default_rng(0).permutation(20)
        squares[3] = squares[3][np.ix_(order, order)]

    row = one(audit(edited(subjects(), shuffle)), "outliers")
    assert row["level"] == "warning"
    assert row["value"].startswith("simulated-04 (r = ")
    assert one(audit(subjects()), "outliers")["level"] == "ok"


@pytest.mark.parametrize("factor", [1, 2.5])
def test_a_subject_that_is_there_twice_is_found(factor: float) -> None:
    def copy(squares: Any) -> None:
        squares[2] = factor * squares[0]

    assert one(audit(edited(subjects(), copy)), "identical RDMs")["value"] == "['simulated-01 = simulated-03']"


def test_a_subject_on_another_scale_is_reported() -> None:
    def scale(squares: Any) -> None:
        squares[1] *= 5

    row = one(audit(edited(subjects(), scale)), "scale")
    assert row["level"] == "note"
    assert row["value"].endswith("(simulated-02)")


def test_every_region_has_its_own_agreement_and_sessions_of_one_subject_are_averaged() -> None:
    v1, it = subjects(4, roi="V1", seed=1), subjects(3)
    found = audit(rdms.concat([v1, it]))
    rows = found.findings[found.findings["what"] == "noise ceiling"]
    assert list(rows["where"]) == ["V1", "IT"]
    it.rdm_descriptors["subject"] = ["a", "a", "b"]
    it.rdm_descriptors["session"] = ["1", "2", "1"]
    assert list(audit(it).findings.query("what == 'agreement'")["where"]) == ["session 1", "session 2"]
    found = audit(it, average_over="session")
    assert "(mean of 2)" in one(found, "agreement")["value"]


def test_rdms_without_subjects_do_not_count_as_subjects_unless_that_is_said() -> None:
    given = rdms.from_array(subjects(3).dissimilarities, NAMES)
    found = audit(given)
    assert not found.can_teach
    assert "choose subject_by='index' if each is of another subject" in one(found, "refused as a teacher")["value"]
    assert found.figure().axes
    assert "(mean of 3)" in one(audit(given, subject_by="index"), "agreement")["value"]
    assert one(audit(rdms.from_array(given.dissimilarities[0], NAMES)), "agreement")["level"] == "note"


def test_rdms_with_equal_descriptors_are_numbered() -> None:
    given = subjects(2)
    given.rdm_descriptors["subject"] = ["a", "a"]
    assert (
        "RDM 1"
        in one(audit(edited(given, lambda squares: np.negative(squares[1], out=squares[1]))), "negative values")[
            "where"
        ]
    )


# Targets


def movie(n_subjects: int, times: Sequence[float], noise: float = 0.5) -> RDMs:
    """Subjects who agree at each time, but whose RDMs differ from time to time."""
    patterns = [torch.randn(20, 30, generator=torch.Generator().manual_seed(k)) for k in range(len(times))]
    each = [simulate_subjects(pattern, NAMES, n_subjects=n_subjects, noise=noise) for pattern in patterns]
    together = rdms.concat(each)
    together.rdm_descriptors["time"] = np.repeat(times, n_subjects).tolist()
    return together


def subject_findings(found: Audit) -> dict[str, list[str]]:
    """Return the places of findings about subjects."""
    rows = found.findings[found.findings["what"].isin(["agreement", "noise ceiling", "outliers", "scale"])]
    return {what: list(rows[rows["what"] == what]["where"]) for what in dict.fromkeys(rows["what"])}


@pytest.mark.parametrize("key", ["time", "layer", "model", "roi"])
def test_rdms_of_one_subject_that_differ_in_what_they_are_of_are_not_subjects(key: str) -> None:
    given = rdms.from_array(subjects(3).dissimilarities, NAMES, descriptors={key: ["a", "b", "c"]})
    found = audit(given)
    assert found.can_teach
    assert found.facts[f"{key}s"] == ["a", "b", "c"]
    rows = found.findings.query("what == 'agreement'")
    assert set(rows["value"]) == {"1 RDM: no agreement between subjects and no noise ceiling"}
    assert [where[0] for where in rows["where"]] == ["a", "b", "c"]
    line = [line for line in str(found).splitlines() if "agreement  " in line]
    assert len(line) == 1
    assert "3 targets, a" in line[0]
    assert not {"noise ceiling", "outliers", "who is who"} & set(found.findings["what"])
    if key != "roi":
        row = one(found, "targets")
        assert row["value"].startswith(f"3 by {key}, not subjects: ['a")
        assert row["advice"] == f"to average the RDMs of a subject instead, use average_over='{key}'"


def test_subjects_are_compared_at_each_time_and_the_ceiling_is_that_of_the_time() -> None:
    given = movie(4, [0.05, 0.15])
    found = audit(given)
    assert subject_findings(found)["noise ceiling"] == ["0.05 s", "0.15 s"]
    told = found.findings[found.findings["what"] == "noise ceiling"]["value"]
    for number, value in enumerate(told):
        at = given.subset("time", [0.05, 0.15][number])
        lower, upper = boot_noise_ceiling(at, method="corr", rdm_descriptor="subject")
        assert value.startswith(f"corr {lower:.3f} to {upper:.3f}")
    assert one(found, "targets")["value"] == "2 by time, not subjects: ['0.05 s', '0.15 s']"


def test_a_subject_that_is_odd_at_one_time_only_is_found_there() -> None:
    given = movie(5, [0.05, 0.15])
    given.dissimilarities[7] = np.random.default_rng(0).permutation(given.dissimilarities[7])
    rows = audit(given).findings.query("what == 'outliers' and level == 'warning'")
    assert list(rows["where"]) == ["0.15 s"]
    assert rows["value"].item().startswith("simulated-03 (r = ")


def test_regions_and_times_make_targets_together() -> None:
    v1, it = movie(2, [0.05, 0.15]), movie(2, [0.05, 0.15], noise=1)
    both = rdms.concat([v1, it])
    both.rdm_descriptors["roi"] = ["V1"] * 4 + ["IT"] * 4
    found = audit(both)
    expected = ["V1 / 0.05 s", "V1 / 0.15 s", "IT / 0.05 s", "IT / 0.15 s"]
    assert subject_findings(found)["noise ceiling"] == expected
    row = one(found, "targets")
    assert row["value"].startswith("4 by roi and time, not subjects: ['V1 / 0.05 s', ")


def test_similar_findings_about_many_targets_share_a_line() -> None:
    found = audit(movie(3, [k / 100 for k in range(12)]))
    each = found.findings.query("what == 'noise ceiling'")
    assert each["where"].tolist() == [f"{k / 100:g} s" for k in range(12)]
    lines = [line for line in str(found).splitlines() if "noise ceiling" in line]
    assert len(lines) == 1
    assert (
        f"12 targets, 0 s to 0.11 s: {each['value'].iloc[0]} (the first), {each['value'].iloc[-1]} (the last)"
        in lines[0]
    )


def test_targets_can_be_distinguished_by_another_descriptor() -> None:
    given = subjects(4)
    given.rdm_descriptors["task"] = ["passive", "active", "passive", "active"]
    assert subject_findings(audit(given, average_over="task"))["noise ceiling"] == ["IT"]
    found = audit(given)
    assert subject_findings(found)["noise ceiling"] == ["passive", "active"]
    assert one(found, "targets")["value"].startswith("2 by task")
    assert titles(found)[:2] == ["mean of 2: passive", "mean of 2: active"]
    timed = movie(3, [0.05, 0.15])
    refused = one(audit(timed, target_by="roi"), "refused as a teacher")["value"]
    assert "differ in ['time'] too" in refused
    assert "target_by=['roi', 'time'], or average them first with average_over=['time']" in refused


def test_a_target_descriptor_that_is_not_there_is_refused() -> None:
    with pytest.raises(
        BrainrdlError, match=r"target_by 'tyme' is not an rdm descriptor of the RDMs .*; nearest: 'time'"
    ):
        audit(movie(2, [0.05, 0.15]), target_by="tyme")
    with pytest.raises(BrainrdlError, match=r"target_by='roi' is only for RDMs, and these are measurements"):
        audit(measured(), target_by="roi")


def test_a_movie_file_is_checked_with_target_by(tmp_path: Path) -> None:
    movie(2, [0.05, 0.15]).save(tmp_path / "movie.h5", file_type="hdf5")
    found = audit(tmp_path / "movie.h5", target_by="time")
    assert subject_findings(found)["noise ceiling"] == ["0.05 s", "0.15 s"]


# Stimuli


@pytest.fixture
def images(tmp_path: Path) -> Path:
    folder = tmp_path / "images"
    folder.mkdir()
    for number, name in enumerate(NAMES):
        Image.new("RGB", (4, 4), (10 * number, 0, 0)).save(folder / f"{name}.png")
    return folder


def test_stimuli_that_match_are_ok(images: Path) -> None:
    found = audit(subjects(), stimuli=images)
    assert one(found, "match")["value"] == "20 conditions in common"
    assert (levels(found)["match"], levels(found)["identical images"]) == ("ok", "ok")
    turned = rdms.select(subjects(), NAMES[::-1])
    assert "in a different order" in one(audit(turned, stimuli=Stimuli.from_folder(images)), "match")["value"]


def test_missing_extra_and_identical_images_are_found(images: Path) -> None:
    (images / "image_03.png").rename(images / "Image-03.png")
    (images / "image_05.png").write_bytes((images / "image_06.png").read_bytes())
    found = audit(subjects(), stimuli=images)
    missing = one(found, "conditions without image")
    assert missing["value"] == "['image_03']"
    assert "nearest: 'Image-03'" in missing["advice"]
    assert one(found, "images without condition")["value"] == "['Image-03']"
    assert one(found, "identical images")["value"] == "['image_05 = image_06']"
    assert found.can_teach


def test_images_that_are_nearly_the_same_are_found(images: Path) -> None:
    rng = np.random.default_rng(0)
    pixels = {name: rng.integers(0, 255, (24, 24, 3), np.uint8) for name in NAMES}
    pixels["image_04"] = pixels["image_09"][:, ::-1]
    pixels["image_02"] = pixels["image_11"]  # identical, which is another finding
    for name in NAMES:
        Image.fromarray(pixels[name]).save(images / f"{name}.png")
    found = audit(subjects(), stimuli=images)
    assert one(found, "nearly the same images")["value"].startswith("image_04 ~ image_09 (")
    assert "image_11" not in one(found, "nearly the same images")["value"]
    assert "nearly the same images" not in levels(
        audit(subjects(), stimuli=Stimuli.from_folder(images).select(NAMES[:8]))
    )


def test_images_of_something_else_cannot_be_taught_on(images: Path) -> None:
    found = audit(subjects(3, [f"x{i}" for i in range(8)]), stimuli=images)
    assert not found.can_teach
    assert one(found, "match")["advice"] == "too few to train on"


def test_images_are_counted_where_conditions_have_no_names(images: Path) -> None:
    given = subjects()
    del given.pattern_descriptors["stimulus"]
    finding = one(audit(given, stimuli=images), "match")
    assert (finding["where"], finding["value"]) == ("20 images", "conditions have no names")
    assert finding["advice"] == "give the conditions the names of their images"


def test_a_refused_folder_of_images_is_a_finding(tmp_path: Path) -> None:
    assert "does not exist" in one(audit(subjects(), stimuli=tmp_path / "none"), "refused")["value"]


# Measurements


def measured(noise: float = 0.5, n_runs: int = 4, edit: Any = None, drop: int | None = None) -> Dataset:
    rng = np.random.default_rng(0)
    signal, runs = rng.normal(size=(10, 30)), np.repeat(np.arange(1, n_runs + 1), 10)
    values = np.tile(signal, (n_runs, 1)) + noise * rng.normal(size=(10 * n_runs, 30))
    if edit:
        edit(values)
    kept = [i for i in range(len(values)) if i != drop]
    names = np.tile(NAMES[:10], n_runs)
    described = {"stimulus": names[kept].tolist(), "run": runs[kept].tolist()}
    return Dataset(values[kept], obs_descriptors=described, descriptors={"roi": "V1"})


def test_sound_measurements_have_no_warning() -> None:
    found = audit(measured())
    assert found.can_teach
    assert set(found.findings["level"]) == {"ok"}
    assert (found.facts["channels"], found.facts["conditions"], found.facts["runs"]) == (30, 10, ["1", "2", "3", "4"])
    assert one(found, "balance of runs")["value"] == "every condition occurs equally often in each of 4 runs"
    assert one(found, "observations per condition")["value"] == "4"


def test_bad_channels_are_counted() -> None:
    def spoil(values: np.ndarray) -> None:
        values[3, 2] = np.nan
        values[3, 4] = np.inf
        values[:, 5] = 7

    found = audit(measured(edit=spoil))
    assert one(found, "channels NaN or infinite")["value"] == "2 of 30 (6.67 %)"
    assert one(found, "channels constant")["value"] == "1 of 30 (3.33 %)"
    assert found.can_teach


def test_measurements_without_a_usable_channel_or_names_cannot_teach() -> None:
    found = audit(measured(edit=lambda values: values.fill(1)))
    assert (found.can_teach, levels(found)["channels"]) == (False, "warning")
    nameless = audit(Dataset(np.random.default_rng(0).normal(size=(6, 4))))
    assert not nameless.can_teach
    assert "observations have no descriptor 'stimulus'" in one(nameless, "conditions")["value"]
    two = audit(Dataset(np.random.default_rng(0).normal(size=(4, 4)), obs_descriptors={"stimulus": list("abab")}))
    assert (two.can_teach, one(two, "conditions")["value"]) == (False, "['a', 'b']")


def test_unbalanced_runs_are_found() -> None:
    found = audit(measured(drop=13))  # image_03 of the second run
    row = one(found, "balance of runs")
    assert row["level"] == "note"
    assert row["value"] == "1 of 10 conditions differ in number between runs: ['image_03']"
    assert one(found, "observations per condition")["value"] == "3 ('image_03') to 4 ('image_00')"


def test_a_condition_of_outlying_size_is_found() -> None:
    def enlarge(values: np.ndarray) -> None:
        values[13] = 40 * np.random.default_rng(1).normal(size=30)

    row = one(audit(measured(edit=enlarge)), "size of patterns")
    assert row["level"] == "warning"
    assert row["value"].startswith("1 of 40 are up to ")
    assert row["value"].endswith(" times as large as the median one: ['image_03 (run 2)']")
    assert one(audit(measured()), "size of patterns")["level"] == "ok"


def test_pairs_of_conditions_without_two_shared_runs_are_counted() -> None:
    row = one(audit(measured(n_runs=2, drop=13)), "balance of runs")
    assert row["level"] == "warning"
    assert row["value"].endswith("['image_03']; 9 pairs of conditions are together in fewer than two runs")


def test_a_run_in_other_units_and_a_run_on_another_level_are_found() -> None:
    def rescale(values: np.ndarray) -> None:
        values[20:30] *= 10

    def shift(values: np.ndarray) -> None:
        values[20:30] += 10

    row = one(audit(measured(edit=rescale)), "scale of runs")
    assert (row["level"], row["value"].endswith("(run 3)")) == ("warning", True)
    assert levels(audit(measured(edit=rescale)))["level of runs"] == "ok"
    assert levels(audit(measured(edit=shift)))["level of runs"] == "note"
    assert levels(audit(measured(edit=shift)))["scale of runs"] == "ok"


def test_the_agreement_of_odd_and_even_runs_is_reported() -> None:
    dataset = measured()
    halves = []
    for part in (0, 1):
        rows = (np.asarray(dataset.obs_descriptors["run"]) - 1) % 2 == part
        half = dataset.measurements[rows].reshape(2, 10, 30).mean(0)
        halves.append(half - half.mean(0))
    r = np.corrcoef(*halves)[:10, 10:]
    own = [calc_rdm(Dataset(half), method="correlation").dissimilarities[0] for half in halves]
    row = one(audit(dataset), "odd and even runs")
    assert f"{1 - r.diagonal().mean():.3f} for the same condition, " in row["value"]
    assert f"{1 - r[~np.eye(10, dtype=bool)].mean():.3f} for others" in row["value"]
    assert row["value"].endswith(f"RDMs of the halves r = {np.corrcoef(own)[0, 1]:.3f}")
    assert "distinguished 100 %" in row["value"]


def test_measurements_in_which_nothing_repeats_are_warned_about() -> None:
    def scramble(values: np.ndarray) -> None:
        np.random.default_rng(1).shuffle(values)

    assert one(audit(measured(edit=scramble)), "odd and even runs")["level"] == "warning"


def test_without_runs_observations_are_halved_and_too_few_are_reported() -> None:
    dataset = measured()
    del dataset.obs_descriptors["run"]
    found = audit(dataset)
    assert levels(found)["runs"] == "note"
    assert "odd and even observations" in one(found, "odd and even runs")["value"]
    narrow = Dataset(dataset.measurements[:, :1], obs_descriptors=dataset.obs_descriptors)
    assert one(audit(narrow), "odd and even runs")["level"] == "warning"  # one channel makes no pattern
    single = Dataset(dataset.measurements[:10], obs_descriptors={"stimulus": NAMES[:10]})
    assert one(audit(single), "odd and even runs")["value"].startswith("fewer than 3 conditions")


def test_series_and_several_regions_are_checked() -> None:
    described = {"stimulus": NAMES[:10] * 4, "run": np.repeat([1, 2, 3, 4], 10).tolist()}
    series = TemporalDataset(measured().measurements.reshape(40, 6, 5), obs_descriptors=described)
    found = audit(series)
    assert (found.facts["holds"], found.facts["times"]) == ("TemporalDataset", 5)
    assert levels(found)["odd and even runs"] == "ok"
    both = audit([measured(), series])
    assert both.facts["channels"] == [30, 6]
    where = both.findings.query("what == 'odd and even runs'")["where"]
    assert list(where) == ["V1", "dataset 1"]


# Figures


def titles(found: Audit) -> list[str]:
    return [ax.get_title(loc="left") for ax in found.figure().axes if ax.get_title(loc="left")]


@pytest.mark.slow
def test_the_figure_of_rdms_shows_subjects_values_map_and_agreement() -> None:
    found = audit(subjects(7))
    assert titles(found) == [
        *(f"simulated-0{s}" for s in (1, 3, 4, 5, 7)),
        "values, one line per RDM (7 of 7)",
        "map of the mean of 7 RDMs",
        "RDMs with each other",
    ]
    drawn = found.figure()
    matrix = np.ma.filled(
        next(ax for ax in drawn.axes if "each other" in ax.get_title(loc="left")).images[0].get_array()
    )
    expected = np.corrcoef(subjects(7).dissimilarities)
    off = ~np.eye(7, dtype=bool)
    np.testing.assert_allclose(matrix[off], expected[off])


def titled(found: Audit, title: str) -> Any:
    figure = found.figure()
    figure.draw_without_rendering()
    return next(ax for ax in figure.axes if ax.get_title(loc="left") == title)


@pytest.mark.slow
def test_the_figure_of_several_regions_shows_the_mean_and_the_map_of_each() -> None:
    v1, it = subjects(2, roi="V1", seed=1), subjects(3)
    both = rdms.concat([v1, it])
    found = audit(both)
    assert titles(found)[:4] == ["mean of 2: V1", "mean of 3: IT", "map of V1", "map of IT"]
    shown = titled(found, "mean of 3: IT").images[0].get_array()
    np.testing.assert_allclose(np.ma.filled(shown), it.get_matrices().mean(0))
    points = titled(found, "map of V1").collections[0].get_offsets()
    alone = titled(audit(v1), "map of the mean of 2 RDMs").collections[0].get_offsets()
    np.testing.assert_allclose(pdist(np.asarray(points)), pdist(np.asarray(alone)))
    legend = titled(found, "values, one line per RDM (5 of 5)").get_legend()
    assert [text.get_text() for text in legend.get_texts()] == ["V1", "IT"]


def test_many_rdms_are_correlated_target_by_target_whatever_their_order() -> None:
    v1, it = subjects(15, roi="V1", seed=1), subjects(15)
    both = rdms.concat([v1, it])
    mixed = [k + 15 * roi for k in range(15) for roi in (0, 1)]
    both.dissimilarities = both.dissimilarities[mixed]
    both.rdm_descriptors = {key: [column[k] for k in mixed] for key, column in both.rdm_descriptors.items()}
    ax = titled(audit(both), "RDMs with each other")
    assert [(label.get_text(), place) for label, place in zip(ax.get_yticklabels(), ax.get_yticks(), strict=True)] == [
        ("V1", 7.0), ("IT", 22.0),
    ]  # fmt: skip
    matrix = np.ma.filled(ax.images[0].get_array())
    expected = np.corrcoef(np.concatenate([v1.dissimilarities, it.dissimilarities]))
    off = ~np.eye(30, dtype=bool)
    np.testing.assert_allclose(matrix[off], expected[off])
    assert [line.get_ydata()[0] for line in ax.lines if line.get_ydata()[0] == line.get_ydata()[1]] == [14.5]


@pytest.mark.slow
def test_a_long_movie_is_drawn_from_its_first_to_its_last_time_with_some_times_named() -> None:
    found = audit(movie(1, [k / 100 for k in range(30)]))
    assert titles(found)[:5] == ["0.0 s", "0.07 s", "0.14 s", "0.22 s", "0.29 s"]
    labels = [label.get_text() for label in titled(found, "RDMs with each other").get_yticklabels()]
    assert (len(labels), labels[0], labels[-1]) == (12, "0.0 s", "0.29 s")
    assert found.figure().subfigs[0].get_suptitle() == "dissimilarity, 5 of 30"


@pytest.mark.parametrize(
    ("key", "words"), [("time", ["0.1 s", "0.2 s"]), pytest.param("layer", ["0.1", "0.2"], marks=pytest.mark.slow)]
)
def test_rdms_are_labelled_by_the_time_or_layer_in_which_they_differ(key: str, words: list[str]) -> None:
    given = rdms.from_array(subjects(2).dissimilarities, NAMES, descriptors={key: [0.1, 0.2]})
    ax = titled(audit(given), "RDMs with each other")
    assert [label.get_text() for label in ax.get_yticklabels()] == words
    given.dissimilarities[1] *= -1
    assert one(audit(given), "negative values")["where"] == f"1 of 2 RDMs: ['{words[1]}']"


def test_the_map_of_one_rdm_is_not_called_a_mean() -> None:
    assert titles(audit(subjects(1)))[1:3] == ["values, one line per RDM (1 of 1)", "map"]


def test_the_map_of_points_on_a_plane_is_that_plane() -> None:
    points = np.random.default_rng(0).normal(size=(20, 2))
    figure = audit(rdms.from_array(pdist(points, "sqeuclidean"), NAMES)).figure()
    mapped = next(ax for ax in figure.axes if ax.get_title(loc="left").startswith("map"))
    np.testing.assert_allclose(pdist(np.asarray(mapped.collections[0].get_offsets())), pdist(points))


@pytest.mark.slow
def test_figures_of_problems_can_be_drawn() -> None:
    def lose(squares: Any) -> None:
        squares[:, 4, :] = squares[:, :, 4] = np.nan
        squares[0] *= -1

    found = audit(edited(subjects(3), lose))
    assert "map of the mean of 3 RDMs, 19 of 20 conditions" in titles(found)
    found.figure().draw_without_rendering()
    nameless = subjects(1)
    del nameless.pattern_descriptors["stimulus"]
    assert "RDMs with each other: nothing to compare" in titles(audit(nameless))


def test_the_figure_of_measurements_shows_counts_and_repeats() -> None:
    found = audit(measured(drop=13))
    assert titles(found) == [
        *("measurements, 1st to 99th percentile", "observations by condition and run", "odd (rows) and even runs")
    ]
    counts = np.ma.filled(found.figure().axes[1].images[0].get_array())
    assert counts.shape == (10, 4)
    assert np.argwhere(counts == 0).tolist() == [[3, 1]]
    nameless = audit(Dataset(np.random.default_rng(0).normal(size=(6, 4))))
    assert titles(nameless) == ["measurements, 1st to 99th percentile"]


@pytest.mark.slow
def test_every_region_of_measurements_is_drawn_under_its_name() -> None:
    it = measured(noise=2)
    it.descriptors["roi"] = "IT"
    found = audit([measured(), it])
    assert titles(found) == [
        f"{roi}: {what}"
        for roi in ("V1", "IT")
        for what in (
            "measurements, 1st to 99th percentile", "observations by condition and run", "odd (rows) and even runs",
        )
    ]  # fmt: skip
    shown = titled(found, "IT: measurements, 1st to 99th percentile").images[0].get_array()
    np.testing.assert_array_equal(np.ma.filled(shown), it.measurements)
    assert len(titles(audit([measured() for _ in range(7)]))) == 3 * 5


def test_equal_counts_are_drawn_from_0() -> None:
    image = titled(audit(measured()), "observations by condition and run").images[0]
    assert image.get_clim() == (0, 1)


@pytest.mark.slow
def test_only_the_last_panel_of_a_row_has_a_scale_with_words() -> None:
    for found in (audit([measured(), measured()]), audit(movie(2, [0.05, 0.15]))):
        figure = found.figure()
        figure.draw_without_rendering()
        for part in figure.subfigs:
            words = [[bar.get_ylabel() for bar in ax.child_axes] for ax in part.axes]
            assert not any(label for bars in words[:-1] for label in bars)


def test_measurements_without_a_finite_value_are_drawn_empty() -> None:
    empty = measured(edit=lambda values: values.fill(np.nan))
    assert titles(audit(empty))[0] == "measurements, 1st to 99th percentile"


# Real data


def test_human_it_is_recognised(kriegeskorte92: Path, algonauts92: Path) -> None:
    names = [file.stem for file in sorted((algonauts92 / "images").iterdir())]
    found = audit(
        kriegeskorte92 / "92_brainRDMs.mat", names=names, stimuli=algonauts92 / "images", average_over="session"
    )
    assert found.can_teach
    assert (found.facts["reader"], found.facts["subjects"]) == ("matlab", ["BE", "KO", "SN", "TI"])
    assert one(found, "dissimilarity")["value"].startswith("likely correlation distance (1 - r)")
    assert "warning" not in set(found.findings["level"])


@pytest.mark.slow
def test_algonauts_fmri_is_recognised(algonauts92: Path) -> None:
    found = audit(algonauts92 / "target_fmri.mat", variable="IT_RDMs", axes="subject,conditions,conditions")
    assert not found.can_teach  # the file names no conditions
    row = one(found, "dissimilarity")
    assert row["where"] == "all 15 RDMs"
    assert row["value"].startswith("likely correlation distance (1 - r)")
    assert one(found, "agreement")["value"].startswith("each subject with the mean of the others: r = 0.45")


@pytest.mark.slow
def test_models_of_categories_and_judgements_are_recognised(kriegeskorte92: Path) -> None:
    found = audit(kriegeskorte92 / "92_modelRDMs.mat")
    told = found.findings.query("what == 'dissimilarity'")
    assert told["value"].iloc[0].startswith("likely a model of categories (animacy: only the values 0 and 1)")
    judged = audit(kriegeskorte92 / "92_behavRDMs.mat")
    assert one(judged, "dissimilarity")["value"].startswith("not recognised")


def test_a_single_observation_is_reported() -> None:
    found = audit(Dataset(np.random.default_rng(0).random((1, 20)), obs_descriptors={"stimulus": ["cat"]}))
    assert not found.can_teach
    assert one(found, "observations")["value"] == "one observation: nothing varies, and no RDM can be computed"
    assert "channels constant" not in set(found.findings["what"])


@pytest.mark.parametrize("order", ["lower", "upper"])
def test_pairs_in_the_order_of_the_other_triangle_are_suspected(order: str) -> None:
    rng = np.random.default_rng(0)
    points = rng.normal(size=(12, 3)) + np.repeat(np.eye(3) * 4, 4, axis=0)
    square = np.sqrt(((points[:, None] - points[None]) ** 2).sum(-1))
    held = {"lower": np.tril_indices(12, -1), "upper": np.triu_indices(12, 1)}[order]
    names = [f"c{k}" for k in range(12)]
    wrong = {"lower": "upper", "upper": "lower"}[order]
    found = audit(rdms.from_array(square[held], names, order=wrong)).findings.query("what == 'order of pairs'")
    assert found.level.tolist() == ["warning"]
    assert f"order='{order}'" in found.advice.item()
    right = audit(rdms.from_array(square[held], names, order=order)).findings
    assert not (right.what == "order of pairs").any()


@pytest.mark.parametrize("kind", ["random", "ranks", "squared", "correlation"])
def test_rdms_that_violate_the_triangle_inequality_otherwise_are_not_suspected(kind: str) -> None:
    rng = np.random.default_rng(1)
    points = rng.normal(size=(20, 6))
    pairs = {
        "random": rng.random(190),
        "ranks": np.argsort(np.argsort(pdist(points))) / 190,
        "squared": pdist(points) ** 2,
        "correlation": pdist(points, "correlation"),
    }[kind]
    found = audit(rdms.from_array(pairs, [f"c{k}" for k in range(20)])).findings
    assert not (found.what == "order of pairs").any()
