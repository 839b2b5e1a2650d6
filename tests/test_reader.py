"What a battery file may hold, how its targets are read, and what is said of it."
import csv, io, json, sys, time, unicodedata
from pathlib import Path
import pandas as pd, pytest
from hypothesis import HealthCheck, given, settings, strategies as st
from bizzaroworld import tokens as T
from bizzaroworld.schema import NOTES as NOTE_COLUMNS, names
from bizzaroworld.battery import COLUMNS, Battery, How, Pair, align, align_row, oddities, read_battery
from bizzaroworld.targets import readings, target_id
from bizzaroworld.facts import InputError, brief, load_facts, load_templates, make_pairs
from bizzaroworld.selection import choose, select, shared_battery

sys.path.insert(0, str(Path(__file__).parent))
from attack.batteries import Files, attack, battery_wrong, one, said_wrong, small_tokenizers

FRANCE, JAPAN = "The capital of france is", "The capital of japan is"
ROW = dict(category="capitals", clean_prompt=FRANCE, corrupt_prompt=JAPAN, clean_target=" paris", corrupt_target=" tokyo")
REAL = dict(category="capitals", clean_prompt="The capital of France is", corrupt_prompt="The capital of Japan is", clean_target=" Paris", corrupt_target=" Tokyo")
HEAD = ",".join(COLUMNS)
LINE = ",".join(ROW.values())

@pytest.fixture(scope="module")
def small(): return small_tokenizers()

@pytest.fixture(scope="module")
def real(): return {n: T.load_tokenizer(n) for n in ("gemma-3-270m", "smollm2-135m")}

def aligned(tokenizer, row=REAL, **changes): return align(pd.DataFrame([{**row, **changes}]), tokenizer)

def reason(tokenizer, row=REAL, **changes):
    battery = aligned(tokenizer, row, **changes)
    assert not battery.pairs, battery.pairs
    return battery.dropped.reason[0]

# ---------------------------------------------------------------- targets

@pytest.mark.real
@pytest.mark.parametrize("name", ["gemma-3-270m", "smollm2-135m"])
def test_the_token_that_follows_the_prompt_counts(real, name):
    "Both spellings are one token each in both vocabularies, and only one of them is what the model says next."
    t = real[name]
    as_it_should = aligned(t).pairs[0]
    battery = aligned(t, clean_target="Paris", corrupt_target="Tokyo")
    assert battery.pairs == [as_it_should] and t("Paris", add_special_tokens=False).input_ids != [as_it_should.clean_target_id]
    assert list(battery.notes.columns) == names(NOTE_COLUMNS) and battery.notes.values.tolist() == [
        [0, f"{side}_target", word, " " + word, f"{side}_target {word!r} is read as {' ' + word!r}, with the space that parts it from the prompt"]
        for side, word in (("clean", "Paris"), ("corrupt", "Tokyo"))]
    assert aligned(t).notes.empty and list(aligned(t).notes.columns) == names(NOTE_COLUMNS)

def test_on_tokenizers_of_three_kinds(small):
    "Word-level, byte-level, and one that puts a space before every text, for which both spellings alone are one token."
    assert len({tuple(small["pieces"](w, add_special_tokens=False).input_ids) for w in ("paris", " paris")}) == 1
    for t in small.values():
        plain, spaced = aligned(t, ROW, clean_target="paris"), aligned(t, ROW)
        assert plain.pairs == spaced.pairs and len(spaced) == 1
        assert spaced.notes.empty and list(plain.notes.read) == [" paris"]

AS_WRITTEN = [("It is the \"", "Louvre"), ("It is called “", "Louvre"), ("The capital (", "Paris"), ("It isn'", "t"), ("l’", "eau"), ("2+2=", "4"), ("Coca-", "Cola"),
    ("It costs $", "5"), ("Answer:\n", "Paris"), ("The answer is ", "4"), ("法国的首都是", "巴黎"), ("フランスの首都は「", "パリ"), ("フランスの首都は", "Paris"),
    ("เมืองหลวงของไทยคือ", "กรุงเทพ"), ("Paris", ","), ("The dog", "'s"), ("It is 20", "%"), ("(Paris", ")"), ("法国。", "巴黎"), ("is", " Paris"), ("is", "\nParis"), ("x_", "y")]
WITH_A_SPACE = [("The capital of France is", "Paris"), ("The year is", "1999"), ("프랑스의 수도는", "파리"), ("Столица Франции", "Париж"), ("भारत की राजधानी है", "दिल्ली"),
    ("In 1999", "Paris"), ("Le café", "est")]
IN_DOUBT = [("City:", "Paris", " "), ("2 + 2 =", "4", " "), ("It is 'red'", "blue", " "), ("He said \"no\"", "Paris", " "), ("The Chinese word is", "巴黎", " "), ("The price is", "$", " "),
    ("He said", "\"", " "), ("print", "(", ""), ("a", "+", ""), ("I like 🍕", "pizza", " "), ("One, two,", "three", " ")]

def test_what_a_writer_means():
    for prompt, target in AS_WRITTEN: assert readings(prompt, target) == [target], (prompt, target)
    for prompt, target in WITH_A_SPACE: assert readings(prompt, target) == [" " + target], (prompt, target)
    for prompt, target, first in IN_DOUBT:
        other = " " * (not first)
        assert readings(prompt, target) == [first + target, other + target], (prompt, target)

def test_numbers_and_scripts_on_a_real_vocabulary(real):
    gemma = real["gemma-3-270m"]
    for prompt, target in (("法国的首都是", "巴黎"), ("フランスの首都は", "東京"), ("2+2=", "4"), ("2 + 2 =", "4"), ("It is the \"", "Paris"), ("The answer is ", "4")):
        i, read, fault = target_id(gemma, target, prompt)
        assert (gemma.decode([i]), read, fault) == (target, target, "")
    assert "' 4' is ▁ | 4 (2 tokens)" in target_id(gemma, "4", "The answer is")[2]   # '4' alone is a token, and never the next one
    doubt = aligned(gemma, clean_prompt="City of France:", corrupt_prompt="City of Japan:", clean_target="Paris", corrupt_target="4")
    assert doubt.pairs[0].clean_target == " Paris" and doubt.pairs[0].corrupt_target == "4"
    assert list(doubt.notes.note) == ["clean_target 'Paris' is read as ' Paris', with the space that parts it from the prompt",
        "corrupt_target '4' is read as written, right behind the prompt without a space"]

@pytest.mark.parametrize("name", ["gemma-3-270m", "smollm2-135m"])
def test_a_target_that_merges_with_its_prompt_is_named(real, name):
    said = reason(real[name], clean_prompt="The capital of France is ", corrupt_prompt="The capital of Japan is ", clean_target="Paris", corrupt_target="Tokyo")
    assert said.startswith("clean_prompt ends in a space; corrupt_prompt ends in a space; target is not a single token: 'Paris' changes the tokens of its prompt")
    assert "changes the tokens" in target_id(real[name], "'s", "It's the dog'")[2] or name.startswith("gemma")

def test_a_target_is_the_same_token_behind_both_prompts(small):
    "Of two prompts with the same last token one may end in a letter that changes how the target is cut."
    class Odd:
        def __init__(self, t): self.t = t
        def __getattr__(self, name): return getattr(self.t, name)
        def __call__(self, text, **k):
            out = self.t(text, **k)
            if text == JAPAN + " paris": out.input_ids[-1] = out.input_ids[-1] + 1
            return out
    assert "' paris' is another token behind each prompt" in reason(Odd(small["words"]), ROW)

def test_a_pair_written_in_two_ways_counts_once(small):
    battery = align(pd.DataFrame([ROW, {**ROW, "clean_target": "paris"}, {**ROW, "category": "x", "corrupt_target": "tokyo"}]), small["words"])
    assert len(battery) == 1 and list(battery.dropped.reason) == ["the same pair as row 0"] * 2

@pytest.mark.real
def test_the_packages_own_pairs_are_read_as_they_are_written(real):
    for t in real.values():
        battery = align(make_pairs(load_facts(first=10), load_templates()), t, How(answers="single"))
        assert battery.notes.empty
        for p in battery.pairs: assert [p.clean_target_id, p.corrupt_target_id] == [t(x, add_special_tokens=False).input_ids[0] for x in (p.clean_target, p.corrupt_target)]

# ---------------------------------------------------------------- what nobody sees

@pytest.mark.parametrize("change,said", [
    (dict(clean_prompt="The capital of\u00a0france is"), "clean_prompt holds U+00A0 (no-break space)"),
    (dict(clean_prompt="The capital of\u2009france is"), "clean_prompt holds U+2009 (thin space)"),
    (dict(corrupt_prompt="The capital of ja\u200bpan is"), "corrupt_prompt holds U+200B (zero width space)"),
    (dict(corrupt_prompt="The capital of \u202ejapan is"), "corrupt_prompt holds U+202E (right-to-left override)"),
    (dict(clean_prompt="\ufeff" + FRANCE), "clean_prompt holds U+FEFF (zero width no-break space)"),
    (dict(clean_prompt="The capital of\x85france is"), "clean_prompt holds U+0085 (control character)"),
    (dict(clean_prompt=FRANCE + " ", corrupt_prompt=JAPAN + " "), "clean_prompt ends in a space"),
    (dict(clean_prompt=FRANCE + "\u00a0"), "clean_prompt ends in U+00A0 (no-break space)"),
    (dict(clean_prompt="\t" + FRANCE), "clean_prompt begins with a tab"),
    (dict(clean_prompt="The cafe\u0301 of france is", corrupt_prompt="The caf\u00e9 of japan is"), "clean_prompt is written in decomposed letters (NFD), the other in composed ones (NFC)"),
    (dict(clean_target=" paris "), "clean_target ends in a space"), (dict(clean_target="\u00a0paris"), "clean_target begins with U+00A0 (no-break space)"),
    (dict(clean_target=" e\u0301"), "clean_target is written in decomposed letters (NFD)"), (dict(clean_target="“paris”"), "clean_target stands in quotes"),
    (dict(clean_target=" pa\u200dris"), "clean_target holds U+200D (zero width joiner)")])
def test_what_nobody_sees_is_the_reason_or_a_note(small, change, said):
    assert any(words.startswith(said) for _, words in oddities({**ROW, **change}))
    for t in small.values():
        battery = aligned(t, ROW, **change)
        if battery.pairs: assert any(note.startswith(said) for note in battery.notes.note)
        else: assert said in battery.dropped.reason[0] and not said_wrong(battery.dropped.reason[0])

@pytest.mark.real
def test_a_pair_that_can_be_measured_keeps_it_as_a_note(real):
    for t in real.values():
        odd = dict(clean_prompt="The capital of\u00a0France is", corrupt_prompt="The capital of\u00a0Japan is")
        battery = aligned(t, **odd)
        assert len(battery) == 1 and battery.notes.values.tolist() == [
            [0, c, v, v, f"{c} holds U+00A0 (no-break space)"] for c, v in odd.items()]
    spaced = aligned(real["smollm2-135m"], clean_prompt=REAL["clean_prompt"] + " ", corrupt_prompt=REAL["corrupt_prompt"] + " ")
    assert list(spaced.notes.note) == ["clean_prompt ends in a space", "corrupt_prompt ends in a space"]

def test_prompts_that_read_the_same_are_no_pair(small):
    for other in ("The capital  of france is", "The capital of\u00a0france is", "The capital of france\u200b is"):
        assert "prompts read the same" in reason(small["bytes"], ROW, corrupt_prompt=other)
    assert "prompts read the same" in reason(small["bytes"], ROW, clean_prompt="caf\u00e9 is", corrupt_prompt="cafe\u0301 is")

def test_joiners_that_a_script_needs_are_not_odd():
    assert oddities({**ROW, "clean_prompt": "می\u200cخواهم", "corrupt_prompt": "👩\u200d🔬 is"}) == []

def test_categories_that_look_alike_are_named(small):
    rows = [{**ROW, "clean_prompt": f"The {w} of france is", "corrupt_prompt": f"The {w} of japan is", "category": c}
            for w, c in (("capital", "Caf\u00e9"), ("city", "cafe\u0301 "), ("language", "cafe\u0301 "), ("fruit", "other"))]
    notes = align(pd.DataFrame(rows), small["words"]).notes
    assert set(notes["index"]) == {1} and set(notes.column) == {"category"}
    assert any("is another one than 'Café'" in n for n in notes.note) and "category ends in a space" in list(notes.note)

# ---------------------------------------------------------------- files

def wrote(folder, content, name="b.csv"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path

def refused(folder, content, name="b.csv"):
    "What is said of a file."
    with pytest.raises(InputError) as e: read_battery(wrote(folder, content, name))
    assert not said_wrong(str(e.value)), said_wrong(str(e.value))
    return str(e.value)

def table(sign=",", end="\n", head=COLUMNS, quote=csv.QUOTE_MINIMAL):
    out = io.StringIO()
    csv.writer(out, delimiter=sign, lineterminator=end, quoting=quote).writerows([head, list(ROW.values()), [*list(ROW.values())[:3], f" a{sign}b", "12"]])
    return out.getvalue()

WAYS = {
    "semicolons": table(";"), "tabs": table("\t"), "bars": table("|"), "sep=,": "sep=,\n" + table(), "sep=;": "sep=;\r\n" + table(";", "\r\n"), "sep=tab": "sep=\t\n" + table("\t"),
    "sep quoted": '"sep=;"\r' + table(";", "\r"), "returns": table(end="\r"), "windows": table(end="\r\n"), "quoted": table(";", quote=csv.QUOTE_ALL), "blank lines": "\n\n" + table(end="\n\n"),
    "utf-16": table(";").encode("utf-16"), "utf-16-be": b"\xfe\xff" + table("\t").encode("utf-16-be"), "utf-16 without mark": table("\t").encode("utf-16-le"),
    "utf-16 without mark, big": table().encode("utf-16-be"), "utf-32": table().encode("utf-32"), "utf-8 mark": table().encode("utf-8-sig"), "two marks": ("\ufeff" + table()).encode("utf-8-sig"),
    "sep in utf-16": ("sep=;\r\n" + table(";")).encode("utf-16"), "capitals": table(head=[f" {c.title()} " for c in COLUMNS]), "words": table(head=[c.replace("_", " ") for c in COLUMNS]),
    "hidden in names": table(head=["\u200b" + c + "\u00a0" for c in COLUMNS]), "empty cells past the end": table().replace("\n", ",,,\n"), "utf-16 json": None}

@pytest.mark.parametrize("way", WAYS)
def test_read_where_it_is_certain(way, tmp_path):
    want = [list(ROW.values()), [*list(ROW.values())[:3], None, "12"]]
    text = WAYS[way]
    if text is None: text = json.dumps([dict(zip(COLUMNS, r)) for r in (want[0], [*want[0][:3], " a,b", "12"])]).encode("utf-16")
    found = read_battery(wrote(tmp_path, text)).values.tolist()
    found[1][3] = None if found[1][3] in (" a,b", " a;b", " a\tb", " a|b") else found[1][3]
    assert found == want

@pytest.mark.parametrize("content,said", [
    (table().replace(",", ";", 3), "no column"), (f"{HEAD}\n{LINE},more", "row 0 has 6 fields and the header 5: put a text that holds the sign between the fields in plain quotes"),
    (f"{HEAD}\n“capitals”,“The capital, of france is”,“b”,“c”,“d”", "in plain quotes (\")"), (f"“{'”,“'.join(COLUMNS)}”\n", "write its quotes as plain ones"),
    (f"{HEAD}\n{LINE}\n\ufeff{HEAD}\n{LINE}", "row 1 is the header once more: take it out"), (f"{HEAD},clean_target\n{LINE},x", "column clean_target stands twice"),
    (f"{HEAD}, Clean Target \n{LINE},x", "column clean_target stands twice"), (f'{HEAD}\n"capitals"s,b,c,d,e', "close each quote"), (f'{HEAD}\n{LINE}\n"a,b', "close each quote"),
    (f"{HEAD}\nähm,b,c,d,e".encode("latin-1"), "is not UTF-8 text: save the file as UTF-8"), (f"{HEAD}\n“a”,b,c,d,e".encode("cp1252"), "save the file as UTF-8"),
    (table().encode("utf-16")[:-1], "is not UTF-16 text: save the file as UTF-8"), (f"{HEAD}\n{LINE}\0", "not a text file"), (b"a\0\0\0" * 40, "not a text file"),
    (f"{HEAD}\n\u200b,b,c,d,e", "row 0: category is empty"), ("\ufeff \n", "the file is empty"), (f"{HEAD}\n\x1b[31m" + "x" * 300 + ",b,c,d,e", "category has 305 letters"),
    ("\x1b[31m,\u202e,x" * 50, "no column category")])
def test_the_fault_and_its_cure_are_named(content, said, tmp_path): assert said in refused(tmp_path, content)

def test_json_lines_and_lists(tmp_path):
    lines = "\n".join(json.dumps(r) for r in (ROW, {**ROW, "clean_target": "a\u2028b"}))
    for name in ("b.jsonl", "b.ndjson", "b.json", "b.csv", "b"):
        for text in (lines, "\ufeff" + lines.replace("\n", "\r\n\r\n"), "[" + lines.replace("\n", ",\n") + "]"):
            if name in ("b.jsonl", "b.ndjson") and text[0] == "[": continue
            assert read_battery(wrote(tmp_path, text, name)).clean_target.tolist() == [" paris", "a\u2028b"]
    assert len(read_battery(wrote(tmp_path, json.dumps(ROW), "b.jsonl"))) == 1
    assert read_battery(wrote(tmp_path, json.dumps([{k.title(): v for k, v in ROW.items()}]), "b.json")).values.tolist() == [list(ROW.values())]
    assert "line 2 is not whole JSON" in refused(tmp_path, lines[:-9], "b.jsonl")
    assert "line 2 is not whole JSON" in refused(tmp_path, lines[:-9], "b.json")
    assert "give a list of objects" in refused(tmp_path, json.dumps(ROW), "b.json")
    assert "a key stands twice in the object of category, category" in refused(tmp_path, json.dumps([ROW]).replace("{", '{"category": "x", '), "b.json")
    assert "row 0: column category stands twice" in refused(tmp_path, json.dumps([{**ROW, "Category": "x"}]), "b.json")
    assert "nested too deep" in refused(tmp_path, '[{"category":' * 50_000, "b.json")

@pytest.mark.parametrize("value", [0, 1000, 1.5, True, False, [], {}, [[[]]], 10**400, float("inf")])
def test_what_is_not_text_in_json_is_refused(value, tmp_path):
    said = refused(tmp_path, json.dumps([{**ROW, "clean_target": value}]).replace("1" + "0" * 400, "9" * 5000), "b.json")
    assert "row 0: clean_target is " in said and said.endswith("not text: put it in quotes")

def test_what_is_missing_is_said_so(tmp_path, small):
    assert "corrupt_target is missing: fill it in" in refused(tmp_path, json.dumps([{**ROW, "corrupt_target": None}]), "b.json")
    for nothing in (None, float("nan"), pd.NA):
        with pytest.raises(InputError, match="row 0: category is missing"): align(pd.DataFrame([{**ROW, "category": nothing}]), small["words"])
    for other, said in (([ROW], "battery is a list"), (pd.DataFrame([[*ROW.values()] + ["x"]], columns=[*COLUMNS, "category"]), "column category stands twice")):
        with pytest.raises(InputError, match=said): align(other, small["words"])

WORDS = ["1000", " 4", "True", "False", "NA", "null", "nan", "1e5", "007", "2024_06", "-0", "None", "inf", "1,5"]

def test_text_stays_text(tmp_path):
    rows = [dict(zip(COLUMNS, (w, f"x {w} y", f"x {w} z", w, w))) for w in WORDS]
    pd.DataFrame(rows).to_csv(tmp_path/"b.csv", index=False)
    (tmp_path/"b.json").write_text(json.dumps(rows))
    for name in ("b.csv", "b.json"): assert read_battery(tmp_path/name).to_dict("records") == rows
    facts = pd.DataFrame([dict(category=w, relation="r", subject=f"{w}{i}", answer=f"{w}{i}"[i:], source="") for w in WORDS for i in (0, 1)])
    facts.to_csv(tmp_path/"facts.csv", index=False)
    pd.DataFrame(dict(relation=["r"], template=["{subject} is 1e5, NA or"])).to_csv(tmp_path/"templates.csv", index=False, quoting=csv.QUOTE_ALL)
    found = load_facts(tmp_path/"facts.csv")
    assert found.drop(columns="kind").to_dict("records") == facts.to_dict("records") and set(found.kind) == {"fact"}
    pairs = make_pairs(found, load_templates(tmp_path/"templates.csv"))
    assert set(pairs.category) == set(WORDS) and len(pairs) == len(WORDS) and all(type(x) is str for x in pairs.clean_target)

def test_candidates_keep_their_text():
    "The rules that choose pairs take categories as names, whatever they look like."
    table = pd.DataFrame([dict(zip(COLUMNS, (w, f"x {w} y", f"x {w} z", " a", " b")), clean_subject=f"{w}1", corrupt_subject=f"{w}2", total_swing=1., known=True, rank_clean_target_on_clean=1, rank_corrupt_target_on_corrupt=1) for w in WORDS])
    assert list(choose(table).category) == WORDS == list(shared_battery([table, table]).category) == list(select(table, "B").category)

@pytest.mark.parametrize("name,content,said", [("facts", "category,relation\na,b", "no column subject, answer, source"), ("facts", "category,relation,subject,answer,source\na,b,,d,e", "row 0: subject is empty"),
    ("templates", "relation,template\n" + "a," * 20_000, "fields and the header 2"), ("templates", "relation,template\na,x {subject} y\na,z {subject} y", "'a' is given twice"),
    ("templates", b"\xff\xfe\xff", "save the file as UTF-8"), ("templates", f"relation,template\n\x1b[31m,{'x' * 9000}", "template of '\\x1b[31m' is 'xxx")])
def test_other_tables_are_read_by_the_same_rules(name, content, said, tmp_path):
    with pytest.raises(InputError, match=None) as e: dict(facts=load_facts, templates=load_templates)[name](wrote(tmp_path, content))
    assert said in str(e.value) and not said_wrong(str(e.value))

def test_an_empty_path_is_no_path():
    for load in (load_facts, load_templates):
        with pytest.raises(InputError, match="cannot be read"): load("")
    with pytest.raises(InputError, match="cannot be read"): read_battery("a\0b.csv")

# ---------------------------------------------------------------- bounds

def test_what_is_too_much_is_refused_at_once(tmp_path, small):
    big = tmp_path/"sparse.csv"
    with open(big, "wb") as f: f.truncate(500 * 2**20)
    files = {"row.csv": f"{HEAD}\n{LINE}\n" + "x," * 20_000, "header.csv": "x," * 20_000, "long.csv": f"{HEAD}\ncapitals,{'a ' * 10**6},b,c,d", "deep.json": "[" * 10**6,
             "keys.json": json.dumps([{f"k{i}": 1 for i in range(20_000)}]), "sparse.csv": None, "long.json": json.dumps([{**ROW, "clean_prompt": "a " * 10**6}])}
    for name, text in files.items():
        began = time.process_time()   # of this process: others may have the cores
        said = refused(tmp_path, text, name) if text else str(pytest.raises(InputError, read_battery, big).value)
        assert time.process_time() - began < 1 and len(said) < 500, name
    with pytest.raises(InputError, match="cannot be read|larger than 16 MiB"): read_battery("/dev/zero")
    for letters in ("a", "ab ", "\u0316\u0301", "'", "é"):
        began = time.process_time()   # of this process: others may have the cores
        assert "tokens, and the model reads 128" in reason(small["bytes"], ROW, clean_prompt=(letters * 50_000)[:100_000]) and time.process_time() - began < 1.5

# ---------------------------------------------------------------- what is said

def test_no_line_is_long_and_none_holds_control_characters(small):
    nasty = "\x1b[31m\x07\u202e\x9b\u2028\r\n<script>" + "long " * 5000
    assert len(brief(nasty)) <= 480 and not said_wrong(brief(nasty))
    assert not said_wrong(str(InputError(nasty)))
    for t in small.values():
        for column in COLUMNS:
            try: battery = align(pd.DataFrame([{**ROW, column: nasty[:190]}, {**ROW, column: "\x1b[31m" + ROW[column]}, {**ROW, "entity_token": nasty}]), t)
            except InputError as e: assert not said_wrong(str(e)); continue
            for text in (*battery.dropped.reason, *battery.notes.note): assert text and not said_wrong(text)

def test_a_battery_shows_every_text_letter_by_letter():
    nasty = "<script>alert(1)</script> *a* _b_ `c` &amp; {{< x >}} \x1b[31m\u202e"
    pair = Pair(0, nasty, nasty + " is", nasty + " was", nasty, nasty, (1, 2), (3, 2), 4, 5, (0, 1))
    battery = Battery([pair] * 9, pd.DataFrame([(1, nasty, nasty, nasty, nasty)], columns=["index", "category", "clean_prompt", "corrupt_prompt", "reason"]),
        pd.DataFrame([(0, "category", nasty, nasty, nasty)], columns=names(NOTE_COLUMNS)))
    page = battery._repr_html_()
    assert "first 8 of 9" in page and not any(x in page for x in ("<script", "*a*", "_b_", "`c`", "&amp;", "{{<", "\x1b", "\u202e"))
    import html
    text = html.unescape(page)
    assert text.count("<script>alert(1)</script> *a* _b_ `c` &amp; {{< x >}}") == 8 * 5 + 3 and Battery([], battery.dropped.head(0)).notes.empty

# ---------------------------------------------------------------- anything

cells = st.text(alphabet=st.characters(codec="utf-8", exclude_characters="\0"), max_size=12)
SMALL = dict(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture], derandomize=True, database=None)

@given(st.lists(st.tuples(*[cells] * 5), min_size=1, max_size=4), st.sampled_from(",;\t"), st.sampled_from(["\n", "\r\n"]), st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
@settings(**SMALL)
def test_what_a_program_writes_is_read_as_it_was(tmp_path, rows, sign, end, code):
    out = io.StringIO()
    csv.writer(out, delimiter=sign, lineterminator=end, quoting=csv.QUOTE_ALL).writerows([COLUMNS, *rows])
    path = wrote(tmp_path, out.getvalue().encode(code))
    try: found = read_battery(path)
    except InputError as e: assert any(words in str(e) for words in ("is empty", "header once more")) and not said_wrong(str(e))
    else: assert [tuple(r) for r in found.values.tolist()] == rows

@given(st.binary(max_size=300), st.sampled_from(["", HEAD + "\n", HEAD.replace(",", ";") + "\n", "[{", '{"category": "']), st.sampled_from([".csv", ".json", ".jsonl"]))
@settings(**SMALL)
def test_any_bytes_give_a_battery_or_one_line(tmp_path, small, data, before, ending):
    assert one(wrote(tmp_path, before.encode() + data, "b" + ending), small["words"])[1] == ""

@given(st.sampled_from([FRANCE, "2+2=", "“", "法", "x:", "is ", "é"]), st.text(alphabet=st.characters(codec="utf-8"), min_size=1, max_size=6))
@settings(**SMALL)
def test_a_target_that_is_read_is_the_token_that_follows(small, prompt, target):
    for t in small.values():
        i, read, fault = target_id(t, target, prompt)
        assert (i is None) == bool(fault) and read in (target, " " + target) and (i is None or T.encode(t, prompt + read) == [*T.encode(t, prompt), i])

def test_a_small_attack():
    found = attack(30, seed=7, files=150, commands=6)
    assert found["wrong"] == [] and found["files"] == 150 and found["commands"] == 6 and found["aligned"] > 5 and found["refused"] > 20
