"""Write tables and figures of the pages from the CSV files: ``python -m docs.experiments.write_pages``."""

from __future__ import annotations

import argparse
import re
from collections.abc import Sequence
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.ticker import LogLocator, NullLocator

from brainrdl.inference import format_p
from brainrdl.plot.style import BLUE, INK, label_across, name_rows, rule, styled
from docs.experiments import architectures, cifar100, mnist
from docs.experiments.methods import METHODS
from docs.experiments.protocol import RESULTS, Experiment, Setting, costs_of, results_of, teachers, trials_of
from docs.experiments.scoring import markdown
from docs.experiments.statistics import Contrast, compare, summary

PAGES = Path(__file__).parent
SECOND = {
    "nll": "NLL", "ece": "ECE", "noise": "noise", "occlusion": "occlusion", "blur": "blur", "contrast": "contrast",
    "pixelate": "pixelate", "fgsm": "FGSM", "rdm_early": "RDM r, first stage", "rdm_late": "RDM r, last stage",
}  # fmt: skip
N_MAIN = 6  # the first methods of a setting, whose means are over the same seeds
PERCENT = ("ece", "noise", "occlusion", "blur", "contrast", "pixelate", "fgsm")


def errors(rows: pd.DataFrame, setting: Setting, costs: pd.DataFrame) -> pd.DataFrame:
    """Error of each method in percent, and its cost if it was measured; a method without rows is shown as missing."""
    found = summary(rows)
    failed = rows["nll"].isna().groupby(rows["method"]).sum()
    table = pd.DataFrame([_error_row(method, found, failed, setting) for method in setting.methods])
    seconds = costs[costs["setting"] == setting.name].set_index("method")["cpu_seconds"]
    if "cross-entropy" in seconds:
        table["cost"] = [f"{seconds[method] / seconds['cross-entropy']:.2f}" for method in setting.methods]
    return table


def _error_row(method: str, found: pd.DataFrame, failed: pd.Series, setting: Setting) -> dict[str, str]:
    if method not in found.index:
        return {"method": method, "test error, %": "missing", "sd": "", "seeds": f"0 of {setting.seeds}"}
    mean, sd, n = found.loc[method]
    note = f" ({failed[method]} diverged)" if failed[method] else ""
    return {
        "method": method, "test error, %": f"{100 * mean:.2f}", "sd": "" if n < 2 else f"{100 * sd:.2f}",
        "seeds": f"{int(n)} of {setting.seeds}{note}",
    }  # fmt: skip


def others(rows: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """Means of the other measures."""
    means = rows.groupby("method", sort=False)[list(SECOND)].mean()
    shown = [
        {"method": method, **{label: _measure(means.loc[method, name], name) for name, label in SECOND.items()}}
        for method in setting.methods
        if method in means.index
    ]
    return pd.DataFrame(shown, columns=["method", *SECOND.values()])


def _measure(value: float, name: str) -> str:
    return f"{100 * value:.1f}" if name in PERCENT else f"{value:.2f}"


def contrasts(rows: pd.DataFrame, planned: Sequence[Contrast], setting: str) -> pd.DataFrame:
    """The planned contrasts of a setting, corrected over those of all settings."""
    table = compare(rows, planned)
    return pd.DataFrame([_contrast_row(row) for row in table[table["setting"] == setting].to_dict("records")])


def _contrast_row(row: dict) -> dict[str, str]:
    named = {"contrast": f"{row['first']} - {row['second']}", "seeds": str(row["n"])}
    if np.isnan(row["difference"]):
        return named | {"difference, points": "missing", "95% interval": "", "p, seeds": "", "p, images": ""}
    return named | {
        "difference, points": f"{100 * row['difference']:+.2f}",
        "95% interval": f"{100 * row['low']:+.2f} to {100 * row['high']:+.2f}",
        "p, seeds": f"{format_p(row['p_seeds'])} ({format_p(row['holm_seeds'])})",
        "p, images": f"{format_p(row['p_images'])} ({format_p(row['holm_images'])})",
    }


def chosen_settings(trials: pd.DataFrame, setting: Setting) -> pd.DataFrame:
    """The settings with the fewest validation errors, of methods with all trials."""
    name = setting.tuned_as or setting.name
    rows = trials[(trials["setting"] == name) & (trials["trial"] < setting.trials)]
    found = []
    for method in setting.methods:
        own = rows[rows["method"] == method].sort_values(["error", "nll"])
        if len(own):
            best = own.iloc[0]
            found.append({
                "method": method, "trials": f"{len(own)} of {setting.trials}", "chosen": f"`{best['options']}`",
                "validation error, %": f"{100 * best['error']:.1f}", "range": f"{100 * own['error'].min():.1f} to "
                f"{100 * own['error'].max():.1f}",
            })  # fmt: skip
    return pd.DataFrame(found, columns=["method", "trials", "chosen", "validation error, %", "range"])


def draw(rows: pd.DataFrame, setting: Setting, path: Path) -> None:
    """Test error by method; dots are seeds, bars are means."""
    shown = [method for method in setting.methods if method in set(rows["method"])]
    with styled():
        figure, ax = plt.subplots(figsize=(6.4, 1.0 + 0.27 * len(shown)), layout="constrained")
        for y, method in enumerate(shown):
            here = 100 * rows.loc[rows["method"] == method, "error"]
            control = METHODS[method].settings_of is not None or method == "label RDM"
            ax.plot(here, [y] * len(here), "o", color=INK if control else BLUE, alpha=0.5, markersize=4.5)
            ax.vlines(here.mean(), y - 0.32, y + 0.32, color=INK, linewidth=1.8)
        name_rows(ax, shown)
        ax.set_ylim(len(shown) - 0.4, -0.6)
        if rows["error"].max() > 5 * rows["error"].median():  # a seed that failed
            ax.set_xscale("log")
            ax.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
            ax.xaxis.set_major_formatter("{x:g}")
            ax.xaxis.set_minor_locator(NullLocator())
        rule(ax, "x")
        label_across(ax, f"test error (%), {setting.name}")
        path.parent.mkdir(parents=True, exist_ok=True)
        figure.savefig(path, dpi=160)
        plt.close(figure)


def parts(experiment: Experiment, planned: Sequence[Contrast], folder: Path) -> dict[str, str]:
    """Text of each marked part of an experiment's page; figures are written on the way."""
    rows, trials, costs = (of(experiment.name, folder).rows() for of in (results_of, trials_of, costs_of))
    found = {}
    for number, setting in enumerate(experiment.settings, start=1):
        here = rows[rows["setting"] == setting.name]
        if here.empty:
            found |= {f"{kind} {number}": "No rows yet." for kind in ("errors", "contrasts", "others", "figure")}
            found[f"chosen {number}"] = markdown(chosen_settings(trials, setting)) if len(trials) else "No trials yet."
            continue
        found |= _means(here, setting, f"value {experiment.name} {number}")
        name = f"{experiment.name}_{number}.png"
        draw(here, setting, PAGES / "figures" / name)
        found |= {
            f"errors {number}": markdown(errors(here, setting, costs)),
            f"contrasts {number}": markdown(contrasts(rows, planned, setting.name)),
            f"others {number}": markdown(others(here, setting)),
            f"chosen {number}": markdown(chosen_settings(trials, setting)),
            f"figure {number}": f"![Test error by method, {setting.name}](figures/{name})",
        }
    return found


def _means(rows: pd.DataFrame, setting: Setting, prefix: str) -> dict[str, str]:
    """Mean error of the first methods over the seeds that all of them have, and of the others over their own."""
    main = setting.methods[:N_MAIN]
    first = rows[rows["method"].isin(main)]
    common = set.intersection(*(set(own["seed"]) for _, own in first.groupby("method")))
    table = summary(rows[~rows["method"].isin(main) | rows["seed"].isin(common)])
    means = {f"{prefix} {method}": percent(mean) for method, mean in table["mean"].items()}
    means |= {f"{prefix} seeds {method}": _n_seeds(n) for method, n in table["n"].items()}
    by_seed = rows.pivot(index="seed", columns="method", values="error")
    for method, errors_of in by_seed.items():
        means[f"{prefix} median {method}"] = percent(errors_of.median())
        means[f"{prefix} highest {method}"] = percent(errors_of.max())
        for other in by_seed.columns.drop(method):
            both = by_seed[[method, other]].dropna()
            n_lower = int((both[method] < both[other]).sum())
            means[f"{prefix} lower {method} / {other}"] = f"{n_lower} of {len(both)}"
    return means | {f"{prefix} seeds": _n_seeds(len(common))}


def percent(error: float) -> str:
    """An error in percent; small errors with two decimals.

    Examples
    --------
    >>> percent(0.0184), percent(0.1834)
    ('1.84 %', '18.3 %')
    """
    return f"{100 * error:.{2 if error < 0.1 else 1}f} %"


def _n_seeds(n: int) -> str:
    return "1 seed" if n == 1 else f"{n} seeds"


def values(folder: Path) -> dict[str, str]:
    """Single numbers in the text: errors of the teachers, in percent."""
    rows = teachers(folder).rows()
    return {f"value {name}": f"{100 * error:.2f} %" for name, error in zip(rows["teacher"], rows["error"], strict=True)}


def write(page: Path, found: dict[str, str]) -> None:
    """Replace the marked parts of a page."""
    text = page.read_text(encoding="utf-8")
    for name, part in found.items():
        between = "" if name.startswith("value ") else "\n\n"  # in the middle of a sentence, or a block
        replaced = f"<!-- {name} -->{between}{part}{between}<!-- end -->"
        text = re.sub(rf"<!-- {re.escape(name)} -->.*?<!-- end -->", lambda _, new=replaced: new, text, flags=re.S)
    page.write_text(text, encoding="utf-8")


def main() -> None:
    """Write all pages."""
    parser = argparse.ArgumentParser(description=main.__doc__)
    parser.add_argument("--results", type=Path, default=RESULTS, help="folder of the CSV files")
    parser.add_argument("--show", type=Path, help="print the errors of this CSV file instead")
    asked = parser.parse_args()
    if asked.show is not None:
        print((100 * summary(pd.read_csv(asked.show))[["mean", "sd"]]).round(2).to_string())
        return
    folder = asked.results
    found = {
        PAGES / f"{module.EXPERIMENT.name}.md": parts(module.EXPERIMENT, module.CONTRASTS, folder)
        for module in (mnist, cifar100, architectures)
    }
    numbers = values(folder)
    for own in found.values():
        numbers |= {name: text for name, text in own.items() if name.startswith("value ")}
    for page, own in found.items():
        write(page, own | numbers)
    write(PAGES.parents[1] / "README.md", numbers)


if __name__ == "__main__":
    main()
