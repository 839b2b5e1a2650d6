"Files: whole or noticed, on the disk, private, held by one, and text that stays text."
import os, stat, subprocess, sys
from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest

from attack import files as attack
from bizzaroworld import audit, cli, files, machine, measuring, results, schema, study
from bizzaroworld.battery import COLUMNS
from bizzaroworld.facts import InputError

HARD = ["", " 4", "007", "1e5", "True", "False", "NA", "null", "None", "nan", "#N/A", "inf", "-", "2024_06", "1000", 'a "b"', '""', "a,b", "a;b", "'",
    "a\nb", "a\rb", "a\r\nb", "\r", "\n", " x ", "\t", "\xa0", "\xa0x\xa0", "\ufeffx", "\u2028", "é", "e\u0301", "\\", "=1+1", "a\0b"]


@pytest.fixture(scope="module")
def again(tiny_models):
    "Study a tiny model, in this process."
    table = pd.DataFrame(attack.PAIRS, columns=COLUMNS)
    return lambda out, **words: study.study(tiny_models["llama"], table, out=out, source="four pairs", **words)


def test_every_damage_is_noticed_and_its_advice_works():
    found = attack.attack(1, seed=1)
    assert found["wrong"] == [] and found["finished"] >= 100 and found["advised"] >= 14 and found["parts"] >= 6


def test_a_study_is_of_all_the_code_that_makes_it():
    "What `imported` reads off the files is what an interpreter loads: a module that is missed could change without a study being made again."
    code = "import sys, bizzaroworld.study; print(*(m.removeprefix('bizzaroworld.') for m in sys.modules if m.startswith('bizzaroworld.')))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert set(loaded) == measuring.imported("study")


def test_text_stays_text_in_every_file(tmp_path):
    "Every column of ours that holds text, in every CSV file; numbers stay numbers, to the last bit."
    numbers = dict(battery_idx=range(len(HARD)), total_swing=[1 / (i + 3) for i in range(len(HARD))], known=[i % 2 == 0 for i in range(len(HARD))])
    for name in (n for n in results.FILES if n.endswith(".csv")):
        table = pd.DataFrame({**{c: HARD for c in sorted(schema.TEXT)}, **(numbers if name != "battery.csv" else {})})
        if name == "triage.csv": table.loc[2, "total_swing"] = float("nan"); table.loc[3, "total_swing"] = float("inf")
        files.write_table(tmp_path/name, table)
        pd.testing.assert_frame_equal(files.read_table(tmp_path/name), table, check_exact=True)
    some = pd.DataFrame(dict(clean_target=[""] * 2, total_swing=[1.5, 2.]))   # a column without any letter
    assert files.read_table("triage.csv", files.table_bytes("triage.csv", some)).clean_target.tolist() == ["", ""]


def test_a_study_of_numbers_is_read_back_as_text(tiny_models, tmp_path):
    "Categories and prompts that look like something else, through a whole study and `load_study`."
    table = pd.DataFrame(attack.PAIRS, columns=COLUMNS).assign(category=["2024_06", "1000", "True", "NA"])
    s = study.study(tiny_models["llama"], table, out=tmp_path/"1000", source="odd", quick=True)
    assert s.battery.category.tolist() == table.category.tolist() and set(s.triage.category) == set(table.category) == set(s.patches.category)
    pd.testing.assert_frame_equal(s.battery, table)
    bad = pd.concat([table, table.head(1).assign(category="007", clean_target=" 4")], ignore_index=True)
    left = study.study(tiny_models["llama"], bad, out=tmp_path/"left", source="odd", quick=True)
    assert results.study_table(tmp_path/"left", "dropped.csv").category.tolist() == ["007"] and left.battery.clean_target.iloc[-1] == " 4"


@pytest.mark.parametrize("notes", [pd.DataFrame([(0, "clean_target", "007", " 007", "'007' is read as ' 007'")], columns=[c.name for c in schema.NOTES]),
    ("row 3: target '007' is read with a leading space, ' 007'",)], ids=["a table", "sentences"])
def test_notes_are_kept(again, tmp_path, monkeypatch, notes):
    "What was read otherwise than it is written stands in the finished study, letter by letter."
    real = measuring.choose_battery
    def noted(*words, **options):
        chosen = real(*words, **options)
        return replace(chosen, battery=replace(chosen.battery, notes=notes))
    monkeypatch.setattr(measuring, "choose_battery", noted)
    again(tmp_path, quick=True)
    kept = results.load_study(tmp_path).notes
    if isinstance(notes, pd.DataFrame): pd.testing.assert_frame_equal(kept, notes)
    else: assert list(kept) == [c.name for c in schema.NOTES] and kept["index"].tolist() == [3] and kept.note.tolist() == list(notes)


def test_private_as_the_umask_says(again, tmp_path):
    before = os.umask(0o077)
    try: again(tmp_path/"out", quick=True)
    finally: os.umask(before)
    assert {stat.S_IMODE(p.stat().st_mode) for p in (tmp_path/"out").iterdir()} == {0o600}


def test_on_the_disk_before_it_has_its_name(tmp_path, monkeypatch):
    "Synced, renamed, and the folder synced; a failure of the first leaves what was there."
    done = []
    for name in ("fsync", "replace"):
        def call(*words, name=name, real=getattr(os, name)): done.append(name); return real(*words)
        monkeypatch.setattr(os, name, call)
    files.write_whole(tmp_path/"a", lambda p: p.write_text("old"))
    assert done == ["fsync", "replace", "fsync"]
    def full(handle): raise OSError(28, "No space left on device")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space left"): files.write_whole(tmp_path/"a", lambda p: p.write_text("new"))
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "old")]


def test_a_full_disk_loses_no_part(again, tmp_path, monkeypatch):
    "The disk is full while the tables are saved: the parts stay, and the study goes on from them."
    real = files.write_whole
    def full(path, write):
        if path.name == "lens.parquet": raise OSError(28, "No space left on device", str(path))
        return real(path, write)
    with monkeypatch.context() as patch:
        patch.setattr(files, "write_whole", full)
        with pytest.raises(OSError, match="No space left"): again(tmp_path)
    kept = sorted((tmp_path/".parts").iterdir())
    assert kept and not (tmp_path/"run.json").exists() and not list(tmp_path.glob(".bizzaroworld*"))
    monkeypatch.setattr(measuring, "write_part", lambda *words: pytest.fail("a part was made again"))
    again(tmp_path)
    assert not list(tmp_path.glob(".*"))


def test_what_a_kill_leaves_goes_and_nothing_else(again, tmp_path):
    "In a finished folder too; somebody else's hidden files stay, in `.parts` as well."
    again(tmp_path, quick=True)
    theirs = [tmp_path/".mine", tmp_path/".run.json.swp", tmp_path/".0123.bizzaroworld", tmp_path/".parts"/"mine.parquet"]
    ours = [tmp_path/f".{'a' * 16}.bizzaroworld", tmp_path/".parts"/f".{'b' * 16}.bizzaroworld", tmp_path/files.LOCK, tmp_path/f"{files.LOCK}.json",
        tmp_path/".parts"/f"{'c' * 12}-maps-{'d' * 32}.parquet", tmp_path/".parts"/f"{'c' * 12}-00000-00004.parquet"]
    (tmp_path/".parts").mkdir()
    for path in theirs + ours: path.write_text("x")
    again(tmp_path, quick=True)
    assert all(p.exists() for p in theirs) and not any(p.exists() for p in ours)
    theirs[-1].unlink(); again(tmp_path, quick=True)
    assert not (tmp_path/".parts").exists()


HOLD = "import sys, time; from bizzaroworld.files import lock\nwith lock(sys.argv[1], 'study of toy'): print('held', flush=True); time.sleep(60)"


def test_two_at_once(again, tmp_path):
    "The second is told who holds the folder, before any work; a holder that is killed blocks nobody."
    out = tmp_path/"out"
    holder = subprocess.Popen([sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "held\n"
        for refused in (lambda: again(out), lambda: results.check_folder(out)):
            with pytest.raises(InputError, match=rf"is in use by process {holder.pid} on .+ since .+ \(study of toy\)") as e: refused()
            assert "\n" not in str(e.value) and len(str(e.value)) < 500
        assert files.is_held(out)
    finally: holder.kill(); holder.wait()
    assert (out/files.LOCK).exists() and not files.is_held(out)
    again(out, quick=True)
    assert not list(out.glob(".*"))


def test_the_later_of_two_studies_writes_over_nothing(again, tmp_path, monkeypatch):
    "Another seed, begun before the first was finished, is told that the folder is held; and after it, that another study is there."
    real, seen = measuring.settings_of, []
    def settings(*words):
        if not seen:
            seen.append(1)
            with pytest.raises(InputError, match="in use"): again(tmp_path, seed=5, quick=True)
        return real(*words)
    monkeypatch.setattr(measuring, "settings_of", settings)
    again(tmp_path, quick=True)
    with pytest.raises(InputError, match="seed 0 there, 5 here"): again(tmp_path, seed=5, quick=True)
    assert results.load_study(tmp_path).run["seed"] == 0


def test_a_lock_of_many(tmp_path):
    "Processes that make one folder and take it away again and again: never two at once, no file left."
    code = ("import os, sys, time; from bizzaroworld.files import lock; from bizzaroworld.facts import InputError\nheld = 0\n"
        "for _ in range(12):\n try:\n  with lock(sys.argv[1] + '/deep/er', 'x'):\n   os.mkdir(sys.argv[1] + '/alone'); time.sleep(.002); os.rmdir(sys.argv[1] + '/alone'); held += 1\n"
        " except InputError as e: assert 'in use' in str(e), e\nprint(held)")
    many = [subprocess.Popen([sys.executable, "-c", code, str(tmp_path)], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) for _ in range(3)]
    said = [p.communicate(timeout=100) for p in many]
    assert all(int(out) > 0 for out, _ in said), said
    assert not [p for p in tmp_path.rglob("*") if p.is_file()]


@pytest.mark.parametrize("what", ["below a file", "a link to nothing", "too long", "a name of 5,000 letters", "NUL", "no room in /proc", "a folder for a table", "a file for the parts", "no permission"])
def test_a_place_that_cannot_be_written_is_refused_before_the_work(tmp_path, monkeypatch, capsys, what):
    monkeypatch.chdir(tmp_path)
    Path("file").write_text("mine"); Path("link").symlink_to("nowhere"); Path("mine/triage.csv").mkdir(parents=True); Path("parts").mkdir(); Path("parts/.parts").touch()
    out = {"below a file": "file/deep/er", "a link to nothing": "link", "too long": "x/" + "y" * 256, "a name of 5,000 letters": "y" * 5000, "NUL": "a\0b",
        "no room in /proc": "/proc/bizzaroworld/out", "a folder for a table": "mine", "a file for the parts": "parts", "no permission": "closed/out"}[what]
    if what == "no room in /proc" and not Path("/proc/self").exists(): pytest.skip("this system has no /proc")
    if what == "no permission":
        if os.geteuid() == 0:   # root may write anywhere: the system's refusal is played
            monkeypatch.setattr(Path, "mkdir", lambda *a, **k: (_ for _ in ()).throw(PermissionError(13, "Permission denied")))
        else: Path("closed").mkdir(mode=0o555)
    before = sorted(str(p) for p in Path().rglob("*"))
    with pytest.raises(InputError) as e: results.check_folder(out)
    said = str(e.value)
    assert "\n" not in said and "\0" not in said and len(said) < 500 and ("name a" in said or "name another" in said), said
    assert sorted(str(p) for p in Path().rglob("*")) == before


def test_a_result_that_is_not_ours_is_not_written_over(again, tmp_path):
    "A file under a table's name that the finished study did not write."
    again(tmp_path, quick=True)
    (tmp_path/"lens.parquet").write_text("mine")
    with pytest.raises(InputError, match="holds lens.parquet, and its study did not write that"): again(tmp_path)
    assert (tmp_path/"lens.parquet").read_text() == "mine" and results.load_study(tmp_path).tables.keys() == {"patterns"}


def test_the_commit_is_that_of_this_checkout_only(tmp_path, monkeypatch):
    "Installed inside somebody's repository, or below one, or called from a hook: never another's commit."
    git = lambda *words: subprocess.run(["git", "-c", "user.name=x", "-c", "user.email=x@x", *words], cwd=tmp_path, check=True, capture_output=True, text=True).stdout.strip()
    git("init", "-q"); git("commit", "-q", "--allow-empty", "-m", "theirs")
    def there(folder, checkout):
        (tmp_path/folder/"bizzaroworld").mkdir(parents=True, exist_ok=True); (tmp_path/folder/"bizzaroworld/__init__.py").touch()
        if checkout: (tmp_path/folder/"nbs").mkdir(exist_ok=True); (tmp_path/folder/"nbs/00_machine.ipynb").touch()
        monkeypatch.setattr(machine, "find_spec", lambda name: type("Spec", (), dict(origin=str(tmp_path/folder/"bizzaroworld/__init__.py"))))
        return machine.git_commit()
    assert there("venv/lib/site-packages", False) is None and there("sub/project", True) is None and there("", False) is None
    assert there("", True) == git("rev-parse", "HEAD")
    monkeypatch.setenv("GIT_DIR", str(tmp_path/"no"))
    assert there("", True) == subprocess.run(["git", "rev-parse", "HEAD"], cwd=tmp_path, env={k: v for k, v in os.environ.items() if k != "GIT_DIR"}, capture_output=True, text=True).stdout.strip()


def test_no_module_of_one_system_alone():
    "`resource` is not there on Windows, and a study is."
    others = "from transformers import AttentionInterface, AutoModelForCausalLM, DynamicCache"   # what they do where it is missing is theirs
    code = f"import sys; {others}; sys.modules['resource'] = None\nimport bizzaroworld.study"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def test_the_command_says_it_in_one_line(tmp_path, capsys):
    "A damaged study, through the command that reads studies."
    for name in ("a", "b"):
        table = pd.DataFrame(dict(category=["c"]))
        written = {n: files.write_table(tmp_path/name/n, table) for n in (*results.NEEDED, "candidates.csv")}
        results.write_run(tmp_path/name, dict(settings={}, model=name, n_layers=2, experiments=[]), written)
    for name, content in (("candidates.csv", "x"), ("run.json", "{}"), ("run.json", '{"settings": 4}')):
        (tmp_path/"a"/name).write_text(content)
        status, err = cli.main(["check", "--model", "gemma-3-270m", "--battery", "shared", "--results", str(tmp_path)]), capsys.readouterr().err
        assert status == 2 and len(err.strip().splitlines()) == 1 and name in err and "study again" in err, err


def test_every_token_of_every_pair(tiny_models, tmp_path):
    "Asked for, all pairs have maps; the same numbers for those that had them before; and such a study serves who asks for less."
    table = pd.DataFrame(attack.PAIRS, columns=COLUMNS)
    for side in ("clean_prompt", "corrupt_prompt"): table[side] += " the"   # a token between entity and answer
    again = lambda out, **words: study.study(tiny_models["llama"], table, out=out, source="four pairs", **words)
    few, every = again(tmp_path), again(tmp_path, every_token=True)
    some, all_of_them = (set(s.tables["maps"].battery_idx) for s in (few, every))
    assert some < all_of_them == set(every.triage.battery_idx) and "--every-token" in audit.command_of(every.run) and "--every-token" not in audit.command_of(few.run)
    both = every.tables["maps"][every.tables["maps"].battery_idx.isin(some)]
    keys = ["direction", "site", "battery_idx", "layer", "token_index"]
    pd.testing.assert_frame_equal(*(t.sort_values(keys, ignore_index=True) for t in (both, few.tables["maps"])), atol=1e-5)
    when = (tmp_path/"patches.parquet").stat().st_mtime_ns
    assert set(again(tmp_path).tables["maps"].battery_idx) == all_of_them and set(again(tmp_path, quick=True).tables) == set(every.tables)
    assert (tmp_path/"patches.parquet").stat().st_mtime_ns == when
