"Every command of the README: run here where it is cheap, else held to be one that another check runs."
import re, shlex, subprocess
from pathlib import Path

import pytest

from bizzaroworld import cli
from bizzaroworld.report import check_parameters

ROOT = Path(__file__).resolve().parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"(?s)^```\n(.*?)\n```$", README, re.M)
STARTS = ("make ", "bizzaroworld ", "papermill ", "pip ", "export ")
# in blocks, and between backticks in the prose
LINES = dict.fromkeys(line for text in [*BLOCKS, *re.findall(r"`([^`\n]+)`", README)] for line in text.splitlines() if line.startswith(STARTS))
COMMANDS = [line for line in LINES if len(line.split()) > 1]


def of(tool): return [c for c in COMMANDS if c.startswith(tool + " ")]


def test_the_commands_were_found():
    assert {"make report", "make test", "make lab", "make site", "make attack"} <= set(COMMANDS)
    assert len(of("bizzaroworld")) >= 9 and len(of("papermill")) == 1 and len(of("pip")) == 2


@pytest.mark.parametrize("line", of("make"))
def test_make_knows_the_target(line):
    "`make test` is what runs this; `make report` makes the site; both set up the rest."
    words = [w for w in shlex.split(line) if "=" not in w]
    done = subprocess.run([*words, "--dry-run"], cwd=ROOT, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("line", of("bizzaroworld"))
def test_the_command_line_takes_it(line):
    if len(line.split()) > 2 or line == "bizzaroworld models": cli.parser().parse_args(shlex.split(line)[1:])
    else: assert line.split()[1] in cli.COMMANDS


def test_models_as_typed(capsys):
    assert cli.main(shlex.split("bizzaroworld models")[1:]) == 0
    said = capsys.readouterr().out
    assert all(name in said for name in ("gemma-3-270m", "smollm2-135m", "google/gemma-2b"))


def test_check_as_typed_with_the_battery_of_the_readme(tmp_path, monkeypatch, capsys):
    line, = [c for c in of("bizzaroworld") if c.startswith("bizzaroworld check") and "mine.csv" in c]
    table, = [b for b in BLOCKS if b.startswith("category,")]
    (tmp_path / "mine.csv").write_text(table + "\n")
    monkeypatch.chdir(tmp_path)
    assert cli.main(shlex.split(line)[1:]) == 0
    assert "1 of 1 pairs valid" in capsys.readouterr().out


def test_papermill_finds_what_is_typed():
    "The notebook itself is executed by `test_report.py`."
    words = shlex.split(of("papermill")[0])
    check_parameters(ROOT / words[1], {words[i + 1]: words[i + 2] for i, w in enumerate(words) if w == "-p"})


@pytest.mark.parametrize("line", of("pip"))
def test_pip_lines_are_those_of_the_set_up(line):
    arguments = line.replace("pip install ", "").replace('".[embedded]"', '".[embedded,dev]"')
    assert all(word.strip('"') in (ROOT / "Makefile").read_text() for word in arguments.split()), line


def test_the_memory_it_promises_is_that_of_the_models_table():
    from bizzaroworld.weights import known_model
    for name, said in (("google/gemma-2b", "5 GB"), ("google/gemma-3-12b-it", "24 GB")):
        spec = known_model(name)
        assert spec.dtype == "bfloat16" and f"{spec.memory_gb:.0f} GB" == said and said in README
