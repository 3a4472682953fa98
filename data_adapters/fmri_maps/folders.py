"""Folders of maps: which files are observations, and what their names and headers say."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from brainrdl._core.errors import quote, read_arg, refuse
from brainrdl.readers.entities import value_of
from data_adapters.fmri_maps.maps import entities_in_names
from data_adapters.fmri_maps.pairing import names_of, stem

# What BIDS, SPM and FSL write next to maps of an effect: anatomy, masks, references, residuals and variances
_NO_OBSERVATION = re.compile(
    r"(.*_)?(boldref|sbref|mask|T1w|T2w|T2starw|FLAIR|T1map|dseg|probseg|PDw|T2map|UNIT1|inplaneT[12]|epi|fieldmap|phasediff|magnitude\d?|timeseries)"
    r"|ResMS|RPV|ResI_\d{4}"
    r"|(.*_)?(mean_func|example_func|filtered_func_data)|res4d|sigmasquareds|threshac1|corrections|weights\d+|neff\d+"
    r"|(rendered_)?thresh_[zf]+stat\d+|cluster_mask_[zf]+stat\d+|tdof_t\d+"
)

_NUMBERED = re.compile(r"(beta|con|ess|spmT|spmF)_\d{4}|(cope|varcope|pe|tstat|zstat|fstat|zfstat)\d+", re.IGNORECASE)

# How names express the kind of a map: at the end as nilearn writes it (face_z_score), or first (zmap_face)
_KIND = r"betas?|cope|varcope|effect_?size|effect_?variance|[tzfp]_?(?:map|score|value|stat)s?"

_WORDED = re.compile(rf"(?:.*[_.-])?({_KIND})|({_KIND})[_.-].*", re.IGNORECASE)

_SPM_BETA = re.compile(r"spm_spm:beta \(\d+\) - (.*)", re.DOTALL)

_SPM_EFFECT = re.compile(r"Sn\((\d+)\) (.+)\*bf\((\d+)\)", re.DOTALL)

_SPM_LETTERS = 79  # a header has room for no more

_AFNI = re.compile(r"(?P<name>.+)#(?P<number>\d+)_(?P<kind>Coef|Tstat|Fstat)", re.DOTALL)

_REMEDY = f"choose which to read with a pattern, {read_arg('files')}"

_CANONICAL = 3  # basis functions: the response and its two derivatives


def check_observations(files: Sequence[Path], pattern: str | None) -> None:
    """Refuse files of different kinds, and files that are not observations unless a pattern asks for them."""
    kinds = {_kind(file): file.name for file in files}
    strange = [file.name for file in files if _NO_OBSERVATION.fullmatch(stem(file))]
    if strange and pattern is None:
        refuse(f"the folder also holds {quote(strange)}, which are not observations; {_REMEDY}")
    if len(kinds) > 1:
        where = "the folder holds" if pattern is None else f"files={pattern!r} selects"
        refuse(f"{where} maps of different kinds, like {quote(kinds.values())}; {_REMEDY}")


def _kind(file: Path) -> str:
    """Name the kind of a map, as far as its file name says: by SPM, FSL or nilearn; masks and the like."""
    name = stem(file)
    if _NO_OBSERVATION.fullmatch(name):
        return "not an observation: " + re.sub(r"\d", "", name).rpartition("_")[2]
    contrast, statistic = re.search(r"(?:^|_)contrast-", name), value_of(name, "stat")
    if contrast or statistic:
        return f"contrast {statistic}" if contrast else f"stat {statistic}"
    found = _NUMBERED.fullmatch(name) or _WORDED.fullmatch(name)
    return next(filter(None, found.groups())).lower() if found else ""


def check_paths(paths: Sequence[str]) -> None:
    """Refuse maps of several subjects or tasks, and runs that only their folders distinguish."""
    for entity, what in (("sub", "subjects"), ("task", "tasks")):
        found = sorted({value_of(path, entity) for path in paths} - {""})
        if len(found) > 1:
            refuse(
                f"the folder holds maps of several {what}, {quote(found)} ({entity}-); read one at a time, for example "
                f"with {read_arg('files', f'*{entity}-{found[0]}_*')}"
            )
    named = [name for name, path in zip(names_of(paths), paths, strict=True) if name != path.rpartition("/")[2]]
    separate = [name for name in named if re.search(r"(^|[/_.])(run|ses)-?\d", name)]
    if separate:
        refuse(
            f"maps of several runs are in separate folders, like {separate[0]!r}; read them by a pattern of the "
            "folders, like read('sub-01/run-*.feat/stats', files='cope*.nii.gz')"
        )


def check_links(files: Sequence[Path]) -> None:
    """Refuse links to files that were not downloaded, as git-annex and DataLad leave them."""
    lost = [file.name for file in files if file.is_symlink() and not file.exists()]
    if lost:
        refuse(f"{quote(lost)} are links to files that were not downloaded; fetch their content first (datalad get)")


def names_in_folder(paths: Sequence[str], headers: Sequence[str]) -> dict[str, list[str]]:
    """Name conditions and runs: as in the headers that SPM wrote, by ``contrast-``, or by the files' names."""
    betas = [match[1] for match in map(_SPM_BETA.fullmatch, headers) if match]
    if len(betas) == len(paths):
        return _named_by_spm(betas)
    known, names = entities_in_names(paths), names_of(paths)
    contrasts = [match[1] for match in (re.search(r"(?:^|_)contrast-([^_]+)", name) for name in names) if match]
    if len(contrasts) < len(names):
        return known | {"stimulus": names}
    _check_contrasts(names, contrasts)
    return known | {"stimulus": contrasts}


def _check_contrasts(names: Sequence[str], contrasts: Sequence[str]) -> None:
    seen: dict[tuple[str, str, str], str] = {}
    for name, contrast in zip(names, contrasts, strict=True):
        key = contrast, value_of(name, "ses"), value_of(name, "run")
        if key in seen:
            refuse(
                f"{seen[key]!r} and {name!r} both hold contrast {contrast!r} of the same run; {_REMEDY} "
                f"('*desc-smoothed*'), or name the conditions in a {read_arg('table')}"
            )
        seen[key] = name


def _named_by_spm(betas: Sequence[str]) -> dict[str, list[str]]:
    """Parse the names of SPM's regressors: conditions are observations, all others are not."""
    effects = [_SPM_EFFECT.fullmatch(name) for name in betas]
    cut = [name for name, effect in zip(betas, effects, strict=True) if len(name) + 22 >= _SPM_LETTERS and not effect]
    if cut:
        refuse(f"SPM's header may have cut off the name {cut[0]!r}; name the conditions in a {read_arg('table')}")
    functions = _n_functions(effects)
    if functions > _CANONICAL:
        refuse(
            f"SPM's model has {functions} basis functions per condition (FIR?); name the betas to read in a "
            f"{read_arg('table')}"
        )
    stimuli = [effect[2] if effect and _is_condition(effect) else "" for effect in effects]
    runs = [match[1] if (match := re.match(r"Sn\((\d+)\) ", name)) else "" for name in betas]
    return {"stimulus": stimuli, "run": runs}


def _n_functions(effects: Sequence[re.Match[str] | None]) -> int:
    return max((int(effect[3]) for effect in effects if effect), default=0)


def _is_condition(effect: re.Match[str]) -> bool:
    """Leave out derivatives, parametric modulators (``facexsize^1``), and products of two effects."""
    return effect[3] == "1" and not re.search(r".x.*\^\d+$", effect[2]) and "*bf(" not in effect[2]


def names_of_afni(labels: Sequence[str]) -> list[str] | None:
    """Name the volumes of AFNI's bucket: ``face#0_Coef`` is "face"; tests and contrasts are not observations.

    Examples
    --------
    >>> names_of_afni(["Full_Fstat", "face#0_Coef", "face#0_Tstat", "house#0_Coef", "house#0_Tstat", "f-h_GLT#0_Coef"])
    ['', 'face', '', 'house', '', '']
    """
    found = [_AFNI.fullmatch(label) for label in labels]
    if not any(found):
        return list(labels) if labels and all(label.strip("#?0123456789 ") for label in labels) else None
    kinds = {match["kind"] for match in found if match}
    kind = "Coef" if "Coef" in kinds else next(iter(kinds))
    if "Coef" not in kinds and (len(kinds) > 1 or not all(found)):
        refuse(
            f"AFNI's labels {quote(labels)} are of several kinds of statistics; name the maps in a {read_arg('table')}"
        )
    kept = [
        match if match and match["kind"] == kind and not match["name"].endswith("_GLT") else None for match in found
    ]
    several = [match["name"] for match in kept if match and match["number"] != "0"]
    if several:
        refuse(
            f"AFNI's bucket holds several maps of {several[0]!r}, for basis functions or single trials; name the maps "
            f"to read in a {read_arg('table')}"
        )
    return [match["name"] if match else "" for match in kept]


def check_headers(headers: Sequence[str], stimuli: Mapping[str, str], names: Sequence[str]) -> None:
    """Refuse a table that names a beta differently from SPM's header; the table of a FIR model is not checked."""
    betas = [match[1] if (match := _SPM_BETA.fullmatch(header)) else "" for header in headers]
    effects = [_SPM_EFFECT.fullmatch(beta) for beta in betas]
    if _n_functions(effects) > _CANONICAL:
        return
    for effect, name in zip(effects, names, strict=True):
        if not effect or not _is_condition(effect) or name not in stimuli:
            continue
        stimulus = stimuli[name]
        called = re.sub(r"^Sn\(\d+\) |\*bf\(1\)$", "", stimulus)
        if called.casefold() != effect[2].casefold():
            refuse(
                f"the table names {name!r} {stimulus!r}, but SPM's header names it {effect[2]!r}: is this the table of "
                "another model, or in another order? (Without a table, the headers name the conditions.)"
            )
