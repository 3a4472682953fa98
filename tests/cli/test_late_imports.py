"""Which libraries a command loads: import time is tested by names of modules, not by a clock."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from brainrdl import rdms

CONDITIONS = [f"image {k}" for k in range(6)]

LOADED = """
import json, sys
from brainrdl.cli.app import main
commands, watched = json.loads(sys.argv[1])
for words in commands:
    sys.argv = ['brainrdl', *words]
    try:
        main()
    except SystemExit as end:
        assert not end.code, end.code
    print(json.dumps([name for name in watched if name in sys.modules]))
"""

USED = """
from brainrdl.cli.late_imports import load_late
load_late()
import inspect
import rsatoolbox
assert rsatoolbox.vis.__file__.endswith('__init__.py') and inspect.getmodule(rsatoolbox.rdm.calc_rdm)
assert 'matplotlib' not in sys.modules
shown = rsatoolbox.vis.show_rdm
from rsatoolbox.vis.rdm_plot import show_rdm
assert shown is show_rdm and 'matplotlib' in sys.modules
try:
    rsatoolbox.vis.no_such_name
except AttributeError as error:
    print(error)
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    made = tmp_path_factory.mktemp("late")
    for seed, name in enumerate("ab"):
        found = rdms.from_array(np.random.default_rng(seed).random(15), CONDITIONS)
        rdms.to_table(found).to_csv(made / f"{name}.csv", index=False)
    return made


@pytest.fixture(scope="module")
def printed(folder: Path) -> list[str]:
    """Two commands that draw nothing, then a use of a module that was not loaded."""
    heavy = ["matplotlib", "sklearn", "skimage", "networkx.algorithms", "torchvision", "accelerate"]
    asked = json.dumps([[["compare", "a.csv", "b.csv"], ["doctor", "a.csv"]], ["torch", "rsatoolbox", *heavy]])
    done = subprocess.run([sys.executable, "-c", LOADED + USED, asked], capture_output=True, text=True, cwd=folder)
    assert done.returncode == 0, done.stderr[-2000:]
    return done.stdout.splitlines()


def test_a_command_that_draws_nothing_loads_no_figures(printed: list[str]) -> None:
    lists = [line for line in printed if line.startswith("[")]
    assert [json.loads(line) for line in lists] == [["torch", "rsatoolbox"]] * 2


def test_what_is_loaded_late_works_when_it_is_used(printed: list[str]) -> None:
    assert printed[-1] == "module 'rsatoolbox.vis' has no attribute 'no_such_name'"


def test_only_the_command_line_loads_modules_late() -> None:
    code = "import brainrdl.cli.app, sys; print([finder for finder in sys.meta_path if 'Late' in str(finder)])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"


IN_THREADS = """
import sys, threading, types
from pathlib import Path
sys.path.insert(0, sys.argv[1])
from brainrdl.cli import late_imports
late_imports.LATE = frozenset({'slow_one', 'whole'})
late_imports.load_late()
import slow_one, whole
seen = []
threads = [threading.Thread(target=lambda: seen.append(slow_one.last)) for _ in range(4)]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
assert seen == [1] * 4, seen
assert slow_one.__version__ == '3' and slow_one.made_up == 'made_up'
from whole import *
assert first == 5
"""


def test_what_is_loaded_late_is_complete_for_each_thread_and_has_its_version_and_list_of_names(tmp_path: Path) -> None:
    slow = "import time\n__version__ = '3'\ntime.sleep(0.2)\nlast = 1\ndef __getattr__(name):\n"
    refusal = "    if name != 'made_up': raise AttributeError(name)\n    return name\n"
    (tmp_path / "slow_one.py").write_text(slow + refusal)
    (tmp_path / "whole.py").write_text("__all__ = ['first']\nfirst = 5\n")
    done = subprocess.run([sys.executable, "-c", IN_THREADS, str(tmp_path)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    version = (
        "from brainrdl.cli.late_imports import load_late; load_late(); import networkx; print(networkx.__version__)"
    )
    done = subprocess.run([sys.executable, "-c", version], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
