"""Write docs/examples/human_it.md, and the summary of the experiments with brains in the README, from tables.

python -m docs.experiments.human_it_page
"""

from __future__ import annotations

import re

import pandas as pd

from brainrdl.inference.p_values import format_p, p_equals
from docs.experiments.brains import HUMAN_IT, IT, MONKEY_IT
from docs.experiments.scoring import HERE, interval, load, markdown, number, percent, planned, wrapped, write
from docs.experiments.transfer import student

README = HERE.parents[1] / "README.md"
START, END = "<!-- written by docs/experiments/human_it_page.py -->", "<!-- end -->"
ROWS = (
    "average", "projection", "all weights", "average, unfitted", "projection, reweighted", "projection, unfitted",
    "projection, permuted", "untrained network", "all weights, unfitted", "category lookup", "animacy", "category",
)  # fmt: skip
CONTRASTS = (
    *(("projection", f"projection, {control}") for control in ("unfitted", "reweighted", "permuted")),
    *(("projection", other) for other in ("category lookup", "animacy", "all weights")),
    *(("average", other) for other in ("average, unfitted", "projection", "all weights", "category lookup", "animacy")),
    *(("all weights", other) for other in ("all weights, unfitted", "category lookup", "animacy")),
)


def tables() -> tuple[pd.DataFrame, pd.DataFrame, pd.DataFrame]:
    """Summary of Spearman correlations with the mean RDM and with subjects, and planned contrasts with the mean."""
    summary, contrasts = load("human_it"), load("human_it_contrasts")
    mean = summary[(summary["comparator"] == "spearman") & (summary["against"] == "mean")].set_index("student")
    single = summary[(summary["comparator"] == "spearman") & (summary["against"] == "subjects")].set_index("student")
    partial = summary[summary["comparator"] == "partial spearman"].set_index("student")
    wanted = contrasts[(contrasts["comparator"] == "spearman") & (contrasts["against"] == "mean")]
    found = planned(wanted, {(one, other, "hIT"): "planned" for one, other in CONTRASTS})
    return mean, single.join(partial[["score", "low", "high"]].add_suffix("_partial")), found


def score_table(mean: pd.DataFrame, single: pd.DataFrame) -> pd.DataFrame:
    """One row per student, control and model."""
    rows = []
    for name in (name for name in ROWS if name in mean.index):
        partial = {"score": single.loc[name, "score_partial"], "low": single.loc[name, "low_partial"]}
        partial |= {"high": single.loc[name, "high_partial"]}
        rows.append({
            "": name, "with the mean RDM": interval(mean.loc[name]),
            "share of ceiling": percent(mean.loc[name, "share"]),
            "with single subjects": interval(single.loc[name]),
            "partial, given the models": "" if partial["score"] != partial["score"] else interval(partial),
        })  # fmt: skip
    return pd.DataFrame(rows)


def contrast_table(found: pd.DataFrame) -> pd.DataFrame:
    """The planned contrasts."""
    return pd.DataFrame({
        "": found["student"], "minus": found["other"],
        "difference": [interval(row, "difference") for _, row in found.iterrows()],
        "corrected p": [format_p(p) for p in found["p_corrected"]],
    })  # fmt: skip


def transfer_table() -> pd.DataFrame:
    """Scores of the map that was fitted to the 4 subjects with other regions, and gains over the unfitted network."""
    summary = load("transfer_summary")
    scores = summary[summary["against"] == "mean"].set_index(["student", "target"])
    gains = load("transfer_contrasts").set_index(["family", "student", "target"])
    rows = []
    for target in (IT, MONKEY_IT):
        row = scores.loc[(student(HUMAN_IT, "student"), target)]
        gain = gains.loc[("minus unfitted", student(HUMAN_IT, "student"), target)]
        rows.append({
            "scored with": target, "fitted": interval(row), "share of ceiling": percent(row["share"]),
            "unfitted": interval(scores.loc[(student(HUMAN_IT, "unfitted"), target)]),
            "gain": interval(gain, "difference"), "corrected p": format_p(gain["p_corrected"]),
        })  # fmt: skip
    return pd.DataFrame(rows)


def verdict(row: pd.Series) -> str:
    """Whether a difference is significant, in words."""
    if row["p_corrected"] >= 0.05:
        return "is not significantly different from"
    return "scores higher than" if row["difference"] > 0 else "scores lower than"


PAGE = """
# Human IT: fit a pretrained network to a brain RDM

**Question.** Can a network learn, from the human IT RDM of some images, the RDM of other images?

**Data.** Human IT RDMs of 92 images, 4 subjects x 2 sessions (Kriegeskorte et al. 2008, doi
[10.1016/j.neuron.2008.10.043](https://doi.org/10.1016/j.neuron.2008.10.043)), from rsatoolbox's `demos/92imageData`
(`kriegeskorte92.tar.gz`). RDMs are averaged over sessions within each subject, and then over subjects.

**Students.** EfficientNet-Lite0 with ImageNet weights, read out at blocks 11 to 15. The outputs of each block are
averaged over space and concatenated (1,088 channels), and z-scored with the training images.

- *projection*: a linear map of these channels is trained, starting from the identity (SGD with momentum 0.9,
  learning rate 0.2, at most 30 steps). The number of steps is chosen by 4 inner folds within the training images.
- *all weights*: the whole network is trained, at 128 pixels, with the stored statistics of batch normalisation
  (Adam, learning rate 3e-4, at most 24 steps). Early stopping uses a fifth of the training images.
- *average*: the mean of the z-scored RDMs of the two, with equal weights that were fixed beforehand.
- *untrained network*: the readout of the projection in a network with random weights.
- *unfitted*: the same readouts before fitting. *permuted*: the projection, fitted in the same way (including the
  inner folds) to RDMs whose names were shuffled among the training images. *reweighted*: the unfitted projection
  with a non-negative weight for each channel, by ridge regression ([feature-reweighted
  RSA](../how_to/beyond_reweighting.md)).

The loss is 1 - Pearson correlation between the student's and the teacher's RDM over all pairs of training images.

**Scores.** There are five folds of the images, stratified by six categories, with {n_seeds} seeds. A pair counts
only if both images were held out together (about 153 pairs per fold). The students are compared with three models
without a network: *category* (same or different of six categories), *category lookup* (mean dissimilarity of the
two categories among the training images) and *animacy*.

**Planned contrasts.** The {n} contrasts of the second table, corrected by Holm's method: each student minus its
controls and the two best models, and the students minus each other. Nothing is chosen on held-out images.

<!-- not run: takes minutes -->
```bash
python docs/examples/human_it.py --out runs/human_it --figures docs/figures
python -m docs.experiments.human_it_page
```

On two idle cores, this takes 2 minutes for the projection with all controls, and 9 minutes for all weights. The
second command writes this page from the tables (`docs/experiments/results/human_it*.csv`). The projection is also
available as a recipe, [human_it.yaml](human_it.yaml).

## Results

![Scores of students, controls and models](../figures/human_it.png)

*Left: mean correlation with single subjects, with the leave-one-subject-out noise ceiling. Right: correlation with
the subjects' mean RDM, with the ceiling for the mean RDM. Bars are 95% intervals over images and subjects.*

Spearman correlations on held-out images, mean over 5 folds x {n_seeds} seeds, with 95% intervals over images and
subjects (n = 92 and 4). The last column is the partial correlation with the mean RDM given the category models. A
perfect model is expected to reach {ceiling} with the mean RDM, and {single} with single subjects (bounds of the
noise ceiling: {lower} to {upper}).

{scores}

Differences on the same pairs, with the mean RDM:

{contrasts}

- **Fitting a projection increases the score** by {projection_unfitted}. The permuted control scores {permuted},
  lower than the unfitted network ({unfitted}), so the increase is due to the information in this RDM and not to
  fitting alone.
- **Beyond reweighting**: the projection {projection_reweighted_words} weights of single channels
  ({projection_reweighted}).
- **The models**: the projection {projection_animacy_words} animacy ({projection_animacy}), and
  {projection_lookup_words} the category lookup ({projection_lookup}).
- **Training all weights** increases the score by {all_unfitted}. The projection {projection_all_words} all
  weights ({projection_all}).
- **The average of both students** scores {best}, {best_share} of the ceiling. It {average_projection_words} the
  projection ({average_projection}), {average_lookup_words} the category lookup ({average_lookup}),
  and {average_animacy_words} animacy ({average_animacy}). The aim of 0.70 was {stretch}.

![Held-out RDM of the projection, human IT, and their difference](../figures/human_it_rdms.png)
![The same, averaged over pairs of categories](../figures/human_it_categories.png)
![Training and inner validation curves](../figures/human_it_training.png)

## Other subjects, another species

Projections that were fitted in the same way were also scored with held-out objects and the RDMs of 15 other
subjects, who saw these objects on another background, and with monkey IT ([transfer](../experiments/transfer.md),
which chooses the number
of steps by three inner folds of at most 24 steps):

{transfer}

A final model, fitted to all images of one half and all subjects, is made and tested on the other half of the
objects and the 15 other subjects in [take the model
away](../how_to/take_the_model_away.md#fit-on-kriegeskortes-92-tested-on-another-set). How the score grows with the
numbers of images and subjects: [learning curves](../experiments/learning_curves.md).

## Limits

- Most of the explained structure is animacy. A model with one bit per image predicts nearly as much
  ({animacy_score}). Given the models of animacy, category and category lookup, the partial correlation of the
  projection is {partial}.
- Four subjects are few: the intervals of scores are wide. Those of differences are narrower, because both scores
  are from the same images and subjects.
- With four subjects, the mean of the other three is a poor predictor of a subject, so the lower bound of the noise
  ceiling is low, and a score above it is easily reached. The projection reaches {projection_share} of the ceiling
  for the mean RDM.
- Blocks, optimiser and learning rate were fixed before any score on this page was computed. They were chosen in a
  pilot analysis from inner-fold scores of all training folds. Together, these folds contain all 92 images, so this
  choice is not independent of them. The average was tried in the pilot as well (0.67). The choice of the number of
  steps is independent.
- The fits are those of an earlier version of this page. The reweighted control and the average were added later, on the
  same folds.
- Training all weights at 128 pixels is not the best possible analysis. Larger images and nested folds take hours on
  two cores. The permuted control was run for the projection only.
- Fit and test use the same subjects, with different images. `cross_validate(subjects="leave-one-out")` holds out
  both.
"""

SUMMARY = """
**[Human IT](docs/examples/human_it.md).** A linear readout of EfficientNet-Lite0 was fitted to the human IT RDM of
4 subjects. On held-out images it reaches a Spearman correlation of {projection} with the mean RDM
({projection_share} of what a perfect model is expected to reach), and {best} when its RDM is averaged with that of
a network whose weights were all trained. Before fitting, the readout reaches {unfitted} (difference
{projection_unfitted}). Fitted to RDMs with shuffled names, it reaches {permuted}. With weights of single channels
([feature-reweighted RSA](docs/how_to/beyond_reweighting.md)), it reaches {reweighted} (difference
{projection_reweighted}). The readout {projection_animacy_words} a model of animacy ({animacy_score}; difference
{projection_animacy}), and {projection_lookup_words} a model that knows the categories and their mean
dissimilarities ({lookup}; difference {projection_lookup}). P-values are corrected for all planned contrasts.
Intervals are over images and subjects and not corrected; in [simulations](docs/validity.md) they cover the truth in
93 to 95 % of data sets on average, and in fewer for some designs with several seeds.

**[Other brains](docs/experiments/transfer.md).** The readout that was fitted to 4 subjects also predicts IT of 15
other subjects for held-out objects ({carried_score}; gain over the unfitted network {carried}). In the other
direction, from the 15 to the 4, the gain is {back}. A fit to monkey IT predicts human IT of the 4 (gain {species});
with the 15 its gain is {species_fifteen}.  See also [how much
data a fit needs](docs/experiments/learning_curves.md), [what it would take](docs/experiments/power.md) to find
smaller differences, and [a brain beside a task](docs/experiments/brain_beside_task.md), in which human IT did not
predict held-out images significantly better than its controls did, and lowered the accuracy at weight 1. A [smaller
experiment](docs/examples/task_and_brain.md) had found an advantage over several controls.
"""


def gain(fitted_to: str, target: str) -> str:
    """What a fit to one region gains over the unfitted network with another, with its p-value."""
    gains = load("transfer_contrasts").set_index(["family", "student", "target"])
    row = gains.loc[("minus unfitted", student(fitted_to, "student"), target)]
    return with_p(row)


def with_p(row: pd.Series) -> str:
    """A difference with its interval and corrected p-value."""
    return f"{interval(row, 'difference')}, p {p_equals(row['p_corrected'])}"


def main() -> None:
    """Write both."""
    mean, single, found = tables()
    by_pair = found.set_index(["student", "other"])

    def minus(one: str, other: str) -> str:
        row = by_pair.loc[(one, other)]
        return with_p(row)

    words = {
        "scores": markdown(score_table(mean, single)), "contrasts": markdown(contrast_table(found)),
        "transfer": markdown(transfer_table()), "n": str(len(found)), "n_seeds": str(int(mean["n_seeds"].max())),
        "ceiling": number(mean["ceiling"].iloc[0]), "single": number(single["ceiling"].iloc[0]),
        "lower": number(single["ceiling_lower"].iloc[0]), "upper": number(single["ceiling_upper"].iloc[0]),
        "best": interval(mean.loc["average"]), "best_share": percent(mean.loc["average", "share"]),
        "projection": interval(mean.loc["projection"]), "projection_share": percent(mean.loc["projection", "share"]),
        "all_weights": interval(mean.loc["all weights"]), "animacy_score": number(mean.loc["animacy", "score"]),
        "stretch": "reached" if mean.loc["average", "score"] >= 0.7 else "not reached",
        "average_projection": minus("average", "projection"), "average_lookup": minus("average", "category lookup"),
        "average_lookup_words": verdict(by_pair.loc[("average", "category lookup")]),
        "average_animacy": minus("average", "animacy"),
        "projection_unfitted": minus("projection", "projection, unfitted"),
        "average_animacy_words": verdict(by_pair.loc[("average", "animacy")]),
        "average_projection_words": verdict(by_pair.loc[("average", "projection")]),
        "projection_reweighted": minus("projection", "projection, reweighted"),
        "projection_reweighted_words": verdict(by_pair.loc[("projection", "projection, reweighted")]),
        "projection_permuted": minus("projection", "projection, permuted"),
        "projection_lookup": minus("projection", "category lookup"),
        "projection_animacy": minus("projection", "animacy"),
        "projection_lookup_words": verdict(by_pair.loc[("projection", "category lookup")]),
        "projection_animacy_words": verdict(by_pair.loc[("projection", "animacy")]),
        "projection_all": minus("projection", "all weights"),
        "projection_all_words": verdict(by_pair.loc[("projection", "all weights")]),
        "all_unfitted": minus("all weights", "all weights, unfitted"),
        "unfitted": number(mean.loc["projection, unfitted", "score"]),
        "permuted": number(mean.loc["projection, permuted", "score"]),
        "reweighted": number(mean.loc["projection, reweighted", "score"]),
        "lookup": number(mean.loc["category lookup", "score"]),
        "partial": interval({k: single.loc["projection", f"{k}_partial"] for k in ("score", "low", "high")}),
    }  # fmt: skip
    write("human_it", PAGE.format(**words), HERE.parent / "examples")
    text = README.read_text(encoding="utf-8")
    place = re.compile(f"{re.escape(START)}.*?{re.escape(END)}", re.DOTALL)
    words |= {
        "carried_score": transfer_table().set_index("scored with").loc[IT, "fitted"],
        "carried": gain(HUMAN_IT, IT), "back": gain(IT, HUMAN_IT), "species": gain(MONKEY_IT, HUMAN_IT),
        "species_fifteen": gain(MONKEY_IT, IT),
    }  # fmt: skip
    summary = wrapped(SUMMARY.format(**words).strip())
    README.write_text(place.sub(lambda _: f"{START}\n{summary}\n{END}", text), encoding="utf-8")


if __name__ == "__main__":
    main()
