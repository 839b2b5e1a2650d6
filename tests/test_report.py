"The report's notebooks, executed by papermill on studies of four pairs: few pairs, and the shapes of the public study's models, are where a report breaks."
import shutil, subprocess
from types import SimpleNamespace

import pandas as pd
import pytest

from bizzaroworld import report
from bizzaroworld.battery import read_battery
from bizzaroworld.facts import InputError
from bizzaroworld.models import load
from bizzaroworld.report import book, run_notebook, run_report
from bizzaroworld.study import load_study, study

PAIRS = """category,clean_prompt,corrupt_prompt,clean_target,corrupt_target
capitals,The capital of France is,The capital of Japan is, Paris, Tokyo
capitals,The capital of Spain is,The capital of Italy is, Madrid, Rome
opposites,The opposite of hot is,The opposite of big is, cold, small
opposites,The opposite of big is,The opposite of long is, small, short
"""
TWINS = {"gemma-2b": "gemma1", "gemma-3-12b-it": "gemma3_vision"}   # tiny random models of the architectures that the public study used


@pytest.fixture(scope="module")
def results(tiny_folders, tmp_path_factory):
    "One study made by the library, one by the notebook itself."
    folder = tmp_path_factory.mktemp("report")
    (folder / "few.csv").write_text(PAIRS)
    for twin, kind in TWINS.items(): shutil.copytree(tiny_folders[kind], folder / twin)
    study(load(str(folder / "gemma-2b"), device="cpu", self_test=False), read_battery(folder / "few.csv"), out=folder / "results" / "gemma-2b", source=str(folder / "few.csv"))
    run_notebook(book() / "nbs/reports/study.ipynb", folder / "out.ipynb", model=str(folder / "gemma-3-12b-it"), battery=str(folder / "few.csv"), results=str(folder / "results" / "gemma-3-12b-it"), device="cpu")
    return folder


def test_a_kernel_that_dies_unasked_is_started_again(tmp_path, monkeypatch):
    "And one whose cell fails is not."
    for error, ends, starts in (("RuntimeError: Kernel died before replying to kernel_info", (1, 1, 0), 3), ("Kernel died before replying to kernel_info", (1, 1, 1, 0), 3), ("NameError: x", (1, 0), 1)):
        left, count = list(ends), []
        def run(*command, **words): count.append(1); return SimpleNamespace(returncode=left.pop(0), stderr=error, stdout="")
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "run", run)
            if ends[starts - 1] == 0: assert run_notebook(book() / "nbs/reports/routes.ipynb", tmp_path / "o.ipynb") == tmp_path / "o.ipynb"
            else:
                with pytest.raises(RuntimeError, match=error[-12:]): run_notebook(book() / "nbs/reports/routes.ipynb", tmp_path / "o.ipynb")
        assert len(count) == starts


def test_a_report_that_fails_leaves_the_last_one(results, tmp_path, monkeypatch):
    "Nothing is lost: neither the pages that were executed last, nor a folder that is somebody else's, nor time."
    (tmp_path / "_executed").mkdir(); (tmp_path / "_executed" / "index.ipynb").write_text("the last one")
    (tmp_path / "theirs" / "site_libs").mkdir(parents=True); (tmp_path / "damaged" / "a").mkdir(parents=True)
    started = []
    def fails(notebook, *words, **parameters): started.append(notebook); raise RuntimeError("a cell fails")
    monkeypatch.setattr(report, "run_notebook", fails)
    with pytest.raises(RuntimeError, match="a cell fails"): run_report(results=results / "results", site=tmp_path / "site", proc=tmp_path)
    assert (tmp_path / "_executed" / "index.ipynb").read_text() == "the last one" and started
    started.clear()
    with pytest.raises(InputError, match="is not empty"): run_report(results=results / "results", site=tmp_path / "theirs", proc=tmp_path)
    (tmp_path / "damaged" / "a" / "run.json").write_text("{")
    with pytest.raises(InputError, match="a/run.json cannot be read"): run_report(results=tmp_path / "damaged", site=tmp_path / "site", proc=tmp_path)
    half = tmp_path / "half" / "gemma-2b"
    shutil.copytree(results / "results" / "gemma-2b", half)
    patches = pd.read_parquet(half / "patches.parquet")
    patches[patches.experiment.isin(["1", "3"])].to_parquet(half / "patches.parquet")
    with pytest.raises(InputError, match="lacks experiment 2A, 2B, 4, 4F"): run_report(results=tmp_path / "half", site=tmp_path / "site", proc=tmp_path)
    assert not started


def test_the_notebook_makes_the_study_that_it_shows(results):
    s = load_study(results / "results" / "gemma-3-12b-it")
    assert s.run["model"] == "gemma-3-12b-it" and s.run["counts"]["pairs_patched"] == 4 and set(s.tables) == {"patterns", "attention", "attribution", "paths", "circuit", "lens"}
    assert s.run["layer_kinds"] == ["sliding_attention", "full_attention"] * 2


def test_a_report_of_four_pairs_on_the_twins(results, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    site = run_report(results=results / "results", site=results / "site", proc=results / "proc").parent
    pages = {p.name: p.read_text() for p in site.glob("*.html")}
    assert {"index.html", "compare.html", "battery.html", "performance.html", *(f"{page}-{twin}.html" for page in ("study", "routes") for twin in TWINS)} <= set(pages)
    for twin in TWINS:
        where, how = pages[f"study-{twin}.html"], pages[f"routes-{twin}.html"]
        assert "In plain words" in where and where.count('<figure class="bz-chart"') >= 15 and "controls" in where
        assert how.count('<figure class="bz-chart"') >= 8
        # the weights are not where a report of this name would look for them: the pages are drawn from the study alone
        assert how.count('"AttentionHeads"') >= 2 and how.count('"ColoredTokens"') >= 3 and "Left out" not in how
    for i in range(1, 18): assert f"<td>P{i}</td>" in pages["index.html"], f"P{i} has no verdict on the front page"
