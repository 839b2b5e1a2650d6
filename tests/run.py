"""Every check of the project, and `N passed, N failed` last.

The notebooks are tests: each cell runs in order, in a process of its own (one model a process).
pytest holds what no notebook can show well. Two more checks keep the library in step with the
notebooks and the notebooks clean.
"""
import json, os, re, shutil, subprocess, sys, tempfile, time
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))
os.environ.update(TOKENIZERS_PARALLELISM="false", HF_HUB_DISABLE_PROGRESS_BARS="1", HF_HUB_OFFLINE="1")
passed, failed = 0, []


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


def notebooks():
    "Each chapter, from top to bottom, as nbdev runs it."
    code = "import sys; from nbdev.test import test_nb; from pathlib import Path; good, _ = test_nb(Path(sys.argv[1]), skip_flags=['gpu', 'slow']); sys.exit(not good)"
    skipped = []
    for path in sorted((ROOT / "nbs").glob("*.ipynb")):
        run(f"notebook {path.name}", sys.executable, "-c", code, path)
        skipped += [path.name for c in json.loads(path.read_text())["cells"] if c["cell_type"] == "code" and re.search(r"(?m)^#\| *(gpu|slow)\b", "".join(c["source"]))]
    if skipped: print(f"skipped: {len(skipped)} cells marked gpu or slow in {', '.join(sorted(set(skipped)))} (nbdev_test --flags gpu)", flush=True)


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


def pytests():
    "What the notebooks cannot show: whole commands, faults, the browser."
    global passed
    with tempfile.TemporaryDirectory() as d:
        xml = Path(d) / "pytest.xml"
        done = subprocess.run([sys.executable, "-m", "pytest", "-q", "--durations=8", f"--junitxml={xml}", "tests"], cwd=ROOT, stdin=subprocess.DEVNULL)
        text = xml.read_text() if xml.is_file() else ""
    found = re.search(r'errors="(\d+)" failures="(\d+)" skipped="(\d+)" tests="(\d+)"', text)
    if not found or done.returncode not in (0, 1): return report("pytest", False, 0, text)
    errors, failures, skipped, tests = map(int, found.groups())
    passed += tests - errors - failures - skipped
    failed.extend(["pytest"] * (errors + failures))


if __name__ == "__main__":
    only = sys.argv[1:]
    for step in (in_step, pytests, notebooks):
        if not only or step.__name__ in only: step()
    for name in failed: print(f"failed: {name}")
    print(f"{passed} passed, {len(failed)} failed")
    sys.exit(bool(failed))
