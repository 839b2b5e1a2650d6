"The package as it is installed from its wheel, outside any checkout: it studies a model and makes the site."
import os, shutil, subprocess, sys, sysconfig, venv
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def installed(tmp_path_factory):
    "A new environment with nothing but the wheel; what the package needs is seen from this one."
    folder = tmp_path_factory.mktemp("wheel")
    # a copy, since a build leaves folders beside what it builds
    tracked = subprocess.run(["git", "ls-files"], cwd=ROOT, capture_output=True, text=True)
    names = tracked.stdout.split("\n")[:-1] if tracked.returncode == 0 else [str(p.relative_to(ROOT)) for d in ("bizzaroworld", "data", "nbs") for p in (ROOT / d).rglob("*")]
    for name in {*names, "setup.py", "settings.ini", "pyproject.toml", "README.md"}:
        if (ROOT / name).is_file():
            (folder / "source" / name).parent.mkdir(parents=True, exist_ok=True); shutil.copy(ROOT / name, folder / "source" / name)
    build = "import setuptools.build_meta as b; print(b.build_wheel('.'))"
    made = subprocess.run([sys.executable, "-c", build], cwd=folder / "source", capture_output=True, text=True)
    assert made.returncode == 0, made.stderr[-2000:]
    wheel = next((folder / "source").glob("*.whl"))
    venv.create(folder / "env", with_pip=False)
    python = folder / "env" / "bin" / "python"
    site = Path(subprocess.run([python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True).stdout.strip())
    subprocess.run([sys.executable, "-m", "pip", "--quiet", "--python", python, "install", "--no-deps", "--no-index", wheel], check=True, capture_output=True)
    # not a .pth: that would run this environment's own, and find the checkout
    return python, {**os.environ, "PYTHONPATH": f"{site}{os.pathsep}{sysconfig.get_path('purelib')}", "HF_HUB_OFFLINE": "1"}, site


def test_the_wheel_holds_the_book(installed):
    _, _, site = installed
    book = site / "bizzaroworld" / "book"
    assert {p.name for p in (ROOT / "nbs").rglob("*.ipynb") if ".ipynb_checkpoints" not in p.parts} == {p.name for p in book.rglob("*.ipynb")}
    assert (book / "site" / "site.js").is_file() and (book / "method.md").is_file() and (site / "bizzaroworld/data/facts.csv").is_file()


def test_a_study_and_a_report_in_an_empty_folder(installed, tiny_folders, tmp_path):
    python, env, site = installed
    where = subprocess.run([python, "-c", "import bizzaroworld; print(bizzaroworld.__file__)"], cwd=tmp_path, env=env, capture_output=True, text=True)
    assert where.stdout.startswith(str(site)), "another one than the wheel's"
    tool = lambda *words: subprocess.run([python.with_name("bizzaroworld"), *words], cwd=tmp_path, env=env, capture_output=True, text=True)
    from test_cli import tiny_battery
    tiny_battery(tmp_path / "few.csv", 12)
    done = tool("study", "--model", str(tiny_folders["gemma3"]), "--battery", "few.csv", "--out", "results/tiny", "--quick")
    assert done.returncode == 0, done.stderr
    done = tool("report")
    assert done.returncode == 0, done.stderr
    pages = {p.stem for p in (tmp_path / "_site").glob("*.html")}
    assert {"index", "study-tiny", "routes-tiny", "compare", "battery", "performance", "method", "05_engine"} <= pages
    assert not (ROOT / "_proc" / "_executing").exists() and (tmp_path / "_proc").is_dir()
