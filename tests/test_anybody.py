"Other people's batteries: read by looking, kept or dropped for the right reason, and measured as plain hooks measure."
import json
from dataclasses import replace
import pandas as pd
import pytest, torch
import plain_hooks
from bizzaroworld.battery import How, Pair, align, read_battery, seen_from
from bizzaroworld.cli import main
from bizzaroworld.engine import patch_all
from bizzaroworld.facts import InputError, load_facts, load_templates, share_stem
from bizzaroworld.mending import advice, clean_text, mended
from bizzaroworld.proof import plain_twin
from bizzaroworld.network import Network
from bizzaroworld.patching import Patch, patch_one, token_indices
from bizzaroworld.readers import Indexed, as_pairs, read_any, write_pairs
from bizzaroworld.results import load_study
from bizzaroworld.selection import RULES, Pool, choose, on_top, pool
from bizzaroworld.study import study
from bizzaroworld.tokens import load_tokenizer

@pytest.fixture(scope="module")
def real():
    "The tokenizers of the embedded models."
    return {name: load_tokenizer(name) for name in ("gemma-3-270m", "smollm2-135m")}

# ---------------------------------------------------------------- facts

def test_facts_are_many_of_each_kind_and_none_gives_itself_away():
    facts, templates = load_facts(), load_templates()
    kinds = facts.groupby("kind")
    assert kinds.size()["fact"] >= 1500 and kinds.relation.nunique()["fact"] >= 40 and set(kinds.groups) == {"fact", "word rule", "arithmetic"}
    assert not [r for r in facts.itertuples() if share_stem(r.answer, r.subject)]
    assert facts.source.str.len().min() > 10 and not facts.duplicated(["relation", "subject"]).any()
    assert set(facts.relation) == set(templates.relation) and (facts.groupby("relation").category.nunique() == 1).all() and (facts.groupby("relation").kind.nunique() == 1).all()

def test_what_gives_itself_away():
    for a, b in (("snowboarding", "snowboard"), ("sailing", "sail boat"), ("volts", "voltage"), ("Portugal", "Porto"), ("miner", "mine")): assert share_stem(a, b), (a, b)
    for a, b in (("Paris", "France"), ("art", "heart"), ("", "x"), ("東京", "日本")): assert not share_stem(a, b), (a, b)

def test_the_rule_prefers_what_is_on_top_and_keeps_the_even_categories():
    rows = [dict(category=c, clean_prompt=f"{c}{i}", corrupt_prompt=f"{c}{i}'", clean_target="a", corrupt_target="b", clean_subject=f"{c}{i}", corrupt_subject=f"{c}{i}'",
        total_swing=10. - i, rank_clean_target_on_clean=1, rank_corrupt_target_on_corrupt=1 if (c, i) in (("x", 2), ("y", 0), ("y", 1), ("y", 2)) else 3) for c in "xyz" for i in range(4)]
    table = pd.DataFrame(rows).assign(known=True)
    taken = choose(table, replace(RULES["default"], categories=2))
    assert list(taken.clean_prompt) == ["x2", "x0", "x1", "y0", "y1", "y2"] and on_top(taken).sum() == 4
    assert list(choose(table, replace(RULES["default"], categories=2, ranks=(2, 5))).category) == ["x"] * 3 + ["z"] * 3

# ---------------------------------------------------------------- forms

CAPITALS = [("France", "Paris"), ("Japan", "Tokyo"), ("Egypt", "Cairo"), ("Greece", "Athens")]

def wrote(path, held):
    path.write_text(held if isinstance(held, str) else json.dumps(held, ensure_ascii=False), encoding="utf-8")
    return path

def lre(path, samples=CAPITALS, templates=("The capital of {} is",), **more):
    return wrote(path, dict(name=path.stem, prompt_templates=list(templates), samples=[dict(subject=s, object=o) for s, o in samples], **more))

def test_a_folder_of_relations_is_one_pool(tmp_path):
    lre(tmp_path/"a.json"); lre(tmp_path/"b.json", templates=["{} has", "{} has the capital"])
    found = read_any(tmp_path)
    assert isinstance(found, Pool) and list(found.pairs.category.value_counts()) == [6, 6] and set(found.pairs.category) == {"a", "b"}

def test_a_template_needs_text_behind_its_gap(tmp_path):
    assert read_any(lre(tmp_path/"a.json", templates=["The answer is {}", "The capital of {} is"])).pairs.clean_prompt[0] == "The capital of France is"
    with pytest.raises(InputError, match="no template with one"): read_any(lre(tmp_path/"b.json", templates=["The answer is {}"]))

def test_many_facts_are_drawn_by_the_seed(tmp_path):
    file = lre(tmp_path/"many.json", [(f"subject {i}", f"answer {i % 7}") for i in range(300)])
    one, two, again = (read_any(file, seed=s).pairs for s in (0, 1, 0))
    assert len(one) <= 4950 and one.equals(again) and not one.equals(two)

def test_a_false_target_is_nobodys_answer(tmp_path):
    held = [dict(case_id=i, requested_rewrite=dict(prompt="The capital of {} is", relation_id="P36", subject=s, target_true=dict(str=o), target_new=dict(str="Rome")))
        for i, (s, o) in enumerate(CAPITALS)]
    found = read_any(wrote(tmp_path/"cf.json", held)).pairs
    assert len(found) == 6 and "Rome" not in " ".join(found.clean_target) + " ".join(found.corrupt_target)

@pytest.mark.parametrize("held,said", [
    ({"prompt_templates": ["{} is"], "samples": []}, "no facts"), ({"prompt_templates": ["{} is"], "samples": [{"subject": 3, "object": "a"}]}, "sample 0 needs"),
    ({"prompt_templates": ["{} is"], "samples": [{"subject": "a", "object": "b"}, {"subject": "c", "object": "b"}]}, "all answers are alike"),
    ([{"requested_rewrite": {"prompt": "{} is", "subject": "a"}}], "record 0"),
    ({"prompts": [{"clean": "a", "corrupt": "b", "answers": []}]}, "prompt 0 needs"), ({"a": {"B": "c"}, "d": {"B": "e"}}, "entities without their templates")])
def test_a_broken_file_is_one_line(held, said, tmp_path):
    with pytest.raises(InputError) as e: read_any(wrote(tmp_path/"x.json", held))
    assert said in str(e.value) and "\n" not in str(e.value)

def test_rows_of_another_vocabulary_are_refused(real, tmp_path):
    head = "clean,corrupted,correct_idx,incorrect_idx\n"
    found = read_any(wrote(tmp_path/"a.csv", head + "a,b,1,999999\n"))
    assert isinstance(found, Indexed)
    with pytest.raises(InputError, match="made for another model"): as_pairs(found, real["gemma-3-270m"])
    with pytest.raises(InputError, match="correct_idx is"): read_any(wrote(tmp_path/"b.csv", head + "a,b,x,2\n"))

def test_a_row_of_the_vocabulary_that_is_another_word_is_not_read_as_this_one(real, tmp_path):
    "'Paris' without its space is another row: it would be measured as ' Paris' without a word."
    t = real["gemma-3-270m"]
    bare, spaced, other = (t(w, add_special_tokens=False).input_ids for w in ("Paris", " Paris", " Tokyo"))
    assert len(bare) == len(spaced) == 1 and bare != spaced
    row = "The capital of France is,The capital of Japan is,{},{}\n"
    file = wrote(tmp_path/"a.csv", "clean,corrupted,correct_idx,incorrect_idx\n" + row.format(spaced[0], other[0]) + row.format(bare[0], other[0]))
    found = align(as_pairs(read_any(file), t), t)
    assert [p.battery_idx for p in found.pairs] == [0] and "another token than the file names" in found.dropped.reason[0] and advice(found.dropped.reason[0])

@pytest.mark.real
def test_what_is_written_for_others_is_read_as_the_same_pairs(real, tmp_path):
    for t in real.values():
        pairs = align(pool("words").pairs.head(40), t).pairs
        for form, name in (("eap", "a.csv"), ("auto-circuit", "b.json"), ("pairs", "c.csv")):
            write_pairs(tmp_path/name, pairs, form)
            again = align(as_pairs(read_any(tmp_path/name), t), t).pairs
            assert [(p.clean_tokens, p.corrupt_tokens, p.clean_target_id, p.corrupt_target_id) for p in again] == [(p.clean_tokens, p.corrupt_tokens, p.clean_target_id, p.corrupt_target_id) for p in pairs]

# ---------------------------------------------------------------- languages

LANGUAGES = [("La capitale de la France est", "La capitale de la Russie est", "Paris", "Moscou"), ("Столица Франции —", "Столица Японии —", "Париж", "Токио"),
    ("عاصمة فرنسا هي", "عاصمة مصر هي", "باريس", "القاهرة"), ("फ्रांस की राजधानी है", "जापान की राजधानी है", "पेरिस", "टोक्यो"), ("フランスの首都は", "イギリスの首都は", "パリ", "ロンドン")]

@pytest.mark.real
def test_rows_of_other_languages_and_scripts(real):
    rows = [dict(category=str(i), clean_prompt=a, corrupt_prompt=b, clean_target=x, corrupt_target=y) for i, (a, b, x, y) in enumerate(LANGUAGES)]
    gone = [dict(category="東京", clean_prompt="東京タワーがある都市は", corrupt_prompt="大阪タワーがある都市は", clean_target="東京", corrupt_target="大阪"),
        dict(category="दिल", clean_prompt="दिल्ली में लोग कहते हैं", corrupt_prompt="मुंबई में लोग कहते हैं", clean_target="दिल", corrupt_target="मन")]
    found = align(pd.DataFrame(rows + gone), real["gemma-3-270m"], How(align="right"))
    reasons = dict(zip(found.dropped["index"], found.dropped.reason))
    assert {p.battery_idx for p in found.pairs} >= {0, 1, 2, 3, 4} and "'東京' is already in the prompt" in reasons[5] and "already" not in reasons.get(6, "")

# ---------------------------------------------------------------- numbers

def two(**more):
    "A pair of unequal length: the entity is one token here and three there."
    return Pair(0, "c", "", "", "", "", (2, 5, 9, 11, 12, 13), (2, 5, 20, 21, 22, 11, 12, 13), 30, 31, (2, 3), (4, 5), **more)

def shifted(source, by):
    "Activations of the other run with the indices of this one."
    cut = lambda x: torch.cat([x.new_zeros(by, *x.shape[1:]), x]) if by > 0 else x[-by:]
    return {k: v if k == "logits" else cut(v) for k, v in source.items()}

@pytest.mark.parametrize("kind", ["llama", "gemma2", "gemma3"])
def test_prompts_of_unequal_length_against_plain_hooks(tiny_models, kind):
    model, pair = tiny_models[kind], two()
    plain = plain_twin(model)
    patches = [Patch(s, l, p, h) for s in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post", "z") for l in range(model.cfg.n_layers) for p in ("entity", "final")
        for h in (range(2) if s == "z" else [None])]
    got = patch_all(model, [pair], patches).ld[:, 0]
    for d, direction in enumerate(("noising", "denoising")):
        seen = seen_from(pair, direction)
        source = shifted(plain_hooks.read(plain, kind, seen.corrupt_tokens), seen.n_tokens - len(seen.corrupt_tokens))
        for i, p in enumerate(patches):
            logits = plain_hooks.patched_logits(plain, kind, seen.clean_tokens, seen.corrupt_tokens, p.site, p.layer, token_indices(p.position, seen), p.head, source=source)
            assert abs(float(logits[30] - logits[31]) - float(got[d, i])) < 2e-3, (direction, p)
            assert abs(patch_one(model, pair, p, direction=direction) - float(got[d, i])) < 2e-3

@pytest.mark.parametrize("kind", ["llama", "gemma3"])
@pytest.mark.parametrize("uneven", [False, True])
def test_whole_answers_against_plain_hooks(tiny_models, kind, uneven):
    answers = ((30, 33, 34), (31, 35))
    pair = two(answers=answers, whole=True) if uneven else replace(two(answers=answers, whole=True), corrupt_tokens=(2, 5, 20, 11, 12, 13), corrupt_span=None)
    model = tiny_models[kind]
    plain, patches = plain_twin(model), [Patch(s, 1, p) for s in ("resid_pre", "attn_out", "mlp_out") for p in ("entity", "final")]
    got = patch_all(model, [pair], patches)
    def log_probability(tokens, at, source=None, p=None, seen=None):
        if p is None: return plain_hooks.read(plain, kind, tokens)["logits"].log_softmax(-1)[at]
        return plain_hooks.patched_logits(plain, kind, tokens, tokens, p.site, p.layer, token_indices(p.position, seen), source=source).log_softmax(-1)[at]
    for d, direction in enumerate(("noising", "denoising")):
        seen = seen_from(pair, direction)
        for i, p in enumerate([None, *patches]):
            want = 0.
            for sign, answer in zip((1, -1), answers):
                for j, token in enumerate(answer):
                    both = (seen.clean_tokens, seen.corrupt_tokens) if uneven or direction == "noising" else (seen.corrupt_tokens, seen.clean_tokens)
                    mine, theirs = (t + answer[:j] for t in both)
                    source = shifted(plain_hooks.read(plain, kind, theirs), len(mine) - len(theirs)) if p else None
                    want += sign * float(log_probability(mine, token, source, p, seen))
            ours = (got.ld_clean, got.ld_corrupt)[d][0] if p is None else got.ld[d, 0, i - 1]
            assert abs(want - float(ours)) < 2e-3, (direction, p)

@pytest.mark.real
def test_a_study_of_each_form(real_models, tmp_path, capsys):
    "Measured, kept with how it was read, and read again."
    model = real_models["gemma-3-270m"]
    cities = [("America", "New York"), ("India", "New Delhi"), ("Utah", "Salt Lake City"), ("Texas", "Austin")]
    rows = [dict(category="c", clean_prompt=f"A big city of {a} is called", corrupt_prompt=f"A big city of {b} is called", clean_target=x, corrupt_target=y) for (a, x), (b, y) in zip(cities[::2], cities[1::2])]
    uneven = [dict(category="u", clean_prompt="The capital of France is", corrupt_prompt="The capital of Saudi Arabia is", clean_target="Paris", corrupt_target="Riyadh")]
    options = dict(several=(rows, How()), whole=(rows, How(answers="whole")), right=(uneven, How(align="right")))
    for name, (table, how) in options.items():
        found = study(model, pd.DataFrame(table), out=tmp_path/name, source=name, how=how, experiments=("1", "3"))
        assert found.run["answers"] == how.answers and found.run["align"] == how.align and len(found.triage) == len(table)
        at_the_door = found.patches[(found.patches.experiment == "3") & (found.patches.layer == 0)].effect
        assert (at_the_door - 1).abs().max() < 1e-3 if name != "right" else (at_the_door < 1).all()
    assert load_study(tmp_path/"right").run["counts"]["pairs_uneven"] == 1 and load_study(tmp_path/"several").run["counts"]["pairs_of_several_tokens"] == 2
    file = lre(tmp_path/"capital.json", [("France", "Paris"), ("Japan", "Tokyo"), ("Egypt", "Cairo"), ("Greece", "Athens"), ("Iraq", "Baghdad")])
    found = study(model, read_any(file), out=tmp_path/"lre", source=str(file), count=2, experiments=("1",))
    assert len(found.triage) == 2 and found.steps.pairs.is_monotonic_decreasing

# ---------------------------------------------------------------- check, mend, export

def test_each_reason_has_its_advice(real):
    bad = [dict(corrupt_prompt="The capital of Saudi Arabia is"), dict(corrupt_prompt="The capital of France is"), dict(clean_prompt="Paris is in France and"), dict(corrupt_target=" Paris"),
        dict(clean_prompt="The capital of France is ", corrupt_prompt="The capital of Japan is "), dict(entity_token="Spain")]
    row = dict(category="c", clean_prompt="The capital of France is", corrupt_prompt="The capital of Japan is", clean_target=" Paris", corrupt_target=" Tokyo")
    found = align(pd.DataFrame([{**row, **b} for b in bad]), real["gemma-3-270m"]).dropped
    assert len(found) == len(bad) and all(map(advice, found.reason)), found.reason.tolist()

def test_only_what_is_certain_is_mended(real):
    t = real["gemma-3-270m"]
    row = dict(category="c", clean_prompt="The capital of\u00a0France is ", corrupt_prompt="The capital of Japan is", clean_target="Paris", corrupt_target="Tokyo")
    fixed, now = mended(row, t)
    assert now and fixed == {**row, "clean_prompt": "The capital of France is", "clean_target": " Paris", "corrupt_target": " Tokyo"}
    lost = {**row, "corrupt_prompt": "The capital of Saudi Arabia is"}
    assert mended(lost, t) == (lost, False) and clean_text("e\u0301\u200b") == "é"

@pytest.mark.real
def test_check_mends_and_export_writes(tmp_path, capsys):
    mine = wrote(tmp_path/"mine.csv", "category,clean_prompt,corrupt_prompt,clean_target,corrupt_target\nc,The capital of France is ,The capital of Japan is ,Paris,Tokyo\nc,The capital of Iran is,The capital of Iraq is,Tehran,Baghdad\n")
    assert main(["check", "--model", "gemma-3-270m", "--battery", str(mine), "--mend", str(tmp_path/"better.csv"), "--json"]) == 0
    said = json.loads(capsys.readouterr().out)
    assert said["mended"]["pairs"] == 1 and said["dropped"][0]["mend"] == "take the space at the end of the prompt out"
    assert len(read_battery(tmp_path/"better.csv")) == 2
    assert main(["export", "--model", "gemma-3-270m", "--battery", str(tmp_path/"better.csv"), "--to", str(tmp_path/"eap.csv")]) == 0
    assert (tmp_path/"eap.csv").read_text().splitlines()[0].startswith("clean,corrupted,correct_idx,incorrect_idx")
    assert main(["check", "--model", "gemma-3-270m", "--battery", str(tmp_path/"eap.csv"), "--json"]) == 0
    assert main(["export", "--model", "gemma-3-270m", "--battery", str(mine), "--to", str(tmp_path/"no"/"x.txt")]) == 2
