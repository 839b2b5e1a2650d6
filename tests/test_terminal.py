"The command in the terminals, pipes and hands that it meets: what it is given, where its words go, and how it is stopped."
import argparse, json, os, re, signal, subprocess, sys, unicodedata
from pathlib import Path
from types import SimpleNamespace

import pandas as pd
import pytest

from bizzaroworld import bench, cli, models, peers, results, study, weights
from bizzaroworld.facts import InputError
from bizzaroworld.hub import folder_name

HERE = Path(__file__).resolve().parent
TOOL = Path(sys.executable).parent / "bizzaroworld"
HEAD = "category,clean_prompt,corrupt_prompt,clean_target,corrupt_target\n"


def tool(*words, env={}, **options):
    heard = lambda: signal.signal(signal.SIGINT, signal.SIG_DFL)   # what is started in the background of a shell inherits a deaf ear
    options = dict(stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, preexec_fn=heard) | options
    return subprocess.run([TOOL, *map(str, words)], env={**os.environ, "HF_HUB_OFFLINE": "1", **env}, timeout=120, **options)


def one_line(said, *, holds=""):
    "A message of the command: one line, of bounded length, with nothing in it that a terminal would obey."
    lines = said.strip("\n").split("\n")
    assert len(lines) == 1 and lines[0].startswith("bizzaroworld") and len(lines[0]) <= 500 and "Traceback" not in said, said[:2000]
    assert harmless(said) and holds in said, said[:2000]
    return True


def harmless(text): return not [c for c in text if c != "\n" and unicodedata.category(c) in ("Cc", "Cs")]


def options():
    "Each option of each command that takes a word."
    commands = next(a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    return [(name, a.option_strings[0]) for name, p in commands.items() for a in p._actions if a.option_strings and a.nargs != 0]


# ---- what it is given

STRANGE = {"nothing": "", "a blank": " ", "NUL": "a\0b", "5,000 letters": "a" * 5000, "deep": "/".join("a" * 50 for _ in range(100)),
           "half a character": "a\ud800", "commands to the terminal": "\x1b[2J\x1b]0;x\x07\r" + "b" * 300, "5,000 digits": "9" * 5000}


@pytest.mark.parametrize("what", STRANGE)
def test_every_option_of_every_command_refuses_what_names_nothing(what, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(models, "load", lambda *a, **k: pytest.fail("a model was loaded"))
    assert len(options()) >= 20
    for command, option in options():
        needed = ["--model", "gemma-3-270m"] if command in ("check", "study", "bench") and option not in ("--model", "--shape") else []
        if what == "commands to the terminal" and option in ("--results", "--out", "--site"): continue   # a folder may be called so
        status = cli.main([command, *needed, option, STRANGE[what]])
        out, err = capsys.readouterr()
        assert status == 2 and one_line(err) and out == "", (command, option, status, err[:300])
    assert cli.main([STRANGE[what]]) == 2 and one_line(capsys.readouterr().err)
    assert not list(tmp_path.iterdir())


def test_a_folder_is_called_by_its_own_name(tmp_path, monkeypatch):
    (tmp_path / "x" / "y").mkdir(parents=True); monkeypatch.chdir(tmp_path / "x"); monkeypatch.setenv("HOME", str(tmp_path / "x"))
    assert {folder_name(name) for name in (".", "./", "../x/", str(tmp_path / "x"), "y/..", "~")} == {"x"}
    assert folder_name("./y/") == folder_name("~/y") == "y" and folder_name("google/gemma-2b") == "gemma-2b" and folder_name("~nobody-is-called-so/z") == "z"
    (tmp_path / "x" / "gemma-3-270m").symlink_to("y")   # a known name is the model's, whatever lies here
    assert folder_name("gemma-3-270m") == "gemma-3-270m"


BENCH = {"--pairs 1000000000": "the default battery holds at most 60", "--pairs 61": "at most 60", "--sample 1000000000": "at most 10,000", "--battery b.csv --pairs 3": "b.csv holds at most 2",
         "--out /proc/x.json": "cannot be written", "--out /dev/null": "no plain file", "--out .": "no plain file", "--out b.csv/x.json": "cannot be written", f"--out {'x' * 250}/{'y' * 250}/../z": ""}


@pytest.mark.parametrize("words", BENCH)
def test_bench_refuses_before_the_work(words, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "b.csv").write_text(HEAD + "c,France is,Japan is, Paris, Tokyo\nc,Spain is,Italy is, Madrid, Rome\n")
    class Loaded(Exception): pass
    def load(*words, **options): raise Loaded
    monkeypatch.setattr(models, "load", load)
    status = cli.main(["bench", "--model", "gemma-3-270m", *words.split()])
    said = capsys.readouterr().err
    assert one_line(said, holds=BENCH[words] or "Loaded") and status == (2 if BENCH[words] else 1)
    assert [p.name for p in tmp_path.iterdir()] == ["b.csv"] and not Path("/dev/null").is_file()
    assert cli.main(["bench", "--shape", "google/gemma-2b", "--pairs", "1000000000"]) == 2 and one_line(capsys.readouterr().err, holds="at most 10,000")


@pytest.mark.parametrize("words", (["study", "--model", "gemma-3-270m", "--out"], ["study", "--model", "gemma-3-270m", "--results"], ["report", "--site"]))
def test_a_place_that_cannot_be_written_is_refused_before_the_work(words, capsys):
    assert cli.main([*words, "/proc/1/x"]) == 2 and one_line(capsys.readouterr().err, holds="cannot be written")


def test_bench_takes_each_pair_once(tiny_models, tmp_path):
    "A battery of two pairs is measured on two; no more patches are drawn than there are; what is no number agrees with nothing."
    table = pd.DataFrame([("c", "The capital of France is", "The capital of Japan is", " Paris", " Tokyo"), ("o", "The opposite of hot is", "The opposite of big is", " cold", " small")], columns=HEAD.strip().split(","))
    found = bench.bench(tiny_models["llama"], table, pairs=60, sample=5, peers=False)
    assert found["pairs"] == 2
    args = SimpleNamespace(pairs=None, sample=None, shape=None, battery="b.csv")
    cli._bounded(args, table); assert (args.pairs, args.sample) == (2, 200)
    assert peers.gap(1.0, float("nan")) == float("inf") and peers.gap(3.0, 1.0) == 2.0


def test_a_file_where_the_user_stands_is_not_run(tmp_path, monkeypatch):
    "A process of our own imports libraries by name: the current folder is no place to find them."
    (tmp_path / "json.py").write_text("open('was-run', 'w')"); (tmp_path / "torch.py").write_text("open('was-run', 'w')")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(RuntimeError, match="KeyError"): peers.in_process("peers", dict(peer="nobody", threads=1, patches=[]))
    assert not (tmp_path / "was-run").exists()


# ---- where its words go

@pytest.fixture(scope="module")
def foreign(tiny_folders, tmp_path_factory):
    "A model and a battery whose names and texts are not ASCII and give orders to the terminal."
    folder = tmp_path_factory.mktemp("foreign")
    (folder / "modèle\x1b[31m日").symlink_to(tiny_folders["llama"])
    row = "c,The capital of France is,The capital of Japan is, Paris, Tokyo,"
    entities = "\x1b]0;owned\x07Zürich", "Spain", "long " * 2000
    (folder / "é\x1b[2J.csv").write_text(HEAD.strip() + ",entity_token\n" + "".join(f"{row.replace('France', c)}{e}\n" for c, e in zip(("France", "Spain", "Italy"), entities)), encoding="utf-8")
    return folder


def test_check_of_a_foreign_battery(foreign, monkeypatch, capsys):
    monkeypatch.chdir(foreign)
    words = ["check", "--model", "modèle\x1b[31m日", "--battery", "é\x1b[2J.csv"]
    assert cli.main(words) == 0
    out = capsys.readouterr().out
    assert harmless(out) and "modèle" in out and "Zürich" in out and max(map(len, out.split("\n"))) <= 500
    assert cli.main([*words, "--json"]) == 0
    out = capsys.readouterr().out
    assert out.isascii() and harmless(out) and json.loads(out)["valid"] == 1 and json.loads(out)["model"] == "modèle\x1b[31m日"   # a program gets every letter


def test_a_terminal_of_few_letters(foreign):
    "Replacement characters on both streams, never a stop half-way."
    done = tool("check", "--model", "modèle\x1b[31m日", "--battery", "é\x1b[2J.csv", cwd=foreign, env={"PYTHONIOENCODING": "ascii:strict"})
    assert done.returncode == 0 and done.stderr == b"", done.stderr
    assert b"mod?le" in done.stdout and b"Z?rich" in done.stdout and done.stdout.count(b"\n") == 3 and harmless(done.stdout.decode("ascii"))
    done = tool("check", "--model", "日本", cwd=foreign, env={"PYTHONIOENCODING": "ascii:strict"})
    assert done.returncode == 2 and one_line(done.stderr.decode("ascii"), holds="'??'")


@pytest.mark.parametrize("command", [[], *[[c] for c in cli.COMMANDS]])
def test_help_and_models_in_ascii(command, monkeypatch, capsys):
    with pytest.raises(SystemExit) as stopped: cli.parser().parse_args([*command, "--help"])
    text = capsys.readouterr().out
    assert stopped.value.code == 0 and text.isascii() and text.startswith("usage: bizzaroworld")
    assert cli.main([*command, "--help"]) == 0


@pytest.mark.parametrize("words", (["models"], ["models", "--json"], ["--help"]))
def test_nobody_reads_on(words):
    "As with `| head`: no word, and no traceback."
    reading, writing = os.pipe(); os.close(reading)
    done = tool(*words, stdout=writing); os.close(writing)
    assert done.returncode in ((1,) if words != ["--help"] else (0, 1)) and done.stderr == b"", done.stderr


def test_a_full_disk_is_said():
    with open("/dev/full", "wb") as full: done = tool("models", "--json", stdout=full)
    assert done.returncode == 1 and one_line(done.stderr.decode(), holds="No space left")
    with open("/dev/full", "wb") as full: done = tool("models", "--no-such", stderr=full)
    assert done.returncode == 2 and done.stdout == b""


@pytest.mark.parametrize("closed", ("<&-", ">&-", "2>&-", "<&- >&- 2>&-"))
def test_streams_that_are_closed(closed, tmp_path):
    "Their numbers are not given to files of ours: what a library prints would go into them."
    code = "import os; from bizzaroworld.cli import _streams; _streams(); number = os.open('mine', os.O_RDWR | os.O_CREAT); print('printed', flush=True); os.write(2, b'by a library'); open('number', 'w').write(str(number))"
    done = subprocess.run(["sh", "-c", f'exec "$0" -c "$1" {closed}', sys.executable, code], cwd=tmp_path, capture_output=True)
    assert done.returncode == 0 and int((tmp_path / "number").read_text()) > 2 and not (tmp_path / "mine").read_bytes(), done.stderr
    done = subprocess.run(["sh", "-c", f'exec "$0" models {closed}', TOOL], capture_output=True)
    assert done.returncode == 0 and done.stderr == b"" and (">&-" in closed.split() or b"gemma-3-270m" in done.stdout)


def test_progress_is_harmless_and_short():
    class Terminal:
        text = ""
        def isatty(self): return True
        def write(self, text): self.text += text
        def flush(self): pass
    screen = Terminal()
    cli.progress_line("\x1b[2J" + "x" * 300, 4, stream=screen)(0.5)
    assert harmless(screen.text.replace("\r", "")) and max(map(len, screen.text.split("\r"))) < 120 and "0/4" in screen.text
    class Gone(Terminal):
        def write(self, text): raise OSError(5, "Input/output error")
    cli.progress_line("x", 4, stream=Gone())(0.5)   # the window was closed; the study goes on


def test_json_is_one_object_of_json(capsys):
    "No NaN, which is no JSON, and ASCII alone."
    text = cli._json(dict(a=float("nan"), b=[1.5, float("inf")], c=dict(d="é\x7f\x1b"), e=(True, None, 3)))
    strict = json.loads(text, parse_constant=lambda name: pytest.fail(name))
    assert strict == dict(a=None, b=[1.5, None], c=dict(d="é\x7f\x1b"), e=[True, None, 3]) and text.isascii() and harmless(text)


# ---- how it fails

class Plain(Exception): plain = True


def raised(first, last):
    "`last`, as it is raised while `first` is handled."
    try:
        try: raise first
        except BaseException: raise last
    except BaseException as e: return e


FAILS = {"unknown": (RuntimeError("it broke"), 1, "bizzaroworld: RuntimeError: it broke; --debug shows where"), "ours": (Plain("the hub said no"), 1, "bizzaroworld: the hub said no"),
         "input": (InputError("a is b: do c"), 2, "bizzaroworld: a is b: do c"), "lines": (ValueError("a\n\nb\tc"), 1, "bizzaroworld: ValueError: a b c; --debug shows where"),
         "orders": (OSError("\x1b[2J\x9b31m\u202e"), 1, "bizzaroworld: OSError: ␛[2J�31m�"),
         "long": (KeyError("why " + "x" * 9000 + " do this"), 1, "do this'; --debug shows where"), "long input": (InputError("why " + "x\x1b" * 9000 + " do this"), 2, "do this"),
         "Ctrl-C": (KeyboardInterrupt(), 1, "bizzaroworld: stopped"), "Ctrl-C in an import": (raised(KeyboardInterrupt(), ImportError("numpy did not load")), 1, "bizzaroworld: stopped")}


@pytest.mark.parametrize("what", FAILS)
def test_one_line_whatever_happens(what, monkeypatch, capsys):
    error, status, said = FAILS[what]
    def fails(args): raise error
    monkeypatch.setitem(cli.COMMANDS, "models", fails)
    assert cli.main(["models"]) == status and one_line(capsys.readouterr().err, holds=said)
    assert cli.main(["models", "--debug"]) == status
    said = capsys.readouterr().err
    assert "Traceback" in said and harmless(said)


def test_sentences_of_ours_are_printed_as_they_are(monkeypatch, capsys):
    "What the hub said, and what the proof of a study found: the work failed, and the line needs no name of a class."
    for module, name in ((weights, "HubError"), (SimpleNamespace(), "ProofError")):
        kind = type(name, (RuntimeError,), {})
        if name == "ProofError": monkeypatch.setitem(sys.modules, "bizzaroworld.proof", module)
        monkeypatch.setattr(module, name, kind, raising=False)
        def fails(args): raise kind("layer 3 differs")
        monkeypatch.setitem(cli.COMMANDS, "models", fails)
        assert cli.main(["models"]) == 1 and capsys.readouterr().err == "bizzaroworld: layer 3 differs\n"


EARLY = {"at once": "raise_signal(SIGINT); time.sleep(9)", "inside an import that makes an error of it":
         "\ntry: raise_signal(SIGINT); time.sleep(9)\nexcept KeyboardInterrupt: raise ImportError('it did not load') from None"}


@pytest.mark.parametrize("what", EARLY)
def test_stopped_while_libraries_load(what, tmp_path):
    "Ctrl-C in the first moments: a library's import is where they are spent."
    (tmp_path / "pandas.py").write_text("import time; from signal import *; " + EARLY[what])
    done = tool("models", env={"PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"})
    assert done.returncode == 1 and one_line(done.stderr.decode(), holds="stopped")


def test_the_way_in_is_short():
    "What is imported before a Ctrl-C can be answered: nothing that takes time."
    code = "import sys; before = set(sys.modules); import bizzaroworld.cli; print(*(set(sys.modules) - before))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"pandas", "numpy", "torch", "IPython", "transformers", "fastcore"} & {m.partition(".")[0] for m in loaded}


def fake_studies(monkeypatch, tmp_path, run):
    from bizzaroworld import queue
    def steps(at, asked, out, *, name, **_):
        if callable(asked): asked()
        return run(name, out)
        yield   # a study with no part
    monkeypatch.setattr(queue, "study_steps", steps)
    monkeypatch.setattr(results, "shared_table", lambda results: pytest.fail("nothing is compared"))
    return ["study", "--model", "gemma-3-270m", "smollm2-135m", "--results", str(tmp_path)]


def finished(given=60, valid=60, notes=None):
    return SimpleNamespace(run=dict(counts=dict(pairs_given=given, pairs_valid=valid, pairs_patched=valid, rows=2), noise_floor=0.0, seconds=1.0, peak_memory_bytes=3), notes=notes)


@pytest.mark.parametrize("error, status", [(RuntimeError("it overflowed"), 1), (Plain("the network is gone"), 1), (InputError("no valid pair"), 2), (KeyboardInterrupt(), 1)])
def test_one_of_several_studies_fails(error, status, tmp_path, monkeypatch, capsys):
    "The message names the model; what was done before it stands."
    def run(name, out):
        if name != "gemma-3-270m": raise error
        return finished()
    words = fake_studies(monkeypatch, tmp_path, run)
    assert cli.main(words) == status
    out, err = capsys.readouterr()
    assert "gemma-3-270m: 60 pairs" in out and one_line(err, holds="stopped" if isinstance(error, KeyboardInterrupt) else f"smollm2-135m: {type(error).__name__ + ': ' if type(error) is RuntimeError else ''}{error}")


def test_what_waited_for_a_failed_study_is_no_second_line(tmp_path, monkeypatch, capsys):
    "With `--beside`: the other batteries of the model that failed, and the one that both share, are not begun and not complained of."
    def run(name, out):
        if name != "gemma-3-270m": raise RuntimeError("it overflowed")
        return finished()
    monkeypatch.setattr(results, "study_table", lambda *_: None)
    assert cli.main([*fake_studies(monkeypatch, tmp_path, run), "--beside"]) == 1
    out, err = capsys.readouterr()
    assert out.count("gemma-3-270m: 60 pairs") == 4 and "smollm2" not in out and one_line(err, holds="smollm2-135m: RuntimeError: it overflowed")


def test_a_study_says_what_it_left_out(tmp_path, monkeypatch, capsys):
    notes = pd.DataFrame(dict(index=[3, 3, 5], note=["a", "b", "c"]))
    words = fake_studies(monkeypatch, tmp_path, lambda name, out: finished(60, 57, notes))
    monkeypatch.setattr(cli, "_check_writable", lambda *words, **options: None)
    for extra in ([], ["--json"]):
        assert cli.main([*words[:3], *words[4:], *extra]) == 0
        out, err = capsys.readouterr()
        assert one_line(err, holds="gemma-3-270m: 3 of 60 pairs left out, notes on 2 of 60 pairs: see bizzaroworld check") and "left out" not in out
    fake_studies(monkeypatch, tmp_path, lambda name, out: finished(notes=notes.head(0)))
    assert cli.main([*words[:3], *words[4:]]) == 0 and capsys.readouterr().err == ""


@pytest.mark.parametrize("notes", ((), ("row 0: target 'Paris' is read with a leading space, ' Paris'",), pd.DataFrame(dict(index=[0], column=["clean_target"], written=["Paris"], read=[" Paris"], note=["target \x1b'Paris' is read as ' Paris'"]))))
def test_check_prints_the_notes(notes, monkeypatch, capsys):
    battery = SimpleNamespace(pairs=[SimpleNamespace(category="c")], dropped=pd.DataFrame([dict(index=1, reason="prompts differ")]), notes=notes)
    monkeypatch.setattr(cli, "_aligned", lambda args, table: ([1, 2], battery, None))
    assert cli.main(["check", "--model", "gemma-3-270m"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["gemma-3-270m: 1 of 2 pairs valid, in 1 categories", "     1  prompts differ"] and len(lines) == (2 if len(notes) == 0 else 4) and harmless("\n".join(lines))
    assert cli.main(["check", "--model", "gemma-3-270m", "--json"]) == 0
    said = json.loads(capsys.readouterr().out)["notes"]
    assert said == [] if len(notes) == 0 else [n["index"] for n in said] == [0] and said[0]["note"].startswith("target")


def test_advice_names_commands_and_options_that_exist():
    "Wherever a message of ours says what to type."
    commands = next(a for a in cli.parser()._actions if isinstance(a, argparse._SubParsersAction)).choices
    found = []
    for path in Path(weights.__file__).parent.glob("*.py"):
        for line in path.read_text(encoding="utf-8").splitlines():
            for command, rest in re.findall(r"(?:run|see|with|`)\s?`?bizzaroworld ([a-z]+)((?: (?:--[a-z-]+|[A-Z{][^ ]*))*)", line):
                found.append(command)
                assert command in commands, (path.name, line)
                assert set(re.findall(r"--[a-z-]+", rest)) <= set(commands[command]._option_string_actions), (path.name, line)
    assert len(found) >= 5 and {"check", "study"} <= set(found)
