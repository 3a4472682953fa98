# %% [markdown]
# # Distil a network
#
# A small network learns from few labels, and in addition from a large network: from its RDMs, from its class
# probabilities, or from both. Three seeds, and a control with shuffled names.
#
# The images are scikit-learn's handwritten digits (8 x 8 pixels). The large network is trained on 1,297 of them with all
# their labels. The small networks see the labels of 50 digits only. The [how-to](../how_to/distil_a_network.md) lists the
# other losses.

# %% tags=["parameters"]
TEACHER_STEPS, STEPS, SEEDS = 200, 200, (0, 1, 2)

# %%
import matplotlib.pyplot as plt
import pandas as pd
import torch
from sklearn.datasets import load_digits
from torch import nn

from brainrdl import NetworkTeacher, Stimuli, Student, Task, compare, fit
from brainrdl.distillation import KnowledgeDistillation
from brainrdl.teachers import control
from brainrdl.training import Term

data = load_digits()
order = torch.randperm(len(data.target), generator=torch.Generator().manual_seed(0)).tolist()
names = [f"digit_{k:04d}" for k in range(len(order))]
digits = Stimuli.from_arrays(
    torch.tensor(data.images[order] / 16, dtype=torch.float32)[:, None],
    names,
    labels={name: str(data.target[k]) for name, k in zip(names, order)},
).cached()
many, test = digits.select(names[:1297]), digits.select(names[1297:])
few = digits.select(names[:50])


def accuracy(student):
    """Return the share of test digits that are classified correctly."""
    student.eval()
    batch = test.batch(test.names)
    with torch.no_grad():
        return (student(batch.images).logits.argmax(1) == batch.labels).float().mean().item()


# %% [markdown]
# ## The large network


# %%
def convolutions(*channels):
    first, second = channels
    return nn.Sequential(
        nn.Sequential(nn.Conv2d(1, first, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2)),
        nn.Sequential(nn.Conv2d(first, second, 3, padding=1), nn.ReLU(), nn.Flatten()),
        nn.Linear(second * 16, 10),
    )


options = {"batch_size": 100, "lr": 0.003, "device": "cpu", "evaluate_every": 100}
torch.manual_seed(0)
large = Student(convolutions(32, 64), ["1", "2"])
fit(large, None, many, rdm_weight=0, task=Task(), steps=TEACHER_STEPS, **options)
print(f"accuracy of the large network: {accuracy(large):.3f}")

# %% [markdown]
# ## The small networks
#
# They have 8 and 8 channels instead of 32 and 64. All images may be used for the RDM and for the class probabilities,
# because neither needs a label; the labels of the task are those of 50 digits. `permuted` is the control: the large
# network's RDM with shuffled names.

# %%
teacher = NetworkTeacher(large.model, ["1"], stimuli=many, cache=True)
permuted = control("permuted", teacher=teacher, conditions=many.names, seed=0)
soft = {"soft labels": Term(KnowledgeDistillation(large.model, temperature=4), weight=1.0)}
conditions = {
    "labels only": {"teacher": None, "rdm_weight": 0},
    "+ permuted RDMs": {"teacher": permuted},
    "+ RDMs": {"teacher": teacher},
    "+ class probabilities": {"teacher": None, "rdm_weight": 0, "terms": soft},
    "+ both": {"teacher": teacher, "terms": soft},
}
rows = []
for seed in SEEDS:
    for condition, arguments in conditions.items():
        torch.manual_seed(seed)
        student = Student(convolutions(8, 8), ["1"])
        fit(student, stimuli=many, task=Task(few), steps=STEPS, seed=seed, **arguments, **options)
        similarity = compare(student.rdms(test), large.rdms(test).subset("layer", "1"), ["corr"])["similarity"].item()
        rows.append({"condition": condition, "accuracy": accuracy(student), "RDM similarity": similarity})
table = pd.DataFrame(rows)
table.groupby("condition", sort=False).agg(["mean", "min", "max"]).round(3)

# %% tags=["thumbnail"]
figure, axes = plt.subplots(1, 2, figsize=(7.1, 2.8), layout="compressed", sharey=True)
for ax, measure in zip(axes, ("accuracy", "RDM similarity")):
    for row, (_, part) in enumerate(table.groupby("condition", sort=False)):
        ax.plot(part[measure], [row] * len(part), "o", color="0.6", markersize=4)
        ax.plot(part[measure].mean(), row, "D", color="#0072b2")
    ax.set_xlabel(f"{measure}, test digits")
    ax.spines[["top", "right"]].set_visible(False)
axes[0].set_yticks(range(len(conditions)), list(conditions))
axes[0].invert_yaxis()

# %% [markdown]
# Grey points are seeds, diamonds their means. The RDM similarity is the Pearson correlation with the large network's RDM
# of test digits.
#
# Class probabilities raise the accuracy the most, and RDMs give the most similar RDM. With shuffled names, RDMs do
# neither: the gain comes from the information in the large network's RDM, and not from the additional loss.
#
# ## What this does not show
#
# - Weights, learning rate and number of steps are the same for all conditions and were not tuned. Another choice may
#   change the order.
# - Seeds differ in the initial weights and batches, not in the 50 labelled digits.
# - [MNIST with few labels](../experiments/mnist.md) compares RDMs with other methods, each with the same tuning.
