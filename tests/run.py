"""Every check of the project, and `N passed, N failed, N skipped` last, with the reason of each that was skipped above it.

The notebooks are tests: each cell runs in order, in a process of its own (one model a process).
pytest holds what no notebook can show well. Two more checks keep the library in step with the
notebooks and the notebooks clean.
"""
import json, os, re, shutil, subprocess, sys, tempfile, time
from collections import Counter
from xml.etree import ElementTree
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
# threads that spin while they wait make two processes on two cores many times slower
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE"); os.environ.setdefault("KMP_BLOCKTIME", "0")
os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_OFFLINE="1")
passed, failed, skipped = 0, [], []   # of what was skipped: the name and the reason


def report(name, good, seconds, text=""):
    global passed
    passed += good
    if not good: failed.append(name)
    print(f"{'ok  ' if good else 'FAIL'} {name} ({seconds:.0f} s)", flush=True)
    if not good: print(text[-6000:], flush=True)


def run(name, *words, cwd=ROOT):
    began = time.time()
    done = subprocess.run([str(w) for w in words], cwd=cwd, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    report(name, done.returncode == 0, time.time() - began, done.stdout + done.stderr)


def not_run(path):
    "The reason why a notebook is not executed here, or empty; and how many of its cells are marked gpu or slow."
    cells = ["".join(c["source"]) for c in json.loads(path.read_text(encoding="utf-8"))["cells"]]
    marked = sum(bool(re.search(r"(?m)^#\| *(gpu|slow)\b", text)) for text in cells)
    return "it needs results; executed by tests/test_report.py" if re.search(r"(?m)^skip_exec: *true", cells[0] if cells else "") else "", marked


def notebooks():
    "Each chapter, from top to bottom, as nbdev runs it."
    code = "import sys; from nbdev.test import test_nb; from pathlib import Path; good, _ = test_nb(Path(sys.argv[1]), skip_flags=['gpu', 'slow']); sys.exit(not good)"
    for path in sorted((ROOT / "nbs").glob("*.ipynb")):
        reason, marked = not_run(path)
        if reason: skipped.append((f"notebook {path.name}", reason)); continue
        run(f"notebook {path.name}", sys.executable, "-c", code, path)
        if marked: skipped.append((f"notebook {path.name}, {marked} of its cells", "marked gpu or slow; nbdev_test --flags gpu runs them"))


def in_step():
    "The library is what the notebooks export, and the notebooks are clean."
    with tempfile.TemporaryDirectory() as d:
        copy = Path(d) / "repo"
        shutil.copytree(ROOT, copy, ignore=shutil.ignore_patterns(".venv", ".git", "results", "_site", "_proc", "__pycache__", "*.egg-info"))
        tools = Path(sys.executable).parent
        subprocess.run([tools / "nbdev_export"], cwd=copy, check=True, capture_output=True)
        run("library in step with the notebooks", "diff", "-r", "-x", "__pycache__", "-x", "*.egg-info", ROOT / "bizzaroworld", copy / "bizzaroworld")
        subprocess.run([tools / "nbdev_clean"], cwd=copy, check=True, capture_output=True)
        run("notebooks clean", "diff", "-r", "-x", ".ipynb_checkpoints", ROOT / "nbs", copy / "nbs")


def counted(text):
    "What pytest's record says: how many passed, the names of those that failed, names and reasons of those that were skipped."
    good, bad, out = 0, [], []
    for case in ElementTree.fromstring(text).iter("testcase"):
        name = f"{case.get('classname')}::{case.get('name')}"
        left = case.find("skipped")
        if case.find("failure") is not None or case.find("error") is not None: bad.append(name)
        elif left is not None: out.append((name, left.get("message") or "no reason given"))
        else: good += 1
    return good, bad, out


TINY = [f"tests/test_{name}.py" for name in "engine families gpu hooked loading plain_hooks proof routing tokenizers".split()]   # tiny models, which one core computes as fast as two


def begin(name, words, folder, env={}):
    "A run of pytest, begun; what it says goes into a file."
    return subprocess.Popen([sys.executable, "-m", "pytest", "-q", "--durations=25", "-p", "no:cacheprovider", f"--junitxml={folder}/{name}.xml", *words], cwd=ROOT,
        stdin=subprocess.DEVNULL, stdout=(Path(folder)/name).open("w"), stderr=subprocess.STDOUT, env={**os.environ, **env})


def ended(name, process, folder):
    "Wait for it and count."
    process.wait()
    print((Path(folder)/name).read_text(encoding="utf-8"), flush=True)
    xml = Path(folder)/f"{name}.xml"
    count(name, process.returncode, xml.read_text(encoding="utf-8") if xml.is_file() else "")


def pytests(beside=lambda: None):
    "What the notebooks cannot show: whole commands, faults, the browser. Tests of tiny models run beside them on one core, then the notebooks."
    with tempfile.TemporaryDirectory() as d:
        tiny = [p for p in TINY if (ROOT/p).is_file()]
        rest = begin("rest", ["tests", *(f"--ignore={p}" for p in tiny)], d)
        try:
            if tiny: ended("tiny", begin("tiny", tiny, d, dict(OMP_NUM_THREADS="1")), d)
            beside()
        finally: ended("rest", rest, d)


def both():
    "The whole in less time: much of it waits for a browser, a file or a process that starts."
    pytests(beside=notebooks)


def count(name, status, text):
    "Add up what one run of pytest says."
    global passed
    if not text or status not in (0, 1): return report(f"pytest ({name})", False, 0, text)
    good, bad, out = counted(text)
    if status and not bad: bad = [f"pytest ({name}), which ended with {status}"]
    passed += good; failed.extend(bad); skipped.extend(out)


def close():
    "What failed, what was skipped and why (tests of one reason together), and the counts alone on the last line."
    for name in failed: print(f"failed: {name}")
    together = Counter((name.partition("[")[0], reason) for name, reason in skipped)
    for (name, reason), n in together.items(): print(f"skipped: {name}{f' ({n} times)' if n > 1 else ''}: {reason}")
    print(f"{passed} passed, {len(failed)} failed, {len(skipped)} skipped")


if __name__ == "__main__":
    only = sys.argv[1:]
    for step in (in_step, both) if not only else [s for s in (in_step, pytests, notebooks) if s.__name__ in only]: step()
    close()
    sys.exit(bool(failed))
