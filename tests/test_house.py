"The rules of the house hold, and each of them can be seen to fail."
import json, subprocess, sys
from pathlib import Path

import pytest

import house


def notebook(path, *cells):
    path.parent.mkdir(parents=True, exist_ok=True)
    made = [dict(cell_type=kind, id=str(i), metadata={}, source=[text], **({} if kind == "markdown" else dict(outputs=[], execution_count=None))) for i, (kind, text) in enumerate(cells)]
    path.write_text(json.dumps(dict(cells=made, metadata={}, nbformat=4, nbformat_minor=5)))


@pytest.mark.parametrize("rule", house.RULES)
def test_the_rule_holds(rule):
    "Files have as many faults as `NOT_YET` says, not one more; where they have fewer, the list is to say so."
    found = {name: len(faults) for name, faults in house.faults(rule).items()}
    known = house.NOT_YET.get(rule, {})
    worse = {n: f"{k} (known: {known.get(n, 0)})" for n, k in found.items() if k > known.get(n, 0)}
    assert not worse, f"{rule}: {worse}"
    better = {n: f"{found.get(n, 0)} (known: {k})" for n, k in known.items() if found.get(n, 0) < k}
    assert not better, f"{rule}: fewer than NOT_YET in tests/house.py says: {better}"


def test_no_name_is_defined_in_two_modules():
    assert not house.defined_twice()
    assert set(house.TWICE) <= {n for p in house.modules() for n in house.defined(p)}, "a name in TWICE that is nowhere"


FAULTY = {   # a file, its cells, and how often the rule fails there
    "no program in a page": ("nbs/reports/a.ipynb", [("code", "def f(): pass"), ("code", "g = lambda: 0"), ("code", "class A: pass"), ("code", "sorted([1], key=lambda x: x)")], 3),
    "lines of a page": ("nbs/reports/a.ipynb", [("code", "x = 1  # " + "y" * 110)], 1),
    "lines of a chapter": ("nbs/01_a.ipynb", [("code", "x = 1  # " + "y" * 120), ("code", "x" * 120)], 1),
    "cells of a notebook": ("nbs/01_a.ipynb", [("code", "1")] * 62, 2),
    "lines of an exported cell": ("nbs/01_a.ipynb", [("code", "#| export\n" + "x = 1\n" * 31), ("code", "x = 1\n" * 40)], 1),
    "prose of a chapter": ("nbs/01_a.ipynb", [("markdown", "# A")] + [("code", "1")] * 4 + [("code", "#| hide\n2")] * 9, 1),
    "shapes of tensors": ("nbs/01_a.ipynb", [("code", "#| export\ndef f(\n    x:torch.Tensor, # a\n    y, # `[row, token]` of b\n    z:Int[Tensor, 'row'], # c\n): pass\n\ndef _g(x:torch.Tensor): pass")], 2),
}


@pytest.mark.parametrize("rule", house.RULES)
def test_the_rule_can_fail(rule, tmp_path):
    name, cells, count = FAULTY[rule]
    notebook(tmp_path / name, *cells)
    assert {n: len(f) for n, f in house.faults(rule, tmp_path).items()} == {Path(name).name: count}


def test_a_name_in_two_modules_is_seen(tmp_path):
    for module, text in dict(a="X = 1\ndef f(): pass\n_y = 2", b="def f(): pass\n_y = 3", _modidx="X = 1").items():
        (tmp_path / "bizzaroworld").mkdir(exist_ok=True); (tmp_path / "bizzaroworld" / f"{module}.py").write_text(text)
    assert house.defined_twice(tmp_path) == {"f": ["a", "b"]}


def test_every_chapter_runs_something():
    "A notebook that is counted as passed has cells that run; those of the report are executed by its own tests."
    for path in house.chapters():
        assert sum(bool(house.body(t).strip()) for t in house.code(path)) > 3, path.name
        assert "skip_exec: true" not in house.source(house.cells(path)[0]), path.name


def test_importing_the_library_switches_nothing_on():
    "Somebody's own charts in their notebook stay as they are: only `theme.use()` changes how pictures are kept."
    names = [p.stem for p in house.modules()]
    code = ("import importlib, altair as alt; said = lambda: (alt.renderers.active, alt.data_transformers.active, alt.data_transformers.options, alt.theme.active); before = said()\n"
        f"for name in {names}: importlib.import_module('bizzaroworld.' + name)\nprint(said() == before)")
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()[-1] == "True"


def names_gone(text):
    "What a script takes from the library and is not there."
    import ast, importlib
    from importlib.util import find_spec
    taken = [(n.module, a.name) for n in ast.walk(ast.parse(text)) if isinstance(n, ast.ImportFrom) and (n.module or "").startswith("bizzaroworld") for a in n.names]
    return [f"{m}.{name}" for m, name in taken if not hasattr(importlib.import_module(m), name) and (m != "bizzaroworld" or find_spec(f"{m}.{name}") is None)]


def test_scripts_take_only_names_that_are_there():
    "Scripts that no test runs (benchmarks, attacks) break unseen when a function gets another name."
    from pathlib import Path
    found = {p.name: gone for p in Path(__file__).parent.rglob("*.py") if (gone := names_gone(p.read_text(encoding="utf-8")))}
    assert not found, found
    assert names_gone("from bizzaroworld.measuring import Load, at_hand") == ["bizzaroworld.measuring.at_hand"]


def test_every_pin_fits_every_python_that_we_name():
    "A pin that wants a newer Python than 3.11.0 ends the set-up of whoever has Debian's 3.11.2."
    from importlib.metadata import PackageNotFoundError, metadata
    from packaging.specifiers import SpecifierSet
    names, wrong = [line.partition("==")[0].strip() for line in (Path(__file__).parent.parent/"constraints.txt").read_text().splitlines() if "==" in line], []
    for name in names:
        try: wants = metadata(name).get("Requires-Python") or ""
        except PackageNotFoundError: continue   # of an extra that is not installed
        wrong += [f"{name} wants Python {wants}" for v in ("3.11.0", "3.12.0", "3.13.0") if not SpecifierSet(wants).contains(v)]
    assert len(names) > 100 and not wrong, wrong
