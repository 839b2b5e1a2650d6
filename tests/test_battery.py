"Reading, aligning and comparing batteries."
import json
import pandas as pd, pytest
from bizzaroworld import tokens as T
from bizzaroworld.battery import COLUMNS, How, align, align_row, drift, read_battery
from bizzaroworld.targets import target_id
from bizzaroworld.facts import InputError, load_facts, load_templates, make_pairs

ROW = dict(category="capitals", clean_prompt="The capital of france is", corrupt_prompt="The capital of japan is",
           clean_target=" paris", corrupt_target=" tokyo")

@pytest.fixture(scope="module")
def tiny(tiny_folders): return {k: T.load_tokenizer(str(tiny_folders[k])) for k in ("gemma3", "llama")}

@pytest.fixture(scope="module")
def real(): return {n: T.load_tokenizer(n) for n in ("gemma-3-270m", "smollm2-135m")}

def reason(tokenizer, **changes):
    "The reason why a changed row is left out."
    got = align_row(0, {**ROW, **changes}, tokenizer)
    assert isinstance(got, str) and "\n" not in got, got
    return got

# ---------------------------------------------------------------- alignment

def test_a_valid_pair(tiny):
    for kind, bos in (("gemma3", 1), ("llama", 0)):
        pair = align_row(3, ROW, tiny[kind])
        assert (pair.battery_idx, pair.entity_span, pair.entity_last, pair.final, pair.n_tokens) == (3, (3 + bos, 4 + bos), 3 + bos, 4 + bos, 5 + bos)
        assert tiny[kind].decode([pair.clean_target_id]).strip() == "paris" and tiny[kind].decode([pair.corrupt_target_id]).strip() == "tokyo"
        assert isinstance(pair.clean_tokens, tuple) and hash(pair)

def test_entities_of_several_tokens(tiny):
    pair = align_row(0, {**ROW, "clean_prompt": "The language spoken in new york is", "corrupt_prompt": "The language spoken in south korea is"}, tiny["gemma3"])
    assert pair.entity_span == (5, 7)

def test_several_differences_are_covered_by_one_span(tiny):
    pair = align_row(0, {**ROW, "clean_prompt": "The big capital of france is", "corrupt_prompt": "The small capital of japan is"}, tiny["gemma3"])
    assert pair.entity_span == (2, 6)

def test_each_rule_has_its_reason(tiny):
    t = tiny["gemma3"]
    assert "prompts differ in length: 6 and 7 tokens" in reason(t, corrupt_prompt="The capital of south korea is")
    assert "prompts are the same" in reason(t, corrupt_prompt=ROW["clean_prompt"])
    assert "last tokens differ: ▁an and ▁a" in reason(t, clean_prompt="The apple is an", corrupt_prompt="The banana is a")
    assert "'paris' is already in the prompt" in reason(t, clean_prompt="The Paris of france is")
    assert "already in the prompt" in reason(t, corrupt_prompt="The capital of tokyo is")
    assert "not a single token: ' new york' is ▁new | ▁york (2 tokens)" in align_row(0, {**ROW, "clean_target": " new york"}, t, How(answers="single"))
    assert "both targets are the same token" in reason(t, corrupt_target=" paris")
    assert "unknown to the tokenizer" in reason(t, clean_prompt="The capital of Atlantis is")
    assert "entity_token 'spain' is not where the prompts differ" in reason(t, entity_token="spain")
    assert "BOS too often" in reason(t, clean_prompt="The <bos> of france is", corrupt_prompt="The <bos> of japan is")

def test_a_target_inside_a_longer_word_is_not_given_away(tiny):
    row = {**ROW, "clean_prompt": "The big an of france is", "corrupt_prompt": "The big an of japan is", "clean_target": " a", "corrupt_target": " on"}
    assert not isinstance(align_row(0, row, tiny["gemma3"]), str)

@pytest.mark.parametrize("entity", ["france", " France", None, float("nan"), ""])
def test_a_named_entity_that_fits(tiny, entity):
    assert not isinstance(align_row(0, {**ROW, "entity_token": entity}, tiny["gemma3"]), str)

def test_targets_without_a_space(real):
    for t in real.values():
        for written in (" Paris", "Paris"):
            i, text, fault = target_id(t, written, "The capital of France is")
            assert (t.decode([i]), text, fault) == (" Paris", " Paris", "")
    joined = align(pd.DataFrame([{**ROW, "clean_prompt": "The capital of France is", "corrupt_prompt": "The capital of Greece is",
                                  "clean_target": "Stuttgart", "corrupt_target": " Athens"}]), real["gemma-3-270m"])
    assert [p.clean_target for p in joined.pairs] == [" Stuttgart"] and joined.dropped.empty
    assert joined.notes.note.tolist() == ["clean_target 'Stuttgart' is read as ' Stuttgart', with the space that parts it from the prompt"]

def test_a_target_that_needs_its_space_is_read_with_one(tiny):
    battery = align(pd.DataFrame([{**ROW, "clean_target": "paris"}]), tiny["llama"])
    assert battery.pairs[0].clean_target == " paris"
    assert battery.notes.values.tolist() == [[0, "clean_target", "paris", " paris",
        "clean_target 'paris' is read as ' paris', with the space that parts it from the prompt"]]

def test_align_keeps_the_index_of_the_table(tiny):
    table = pd.DataFrame([{**ROW, "corrupt_target": " paris"}, ROW, {**ROW, "corrupt_prompt": ROW["clean_prompt"]}], index=[7, 7, 9])
    battery = align(table, tiny["gemma3"])
    assert [p.battery_idx for p in battery.pairs] == [1] and list(battery.dropped["index"]) == [0, 2]
    shown = battery._repr_html_()
    assert "1 pair in 1 category (" in shown and ", 2 left out" in shown

def test_an_empty_result_renders(tiny):
    battery = align(pd.DataFrame([{**ROW, "corrupt_target": " paris"}]), tiny["gemma3"])
    assert len(battery) == 0 and "0 pairs" in battery._repr_html_()

def test_chat_pairs_are_aligned(real):
    row = {**ROW, "clean_prompt": "The capital of France is", "corrupt_prompt": "The capital of Japan is", "clean_target": " Paris", "corrupt_target": " Tokyo"}
    raw, chat = (align_row(0, row, real["smollm2-135m"], How(chat=c)) for c in (False, True))
    assert chat.clean_tokens[-raw.n_tokens:] == raw.clean_tokens
    assert chat.entity_span[0] - raw.entity_span[0] == chat.n_tokens - raw.n_tokens

@pytest.mark.real
def test_the_packages_own_pairs_on_both_tokenizers(real):
    pairs = make_pairs(load_facts(first=10), load_templates())
    batteries = {n: align(pairs, t, How(answers="single")) for n, t in real.items()}
    for name, battery in batteries.items():
        assert len(battery) + len(battery.dropped) == len(pairs) and battery.dropped.reason.str.len().gt(10).all()
        assert len({p.category for p in battery.pairs}) >= 55
        for p in battery.pairs:
            start, stop = p.entity_span
            assert p.clean_tokens[:start] == p.corrupt_tokens[:start] and p.clean_tokens[stop:] == p.corrupt_tokens[stop:] and stop < p.n_tokens
            assert p.clean_tokens[start] != p.corrupt_tokens[start] and p.clean_target_id != p.corrupt_target_id
    lost = drift(batteries)
    assert set(lost["index"]) == set().union(*(set(b.dropped["index"]) for b in batteries.values()))
    for name, battery in batteries.items(): assert (lost[name] != "").sum() == len(battery.dropped)

def test_drift_of_nothing(tiny):
    assert drift({"a": align(pd.DataFrame([ROW]), tiny["gemma3"])}).shape == (0, 5)

# ---------------------------------------------------------------- files

def test_csv_and_json_give_the_same(tmp_path):
    rows = [ROW, {**ROW, "category": "comma, \"quote\" and ümlaut"}]
    pd.DataFrame(rows).to_csv(tmp_path/"b.csv", index=False)
    (tmp_path/"b.json").write_text(json.dumps(rows))
    assert read_battery(tmp_path/"b.csv").equals(read_battery(tmp_path/"b.json"))
    (tmp_path/"bom.csv").write_bytes(b"\xef\xbb\xbf" + (tmp_path/"b.csv").read_bytes())
    assert read_battery(tmp_path/"bom.csv").equals(read_battery(str(tmp_path/"b.csv")))

def test_leading_spaces_survive(tmp_path):
    pd.DataFrame([ROW]).to_csv(tmp_path/"b.csv", index=False)
    assert read_battery(tmp_path/"b.csv").clean_target[0] == " paris"

def test_words_that_pandas_takes_for_nothing_survive(tmp_path):
    pd.DataFrame([{**ROW, "clean_target": "NA", "corrupt_target": "null"}]).to_csv(tmp_path/"b.csv", index=False)
    assert list(read_battery(tmp_path/"b.csv").loc[0, ["clean_target", "corrupt_target"]]) == ["NA", "null"]

HEAD = ",".join(COLUMNS)
BAD = {
    "empty.csv": (b"", "empty"), "blank.csv": (b" \n\n", "empty"), "head.csv": (HEAD.encode(), "no pairs"), "cols.csv": (b"a,b\n1,2", "no column"),
    "noise.csv": (bytes(range(256)) * 4, "not UTF-8"), "zeros.csv": (bytes(64), "not a text file"), "ragged.csv": (f"{HEAD}\n{'x,' * 9}x\nx,y\n".encode(), "row 0 has 10 fields and the header 5"),
    "hole.csv": (f"{HEAD}\na,b,c,,e".encode(), "row 0: clean_target is empty"), "short.csv": (f"{HEAD}\na,b,c".encode(), "row 0 has 3 fields and the header 5"),
    "quote.csv": (f'{HEAD}\n"a,b,c'.encode(), "not a CSV|row 0"),
    "cut.json": (json.dumps([ROW]).encode()[:-20], "not whole JSON"), "empty.json": (b"", "empty"), "list.json": (b"[]", "no column|no pairs"),
    "object.json": (json.dumps(ROW).encode(), "list of objects"), "numbers.json": (b"[1, 2]", "list of objects"), "text.json": (b'"x"', "list of objects"), "null.json": (b"null", "list of objects"),
    "type.json": (json.dumps([ROW, {**ROW, "clean_prompt": 5}]).encode(), "row 1: clean_prompt is 5, not text"),
    "none.json": (json.dumps([{**ROW, "corrupt_target": None}]).encode(), "row 0: corrupt_target is missing"),
    "lost.json": (json.dumps([ROW, {"category": "x"}]).encode(), "row 1: no column clean_prompt"),
    "nested.json": (json.dumps([{**ROW, "category": {"a": 1}}]).encode(), "row 0: category is"), "deep.json": (b"[" * 100000, "not whole JSON"),
}

@pytest.mark.parametrize("name", BAD)
def test_bad_files_say_so_in_one_line(name, tmp_path):
    content, match = BAD[name]
    (tmp_path/name).write_bytes(content)
    with pytest.raises(InputError, match=match) as e: read_battery(tmp_path/name)
    assert "\n" not in str(e.value) and name in str(e.value)

def test_a_file_that_is_not_there(tmp_path):
    for path in (tmp_path/"none.csv", tmp_path):
        with pytest.raises(InputError, match="cannot be read"): read_battery(path)


def test_a_pair_counts_once_and_a_prompt_fits():
    "The same pair twice would look like more evidence; a prompt beyond the model's context would be read as something else."
    tokenizer, row = T.load_tokenizer("smollm2-135m"), ("c", "The capital of France is", "The capital of Japan is", " Paris", " Tokyo")
    table = pd.DataFrame([row, row, ("d", *row[1:])], columns=COLUMNS)
    assert tokenizer.context == 8192
    battery = align(table, tokenizer)
    assert len(battery.pairs) == 1 and list(battery.dropped.reason) == ["the same pair as row 0"] * 2
    tokenizer.context = 3
    assert align(table, tokenizer).dropped.reason[0] == "a prompt has 5 tokens, and the model reads 3"
