"""Plain RSA: everything that can be a model, matched by name, scored with every target, saved and read again."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from rsatoolbox.inference import eval_fixed
from rsatoolbox.model import ModelFixed
from rsatoolbox.rdm import RDMs, compare
from scipy.stats import ttest_ind

from brainrdl import BrainrdlError, RDMTeacher, RSAResult, Stimuli, Student, rdms, rsa
from brainrdl._core import progress
from brainrdl.analysis import scores_of_result
from brainrdl.analysis.best_layers import best_layers
from brainrdl.analysis.comparisons import Sampling, TargetRDMs, compare_all
from brainrdl.analysis.group_differences import group_differences
from brainrdl.analysis.model_sources import ModelRDM, model_rdms_of
from brainrdl.evaluation.held_out import teacher_rdms
from brainrdl.evaluation.scores import TeacherRDMs
from brainrdl.inference import ceiling_test
from brainrdl.reporting import rsa_methods, rsa_source

NAMES = [f"im{k:02d}" for k in range(16)]
N_PAIRS = 120
SUBJECTS = list("abcdef")


def brain(seed: int = 0, noise: float = 0.5) -> tuple[Any, np.ndarray]:
    rng = np.random.default_rng(seed)
    truth = rng.random(N_PAIRS)
    values = np.concatenate([truth + noise * rng.random((6, N_PAIRS)), truth + 3 * rng.random((6, N_PAIRS))])
    return rdms.from_array(values, NAMES, descriptors={"subject": SUBJECTS * 2, "roi": ["IT"] * 6 + ["EVC"] * 6}), truth


def layers(truth: np.ndarray, n: int = 3, seed: int = 1) -> Any:
    noise = np.random.default_rng(seed).random((n, N_PAIRS))
    values = truth + np.linspace(3, 0.5, n)[:, None] * noise
    return rdms.from_array(values, NAMES, descriptors={"layer": [f"conv{k}" for k in range(n)]})


def test_scores_with_single_subjects_are_those_of_rsatoolbox() -> None:
    data, truth = brain()
    net = layers(truth)
    found = rsa({"net": net}, data, comparators=["corr", "spearman", "tau-a"])
    for comparator in ("corr", "spearman", "tau-a"):
        rows = found.scores.query("comparator == @comparator and target == 'IT'")
        expected = compare(net, data.subset("roi", "IT"), method=comparator)
        np.testing.assert_allclose(rows["score"].to_numpy().reshape(3, 6), expected, atol=1e-10)
    theirs = eval_fixed([ModelFixed("one", net[0])], data.subset("roi", "IT"), method="corr")
    row = found.summary.query("comparator == 'corr' and against == 'subjects' and target == 'IT'").iloc[0]
    assert row["ceiling_lower"] == pytest.approx(theirs.noise_ceiling[0], abs=1e-10)
    assert row["ceiling_upper"] == pytest.approx(theirs.noise_ceiling[1], abs=1e-10)


def test_conditions_are_matched_by_name() -> None:
    data, truth = brain()
    net = layers(truth)
    shuffled = rdms.select(net, NAMES[::-1])
    first, second = (rsa({"net": given}, data, comparators="corr") for given in (net, shuffled))
    pd.testing.assert_frame_equal(first.summary, second.summary)


def test_other_conditions_are_refused_or_left_out_with_a_warning() -> None:
    data, truth = brain()
    fewer = rdms.select(layers(truth), NAMES[:12])
    message = r"only in the data .*'im12'.* keep the 12 in common with allow_missing=True"
    with pytest.raises(BrainrdlError, match=message):
        rsa({"net": fewer}, data)
    with pytest.warns(UserWarning, match=r"4 conditions are left out .*'im12'"):
        found = rsa({"net": fewer}, data, comparators="corr", allow_missing=True)
    assert set(found.summary["n_stimuli"]) == {12}
    assert found.settings["left_out"] == NAMES[12:]
    expected = rsa({"net": fewer}, rdms.select(data, NAMES[:12]), comparators="corr")
    pd.testing.assert_frame_equal(found.summary, expected.summary)
    with pytest.raises(BrainrdlError, match="3 conditions in common"):
        rsa({"net": rdms.select(fewer, NAMES[:3])}, data, allow_missing=True)


def test_every_pair_of_models_and_of_targets_is_compared_once() -> None:
    data, truth = brain()
    found = rsa({"net": layers(truth), "pixels": rdms.from_array(truth, NAMES)}, data, comparators="corr")
    sizes = found.contrasts.groupby(["family", "against"]).size()
    assert sizes.to_dict() == {
        ("models", "mean"): 12, ("models", "subjects"): 12, ("targets", "mean"): 4, ("targets", "subjects"): 4,
    }  # fmt: skip
    summary = found.summary.set_index(["model", "layer", "target", "against"])["score"]
    for row in found.contrasts.to_dict("records"):
        first = summary[row["model"], row["layer"], row["target"], row["against"]]
        second = summary[row["other"], row["other_layer"], row["other_target"], row["against"]]
        assert row["difference"] == pytest.approx(first - second)
    within = rsa({"net": layers(truth)}, data, comparators="corr", between_targets=False)
    assert set(within.contrasts["family"]) == {"models"}


def test_the_true_model_is_not_below_the_ceiling_and_a_poor_one_is() -> None:
    data, truth = brain()
    noise = np.random.default_rng(5).random(N_PAIRS)
    models = {"true": rdms.from_array(truth, NAMES), "poor": rdms.from_array(truth + 2 * noise, NAMES)}
    rows = rsa(models, data.subset("roi", "IT"), comparators="corr").summary.query("against == 'subjects'")
    p = rows.set_index("model")["p_ceiling"]
    score = rows.set_index("model")["score"]
    assert p["poor"] < 0.001
    assert score["true"] > rows["ceiling_lower"].iloc[0]
    assert rows.set_index("model")["share"]["true"] == pytest.approx(1, abs=0.05)


def test_a_model_with_an_rdm_for_each_subject_is_compared_with_that_subject() -> None:
    data, _ = brain()
    it = data.subset("roi", "IT")
    own = rdms.from_array(it.dissimilarities[::-1].copy(), NAMES, descriptors={"subject": SUBJECTS[::-1]})
    found = rsa({"own": own}, it, comparators="corr")
    np.testing.assert_allclose(found.scores["score"], 1)
    np.testing.assert_allclose(found.summary["score"], 1)
    with pytest.raises(BrainrdlError, match=r"none for \['a'\] of the data"):
        rsa({"own": own.subset("subject", SUBJECTS[1:])}, it)


def test_a_target_with_one_subject_has_no_ceiling() -> None:
    data, truth = brain()
    found = rsa(layers(truth), data.subset("subject", "a"), comparators="corr")
    assert found.summary[["ceiling", "p_ceiling", "share"]].isna().all(axis=None)
    assert found.summary["low"].notna().all()


def test_the_best_layer_is_scored_on_data_that_did_not_choose_it() -> None:
    data, truth = brain()
    found = rsa({"net": layers(truth)}, data, comparators="corr", folds=4)
    chosen = found.best_layers[["target", "layer", "n_folds"]].values.tolist()
    assert chosen == [["IT", "conv2", 4], ["EVC", "conv2", 4]]
    assert found.best_layers["score"].between(found.best_layers["low"], found.best_layers["high"]).all()
    assert rsa({"net": layers(truth)}, data, comparators="corr", folds=0).best_layers.empty


def test_a_fold_in_which_the_chosen_layer_is_constant_has_no_score() -> None:
    """Two stimuli differ from all others: in a fold with neither of them, the layer has no correlation."""
    odd = np.zeros(16)
    odd[:2] = 1
    binary = np.abs(np.subtract.outer(odd, odd))[np.triu_indices(16, 1)]
    random = np.random.default_rng(0)
    data = rdms.from_array(binary + 1e-6 * random.random((3, N_PAIRS)), NAMES, descriptors={"subject": list("abc")})
    net = rdms.from_array(np.stack([binary, random.random(N_PAIRS)]), NAMES, descriptors={"layer": ["odd", "noise"]})
    row = rsa({"net": net}, data, comparators="corr", folds=4).best_layers.iloc[0]
    assert row["layer"] == "odd"
    assert row["score"] == pytest.approx(1, abs=1e-4)
    assert row["n_folds"] < 4


def test_a_constant_layer_is_never_the_best() -> None:
    """Its score is undefined, also where the scores of all other layers are negative."""
    data, truth = brain()
    pairs = torch.tensor(np.stack([np.ones(N_PAIRS), -truth]))
    rows = [ModelRDM("net", layer, tuple(NAMES), one[None]) for layer, one in zip(["dead", "live"], pairs, strict=True)]
    it = torch.tensor(data.subset("roi", "IT").dissimilarities)
    target = TargetRDMs.of(TeacherRDMs("IT", tuple(NAMES), tuple(SUBJECTS), it), rows)
    assert best_layers([target], ["corr"])["layer"].tolist() == ["live"]
    summary = compare_all([target], ["corr"], False, Sampling(), "holm")[0].set_index("layer")
    assert summary.loc["dead", ["score", "low", "high", "p", "p_ceiling"]].isna().all(axis=None)


def test_the_rdm_of_one_subject_of_the_data_is_not_a_model_for_the_others() -> None:
    """Its mean score would contain the correlation of this subject with itself."""
    data, _ = brain()
    it = data.subset("roi", "IT")
    own = it.subset("subject", "a").subset("roi", "IT")
    with pytest.raises(BrainrdlError, match=r"RDMs of single subjects \['a'\], but none for \['b', .* of the data"):
        rsa({"own": own}, it)
    monkey = rdms.from_array(own.dissimilarities.copy(), NAMES, descriptors={"subject": ["monkey"]})
    expected = compare(own, it, method="corr")[0]
    np.testing.assert_allclose(rsa({"it": monkey}, it, comparators="corr").scores["score"], expected, atol=1e-10)
    assert rsa({"own": own}, own, comparators="corr").summary["score"].tolist() == pytest.approx([1, 1])


def test_a_comparator_that_is_given_twice_counts_once() -> None:
    data, truth = brain()
    net = layers(truth)
    once, twice = (rsa({"net": net}, data, comparators=given) for given in (["corr"], ["corr", "corr"]))
    pd.testing.assert_frame_equal(once.summary, twice.summary)


@pytest.mark.slow
def test_choosing_among_layers_of_noise_is_not_optimistic() -> None:
    """The highest of 20 scores is above 0 by choice; the score of the chosen layer on other data is 0 on average."""
    chosen, highest = [], []
    for seed in range(40):
        rng = np.random.default_rng(seed)
        models = torch.tensor(rng.random((20, N_PAIRS)))
        subjects = torch.tensor(rng.random(N_PAIRS) + 0.3 * rng.random((4, N_PAIRS)))
        names = tuple(NAMES)
        rows = [ModelRDM("net", f"layer{k}", names, one[None]) for k, one in enumerate(models)]
        target = TargetRDMs.of(TeacherRDMs("IT", names, tuple("abcd"), subjects), rows)
        chosen.append(best_layers([target], ["corr"], folds=4)["score"].iloc[0])
        highest.append(compare_all([target], ["corr"], False, Sampling("none"), "holm")[0]["score"].max())
    error = np.std(chosen, ddof=1) / np.sqrt(len(chosen))
    assert np.mean(highest) > 0.1
    assert abs(np.mean(chosen)) < 3 * error


def test_intervals_of_scores_end_at_1(monkeypatch: pytest.MonkeyPatch) -> None:
    """With few stimuli, symmetric intervals of high scores would pass 1, the score of a perfect model."""
    generator = torch.Generator().manual_seed(0)
    truth = torch.rand(66, generator=generator, dtype=torch.float64)
    noise = torch.rand(4, 66, generator=generator, dtype=torch.float64)
    rows = [ModelRDM("net", f"layer {k}", tuple(NAMES[:12]), truth[None] + k * noise[3:]) for k in (1, 2)]
    teacher = TeacherRDMs("IT", tuple(NAMES[:12]), ("a", "b", "c"), truth + 0.4 * noise[:3])
    targets = [TargetRDMs.of(teacher, rows)]
    kinds = {"dyadic": Sampling(), "bootstrap": Sampling("dual-bootstrap", 50)}
    tables = {name: compare_all(targets, ["corr"], False, how, "holm")[0] for name, how in kinds.items()}
    tables["best"] = best_layers(targets, ["corr"], folds=3)
    assert max(table["high"].max() for table in tables.values()) == 1
    monkeypatch.setattr("brainrdl.inference.intervals.cut", lambda found, lowest, highest: found)
    assert compare_all(targets, ["corr"], False, kinds["bootstrap"], "holm")[0]["high"].max() > 1


def test_groups_of_subjects_are_compared_as_by_welch() -> None:
    data, truth = brain()
    it = data.subset("roi", "IT")
    groups = dict(zip(SUBJECTS, ["old", "old", "old", "young", "young", "young"], strict=True))
    found = rsa({"net": layers(truth)}, it, comparators="corr", groups=groups)
    scores = found.scores.pivot_table("score", "layer", "subject", sort=False)
    expected = scores[list("abc")].mean(axis=1) - scores[list("def")].mean(axis=1)
    np.testing.assert_allclose(found.groups["difference"], expected)
    welch = ttest_ind(scores[list("abc")], scores[list("def")], axis=1, equal_var=False)
    assert (found.groups["p"] > welch.pvalue / 10).all()  # other stimuli would add to the differences
    with pytest.raises(BrainrdlError, match="at least 2 groups of at least 2 subjects"):
        rsa({"net": layers(truth)}, it, groups={"a": "old", "b": "young", "c": "young"})
    with pytest.raises(BrainrdlError, match="groups: subject of target 'IT' 'z'"):
        rsa({"net": layers(truth)}, it, groups={"z": "old", "b": "young"})


def test_groups_with_another_truth_differ() -> None:
    rng = np.random.default_rng(0)
    truth, other = rng.random((2, N_PAIRS))
    subjects = np.concatenate([truth + 0.4 * rng.random((5, N_PAIRS)), other + 0.4 * rng.random((5, N_PAIRS))])
    names = tuple(map(str, range(10)))
    teacher = TeacherRDMs("IT", tuple(NAMES), names, torch.tensor(subjects))
    target = TargetRDMs.of(teacher, [ModelRDM("true", "", tuple(NAMES), torch.tensor(truth)[None])])
    groups = {name: "first" if int(name) < 5 else "second" for name in names}
    row = group_differences([target], ["corr"], groups).iloc[0]
    assert row["low"] > 0.5
    assert row["p_corrected"] < 0.001


def test_networks_files_and_rdms_are_models(tmp_path: Path) -> None:
    data, truth = brain()
    images = Stimuli.from_arrays(torch.rand(16, 1, 4, 4, generator=torch.Generator().manual_seed(0)), NAMES)
    student = Student(torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(16, 8)), ["0", "1"], trainable="none")
    layers(truth).save(str(tmp_path / "net.h5"), file_type="hdf5")
    unnamed = rdms.from_array(np.stack([truth, truth[::-1]]), NAMES)
    found = rsa([student, tmp_path / "net.h5", unnamed], data, stimuli=images, comparators="corr", folds=0)
    labels = list(dict.fromkeys(zip(found.summary["model"], found.summary["layer"], strict=True)))
    assert labels == [
        ("student", "0"), ("student", "1"), ("net", "conv0"), ("net", "conv1"), ("net", "conv2"), ("1", ""), ("2", "")
    ]  # fmt: skip
    expected = rdms.to_tensor(student.rdms(images, NAMES), dtype=torch.float64)
    np.testing.assert_allclose(found.models.dissimilarities[:2], expected)
    with pytest.raises(BrainrdlError, match=r"network 'student' needs the images .* give them with stimuli"):
        rsa(student, data)


def test_a_network_by_name_reads_a_folder_of_images(tmp_path: Path) -> None:
    from PIL import Image

    for k, name in enumerate(NAMES):
        pixels = np.random.default_rng(k).integers(0, 255, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).convert("RGB").save(tmp_path / f"{name}.png")
    found = model_rdms_of("small_cnn:conv1,conv2", Stimuli.from_folder(tmp_path), None, NAMES)
    assert [one.label for one in found] == ["small_cnn, conv1", "small_cnn, conv2"]


def test_a_network_with_trained_weights_is_not_compared_with_random_ones_by_mistake() -> None:
    stimuli = Stimuli.from_arrays(torch.rand(16, 3, 32, 32, generator=torch.Generator().manual_seed(0)), NAMES)
    with pytest.raises(
        BrainrdlError, match=r"network 'mobilenet_v3_small' has; give weights='DEFAULT' for trained ones"
    ):
        model_rdms_of("mobilenet_v3_small:features.0", stimuli, None, NAMES)
    random = model_rdms_of("mobilenet_v3_small:features.0", stimuli, None, NAMES, weights="random")
    assert [one.label for one in random] == ["mobilenet_v3_small, features.0"]


def test_a_network_of_a_function_is_a_model(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "my_networks.py").write_text(
        "from torch.nn import Flatten, Linear, Sequential\n\n\n"
        "def flat():\n    return Sequential(Flatten(), Linear(3 * 224**2, 4))\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    images = torch.rand(16, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    found = model_rdms_of("my_networks:flat:0,1", Stimuli.from_arrays(images, NAMES), None, NAMES)
    assert [one.label for one in found] == ["my_networks:flat, 0", "my_networks:flat, 1"]


def test_models_that_cannot_be_scored_are_refused() -> None:
    data, truth = brain()
    model = rdms.from_array(truth, NAMES)
    gap = rdms.from_array(np.where(np.arange(N_PAIRS) == 3, np.nan, truth), NAMES)
    for models, message in (
        ([], "no models were given"),
        ([3.0], "a model is RDMs, a file of RDMs, .* got float"),
        ({"gap": gap}, "model 'gap' has 1 unknown"),
        ({"same": RDMs(np.ones((1, N_PAIRS)), pattern_descriptors={"stimulus": NAMES})}, "model 'same' has the same"),
        ([model, model], r"several models are called \['model'\]"),
    ):
        with pytest.raises(BrainrdlError, match=message):
            rsa(models, data)
    for options, message in (
        ({"comparators": "kendall"}, "comparator 'kendall'"),
        ({"intervals": "bootstrap"}, "intervals 'bootstrap'"),
        ({"n_bootstrap": 100}, "n_bootstrap=100 has no effect with intervals='dyadic'"),
        ({"intervals": "dual-bootstrap", "n_bootstrap": 1}, "at least 2 resamples"),
        ({"correction": "bonferroni"}, "correction 'bonferroni'"),
    ):
        with pytest.raises(BrainrdlError, match=message):
            rsa({"model": model}, data, **options)


def test_without_intervals_only_the_scores_are_computed() -> None:
    data, truth = brain()
    bare, whole = (rsa(layers(truth), data, comparators="corr", intervals=kind) for kind in ("none", "dyadic"))
    assert bare.summary[["low", "high", "p"]].isna().all(axis=None)
    np.testing.assert_allclose(bare.summary["score"], whole.summary["score"])


@pytest.mark.slow
def test_a_bootstrap_gives_wider_intervals_of_the_same_scores_and_differences() -> None:
    data, truth = brain()
    models, both = layers(truth), {"comparators": ["corr", "spearman"], "folds": 0}
    found = rsa(models, data, intervals="dual-bootstrap", n_bootstrap=200, **both)
    usual = rsa(models, data, **both)
    for name, value in (("summary", "score"), ("contrasts", "difference")):
        table, other = getattr(found, name), getattr(usual, name)
        np.testing.assert_allclose(table[value], other[value], atol=1e-12)
        width, usual_width = table["high"] - table["low"], other["high"] - other["low"]
        assert (width / usual_width).median() > 1.05
    pd.testing.assert_series_equal(found.summary["p_ceiling"], usual.summary["p_ceiling"])
    assert found.settings["n_bootstrap"] == 200
    again = rsa(models, data, intervals="dual-bootstrap", n_bootstrap=200, **both)
    pd.testing.assert_frame_equal(again.summary, found.summary)


def test_the_methods_text_says_that_a_bootstrap_is_conservative() -> None:
    data, truth = brain()
    found = rsa(layers(truth), data, comparators="corr", intervals="dual-bootstrap", n_bootstrap=20, folds=0)
    page = rsa_source.RSA.of(found)
    text = " ".join(rsa_methods.methods_of_rsa(page))
    assert "20 resamples of the dual bootstrap" in text
    assert "conservative" in text
    cited = [reference.doi for reference in rsa_methods.references_of_rsa(page)]
    assert "10.7554/eLife.82566" in cited


def test_p_ceiling_is_that_of_the_ceiling_test() -> None:
    data, truth = brain()
    data.dissimilarities[0, :9] = np.nan
    noisy = truth + np.random.default_rng(5).random((2, N_PAIRS))
    rows = rsa(layers(truth), data, comparators=["corr", "spearman"]).summary.query("against == 'subjects'")
    for (target, comparator), of_target in rows.groupby(["target", "comparator"]):
        it = data.subset("roi", target)
        teacher = teacher_rdms(RDMTeacher(it), None, tuple(NAMES), (target,))[target]
        expected = ceiling_test(layers(truth).dissimilarities, teacher.pairs.double(), comparator)
        assert of_target["p_ceiling"].tolist() == pytest.approx([test.p for test in expected])
        difference = of_target["score"] - of_target["ceiling_lower"]
        assert difference.tolist() == pytest.approx([test.value for test in expected])
    assert (
        rsa({"noisy": rdms.from_array(noisy[0], NAMES)}, data.subset("subject", ["a", "b"]))
        .summary["p_ceiling"]
        .isna()
        .all()
    )  # the bound of one other subject cannot be made again without this subject


def test_a_result_of_rsatoolbox_has_the_scores_and_gives_them_back() -> None:
    data, truth = brain()
    models = layers(truth)
    found = rsa({"net": models}, data, comparators=["corr", "spearman"], folds=0)
    it = data.subset("roi", "IT")
    result = found.to_result("spearman", target="IT")
    expected = eval_fixed([ModelFixed(str(k), models[k]) for k in range(3)], it, method="spearman")
    np.testing.assert_allclose(result.evaluations, expected.evaluations)
    np.testing.assert_allclose(result.get_sem(), expected.get_sem())
    np.testing.assert_allclose(result.test_pairwise(), expected.test_pairwise())
    np.testing.assert_allclose(result.get_noise_ceil().squeeze(), expected.get_noise_ceil().squeeze())
    assert [model.name for model in result.models] == [f"net, conv{k}" for k in range(3)]
    rows = found.scores.query("comparator == 'spearman' and target == 'IT'").reset_index(drop=True)
    again = scores_of_result(result, target="IT", subjects=SUBJECTS)
    pd.testing.assert_frame_equal(again, rows, check_dtype=False)
    assert scores_of_result(expected)["model"].tolist() == [name for name in "012" for _ in SUBJECTS]
    with pytest.raises(BrainrdlError, match=r"targets \['IT', 'EVC'\]; choose one"):
        found.to_result()
    with pytest.raises(BrainrdlError, match="comparator 'cosine'"):
        found.to_result("cosine", target="IT")
    with pytest.raises(BrainrdlError, match="the 6 subjects of the result"):
        scores_of_result(result, subjects=["a"])
    result.cv_method = "bootstrap"
    with pytest.raises(BrainrdlError, match="the result is of 'bootstrap'"):
        scores_of_result(result)


@pytest.mark.slow
def test_a_saved_result_is_read_again(tmp_path: Path) -> None:
    data, truth = brain()
    groups = dict(zip(SUBJECTS, ["old", "old", "old", "young", "young", "young"], strict=True))
    found = rsa({"01": layers(truth)}, data, comparators="corr", groups=groups)
    page = found.save(tmp_path / "rsa")
    again = RSAResult.load(tmp_path / "rsa")
    for name in ("summary", "contrasts", "best_layers", "scores", "groups"):
        pd.testing.assert_frame_equal(getattr(again, name), getattr(found, name), check_dtype=False)
    np.testing.assert_allclose(again.models.dissimilarities, found.models.dissimilarities)
    assert page.name == "report.html"
    assert (tmp_path / "rsa" / "map.png").exists()
    assert repr(again) == "RSAResult(n_stimuli=16, models=['01'], targets=['IT', 'EVC'], comparators=['corr'])"
    (tmp_path / "rsa" / "summary.csv").write_text("model\n")
    with pytest.raises(BrainrdlError, match=r"summary.csv"):
        RSAResult.load(tmp_path / "rsa")


def test_slow_comparisons_show_progress_on_stderr(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(progress, "_AFTER", -1.0)
    data, truth = brain()
    options: dict[str, Any] = {"comparators": "corr", "intervals": "none", "folds": 2}
    rsa({"net": layers(truth)}, data, **options)
    shown = capsys.readouterr()
    assert "comparisons" in shown.err
    assert "best layers" in shown.err
    assert shown.out == ""
    rsa({"net": layers(truth)}, data, progress=False, **options)
    assert capsys.readouterr().err == ""
