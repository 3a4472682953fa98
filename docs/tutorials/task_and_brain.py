# %% [markdown]
# # A task and a brain together
#
# A small network learns to classify digits and to match the RDMs of simulated subjects at the same time. The weight of
# the RDM loss is varied, and each student is compared with a control whose RDM has shuffled names.
#
# The simulated subjects represent digits like a network that was trained on 1,757 of them. The student has only 100
# labels. The [how-to](../how_to/with_a_task.md) explains the options; [the example with real
# data](../examples/task_and_brain.md) trains on photographs and human IT.

# %% tags=["parameters"]
HIDDEN_STEPS, STEPS, SEEDS, WEIGHTS = 150, 200, (0,), (0, 0.3, 3)

# %%
import matplotlib.pyplot as plt
import torch

from brainrdl import RDMTeacher, Student, Task, cross_validate, fit, plot
from brainrdl.datasets import simulate_subjects
from brainrdl.demo import digits
from brainrdl.evaluation import Candidate
from brainrdl.models import build
from brainrdl.teachers import control

shown, others = digits(per_digit=4)  # 40 images with RDMs, and others with labels
torch.manual_seed(0)
hidden = Student(build("small_cnn").module, ["pool"])
options = {"batch_size": 100, "lr": 0.003, "device": "cpu"}
fit(hidden, None, others, rdm_weight=0, task=Task(), steps=HIDDEN_STEPS, evaluate_every=50, **options)
subjects = simulate_subjects(hidden.patterns(shown)["pool"], shown.names, n_subjects=8, n_voxels=50, noise=1.0)
teacher = RDMTeacher(subjects, name="simulated IT")

# %% [markdown]
# ## Students
#
# The task has 100 images with labels and 300 others for validation, from which accuracies are computed. Students are
# evaluated before the first and after the last step only.


# %%
def make():
    return Student(build("small_cnn").module, ["pool"])


order = torch.randperm(len(others), generator=torch.Generator().manual_seed(0)).tolist()
names = [others.names[k] for k in order]
task = Task(others.select(names[:400]), validation=tuple(names[100:400]), batch_size=100)
permuted = control("permuted", teacher=teacher, seed=0)
students = {}
for weight in WEIGHTS:
    students[f"RDM x {weight:g}" if weight else "task only"] = Candidate(make, {"rdm_weight": weight})
    if weight:
        students[f"permuted x {weight:g}"] = Candidate(make, {"rdm_weight": weight}, teacher=permuted)

evaluation = cross_validate(
    students,
    teacher,
    shown,
    task=task,
    folds=3,
    seeds=SEEDS,
    controls=[],
    comparators=["spearman"],
    steps=STEPS,
    evaluate_every=STEPS,
    monitor="task loss",
    lr=0.003,
    device="cpu",
)

# %% [markdown]
# ## Accuracy and score
#
# The score is the Spearman correlation with the subjects' mean RDM on images that were held out. The accuracy is the
# mean over folds and seeds.
#
# The number of steps matters. Before training, the patterns of this network hardly differ between images, and a
# correlation of RDMs does not depend on their scale, so its gradient is large and the RDM is learned first. After 40 steps,
# students with an RDM are far less accurate than the one without.

# %%
last = evaluation.histories.query("step == @STEPS").groupby("student")["validation_accuracy"].mean().rename("accuracy")
table = evaluation.summary.query("comparator == 'spearman' and against == 'mean'").join(last, on="student")
table[["student", "accuracy", "score", "low", "high", "ceiling"]].round(3)

# %% tags=["thumbnail"]
figure, ax = plt.subplots(figsize=(6.2, 3.6), layout="compressed")
kinds = {name: name.split(" x ")[0] for name in students}
plot.pareto(table.assign(teacher=table["student"].map(kinds)), "student", ax, by="teacher")

# %% [markdown]
# ## What this does not show
#
# These subjects were simulated from a network that solves the task. With a real brain, matching the RDM can cost accuracy
# instead. A gain over *task only* may come from any additional term of the loss, so compare with the permuted control. To
# report the best weight, choose it on other folds, or report all of them.
#
# The network from which subjects were simulated was trained on 1,757 digits. They include the 400 digits of the task, also
# those from which accuracies are computed. This flatters all students with an RDM.
