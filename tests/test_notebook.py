"""The notebook for a cloud GPU: it is well formed, and its commands are ones that minseg takes."""

import ast
import json
import re
import shlex
from pathlib import Path

import pytest

from minseg import cli, kernels
from minseg.compare.cases import list_cases

FILE = Path(__file__).parents[1] / "lessons" / "gpu_colab.ipynb"
NOTEBOOK = json.loads(FILE.read_text("utf-8"))
CODE = ["".join(cell["source"]) for cell in NOTEBOOK["cells"] if cell["cell_type"] == "code"]
COMMANDS = [
    shlex.split(line) for text in CODE for line in re.findall(r"^!minseg (.*)$", text, re.M)
]


def test_it_is_a_notebook_of_format_4_without_outputs():
    assert NOTEBOOK["nbformat"] == 4
    assert NOTEBOOK["nbformat_minor"] >= 5  # cells have ids
    assert NOTEBOOK["metadata"]["kernelspec"]["language"] == "python"
    ids = [cell["id"] for cell in NOTEBOOK["cells"]]
    assert len(set(ids)) == len(ids)
    for cell in NOTEBOOK["cells"]:
        assert re.fullmatch(r"[a-zA-Z0-9_-]{1,64}", cell["id"])
        assert all(isinstance(line, str) for line in cell["source"])
        assert "".join(cell["source"]).strip()
        keys = {"cell_type", "id", "metadata", "source"}
        if cell["cell_type"] == "code":
            assert (cell["outputs"], cell["execution_count"]) == ([], None)
            keys |= {"outputs", "execution_count"}
        assert cell["cell_type"] in ("markdown", "code")
        assert set(cell) == keys


def test_its_python_compiles():
    for text in CODE:
        ast.parse(re.sub(r"^[!%].*$", "", text, flags=re.M))


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_minseg_takes_its_commands(words):
    options = vars(cli._parser().parse_args(words))
    assert set(options.get("ops", ())) <= set(list_cases())
    if options["command"] == "profile":
        assert all(kernels.find(target) for target in options["targets"])


def test_it_shows_every_tool():
    shown = {words[0] for words in COMMANDS}
    assert {"doctor", "compare", "profile", "ladder", "train"} <= shown


def test_what_was_edited_is_not_overwritten():
    """The cell that tries the edited kernels is run again and again; copying is another cell's."""
    assert not [text for text in CODE if "copytree" in text and "!minseg" in text]


def test_what_trains_on_both_is_the_same_but_for_the_device():
    """The learning rate's schedule depends on the number of steps: of another, losses differ."""
    runs = [vars(cli._parser().parse_args(words)) for words in COMMANDS if words[0] == "train"]
    assert [run.pop("device") for run in runs] == ["cuda", None]
    assert [run.pop("out") for run in runs] == ["on_gpu", "on_cpu"]
    assert runs[0] == runs[1]
