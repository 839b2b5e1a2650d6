"Every kind of tokenizer: BOS as asked, the token that follows, tokens as text, chat templates; up to a finished study."
import io, json
import pandas as pd, pytest, torch
from bizzaroworld import cli, models as M, tokens as T
from bizzaroworld.battery import align
from bizzaroworld.charts import show_token
from bizzaroworld.facts import InputError
from spellings import CHAT, END, byte_tokenizer, save, space_tokenizer, word_tokenizer

ROWS = """category,clean_prompt,corrupt_prompt,clean_target,corrupt_target
c,The capital of France is,The capital of Japan is, Paris, Tokyo
c,The capital of Spain is,The capital of Italy is, Madrid, Rome
o,The opposite of hot is,The opposite of big is, cold, small
"""
KINDS = {"bytes": byte_tokenizer, "first": lambda: space_tokenizer("first"), "always": lambda: space_tokenizer("always"),
    "never": lambda: space_tokenizer("never"), "unigram": lambda: space_tokenizer("always", unigram=True), "words": word_tokenizer}

def table(text=ROWS): return pd.read_csv(io.StringIO(text), dtype=str)

@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    "A tiny model with each tokenizer."
    root = tmp_path_factory.mktemp("kinds")
    return {name: save(root/name, make(), chat=CHAT) for name, make in KINDS.items()}

# ---------------------------------------------------------------- BOS

def begins(tokenizer): return T.encode(tokenizer, "The capital").count(tokenizer.bos_token_id)

@pytest.mark.parametrize("kind, auto", [("bytes", 0), ("words", 0), ("first", 1), ("unigram", 1)])
def test_bos_is_as_asked(folders, kind, auto):
    for bos, wanted in dict(auto=auto, on=1, off=0).items():
        tokenizer = T.load_tokenizer(str(folders[kind]), bos=bos)
        assert begins(tokenizer) == wanted == int(tokenizer.wants_bos) and T.bos_fault(tokenizer, T.encode(tokenizer, "The capital")) == ""
        model = M.load(str(folders[kind]), device="cpu", bos=bos)
        assert model.checks.passed.all() and begins(model.tokenizer) == wanted
        assert all((ids[0] == tokenizer.bos_token_id) == bool(wanted) for pair in model.reference.pairs for ids in pair[:2])

def test_what_was_asked_is_checked(folders, monkeypatch):
    "Check 7 holds a model to the choice, not to the model's wish."
    model, true = M.load(str(folders["first"]), device="cpu", bos="off"), T.encode
    monkeypatch.setattr(M, "encode", lambda t, text, **k: [t.bos_token_id, *true(t, text, **k)])
    with pytest.raises(M.SelfTestError, match="BOS too often"): M.self_test(model)
    monkeypatch.undo()
    model.tokenizer.wants_bos = True
    with pytest.raises(M.SelfTestError, match="BOS too often: a llama model wants 0"): M.self_test(model)

def test_no_bos_to_begin_with(folders, tmp_path):
    tokenizer = byte_tokenizer(); tokenizer.bos_token = None
    save(tmp_path/"none", tokenizer)
    with pytest.raises(InputError, match="no BOS to begin with: use --bos off or auto"): T.load_tokenizer(str(tmp_path/"none"), bos="on")
    assert not T.load_tokenizer(str(tmp_path/"none")).wants_bos
    for words in (f"study --model {tmp_path/'none'} --bos on --out {tmp_path/'out'}", f"check --model {tmp_path/'none'} --bos on"):
        status, said = cli.typed(words)
        assert status == 2 and len(said.splitlines()) == 1 and "no BOS" in said
    assert not (tmp_path/"out").exists()
    with pytest.raises(InputError, match="unknown choice of BOS 'yes': use auto, on, off"): T.load_tokenizer(str(folders["bytes"]), bos="yes")

# ---------------------------------------------------------------- one token for several things

def test_one_token_for_bos_and_unknown_words(folders):
    for bos in ("auto", "on", "off"):
        tokenizer = T.load_tokenizer(str(folders["bytes"]), bos=bos)
        assert tokenizer.bos_token_id == tokenizer.eos_token_id == tokenizer.unk_token_id == 0
        assert len(align(table(), tokenizer)) == 3, align(table(), tokenizer).dropped.reason.tolist()

def test_an_unknown_word_is_no_bos(folders):
    odd = "category,clean_prompt,corrupt_prompt,clean_target,corrupt_target\nc,Zork france is,Quux france is, Paris, Tokyo\nc,The zork of france is,The capital of france is, Paris, Tokyo\n"
    for bos in ("auto", "on", "off"):
        tokenizer = T.load_tokenizer(str(folders["words"]), bos=bos)
        assert not tokenizer.wants_bos or bos == "on"
        got = align(table(odd), tokenizer)
        assert not got.pairs and all("unknown to the tokenizer" in r or "the same" in r for r in got.dropped.reason), got.dropped.reason.tolist()
        assert len(align(table(ROWS.replace("France", "france")), tokenizer)) == 3

# ---------------------------------------------------------------- the token that follows

@pytest.mark.parametrize("chat", [False, True])
@pytest.mark.parametrize("kind", KINDS)
def test_both_spellings_of_a_target_are_the_token_that_follows(folders, kind, chat):
    tokenizer = T.load_tokenizer(str(folders[kind]), chat=chat)
    spaced, bare = (align(table(ROWS.replace(", ", comma)), tokenizer) for comma in (", ", ","))
    assert len(spaced) == len(bare) == 3, (spaced.dropped.reason.tolist(), bare.dropped.reason.tolist())
    for p, q in zip(spaced.pairs, bare.pairs):
        assert (p.clean_target_id, p.corrupt_target_id) == (q.clean_target_id, q.corrupt_target_id)
        whole = tokenizer(p.clean_prompt + " " + p.clean_target.strip(), add_special_tokens=False).input_ids
        assert whole[-1] == p.clean_target_id and list(p.clean_tokens[-len(whole) + 1:]) == whole[:-1]

# ---------------------------------------------------------------- tokens as text

@pytest.mark.parametrize("kind", KINDS)
def test_tokens_are_shown_as_text(folders, kind):
    tokenizer = T.load_tokenizer(str(folders[kind]))
    text = "The capital of France is"
    ids = tokenizer(text, add_special_tokens=False).input_ids
    shown = T.token_texts(tokenizer, ids)
    assert "".join(shown).lstrip() == text and len(shown) == len(ids)
    assert not set("".join(map(show_token, shown))) & set("ĠĊ▁Ã")

def test_bytes_that_are_no_letter_have_their_number(folders):
    tokenizer = T.load_tokenizer(str(folders["bytes"]))
    show = lambda text: T.token_texts(tokenizer, tokenizer(text, add_special_tokens=False).input_ids)
    assert "".join(show("un café 😀 à Paris\n\tis")) == "un café 😀 à Paris\n\tis"
    strange = show("Ω")   # its two bytes were never seen together
    assert strange == ["<0xCE>", "<0xA9>"]
    assert T.token_texts(tokenizer, [0, 10**6]) == [END, f"<{10**6}>"]
    # what a tokenizer of bytes was given as a whole is no spelling of bytes
    tokenizer.add_tokens(["<é>"])
    assert show("Paris<é>")[-1] == "<é>"
    assert show_token(" café") == " café"

def test_reasons_show_text(folders):
    got = align(table(ROWS.replace("The capital of France is", "un café à Paris is in France is")), T.load_tokenizer(str(folders["bytes"])))
    assert "café" in got.dropped.reason[0] and "Ã" not in got.dropped.reason[0] and "▁à" in got.dropped.reason[0]

# ---------------------------------------------------------------- rows and words

def test_more_rows_than_words(tmp_path):
    save(tmp_path/"m", byte_tokenizer(), rows=700)
    model = M.load(str(tmp_path/"m"), device="cpu")
    assert model.checks.passed.all() and model.tokenizer.rows == 700 > len(model.tokenizer) and len(align(table(), model.tokenizer)) == 3

def test_words_that_were_added_later_may_have_no_row(tmp_path):
    tokenizer = byte_tokenizer(); rows = len(tokenizer)
    tokenizer.add_tokens(["Zürich"]); tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    save(tmp_path/"m", tokenizer, rows=rows)
    tokenizer = M.load(str(tmp_path/"m"), device="cpu").tokenizer
    assert len(tokenizer) == rows + 2
    more = ROWS + "c,The capital of Zürich is,The capital of Japan is, Paris, Tokyo\nc,The capital of France is,The capital of Japan is,Zürich, Tokyo\n"
    got = align(table(more), tokenizer)
    assert len(got) == 3 and all("no row for" in r or "not a single token" in r for r in got.dropped.reason), got.dropped.reason.tolist()

# ---------------------------------------------------------------- another class than the saved one

@pytest.mark.parametrize("kind", ["first", "always", "unigram", "bytes", "never"])
@pytest.mark.parametrize("name", ["LlamaTokenizer", "GPT2Tokenizer", "Qwen2Tokenizer", "GemmaTokenizer", "GPTNeoXTokenizer", "CohereTokenizer"])
def test_a_tokenizer_encodes_as_it_was_saved(tmp_path, kind, name):
    "The class that `tokenizer_config.json` or the model's type names may build another one."
    saved = KINDS[kind]()
    saved.save_pretrained(tmp_path/"m")
    path = tmp_path/"m"/"tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": name}))
    (tmp_path/"m"/"config.json").write_text(json.dumps(dict(model_type="qwen2" if name.startswith("Qwen") else "llama", architectures=["LlamaForCausalLM"], vocab_size=len(saved),
        hidden_size=8, num_hidden_layers=1, num_attention_heads=1)))
    try: got = T.load_tokenizer(str(tmp_path/"m"))
    except InputError as e: assert "cannot read" in str(e); return   # the class itself refuses
    for text in ("The capital of France is", " Paris", "two  spaces\n1234 café"):
        assert got(text, add_special_tokens=False).input_ids == saved(text, add_special_tokens=False).input_ids
    assert got.bos_token_id == saved.bos_token_id and got.eos_token_id == saved.eos_token_id

# ---------------------------------------------------------------- chat

def test_a_chat_template_of_its_own(folders):
    for bos, wanted in dict(auto=1, on=1, off=0).items():
        tokenizer = T.load_tokenizer(str(folders["first"]), bos=bos, chat=True)
        ids = T.encode(tokenizer, "The capital")
        assert ids.count(tokenizer.bos_token_id) == wanted and "Complete" in tokenizer.decode(ids)
        assert ids[-2:] == tokenizer("The capital", add_special_tokens=False).input_ids[-2:] and T.bos_fault(tokenizer, ids) == ""

@pytest.mark.parametrize("template, words", [("{{ raise_exception('no user first') }}", "no user first"), ("{% for %}", "fails"), ("{{ 1 / 0 }}", "fails"), ("", "no chat template")])
def test_a_template_that_fails_is_one_line(tmp_path, template, words):
    save(tmp_path/"m", byte_tokenizer(), chat=template or None)
    with pytest.raises(InputError, match=words) as e: T.load_tokenizer(str(tmp_path/"m"), chat=True)
    assert "\n" not in str(e.value) and "without --chat" in str(e.value)
    status, said = cli.typed(f"study --model {tmp_path/'m'} --chat --out {tmp_path/'out'}")
    assert status == 2 and len(said.splitlines()) == 1 and not (tmp_path/"out").exists()

def test_tomorrow_is_the_same_study_and_no_thought_comes_first(tmp_path):
    save(tmp_path/"m", byte_tokenizer(), chat="{{ strftime_now('%d %b %Y') }}|{% if enable_thinking is defined and not enable_thinking %}at once{% endif %}|{{ messages[0].content }}")
    assert T._chat_start(T.load_tokenizer(str(tmp_path/"m"), chat=True)) == "26 Jul 2024|at once|Complete the sentence."

# ---------------------------------------------------------------- up to a study

@pytest.mark.parametrize("words, bos, chat", [("", False, False), ("--bos on", True, False), ("--bos off --chat", False, True), ("--bos on --chat", True, True)])
def test_a_study_says_how_its_prompts_began(folders, tmp_path, words, bos, chat):
    (tmp_path/"pairs.csv").write_text(ROWS)
    status, said = cli.typed(f"study --model {folders['bytes']} --battery {tmp_path/'pairs.csv'} --out {tmp_path/'out'} --experiments 1,4F {words}")
    assert status == 0, said
    run, triage = json.loads((tmp_path/"out"/"run.json").read_text()), pd.read_csv(tmp_path/"out"/"triage.csv")
    assert (run["bos"], run["chat"]) == (run["settings"]["bos"], run["settings"]["chat"]) == (bos, chat)
    first = json.loads(triage.clean_tokens[0])
    assert (first[0] == END) == bos and ("Complete" in "".join(first)) == chat and "".join(first).endswith("is") and "Ġ" not in "".join(first)
    other = "--bos off" if bos else "--bos on"
    status, said = cli.typed(f"study --model {folders['bytes']} --battery {tmp_path/'pairs.csv'} --out {tmp_path/'out'} --experiments 1,4F {other} {'--chat' * chat}")
    assert status == 2 and f"bos {bos} there, {not bos} here" in said and len(said.splitlines()) == 1
    status, said = cli.typed(f"study --model {folders['bytes']} --battery {tmp_path/'pairs.csv'} --out {tmp_path/'out'} --experiments 1,4F --bos {'on' if bos else 'off'} {'--chat' * (not chat)}")
    assert status == 2 and f"chat {chat} there, {not chat} here" in said

def test_one_head_one_layer_one_pair(tmp_path):
    save(tmp_path/"m", byte_tokenizer(), num_hidden_layers=1, num_attention_heads=1, num_key_value_heads=1)
    (tmp_path/"pairs.csv").write_text("".join(ROWS.splitlines(True)[:2]))
    status, said = cli.typed(f"study --model {tmp_path/'m'} --battery {tmp_path/'pairs.csv'} --out {tmp_path/'out'}")
    assert status == 0, said
    run = json.loads((tmp_path/"out"/"run.json").read_text())
    assert (run["n_layers"], run["n_heads"], run["counts"]["pairs_patched"]) == (1, 1, 1)
