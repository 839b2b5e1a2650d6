"What the checks say of themselves: nothing that did not run is counted as passed, and the attack says what it did."
import json, re, shutil, subprocess, sys
from pathlib import Path

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
TESTS = """import pytest, sys
def test_good(): pass
def test_bad(): assert False
@pytest.mark.parametrize("i", range(3))
@pytest.mark.skipif(True, reason="no browser here")
def test_out(i): pass
@pytest.mark.xfail(reason="known")
def test_known(): assert False
@pytest.fixture
def falls(): raise OSError
def test_set_up(falls): pass
"""


def notebook(path, *cells):
    code = [dict(cell_type="code", id=f"c{i}", metadata={}, outputs=[], execution_count=None, source=[text]) for i, text in enumerate(cells)]
    if cells[0].startswith("---"): code[0] = dict(cell_type="raw", id="c0", metadata={}, source=[cells[0]])
    path.write_text(json.dumps(dict(cells=code, metadata=dict(kernelspec=dict(name="python3", display_name="x", language="python")), nbformat=4, nbformat_minor=5)))


def test_what_did_not_run_is_not_passed(tmp_path):
    "The runner itself, on a small project: two passed, three failed, six skipped, each with its reason."
    (tmp_path / "tests").mkdir(); (tmp_path / "nbs").mkdir(); shutil.copy(HERE.parent / "settings.ini", tmp_path)
    (tmp_path / "tests" / "test_it.py").write_text(TESTS)
    notebook(tmp_path / "nbs" / "a.ipynb", "1 + 1", "#| gpu\nraise ValueError", "#| slow\nraise ValueError")
    notebook(tmp_path / "nbs" / "b.ipynb", "---\nskip_exec: true\n---", "raise ValueError")
    notebook(tmp_path / "nbs" / "c.ipynb", "raise ValueError")
    code = f"import sys; sys.path.insert(0, {str(HERE)!r}); import run; run.ROOT = run.Path({str(tmp_path)!r}); run.pytests(); run.notebooks(); run.close()"
    done = subprocess.run([sys.executable, "-c", code], cwd=tmp_path, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    lines = done.stdout.splitlines()
    assert lines[-1] == "2 passed, 3 failed, 6 skipped", done.stdout + done.stderr
    above = [l for l in lines if l.startswith("skipped: ")]
    assert above == ["skipped: tests.test_it::test_out (3 times): no browser here", "skipped: tests.test_it::test_known: known",
                     "skipped: notebook a.ipynb, 2 of its cells: marked gpu or slow; nbdev_test --flags gpu runs them", "skipped: notebook b.ipynb: it needs results; executed by tests/test_report.py"]
    assert {l for l in lines if l.startswith("failed: ")} == {"failed: tests.test_it::test_bad", "failed: tests.test_it::test_set_up", "failed: notebook c.ipynb"}


def test_the_notebooks_that_are_not_run_are_those_of_the_report():
    "They are executed by `run_report`, in `test_report.py`."
    from bizzaroworld.report import report_jobs
    out = {p.stem for p in (HERE.parent / "nbs").glob("*.ipynb") if re.search(r"(?m)^skip_exec: *true", "".join(json.loads(p.read_text(encoding="utf-8"))["cells"][0]["source"]))}
    assert out == {"index"} == {job[0] for job in report_jobs(Path("none"), Path("none")) if "/" not in job[0]}


def attack(*words): return subprocess.run([sys.executable, "-m", "tests.attack", *words], cwd=HERE.parent, capture_output=True, text=True, stdin=subprocess.DEVNULL)


def test_a_section_that_is_missing_is_wrong():
    done = attack("no-such-section")
    assert done.returncode == 1 and done.stdout.splitlines()[-1] == "0 tried, 1 wrong" and "there is no no-such-section.py" in done.stdout


def test_some_kills():
    "The shortest attack: some kills of either kind, and the folder is that of an undisturbed study."
    done = attack("kills", "--seconds", "40")
    found = re.search(r"(?m)^kills: (\d+) tried, (\d+) wrong \((\d+) random, (\d+) chosen, (\d+) moments\)", done.stdout)
    assert found, done.stdout + done.stderr
    tried, wrong, random, chosen, moments = map(int, found.groups())
    assert tried == random + chosen >= 4 and chosen >= 2 and moments >= 100 and not wrong, done.stdout
    assert done.returncode == 0 and done.stdout.splitlines()[-1] == f"{tried} tried, 0 wrong"


def test_the_attack_sees_what_is_wrong(tmp_path):
    "Left over, lost, one bit, another number; the seconds of a run may differ."
    from tests.attack.kills import differences
    whole = tmp_path / "whole"; whole.mkdir()
    (whole / "patches.parquet").write_bytes(b"abc"); (whole / "run.json").write_text('{"model": "x", "seconds": 1}')
    def changed(change):
        out = tmp_path / "out"; shutil.rmtree(out, ignore_errors=True); shutil.copytree(whole, out); change(out); return differences(out, whole)
    assert changed(lambda out: (out / "run.json").write_text('{"model": "x", "seconds": 2}')) == ""
    assert "left over ['.parts']" in changed(lambda out: (out / ".parts").mkdir()) and "lost ['run.json']" in changed(lambda out: (out / "run.json").unlink())
    assert changed(lambda out: (out / "patches.parquet").write_bytes(b"abb")) == "patches.parquet differs" and changed(lambda out: (out / "run.json").write_text('{"model": "y"}')) == "run.json differs"
