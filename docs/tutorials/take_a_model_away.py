# %% [markdown]
# # Take a model away
#
# One student is fitted to all images, scored on other images and other subjects, exported, and loaded again where
# brainrdl is not needed.
#
# The subjects are simulated and look at handwritten digits. The [how-to](../how_to/take_the_model_away.md) does the same
# with recipes and the command line, and shows an example with two studies of human IT.

# %% tags=["parameters"]
HIDDEN_STEPS, STEPS = 150, 60

# %% [markdown]
# ## Two studies
#
# Study A has 40 digits and six subjects, study B 40 other digits and ten other subjects.

# %%
import subprocess
import sys
from pathlib import Path

import matplotlib.pyplot as plt
import torch

from brainrdl import RDMTeacher, Student, Task, export, fit, plot
from brainrdl.datasets import simulate_subjects
from brainrdl.demo import digits
from brainrdl.evaluation import evaluate_elsewhere
from brainrdl.models import build

shown, others = digits(per_digit=8)
torch.manual_seed(0)
hidden = Student(build("small_cnn").module, ["pool"])
options = {"lr": 0.003, "device": "cpu"}
fit(hidden, None, others, rdm_weight=0, task=Task(), steps=HIDDEN_STEPS, batch_size=100, evaluate_every=50, **options)

images = {"A": shown.select(shown.names[::2]), "B": shown.select(shown.names[1::2])}
teachers = {}
for seed, (study, n_subjects) in enumerate({"A": 6, "B": 10}.items()):
    patterns = hidden.patterns(images[study])["pool"]
    measured = simulate_subjects(patterns, images[study].names, n_subjects=n_subjects, noise=1.5, seed=seed)
    teachers[study] = RDMTeacher(measured, name=f"study {study}")

# %% [markdown]
# ## Fit to all images of study A
#
# Nothing is held out, so this student has no score of study A that means anything. A cross-validation would estimate how
# well the procedure works; here, study B does.

# %%
torch.manual_seed(0)
student = Student(build("small_cnn").module, ["pool"])
unfitted = Student(build("small_cnn").module, ["pool"])
unfitted.model.load_state_dict(student.model.state_dict())
fitted = fit(student, teachers["A"], images["A"], steps=STEPS, **options)

# %% [markdown]
# ## Score it on study B
#
# `seen` are the images that the student was fitted to. An image of study B that is one of them, or nearly, would be
# refused.

# %%
scores = evaluate_elsewhere(
    fitted.student,
    teachers["B"],
    images["B"],
    images["A"],
    unfitted=unfitted,
    comparators=["spearman"],
)
shown_rows = scores.summary.query("comparator == 'spearman' and against == 'mean'")
shown_rows[["student", "score", "low", "high", "ceiling", "share"]].round(2)

# %% tags=["thumbnail"]
figure, ax = plt.subplots(figsize=(5.2, 3.0), layout="compressed")
plot.scores(scores, "spearman", "mean", ax)

# %% [markdown]
# ## Export

# %%
export(fitted, "digits_model", stimuli=images["A"], licence="cc-by-4.0", scores=scores)
for file in sorted(Path("digits_model").iterdir()):
    print(file.name, f"{file.stat().st_size / 1000:.0f} kB")

# %% [markdown]
# `README.md` is a model card with the scores and what they do not show.
#
# ## Load it without brainrdl
#
# A new Python process loads the folder with torch alone, and prints the same numbers as the student here.

# %%
code = """
import torch
from load import model

print(model(torch.zeros(1, 1, 8, 8))["pool"][0, :4].tolist())
"""
found = subprocess.run([sys.executable, "-c", code], cwd="digits_model", capture_output=True, text=True, check=True)
print(found.stdout)

# %%
with torch.no_grad():
    print(fitted.student.eval()(torch.zeros(1, 1, 8, 8)).patterns["pool"][0, :4].tolist())
