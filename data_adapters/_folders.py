"""Folders of maps: which files are observations, and what names and headers tell of them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

from brainrdl._checks import check_unique, quote, refuse
from data_adapters._maps import entity_of, stem, told_by_names

# What BIDS, SPM and FSL write beside maps of an effect: anatomy, masks, references, residuals and variances
_NO_OBSERVATION = re.compile(
    r"(.*_)?(boldref|sbref|mask|T1w|T2w|T2starw|FLAIR|T1map|dseg|probseg|PDw|T2map|UNIT1|inplaneT[12]|epi|fieldmap|phasediff|magnitude\d?|timeseries)"
    r"|ResMS|RPV|ResI_\d{4}"
    r"|(.*_)?(mean_func|example_func|filtered_func_data)|res4d|sigmasquareds|threshac1|corrections|weights\d+|neff\d+"
    r"|(rendered_)?thresh_[zf]+stat\d+|cluster_mask_[zf]+stat\d+|tdof_t\d+"
)
_FAMILIES = re.compile(r"(beta|con|ess|spmT|spmF)_\d{4}|(cope|varcope|pe|tstat|zstat|fstat|zfstat)\d+|.*(contrast)-.*")
_SPM_BETA = re.compile(r"spm_spm:beta \(\d+\) - (.*)", re.DOTALL)
_SPM_EFFECT = re.compile(r"Sn\((\d+)\) (.+)\*bf\((\d+)\)", re.DOTALL)
_SPM_LETTERS = 79  # a header holds no more
_REMEDY = "say which to read with a pattern, files="
_CANONICAL = 3  # basis functions: the response and its two derivatives


def check_observations(files: Sequence[Path]) -> None:
    """Refuse a folder that holds more than the maps of one effect."""
    strange = [file.name for file in files if _NO_OBSERVATION.fullmatch(stem(file))]
    if strange:
        refuse(f"the folder also holds {quote(strange)}, which are no observations; {_REMEDY}")
    found = {_family(file): file.name for file in files}
    if len(found) > 1:
        refuse(f"the folder holds maps of different kinds, like {quote(found.values())}; {_REMEDY}")


def _family(file: Path) -> str:
    found = _FAMILIES.fullmatch(stem(file))
    return next(filter(None, found.groups())) if found else ""


def check_links(files: Sequence[Path]) -> None:
    """Refuse links to files that are not here, as git-annex and DataLad leave them."""
    lost = [file.name for file in files if file.is_symlink() and not file.exists()]
    if lost:
        refuse(f"{quote(lost)} are links to files that are not here; fetch their content first (datalad get)")


def told_by_folder(files: Sequence[Path], headers: Sequence[str]) -> dict[str, list[str]]:
    """Name conditions and runs: as SPM wrote them into the headers, by ``contrast-``, else by the files' names."""
    betas = [match[1] for match in map(_SPM_BETA.fullmatch, headers) if match]
    if len(betas) == len(files):
        return _told_by_spm(betas)
    told = told_by_names(files)
    contrasts = [match[1] for match in (re.search(r"(?:^|_)contrast-([^_]+)", stem(file)) for file in files) if match]
    if len(contrasts) < len(files):
        return told | {"stimulus": [stem(file) for file in files]}
    _check_contrasts(files, contrasts)
    return told | {"stimulus": contrasts}


def _check_contrasts(files: Sequence[Path], contrasts: Sequence[str]) -> None:
    seen: dict[tuple[str, str, str], str] = {}
    for file, contrast in zip(files, contrasts, strict=True):
        key = contrast, entity_of(file.name, "ses"), entity_of(file.name, "run")
        if key in seen:
            refuse(
                f"{seen[key]!r} and {file.name!r} are both of contrast {contrast!r} in one run; {_REMEDY} "
                "('*stat-effect*'), or name the conditions in a table="
            )
        seen[key] = file.name


def _told_by_spm(betas: Sequence[str]) -> dict[str, list[str]]:
    """Take the names of SPM's regressors apart: conditions are observations, all else is not."""
    effects = [_SPM_EFFECT.fullmatch(name) for name in betas]
    cut = [name for name, effect in zip(betas, effects, strict=True) if len(name) + 22 >= _SPM_LETTERS and not effect]
    if cut:
        refuse(f"SPM's header has no room for the whole name {cut[0]!r}; name the conditions in a table=")
    functions = max((int(effect[3]) for effect in effects if effect), default=0)
    if functions > _CANONICAL:
        refuse(f"SPM's model has {functions} basis functions a condition (FIR?); name the betas to read in a table=")
    stimuli = [effect[2] if effect and _is_condition(effect) else "" for effect in effects]
    runs = [match[1] if (match := re.match(r"Sn\((\d+)\) ", name)) else "" for name in betas]
    return {"stimulus": stimuli, "run": runs}


def _is_condition(effect: re.Match[str]) -> bool:
    """Leave out derivatives, parametric modulators (``facexsize^1``), and products of two effects."""
    return effect[3] == "1" and not re.search(r".x.*\^\d+$", effect[2]) and "*bf(" not in effect[2]


def check_names(files: Sequence[Path]) -> None:
    """Refuse two files that differ in nothing but their suffix."""
    check_unique([stem(file) for file in files], "the folder, suffixes left out")
