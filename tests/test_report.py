"The report's notebooks, executed by papermill on studies of four pairs: few pairs, and the shapes of the public study's models, are where a report breaks."
import html, json, re, shutil, subprocess
from pathlib import Path
from types import SimpleNamespace

import nbformat
import pandas as pd
import pytest
import yaml

from bizzaroworld import report, website
from bizzaroworld.battery import read_battery
from bizzaroworld.facts import InputError
from bizzaroworld.files import LOCK, lock, write_table
from bizzaroworld.models import load
from bizzaroworld.report import run_notebook, run_report
from bizzaroworld.website import book
from bizzaroworld.results import seal
from bizzaroworld.study import load_study, study

PAIRS = """category,clean_prompt,corrupt_prompt,clean_target,corrupt_target
capitals,The capital of France is,The capital of Japan is, Paris, Tokyo
capitals,The capital of Spain is,The capital of Italy is, Madrid, Rome
opposites,The opposite of hot is,The opposite of big is, cold, small
opposites,The opposite of big is,The opposite of long is, small, short
"""
FIGURE = re.compile(r'<figure class="[^"]*\bbz-chart\b')   # Quarto adds classes of its own
TWINS = {"gemma-2b": "gemma1", "gemma-3-12b-it": "gemma3_vision"}   # tiny random models of the architectures that the public study used


@pytest.fixture(scope="module")
def results(tiny_folders, tmp_path_factory):
    "One study made by the library, one by the notebook itself."
    folder = tmp_path_factory.mktemp("report")
    (folder / "few.csv").write_text(PAIRS)
    for twin, kind in TWINS.items(): shutil.copytree(tiny_folders[kind], folder / twin)
    study(load(str(folder / "gemma-2b"), device="cpu", self_test=False), read_battery(folder / "few.csv"), out=folder / "results" / "gemma-2b", source=str(folder / "few.csv"))
    run_notebook(book() / "reports/study.ipynb", folder / "out.ipynb", model=str(folder / "gemma-3-12b-it"), battery=str(folder / "few.csv"), results=str(folder / "results" / "gemma-3-12b-it"), device="cpu")
    return folder


def test_a_kernel_that_dies_unasked_is_started_again(tmp_path, monkeypatch):
    "And one whose cell fails is not."
    for error, ends, starts in (("RuntimeError: Kernel died before replying to kernel_info", (1, 1, 0), 3), ("Kernel died before replying to kernel_info", (1, 1, 1, 0), 3), ("NameError: x", (1, 0), 1)):
        left, count = list(ends), []
        def run(*command, **words): count.append(1); return SimpleNamespace(returncode=left.pop(0), stderr=error, stdout="")
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "run", run)
            if ends[starts - 1] == 0: assert run_notebook(book() / "reports/routes.ipynb", tmp_path / "o.ipynb") == tmp_path / "o.ipynb"
            else:
                with pytest.raises(RuntimeError, match=error[-12:]): run_notebook(book() / "reports/routes.ipynb", tmp_path / "o.ipynb")
        assert len(count) == starts


def keep_two(folder):
    "A whole study of two experiments only."
    table, run = pd.read_parquet(folder / "patches.parquet"), json.loads((folder / "run.json").read_text())
    digest = write_table(folder / "patches.parquet", table[table.experiment.isin(["1", "3"])])
    (folder / "run.json").write_text(json.dumps(seal(run | dict(files=run["files"] | {"patches.parquet": digest}))))


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
    keep_two(half)
    with pytest.raises(InputError, match="lacks experiment 2A, 2B, 4, 4F"): run_report(results=tmp_path / "half", site=tmp_path / "site", proc=tmp_path)
    assert not started


def little(*sources):
    "A notebook of these cells, the first of which holds the parameters."
    cells = [nbformat.v4.new_code_cell(s, metadata=dict(tags=["parameters"]) if not i else {}) for i, s in enumerate(sources)]
    return nbformat.v4.new_notebook(cells=cells, metadata=dict(kernelspec=dict(name="python3", display_name="Python 3", language="python")))


def test_a_parameter_arrives_as_it_is(tmp_path):
    "Papermill makes numbers of text that looks like one; and every path is a template to it."
    values = ["1000", "2024_06", "true", "True", "null", "None", "1e5", "nan", "0x10", "-p", "", " a ", "{a}", "'q' \"q\" \\n", "a\nb", "модель", None, True, False, 3, -1, 0.5, 1e20]
    given = {f"p{i}": v for i, v in enumerate(values)}
    folder = tmp_path / "{braces} and spaces"
    folder.mkdir()
    nbformat.write(little("\n".join(f"{k} = 'not set'" for k in given), f"print([{', '.join(given)}])"), folder / "{x}.ipynb")
    out = nbformat.read(run_notebook(folder / "{x}.ipynb", folder / "{out}.ipynb", **given), 4)
    assert eval(out.cells[-1].outputs[0].text) == values
    assert [type(v) for v in eval(out.cells[-1].outputs[0].text)] == [type(v) for v in values]


def test_the_reason_of_a_failed_notebook_is_its_last_error(tmp_path):
    nbformat.write(little("a = 1", "try: 1/0\nexcept ZeroDivisionError as e: raise ValueError(f'no *pair* in {__import__(\"pathlib\").Path(\"/home/me/studies/a.csv\")}:\\n<b>2</b> rows') from e"), tmp_path / "fails.ipynb")
    with pytest.raises(RuntimeError) as failed: run_notebook(tmp_path / "fails.ipynb", tmp_path / "out.ipynb", a=2)
    assert str(failed.value) == "fails.ipynb failed: ValueError: no *pair* in a.csv: <b>2</b> rows"


def stand_in(monkeypatch, fails):
    "Notebooks that are not run: those whose names are given fail half-way, the others are one line."
    told = {}
    def run(notebook, out, *, threads=0, **parameters):
        told[Path(out).name] = dict(parameters, there=sorted(p.name for p in Path(parameters["results"]).iterdir()))
        note = nbformat.v4.new_notebook(cells=[nbformat.v4.new_markdown_cell(f"# {Path(notebook).stem}\n\n> made\n\nmade")], metadata=dict(papermill=dict(parameters=parameters)))
        Path(out).parent.mkdir(parents=True, exist_ok=True); nbformat.write(note, out)
        if Path(out).stem in fails: raise RuntimeError("x.ipynb failed: ValueError: <b>no *pair*</b> {{< env HOME >}} in /home/me/a.csv")
    monkeypatch.setattr(report, "run_notebook", run)
    return told


def text_of(site, page):
    "What the main part of a page says."
    return html.unescape(re.sub(r"<[^>]+>", "", re.search(r"(?s)<main.*?</main>", (site / f"{page}.html").read_text())[0]))


def test_one_unlucky_study_or_notebook_leaves_its_reason_and_the_others_are_made(results, tmp_path, monkeypatch):
    there, proc, site = tmp_path / "results", tmp_path / "proc", tmp_path / "site"
    good = "a#b%20 *c*"   # a folder's name that is no file's name, no link and no Markdown
    for name in (good, "half", "damaged", "empty", "listed"): shutil.copytree(results / "results" / "gemma-2b", there / name)
    keep_two(there / "half")
    (there / "damaged" / "patches.parquet").write_bytes(b"PAR1 and no more"); (there / "empty" / "run.json").write_text("{}"); (there / "listed" / "run.json").write_text("[1]")
    (there / "shared").mkdir(); (proc / "_executed").mkdir(parents=True); (proc / "_executed" / "study-old.ipynb").write_text("{}")
    study_page, routes = (Path(website.page_file(kind, good)).stem for kind in ("study", "routes"))
    told = stand_in(monkeypatch, {routes, "compare", "battery"})
    with pytest.raises(RuntimeError) as failed: run_report(results=there, site=site, proc=proc)
    assert len(str(failed.value)) < 480 and "\n" not in str(failed.value) and str(failed.value).startswith("7 pages could not be made") and "compare" in str(failed.value)
    assert told["index.ipynb"]["there"] == [good, "shared"] and not (proc / "_shown").exists() and sorted(p.name for p in there.iterdir()) == sorted([good, "half", "damaged", "empty", "listed", "shared"])
    for page in (routes, "compare", "battery"):
        assert "ValueError: <b>no *pair*</b> {{< env HOME >}} in a.csv" in text_of(site, page) and "could not be made" in text_of(site, page)
    assert "made" in text_of(site, study_page) and "could not" not in text_of(site, study_page) and good in text_of(site, study_page)
    for page, why in {"study-half": "half lacks experiment 2A, 2B, 4, 4F", "study-damaged": "damaged", "study-empty": "run.json", "study-listed": "run.json cannot be read"}.items():
        assert why in text_of(site, page) and "/" not in why and str(tmp_path) not in (site / f"{page}.html").read_text(), page
    assert not (site / "study-old.html").exists() and not list(site.glob(f"{LOCK}*")) and not list(proc.glob(f"{LOCK}*"))
    menu = (site / "index.html").read_text()
    for page in (study_page, routes, "study-half"): assert menu.count(f'href="./{page}.html"') or menu.count(f'href="{page}.html"'), page


def test_no_study_that_can_be_shown_is_refused_before_anything_is_done(results, tmp_path, monkeypatch):
    told = stand_in(monkeypatch, ())
    for name in ("half", "other"): shutil.copytree(results / "results" / "gemma-2b", tmp_path / "results" / name); keep_two(tmp_path / "results" / name)
    with pytest.raises(InputError, match="lacks experiment 2A"): run_report(results=tmp_path / "results", site=tmp_path / "site", proc=tmp_path / "proc")
    assert not told and not (tmp_path / "proc").exists() and not (tmp_path / "site").exists()


def test_the_command_ends_with_1_and_one_line(results, tmp_path, monkeypatch):
    from bizzaroworld.cli import typed
    stand_in(monkeypatch, {"compare"})
    monkeypatch.setattr(report, "make_site", lambda proc, site: site / "index.html")
    monkeypatch.setattr(report, "execute", lambda *words, real=report.execute: real(*words[:2], tmp_path / "proc"))
    monkeypatch.setattr(report, "held", lambda proc, site: lock(tmp_path / "proc", "report"))
    status, said = typed(f"report --results {results / 'results'} --site {tmp_path / 'site'}")
    assert status == 1 and said.splitlines()[-1].startswith("bizzaroworld: ") and "1 page could not be made" in said.splitlines()[-1] and "compare" in said.splitlines()[-1]


def test_two_reports_at_once_do_not_mix(results, tmp_path, monkeypatch):
    told = stand_in(monkeypatch, ())
    for held in ("proc", "site"):
        with lock(tmp_path / held, "report"), pytest.raises(InputError, match=rf"{held} is in use by process \d+ .*report"):
            run_report(results=results / "results", site=tmp_path / "site", proc=tmp_path / "proc")
    assert not told
    run_report(results=results / "results", site=tmp_path / "site", proc=tmp_path / "proc")
    with lock(tmp_path / "proc", "report"), pytest.raises(InputError, match="in use"): report.render_site(site=tmp_path / "site", proc=tmp_path / "proc")
    (tmp_path / "site" / "mine.txt").touch()   # in a folder of ours: it goes with the next site
    assert report.render_site(site=tmp_path / "site", proc=tmp_path / "proc").is_file() and not (tmp_path / "site" / "mine.txt").exists()


def test_the_notebook_makes_the_study_that_it_shows(results):
    s = load_study(results / "results" / "gemma-3-12b-it")
    assert s.run["model"] == "gemma-3-12b-it" and s.run["counts"]["pairs_patched"] == 4 and set(s.tables) == {"patterns", "attention", "attribution", "paths", "circuit", "lens", "approximations", "maps", "tops"}
    assert s.run["layer_kinds"] == ["sliding_attention", "full_attention"] * 2


def test_a_report_of_four_pairs_on_the_twins(results, monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    site = run_report(results=results / "results", site=results / "site", proc=results / "proc").parent
    pages = {p.name: p.read_text() for p in site.glob("*.html")}
    assert {"index.html", "compare.html", "battery.html", "performance.html", *(f"{page}-{twin}.html" for page in ("study", "routes") for twin in TWINS)} <= set(pages)
    for twin in TWINS:
        where, how = pages[f"study-{twin}.html"], pages[f"routes-{twin}.html"]
        assert "What was run, and how to run it again" in where and len(FIGURE.findall(where)) >= 15 and "controls" in where
        assert len(list(site.glob(f"pair-{twin}-*.html"))) == 4
        assert len(FIGURE.findall(how)) >= 8
        # the weights are not where a report of this name would look for them: the pages are drawn from the study alone
        assert how.count('"AttentionHeads"') >= 2 and how.count('"ColoredTokens"') >= 2 and "Left out" not in how
    for i in range(1, 28): assert f'id="P{i}"' in pages["claims.html"], f"P{i} has no section of its own"


def test_a_new_page_is_one_notebook(tmp_path, monkeypatch):
    "In a checkout with one more notebook in `nbs/reports`: it is a page, has its place in the menus, and is told what it declares."
    shutil.copy(website.workplace() / "settings.ini", tmp_path); shutil.copytree(website.book() / "site", tmp_path / "nbs/site")
    shutil.copytree(website.book() / "reports", tmp_path / "nbs/reports", ignore=shutil.ignore_patterns(".ipynb_checkpoints"))
    shutil.copy(website.book() / "index.ipynb", tmp_path / "nbs")
    for name, kind in (("mine", "all"), ("each", "study")):
        head = nbformat.v4.new_raw_cell(f"---\nskip_exec: true\npage: {kind}\nmenu: Mine\nplace: 3\ntitle-of: once more\n---")
        told = nbformat.v4.new_code_cell("results = ''" + "\nmodel = ''\nbattery = ''" * (kind == "study"), metadata=dict(tags=["parameters"]))
        nbformat.write(nbformat.v4.new_notebook(cells=[head, nbformat.v4.new_markdown_cell("# Mine"), told], metadata=dict(kernelspec=dict(name="python3", display_name="x", language="python"))), tmp_path / f"nbs/reports/{name}.ipynb")
    monkeypatch.chdir(tmp_path)
    assert website.book() == tmp_path / "nbs" and list(website.pages()).index("reports/mine") < list(website.pages()).index("reports/battery")
    project = yaml.safe_load(website.project_file())["website"]
    assert "mine.ipynb" in [entry["href"] for entry in project["navbar"]["left"]]
    assert {"auto": "each-*.ipynb"} in project["sidebar"]["contents"][0]["contents"] and "mine.ipynb" in project["sidebar"]["contents"][0]["contents"]
    run = dict(model="org/a", selection="C", seed=0, dtype="float32", device="cpu", settings={}, n_layers=2, experiments=[], files={})
    (tmp_path / "results/a").mkdir(parents=True); (tmp_path / "results/a/run.json").write_text(json.dumps(seal(run)))
    jobs = {n: told for n, _, told in report.report_jobs(tmp_path / "results", tmp_path / "out")}
    assert jobs["reports/each"] == dict(results=str(tmp_path / "results/a"), model="org/a") and jobs["reports/mine"] == dict(results=str(tmp_path / "results"))
    assert website.page_title(Path("each-a.ipynb"), {}) == "a: once more"
