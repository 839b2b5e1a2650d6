"What comes from a folder or the hub is whole, is what its name says, and runs nothing; what is not is refused in one line."
import concurrent.futures, io, json, os, re, shutil, subprocess, sys, time
from pathlib import Path
import pandas as pd, pytest, torch, transformers
from safetensors.torch import load_file, save_file
from bizzaroworld import hub as H, models as M, passes, plain as P, tokens as T, weights as W
from bizzaroworld.facts import InputError
from conftest import SHAPE, tiny_model, tiny_tokenizer
import hub as stand_in
import spellings

@pytest.fixture
def folder(tiny_folders, tmp_path, monkeypatch):
    "A copy of a tiny model, and a cache of its own."
    monkeypatch.setenv("BIZZAROWORLD_CACHE", str(tmp_path/"cache"))
    shutil.copytree(tiny_folders["llama"], tmp_path/"model")
    return tmp_path/"model"

def refused(match, call):
    with pytest.raises(InputError, match=match) as e: call()
    said = str(e.value)
    assert "\n" not in said and len(said) < 500 and "trust_remote_code" not in said and all(c.isprintable() for c in said), said

def load(folder, **options): return M.load(str(folder), device="cpu", **options)

def change(folder, **values):
    "Other entries in config.json; a value of ... takes one away."
    path = Path(folder)/"config.json"
    config = {**json.loads(path.read_text()), **values}
    path.write_text(json.dumps({k: v for k, v in config.items() if v is not ...}))

def rewrite(folder, fn):
    "Other weights: `fn` gets the dict of tensors and changes it."
    path = Path(folder)/"model.safetensors"
    tensors = {k: v.clone() for k, v in load_file(path).items()}
    fn(tensors); save_file(tensors, path, metadata={"format": "pt"})

# ---------------------------------------------------------------- every byte counts

def far_and_equal(folder, name, at, old=10**18):
    "Flip one bit of a file and set its times back, as a copy that keeps times does."
    path = Path(folder)/name
    stat = path.stat()
    data = bytearray(path.read_bytes()); data[at] ^= 1
    fresh = path.with_suffix(".fresh"); fresh.write_bytes(data); os.replace(fresh, path)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))

def test_new_weights_far_inside_the_file_are_other_weights(folder):
    big = folder/"model.safetensors"
    save_file({"a": torch.zeros(1 << 19)}, big)   # 2 MiB
    os.utime(big, ns=(10**18, 10**18))
    before = W.fingerprint(folder)
    assert W.fingerprint(folder) == before
    far_and_equal(folder, "model.safetensors", -5)
    assert W.fingerprint(folder) != before

@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "tokenizer_config.json", "generation_config.json"])
def test_configuration_and_tokenizer_count_in_full(folder, name):
    (folder/name).write_text(json.dumps({**json.loads((folder/name).read_text()), "more": "x" * (2 << 20)}))
    before = W.fingerprint(folder)
    far_and_equal(folder, name, -10)
    assert W.fingerprint(folder) != before

def test_a_large_file_is_read_once(folder, monkeypatch):
    big = folder/"model.safetensors"
    save_file({"a": torch.zeros(1 << 19)}, big)
    calls, true = [], W._sha256
    monkeypatch.setattr(W, "_sha256", lambda p: (calls.append(Path(p).name), true(p))[1])
    monkeypatch.setattr(W.time, "time_ns", lambda: 10**20)   # long after the file was written
    digests = [W.checksum(big) for _ in range(3)]
    assert calls == ["model.safetensors"] and len(set(digests)) == 1
    for damage in ("{", '{"a": 1}', "[]", json.dumps({W.file_stamp(big): "beef"})):
        (W.cache_folder()/"checksums.json").write_text(damage)
        assert W.checksum(big) == digests[0]
    assert len(calls) == 5
    (W.cache_folder()/"checksums.json").unlink(); (W.cache_folder()/"checksums.json").mkdir()   # cannot be written
    assert W.checksum(big) == digests[0] and not list(W.cache_folder().glob(".checksums*"))

def test_a_file_that_was_just_written_is_not_remembered(folder):
    big = folder/"model.safetensors"
    save_file({"a": torch.zeros(1 << 19)}, big); W.checksum(big)
    assert not W._remembered()

def test_the_memory_of_checksums_stays_small(folder):
    for i in range(30): W._remember(f"stamp{i}", f"{i:064x}", most=20)
    assert list(W._remembered()) == [f"stamp{i}" for i in range(10, 30)]

def test_the_revision_of_a_loaded_folder_moves_with_any_byte(folder):
    before = load(folder, self_test=False).revision
    rewrite(folder, lambda w: w["lm_head.weight"].view(-1)[-1:].mul_(1.0001))
    assert load(folder, self_test=False).revision != before

def test_a_folder_that_changes_while_it_is_read(folder, monkeypatch):
    true = P.plain_model
    def slow(*a): got = true(*a); change(folder, more=1); return got
    monkeypatch.setattr(M, "plain_model", slow)
    refused("changed while it was read", lambda: load(folder))

def test_rot_in_the_cache_that_keeps_size_and_time_is_made_again(folder, monkeypatch):
    made = []
    def convert(name, to): made.append(name); shutil.copytree(folder, to, dirs_exist_ok=True)
    monkeypatch.setattr(W, "_convert", convert); monkeypatch.setattr(W, "_package_folder", lambda name: folder)
    cached = H.model_folder("smollm2-135m")
    for name, at in (("model.safetensors", -5), ("config.json", 5), ("tokenizer.json", 50)):
        far_and_equal(cached, name, at)
        assert W.is_whole(cached), "size and time say nothing"
        assert H.model_folder("smollm2-135m", weights=False) == cached
        H.model_folder("smollm2-135m")
        assert W.is_whole(cached, fully=True)
    assert len(made) == 4

# ---------------------------------------------------------------- half a model

def fewer_layers(f): change(f, num_hidden_layers=2)
def adapter_beside(f): (f/"adapter_config.json").write_text('{"base_model_name_or_path": "org/base"}'); (f/"adapter_model.safetensors").write_bytes(b"")
def adapter_weights_beside(f): (f/"adapter_model.safetensors").write_bytes(b"")
def adapter_alone(f): adapter_beside(f); (f/"config.json").unlink(); (f/"model.safetensors").unlink()
def more_keys(f): rewrite(f, lambda w: w.update({"model.layers.0.mlp.extra.weight": torch.ones(2)}))
def a_head_of_another_kind(f): rewrite(f, lambda w: w.update({"score.weight": torch.ones(2, 32)}))
def a_layer_lost(f): rewrite(f, lambda w: [w.pop(k) for k in list(w) if ".layers.3." in k])
def more_layers(f): change(f, num_hidden_layers=5)
def other_shape(f): rewrite(f, lambda w: w.update({"model.layers.1.mlp.up_proj.weight": torch.ones(63, 32)}))
def narrower(f): change(f, intermediate_size=32)
def fewer_words(f): change(f, vocab_size=SHAPE["vocab_size"] - 4)
def one_file_and_shards(f): shutil.copy(f/"model.safetensors", f/"model-00001-of-00001.safetensors")
def shards(f, lose=None, forget=None):
    tensors = load_file(f/"model.safetensors"); (f/"model.safetensors").unlink()
    parts = {f"model-0000{i + 1}-of-00003.safetensors": {k: v.clone() for j, (k, v) in enumerate(sorted(tensors.items())) if j % 3 == i} for i in range(3)}
    names = list(parts)
    for n, part in parts.items(): save_file(part, f/n, metadata={"format": "pt"})
    index = {k: n for n, part in parts.items() for k in part if forget is None or n != names[forget]}
    (f/"model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": index}))
    if lose is not None: (f/names[lose]).unlink()
def shard_lost(f): shards(f, lose=1)
def shard_not_named(f): shards(f, forget=1)
def index_without_map(f): shards(f); (f/"model.safetensors.index.json").write_text("{}")
def shard_elsewhere(f): shards(f); (f/"model.safetensors.index.json").write_text('{"weight_map": {"a": "../secret.safetensors"}}')
def named_weights(f): change(f, transformers_weights="other.safetensors"); shutil.copy(f/"model.safetensors", f/"other.safetensors")

HALVES = {fewer_layers: "weights that its config.json has no place for", adapter_beside: "holds an adapter .* of 'org/base'.*merge_and_unload",
    adapter_weights_beside: "holds an adapter", adapter_alone: "holds an adapter .* of 'org/base'.*merge_and_unload",
    more_keys: "1, such as 'model.layers.0.mlp.extra.weight'", a_head_of_another_kind: "no place for", a_layer_lost: "lacks weights",
    more_layers: "lacks weights|larger model", other_shape: r"'model.layers.1.mlp.up_proj.weight' .* has the shape \[63, 32\], and config.json says \[64, 32\]",
    narrower: "has the shape", fewer_words: "has the shape|tokens more than", one_file_and_shards: "two sets of weights",
    shard_lost: "lacks weights .1 of 3 shards, such as 'model-00002-of-00003.safetensors'", shard_not_named: "which its index does not name",
    index_without_map: "no weight_map", shard_elsewhere: "lacks weights", named_weights: "names its weights"}

@pytest.mark.parametrize("half", HALVES, ids=lambda h: h.__name__)
def test_half_a_model_is_refused(folder, half):
    half(folder)
    refused(HALVES[half], lambda: load(folder))

def test_a_whole_model_in_shards_loads(folder):
    shards(folder)
    assert load(folder).checks.passed.all()

def test_tables_that_old_files_carry_are_no_weights(folder):
    rewrite(folder, lambda w: w.update({"model.layers.0.self_attn.rotary_emb.inv_freq": torch.ones(4)}))
    assert load(folder).checks.passed.all()

def test_the_vision_tower_that_is_left_out_on_purpose_and_nothing_else(tiny_folders, tmp_path):
    shutil.copytree(tiny_folders["gemma3_vision"], tmp_path/"v")
    assert load(tmp_path/"v", self_test=False)
    rewrite(tmp_path/"v", lambda w: w.update({"model.language_model.layers.9.mlp.up_proj.weight": torch.ones(2)}))
    refused("no place for .1, such as", lambda: load(tmp_path/"v"))

# ---------------------------------------------------------------- nothing from outside runs

CANARY = "import pathlib; pathlib.Path({!r}).write_text('ran')\nclass Own:\n    @classmethod\n    def from_pretrained(cls, *a, **k): return cls()\nModel = Config = Tokenizer = Own\n"

def own_config(f): change(f, model_type="own", auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})
def own_model_of_a_known_type(f): change(f, model_type="bert", auto_map={"AutoModelForCausalLM": "own.Model"}, architectures=["Model"])
def own_tokenizer(f):
    path = f/"tokenizer_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "tokenizer_class": "Tokenizer", "auto_map": {"AutoTokenizer": ["own.Tokenizer", None]}}))
def own_code_elsewhere(f): change(f, model_type="own", auto_map={"AutoConfig": "somebody/code--own.Config"})
def no_type(f): change(f, model_type=..., auto_map={"AutoConfig": "own.Config"})
def pickle_only(f): torch.save(load_file(f/"model.safetensors"), f/"pytorch_model.bin"); (f/"model.safetensors").unlink()
def pickle_index(f): pickle_only(f); (f/"pytorch_model.bin.index.json").write_text('{"weight_map": {"a": "pytorch_model.bin"}}')
def checkpoint_only(f): (f/"model.safetensors").rename(f/"last.ckpt")

CODE = {own_config: (2, "code of a model is never run"), own_model_of_a_known_type: (2, "not a causal language model|code of a model is never run"),
    own_tokenizer: (2, "code of a model is never run"), own_code_elsewhere: (2, "code of a model is never run"), no_type: (2, "code of a model is never run|does not know"),
    pickle_only: (2, r"'pytorch_model.bin' and no safetensors.*save_pretrained\(NEW\)"), pickle_index: (2, "no safetensors"), checkpoint_only: (2, "no safetensors")}

def test_no_code_of_a_folder_runs_whatever_is_answered(tiny_folders, tmp_path):
    "In a process of its own with `y` on standard input, since that is what ran the code."
    (tmp_path/"pairs.csv").write_text(stand_in.BATTERY)
    jobs = []
    for fn in CODE:
        folder = tmp_path/fn.__name__
        shutil.copytree(tiny_folders["llama"], folder); fn(folder)
        (folder/"own.py").write_text(CANARY.format(str(tmp_path/"canary")))
        (folder/"custom_generate").mkdir(); shutil.copy(folder/"own.py", folder/"custom_generate"/"generate.py")
        jobs.append((fn.__name__, ["study", "--model", folder, "--battery", tmp_path/"pairs.csv", "--out", tmp_path/"out"/fn.__name__, "--quick", "--experiments", "1"]))
    with stand_in.Hub(tiny_folders["llama"]) as server: found = stand_in.ask(server, tmp_path, jobs)
    assert not (tmp_path/"canary").exists() and not server.asked
    for fn, (status, text) in CODE.items():
        got, lines, _ = found[fn.__name__]
        assert got == status and (not status or len(lines) == 1 and re.search(text, lines[0])), (fn.__name__, got, lines)

def test_known_types_with_code_of_their_own_beside_load_natively(folder):
    change(folder, auto_map={"AutoConfig": "own.Config", "AutoModelForCausalLM": "own.Model"})
    (folder/"own.py").write_text(CANARY.format(str(folder/"canary")))
    assert load(folder).checks.passed.all() and not (folder/"canary").exists()

# ---------------------------------------------------------------- the right line

def text(name, value): return lambda f: (f/name).write_bytes(value if isinstance(value, bytes) else value.encode())
def numbers(tensor, value): return lambda f: rewrite(f, lambda w: w[tensor].view(-1)[7:8].fill_(value))
def more_tokens(f):
    raw = json.loads((f/"tokenizer.json").read_text())
    raw["model"]["vocab"] |= {"extra": SHAPE["vocab_size"], "more": SHAPE["vocab_size"] + 1}
    (f/"tokenizer.json").write_text(json.dumps(raw))
def a_header_of_many_bytes(f): (f/"model.safetensors").write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
def a_directory(name): return lambda f: ((f/name).unlink(), (f/name).mkdir())

FAULTS = {
    "no layer": (lambda f: change(f, num_hidden_layers=0), "num_hidden_layers = '0', which must be a whole number of at least 1"),
    "no heads": (lambda f: change(f, num_attention_heads=0), "num_attention_heads|cannot read"),
    "no key heads": (lambda f: change(f, num_key_value_heads=0), "cannot read|shape"),
    "fewer than none": (lambda f: change(f, num_hidden_layers=-3), "num_hidden_layers"),
    "text for a number": (lambda f: change(f, hidden_size="big"), "hidden_size|cannot read"),
    "text for layers": (lambda f: change(f, num_hidden_layers="4"), "num_hidden_layers|cannot read"),
    "a list for a number": (lambda f: change(f, vocab_size=[1]), "vocab_size|cannot read"),
    "true for a number": (lambda f: change(f, num_hidden_layers=True), "num_hidden_layers|cannot read"),
    "half a layer": (lambda f: change(f, num_hidden_layers=2.5), "num_hidden_layers|cannot read"),
    "null": (lambda f: change(f, hidden_size=None), "hidden_size|cannot read"),
    "absurdly wide": (lambda f: change(f, hidden_size=10**9), "larger model"),
    "absurdly deep": (lambda f: change(f, num_hidden_layers=2 * 10**9), "larger model"),
    "beyond all": (lambda f: change(f, hidden_size=10**30), "hidden_size|cannot read"),
    "absurd middle": (lambda f: change(f, intermediate_size=10**11), "larger model"),
    "text for the middle": (lambda f: change(f, intermediate_size="wide"), "cannot read"),
    "text for rope": (lambda f: change(f, rope_parameters="fast"), "cannot read"),
    "odd activation": (lambda f: change(f, hidden_act="\033[31mred"), "cannot read"),
    "odd model type": (lambda f: change(f, model_type="\033]0;title\007" + "x" * 3000), "does not know"),
    "no model type": (lambda f: change(f, model_type=...), "does not know"),
    "type is a number": (lambda f: change(f, model_type=7), "does not know|cannot read"),
    "more tokens than rows": (more_tokens, "knows 2 tokens more than the model's .* rows, such as 'extra'"),
    "no words": (text("tokenizer.json", json.dumps({"version": "1.0", "model": {"type": "WordLevel", "vocab": {}, "unk_token": "a"}})), "cannot read|knows no words|tokenizer"),
    "tokenizer gone": (lambda f: (f/"tokenizer.json").unlink(), "tokenizer|cannot read"),
    "both tokenizer files gone": (lambda f: [(f/n).unlink() for n in ("tokenizer.json", "tokenizer_config.json")], "tokenizer|cannot read"),
    "tokenizer is a list": (text("tokenizer.json", "[]"), "cannot read"), "tokenizer cut": (text("tokenizer.json", '{"version": "1.0", "added_tokens": ['), "cannot read"),
    "tokenizer of zeros": (text("tokenizer.json", bytes(64)), "cannot read"), "tokenizer settings are a list": (text("tokenizer_config.json", "[]"), "cannot read"),
    "tokenizer settings cut": (text("tokenizer_config.json", "{"), "cannot read"), "tokenizer class is a number": (text("tokenizer_config.json", '{"tokenizer_class": 7}'), "cannot read"),
    "config is a list": (text("config.json", "[]"), "holds a list, not an object"), "config is a word": (text("config.json", '"llama"'), "holds a str"),
    "config cut": (text("config.json", "{"), "no JSON"), "config empty": (text("config.json", ""), "no JSON"),
    "config is UTF-16": (text("config.json", "{}".encode("utf-16")), "not UTF-8"), "UTF-16 without a mark": (text("config.json", "{}".encode("utf-16-le")), "UTF-16, not UTF-8"),
    "config is Latin-1": (text("config.json", '{"a": "é"}'.encode("latin-1")), "not UTF-8"), "config nests": (text("config.json", "[" * 100_000), "no JSON"),
    "config is a folder": (a_directory("config.json"), "holds no config.json"),
    "weights cut": (lambda f: (f/"model.safetensors").write_bytes((f/"model.safetensors").read_bytes()[:-100]), "cannot read"),
    "weights empty": (text("model.safetensors", ""), "cannot read"), "weights are text": (text("model.safetensors", "version https://git-lfs.github.com/spec/v1\noid sha256:00\n"), "cannot read"),
    "header of many bytes": (a_header_of_many_bytes, "cannot read"), "weights are a folder": (a_directory("model.safetensors"), "lacks weights"),
    "not-a-number": (numbers("model.layers.2.mlp.up_proj.weight", float("nan")), "'model.layers.2.mlp.up_proj.weight' .* holds not-a-number"),
    "infinity": (numbers("model.norm.weight", float("-inf")), "'model.norm.weight' .* holds infinity"),
    "gptq": (lambda f: change(f, quantization_config={"quant_method": "gptq", "bits": 4}), r"quantised \(gptq\): use the model in full precision"),
    "bitsandbytes": (lambda f: change(f, quantization_config={"load_in_4bit": True, "quant_method": "bitsandbytes"}), r"quantised \(bitsandbytes\)"),
    "awq": (lambda f: change(f, quantization_config={"quant_method": "awq"}), r"quantised \(awq\)"), "fp8": (lambda f: change(f, quantization_config={"quant_method": "fp8"}), r"quantised \(fp8\)"),
    "mlx": (lambda f: change(f, quantization={"bits": 4, "group_size": 64}), "quantised"),
    "gptq of old": (lambda f: (f/"quantize_config.json").write_text('{"bits": 4}'), r"quantised \(gptq\)"),
    "eight bits without a word": (lambda f: rewrite(f, lambda w: w.update({"model.layers.0.mlp.up_proj.weight": w["model.layers.0.mlp.up_proj.weight"].to(torch.float8_e4m3fn)})), "is stored as F8_E4M3, so the weights are quantised"),
    "integers without a word": (lambda f: rewrite(f, lambda w: w.update({"model.layers.0.mlp.up_proj.weight": torch.ones(64, 4, dtype=torch.int32)})), "is stored as I32, so the weights are quantised"),
    "compressed": (lambda f: change(f, compression_config={"format": "int"}), "quantised"), "quantised, says a word": (lambda f: change(f, quantization_config="\033[1mint4"), "quantised"),
    "quantised within": (lambda f: change(f, text_config={"quantization_config": {"quant_method": "mxfp4"}}), r"quantised \(mxfp4\)"),
    "an encoder": (lambda f: change(f, model_type="t5"), "not a causal language model|hidden_size|cannot read|num_"),
    "a masked model": (lambda f: change(f, model_type="bert", architectures=["BertForMaskedLM"]), "'bert' .'BertForMaskedLM'. is not a causal language model"),
    "a classifier": (lambda f: change(f, architectures=["LlamaForSequenceClassification"]), "not a causal language model"),
    "no architecture, but an encoder": (lambda f: change(f, model_type="distilbert", architectures=...), "not a causal language model|cannot read|hidden_size|num_"),
}

@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_of_a_folder_has_its_line(folder, fault):
    change_, match = FAULTS[fault]
    change_(folder)
    began = time.process_time()
    refused(match, lambda: load(folder))
    assert time.process_time() - began < 20

def test_float16_that_overflows_is_not_called_damage(folder):
    numbers("model.norm.weight", 1e6)(folder)
    refused("'model.norm.weight' .* does not fit into float16: use bfloat16 or float32", lambda: load(folder, dtype="float16"))

def test_a_mark_that_no_text_holds_may_have_no_row(folder):
    t = tiny_tokenizer(False); t.add_special_tokens({"additional_special_tokens": ["<image>"]}); t.save_pretrained(folder)
    tokenizer = load(folder).tokenizer
    refused("'the <image> is' holds a token that the model has no row for", lambda: T.encode(tokenizer, "the <image> is"))

@pytest.mark.parametrize("kind", ["llama", "gemma3"])
def test_one_layer_works_up_to_a_study(kind, tmp_path, monkeypatch):
    from bizzaroworld.study import study
    import conftest, pandas as pd
    monkeypatch.setitem(SHAPE, "num_hidden_layers", 1); monkeypatch.setattr(conftest, "MIXED", ["full_attention"])
    tiny_model(kind).save_pretrained(tmp_path/"one"); tiny_tokenizer(kind != "llama").save_pretrained(tmp_path/"one")
    model = load(tmp_path/"one")
    assert model.cfg.n_layers == 1 and model.checks.passed.all() and 3 in set(model.checks.number)
    run = study(model, pd.read_csv(io.StringIO(stand_in.BATTERY), dtype=str), out=tmp_path/"out", quick=True).run
    assert run["counts"]["rows"] > 0

def test_a_model_that_reads_ahead_is_refused(folder, monkeypatch):
    true = transformers.models.llama.modeling_llama.create_causal_mask
    monkeypatch.setattr(transformers.models.llama.modeling_llama, "create_causal_mask", lambda *a, **k: None)
    refused("reads ahead", lambda: load(folder))

# ---------------------------------------------------------------- names

@pytest.mark.parametrize("name", ["a b", "a#b", "50%", "модель", "模型", "1000", "2024_06", "-v", "a'b\"c", ".hidden", "a\nb", "x" * 200])
def test_a_folder_may_have_any_name(folder, name, monkeypatch):
    target = folder.parent/name
    folder.rename(target)
    assert load(target).study_name == name
    monkeypatch.chdir(target)
    assert M.load(".", device="cpu", self_test=False).study_name == name

def test_a_dot_with_a_slash_and_the_folder_above(folder, monkeypatch):
    (folder/"sub").mkdir(); monkeypatch.chdir(folder/"sub")
    assert load("..", self_test=False).study_name == load("../", self_test=False).study_name == load("./../.", self_test=False).study_name == "model"

NAMES = {"": "name of the model is empty", "  ": "name of the model is empty", "a\0b": r"unknown model 'a\\x00b'", "x" * 5000: "unknown model 'x*…x*'", "org/" + "x" * 5000: "unknown model",
    "~nobody-here/x/y": "unknown model", "\033[31mred": r"unknown model '\\x1b", "../..": "holds no config.json", "a/b/c": "unknown model", "имя/модель": "unknown model", "\ud800": "unknown model",
    "/" * 5000: "holds no config.json|unknown model", "con/" * 2000: "unknown model"}

@pytest.mark.parametrize("name", NAMES, ids=lambda n: repr(n)[:12])
def test_a_name_that_is_none(name, folder):
    refused(NAMES[name], lambda: H.locate(name)); refused(NAMES[name], lambda: T.load_tokenizer(name))

def test_a_file_where_a_folder_is_wanted(folder):
    refused("is a file, and a model is a folder saved by save_pretrained, or a GGUF file", lambda: load(folder/"config.json"))
    (folder/"model.safetensors").rename(folder/"m.gguf")
    refused("'.*m.gguf' is damaged, or no GGUF file", lambda: load(folder/"m.gguf"))
    refused("holds no model in safetensors but a GGUF file: give the file itself, 'm.gguf'", lambda: load(folder))
    (folder/"config.json").unlink(); (folder/"n.gguf").touch()
    refused("a GGUF file .one of 2.: give the file itself, 'm.gguf'", lambda: load(folder))

def test_unreadable_files(folder, monkeypatch):
    true = Path.read_bytes
    def deny(self):
        if self.name == "config.json": raise PermissionError(13, "Permission denied")
        return true(self)
    monkeypatch.setattr(Path, "read_bytes", deny)
    refused("cannot read .*config.json': Permission denied", lambda: load(folder))

# ---------------------------------------------------------------- a GGUF file

@pytest.fixture(scope="module")
def gguf(tmp_path_factory):
    pytest.importorskip("gguf")
    return spellings.write_gguf(tmp_path_factory.mktemp("gguf")/"my model #1.Q4_K.gguf")

@pytest.fixture
def cache(tmp_path, monkeypatch): monkeypatch.setenv("BIZZAROWORLD_CACHE", str(tmp_path/"cache")); return tmp_path/"cache"

def test_a_gguf_file_is_a_model(gguf, cache, tmp_path, monkeypatch, capfd):
    from gguf import GGUFReader
    model = load(gguf)
    assert model.checks.passed.all() and model.study_name == "my model #1.Q4_K" and H.folder_name(gguf) == "my model #1.Q4_K"
    assert model.revision == W.checksum(gguf) == W._sha256(gguf)
    kept, = cache.glob("gguf-*"); tensors = {t.name: torch.tensor(t.data) for t in GGUFReader(gguf).tensors}
    torch.testing.assert_close(load_file(kept/"model.safetensors")["model.layers.1.mlp.down_proj.weight"], tensors["blk.1.ffn_down.weight"])
    assert W.is_whole(kept, fully=True) and capfd.readouterr() == ("", "")
    monkeypatch.setattr(W, "_write_safetensors", lambda *a: pytest.fail("converted twice"))
    shutil.copy(gguf, tmp_path/"other.gguf"); monkeypatch.chdir(tmp_path)
    again = M.load("other.gguf", device="cpu", self_test=False)
    assert again.study_name == "other" and again.revision == model.revision

def test_other_bytes_under_the_same_name_are_another_model(gguf, cache, tmp_path):
    mine = tmp_path/"m.gguf"; shutil.copy(gguf, mine)
    before = load(mine, self_test=False)
    far_and_equal(tmp_path, "m.gguf", -5)
    after = load(mine, self_test=False)
    assert before.revision != after.revision and len(list(cache.glob("gguf-*"))) == 2
    weights = [load_file(f/"model.safetensors") for f in sorted(cache.glob("gguf-*"))]
    assert sum(not torch.equal(weights[0][k], weights[1][k]) for k in weights[0]) == 1

def test_what_was_converted_and_rots_is_made_again(gguf, cache):
    load(gguf, self_test=False)
    kept, = cache.glob("gguf-*")
    far_and_equal(kept, "model.safetensors", -5)
    load(gguf, self_test=False)
    assert W.is_whole(kept, fully=True)

def broken(change): return lambda path, data: path.write_bytes(change(data))
BROKEN = {"cut": (broken(lambda d: d[:-100]), "cannot read '.*m.gguf'"), "half": (broken(lambda d: d[:len(d) // 2]), "cannot read"),
    "its head alone": (broken(lambda d: d[:3000]), "cannot read"), "four letters": (broken(lambda d: d[:4]), "cannot read"),
    "empty": (broken(lambda d: b""), "is damaged, or no GGUF file"), "a page": (broken(lambda d: b"<html>"), "is damaged, or no GGUF file"),
    "a version to come": (broken(lambda d: d[:4] + b"\x63\0\0\0" + d[8:]), "cannot read .*v99"),
    "more entries than there are": (broken(lambda d: d[:16] + b"\xff" * 8 + d[24:]), "cannot read"), "more tensors": (broken(lambda d: d[:8] + b"\xff" * 8 + d[16:]), "cannot read"),
    "an unknown architecture": (lambda path, _: spellings.write_gguf(path, "plamo"), "architecture plamo is not supported"),
    "a tensor lost": (lambda path, _: spellings.write_gguf(path, lose=("blk.1.ffn_up",)), "lacks weights .1, such as 'model.layers.1.mlp.up_proj.weight'"),
    "not-a-number": (broken(lambda d: d[:-64] + b"\xff" * 64), "holds not-a-number")}

@pytest.mark.parametrize("what", BROKEN)
def test_a_broken_gguf_file_has_its_line(gguf, cache, tmp_path, what):
    change_, match = BROKEN[what]
    change_(tmp_path/"m.gguf", gguf.read_bytes())
    refused(match, lambda: load(tmp_path/"m.gguf"))
    assert not list(cache.glob(".gguf*"))   # nothing half is left behind

def test_a_part_of_a_gguf_file_and_a_missing_reader(gguf, cache, tmp_path, monkeypatch):
    shutil.copy(gguf, tmp_path/"m-00001-of-00003.gguf")
    refused("is one of 3 parts: join them .llama-gguf-split --merge", lambda: load(tmp_path/"m-00001-of-00003.gguf"))
    true = W.importlib.util.find_spec
    monkeypatch.setattr(W.importlib.util, "find_spec", lambda name, *a: None if name == "gguf" else true(name, *a))
    refused(r'needs the package gguf: pip install "bizzaroworld\[embedded\]"', lambda: load(gguf))
    assert not cache.exists()

def test_commands_with_a_gguf_file(gguf, cache, tmp_path, monkeypatch):
    from bizzaroworld import cli
    (tmp_path/"pairs.csv").write_text(stand_in.BATTERY); monkeypatch.chdir(tmp_path)
    status, said = cli.typed(f"study --model '{gguf}' --battery pairs.csv --experiments 1")
    run = json.loads((tmp_path/"results"/"my model #1.Q4_K"/"run.json").read_text())
    assert status == 0 and run["model"] == "my model #1.Q4_K" and run["revision"] == W.checksum(gguf), said
    (tmp_path/"cut.gguf").write_bytes(gguf.read_bytes()[:-100])
    for words in ("study --model cut.gguf --battery pairs.csv", "check --model cut.gguf"):
        status, said = cli.typed(words)
        assert status == 2 and len(said.splitlines()) == 1, said

# ---------------------------------------------------------------- commands and names

@pytest.mark.parametrize("name", ["2024_06", "my model #1", "org@v1", ".hidden", "-v"])
def test_a_study_of_a_folder_of_any_name(folder, name, monkeypatch):
    from bizzaroworld import cli
    target = folder.parent/name
    folder.rename(target); (target.parent/"pairs.csv").write_text(stand_in.BATTERY); monkeypatch.chdir(target.parent)
    words = ["study", "--battery", "pairs.csv", "--experiments", "1", "--results", "r"]
    assert cli.main([*words, f"--model=./{name}"]) == 0
    run = json.loads((target.parent/"r"/name/"run.json").read_text())
    assert run["model"] == name
    monkeypatch.chdir(target)
    assert cli.main(["study", "--battery", "../pairs.csv", "--experiments", "1", "--results", "../dot", "--model", "."]) == 0
    assert (target.parent/"dot"/name/"run.json").is_file()

def test_folders_of_results_are_plain_file_names(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name, want in {"gemma-3-270m": "gemma-3-270m", "google/gemma-2b": "gemma-2b", "org/name@v1.0": "name@v1.0", "org/name@refs/pr/1": "name@refs-pr-1",
            "name@refs-pr-1": "name@refs-pr-1", "2024_06": "2024_06", "org/name@feature/a+b": "name@feature-a+b"}.items():
        assert H.folder_name(name) == want and H.folder_name(H.study_name(name)) == want
    (tmp_path/"org"/"name@v1").mkdir(parents=True)
    assert H.study_name("org/name@v1") == "name@v1"   # a folder of that name comes first
    for name in ("org/..", "../x", "org/name@..", "org/name@a/../b", "org/name@/a", "org/name@a//b", "org/name@-a", "org/name@a b"):
        refused("unknown model|names no revision|holds no config", lambda: H.locate(name))
    refused("comes as a package, in one revision", lambda: H.locate("gemma-3-270m@main"))

# ---------------------------------------------------------------- the hub

def test_a_revision_is_another_model_and_needs_the_hub_once(tiny_folders, tmp_path):
    (tmp_path/"pairs.csv").write_text(stand_in.BATTERY)
    words = lambda n, out: ["study", "--model", f"stand-in/{n}", "--battery", tmp_path/"pairs.csv", "--results", tmp_path/out, "--quick", "--experiments", "1"]
    names = ("good", "good@v1.0", "good@refs/pr/1")
    with stand_in.Hub(tiny_folders["llama"]) as server:
        found = stand_in.ask(server, tmp_path, [(n, words(n, "out")) for n in names])
        asked = len(server.asked)
        again = stand_in.ask(server, tmp_path, [(n, words(n, "again")) for n in (*names, f"good@{stand_in.OLD}")])
        assert len(server.asked) == asked, "what lies in the cache needs no hub"
        assert stand_in.ask(server, tmp_path, [("good@v9", ["folder", "stand-in/good@v9"])])["good@v9"][0] == 2
    assert all(status == 0 for status, *_ in [*found.values(), *again.values()]), (found, again)
    for name, folder, commit in zip(names, ("good", "good@v1.0", "good@refs-pr-1"), (stand_in.COMMIT, stand_in.OLD, stand_in.OLD)):
        run = json.loads((tmp_path/"out"/folder/"run.json").read_text())
        assert (run["model"], run["revision"]) == (f"stand-in/{name}", commit)
    snapshots = tmp_path/"hub"/"models--stand-in--good"/"snapshots"
    assert "old" in json.loads((snapshots/stand_in.OLD/"config.json").read_text()) and "old" not in json.loads((snapshots/stand_in.COMMIT/"config.json").read_text())
    code = "import sys; from bizzaroworld import hub as H\nfor n in sys.argv[1:]:\n try: print(H.model_folder(n).name)\n except H.InputError as e: print(e)"
    env = dict(os.environ, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path), PYTHONPATH=str(Path(__file__).parent.parent))
    names = ["stand-in/good", "stand-in/good@v1.0", f"stand-in/good@{stand_in.OLD}", "stand-in/good@v9"]
    *there, lost = subprocess.run([sys.executable, "-c", code, *names], capture_output=True, text=True, env=env, cwd=tmp_path).stdout.splitlines()
    assert there == [stand_in.COMMIT, stand_in.OLD, stand_in.OLD] and "HF_HUB_OFFLINE is set, and it is not at hand" in lost

def test_every_answer_of_the_hub_has_its_line_and_status(tiny_folders, tmp_path):
    "What a command asks for first; the attack goes through the commands. Mostly waiting, so several at once."
    names = [n for n in stand_in.ANSWERS if n != "own-code"]
    with stand_in.Hub(tiny_folders["llama"]) as server, concurrent.futures.ThreadPoolExecutor(6) as pool:
        def some(i):
            (tmp_path/str(i)).mkdir()
            return stand_in.ask(server, tmp_path/str(i), [(n, ["folder", f"stand-in/{n}"]) for n in names[i::6]])
        found = {k: v for part in pool.map(some, range(6)) for k, v in part.items()}
    faults = [f for n in names if (f := stand_in.wrong(n, *found[n]))]
    assert set(found) == set(names) and not faults, "\n".join(faults)
    for name in ("busy-once", "file-busy-once", "limit-once", "reset-once", "silent-once"):
        assert any("again in" in l or "going on in" in l for l in found[name][1]), found[name]
    assert any("asking 127.0.0.1" in l and "for stand-in/good" in l for l in found["good"][1])

def test_commands_against_the_hub(tiny_folders, tmp_path):
    (tmp_path/"pairs.csv").write_text(stand_in.BATTERY)
    def words(n, out=None): return ["study", "--model", f"stand-in/{n}", "--battery", tmp_path/"pairs.csv", "--out", tmp_path/(out or n), "--quick", "--experiments", "1"]
    names = ("gated", "busy", "own-code", "reset-once", "wrong-sum")
    with stand_in.Hub(tiny_folders["llama"]) as server:
        found = stand_in.ask(server, tmp_path, [(n, words(n)) for n in names])
        asked = len(server.asked)
        again = stand_in.ask(server, tmp_path, [("reset-once", words("reset-once", "again"))])
    faults = [f for n in names if (f := stand_in.wrong(n, *found[n]))]
    assert not faults, "\n".join(faults)
    run = json.loads((tmp_path/"reset-once"/"run.json").read_text())
    assert run["revision"] == stand_in.COMMIT and run["model"] == "stand-in/reset-once"
    assert again["reset-once"][0] == 0 and len(server.asked) == asked, "what lies in the cache needs no hub"

def test_rot_in_the_hubs_cache_is_noticed(tiny_folders, tmp_path):
    with stand_in.Hub(tiny_folders["llama"]) as server:
        job = [("good", ["folder", "stand-in/good"])]
        assert stand_in.ask(server, tmp_path, job)["good"][0] == 0
        snapshot = tmp_path/"hub"/"models--stand-in--good"/"snapshots"/stand_in.COMMIT
        assert not list(snapshot.glob("*.py"))
        for name in ("model.safetensors", "config.json"):
            blob = (snapshot/name).resolve(); whole = blob.read_bytes()
            far_and_equal(blob.parent, blob.name, -5)
            status, lines, _ = stand_in.ask(server, tmp_path, job)["good"]
            assert status == 2 and ("is damaged" in lines[-1] or "cannot read" in lines[-1]), lines
            blob.write_bytes(whole)
        assert stand_in.ask(server, tmp_path, job)["good"][0] == 0

def test_no_network_is_known_at_once(tmp_path):
    code = "import sys, time; began = time.monotonic(); from bizzaroworld import hub as H\ntry: H.model_folder('google/gemma-2b')\nexcept H.HubError as e: print(e); print(time.monotonic() - began)"
    env = {k: v for k, v in os.environ.items() if k != "HF_HUB_OFFLINE"} | dict(HF_ENDPOINT="http://no-such-host.invalid", HF_HOME=str(tmp_path), PYTHONPATH=str(Path(__file__).parent.parent))
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, timeout=60, cwd=tmp_path)
    line, seconds = done.stdout.splitlines()
    assert "no-such-host.invalid is not found: is there a network?" in line and "gemma-3-270m, smollm2-135m need no network" in line and float(seconds) < 8
    assert done.stderr.splitlines() == ["bizzaroworld: asking no-such-host.invalid for google/gemma-2b"]

def test_the_hub_is_asked_before_pytorch_is_loaded(tmp_path):
    code = "import sys; from bizzaroworld import hub as H\ntry: H.model_folder('a/b')\nexcept H.InputError: print('torch' in sys.modules, 'transformers' in sys.modules)"
    env = dict(os.environ, HF_HUB_OFFLINE="1", HF_HOME=str(tmp_path), PYTHONPATH=str(Path(__file__).parent.parent))
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env, cwd=tmp_path).stdout.split() == ["False", "False"]

def test_waiting_is_bounded_as_users_have_it():
    import huggingface_hub
    assert huggingface_hub.constants.DEFAULT_DOWNLOAD_TIMEOUT == 10 and sum(H.AGAIN) < 10

def test_advice_names_commands_that_exist():
    for module in (W, H, T, P, M): assert "huggingface-cli" not in Path(module.__file__).read_text()

# ---------------------------------------------------------------- a pass is remembered

@pytest.fixture
def tests_run(monkeypatch):
    "Which models were tested, in which format; passes are remembered, which they are not in the other tests."
    runs, true = [], M.self_test
    def counted(model, **options): runs.append(model.spec_dtype); return true(model, **options)
    monkeypatch.setattr(M, "self_test", counted); monkeypatch.delenv("BIZZAROWORLD_SELF_TEST")
    return runs

def ran(runs):
    found = list(runs); runs.clear()
    return found

def kept(folder): return sorted((folder.parent/"cache"/"passes").glob("*"))

def test_a_second_load_runs_no_self_test(folder, tests_run):
    first, second = load(folder), load(folder)
    assert ran(tests_run) == ["float32"] and len(kept(folder)) == 1
    pd.testing.assert_frame_equal(first.checks, second.checks)
    assert (first.reference_by, first.reference_why, first.revision) == (second.reference_by, second.reference_why, second.revision)
    assert not {"pairs", "logits", "states"} & set(vars(second.reference)), "nobody has asked yet what the plain model says"
    assert second.reference.pairs == first.reference.pairs
    assert all(torch.equal(second.reference.states[ids], states) for ids, states in first.reference.states.items())
    assert M.self_test(second).passed.all()

def test_a_second_process_runs_no_self_test_either(folder):
    code = ("import sys; from bizzaroworld import models as M; true = M.self_test\ndef told(model): print('tested'); return true(model)\n"
        "M.self_test = told\nprint(M.load(sys.argv[1], device='cpu').checks.passed.all())")
    env = {k: v for k, v in os.environ.items() if k != "BIZZAROWORLD_SELF_TEST"} | dict(PYTHONPATH=str(Path(__file__).parent.parent))
    said = [subprocess.run([sys.executable, "-c", code, str(folder)], capture_output=True, text=True, check=True, env=env).stdout.split() for _ in range(2)]
    assert said == [["tested", "True"], ["True"]]

CHANGED = {   # what is changed before the second load, and its options
    "format": (lambda folder, patch: None, dict(dtype="bfloat16")), "bos": (lambda folder, patch: None, dict(bos="on")),
    "code": (lambda folder, patch: patch.setattr(passes, "SOURCE", "0" * 64), {}),
    "library": (lambda folder, patch: patch.setattr(passes, "versions", lambda names: {"torch": "3.0"}), {}),
    "weights": (lambda folder, patch: rewrite(folder, lambda t: t["model.norm.weight"].mul_(1.5)), {}),
    "configuration": (lambda folder, patch: change(folder, rms_norm_eps=1e-5), {}),
    "machine": (lambda folder, patch: patch.setattr(M, "machine", lambda device: "another"), {})}

@pytest.mark.parametrize("what", CHANGED)
def test_whatever_a_pass_depends_on_is_in_its_key(what, folder, tests_run, monkeypatch):
    load(folder); ran(tests_run)
    change_, options = CHANGED[what]
    change_(folder, monkeypatch)
    assert load(folder, **options).checks.passed.all() and len(ran(tests_run)) == 1 and len(kept(folder)) == 2
    load(folder, **options)
    assert not ran(tests_run)

def test_a_tokenizer_that_is_handed_in_is_in_the_key(folder, tests_run):
    load(folder); ran(tests_run)
    own = T.load_tokenizer(str(folder)); own.wants_bos = not own.wants_bos
    with pytest.raises(M.SelfTestError, match="BOS"): load(folder, tokenizer=own)
    assert ran(tests_run) and len(kept(folder)) == 1

def test_a_failure_is_not_remembered(folder, tests_run, monkeypatch):
    true = M.hook_name
    with monkeypatch.context() as broken:
        broken.setattr(M, "hook_name", lambda site, layer: true(site, min(layer + 1, 3)))
        for _ in range(2):
            refused("fails on its own modules, too", lambda: load(folder))
            assert ran(tests_run) and not kept(folder)
    assert load(folder).checks.passed.all() and ran(tests_run) and len(kept(folder)) == 1

def test_self_tests_can_be_had_each_time(folder, tests_run, monkeypatch):
    load(folder); ran(tests_run)
    assert load(folder, self_test="always").checks.passed.all() and ran(tests_run) == ["float32"]
    assert load(folder, self_test=False).checks is None and not ran(tests_run)
    monkeypatch.setenv("BIZZAROWORLD_SELF_TEST", "always")
    load(folder); load(folder, dtype="bfloat16")
    assert ran(tests_run) == ["float32", "bfloat16"] and len(kept(folder)) == 1, "where they are forced nothing is kept"
    refused("unknown choice of self-test 'never': use True, False or 'always'", lambda: load(folder, self_test="never"))

@pytest.mark.parametrize("cache", ["a file", "a file in the way", "read only"])
def test_a_cache_that_cannot_be_written_costs_time_only(cache, folder, tests_run, monkeypatch):
    place = folder.parent/"cache"
    if cache == "a file": place.write_text("")
    else:
        place.mkdir()
        if cache == "a file in the way": (place/"passes").write_text("")
        else: monkeypatch.setattr(passes, "write_whole", lambda *a: (_ for _ in ()).throw(PermissionError("read only")))   # root may write anywhere
    for _ in range(2): assert load(folder).checks.passed.all() and ran(tests_run) == ["float32"]

@pytest.mark.parametrize("damage", ["", "{", "[]", "null", "\0", '{"checks": [], "key": ""}', "a worst of another size"])
def test_a_damaged_pass_is_none(damage, folder, tests_run):
    load(folder); ran(tests_run)
    [file] = kept(folder)
    file.write_text(damage if "worst" not in damage else file.read_text().replace('"tolerance": 0.001', '"tolerance": 1000'))
    assert load(folder).checks.passed.all() and ran(tests_run) == ["float32"]
    load(folder)
    assert not ran(tests_run), "it was written anew"

def test_the_way_to_a_model_is_remembered_too(folder, tests_run, monkeypatch):
    "Module hooks where the bridge fails a check are not tried through the bridge again; a bridge that does not run is."
    booted, true = [], M._wrap
    def wrap(*args): booted.append(1); return true(*args)
    monkeypatch.setattr(M, "_wrap", wrap)
    def lame(probes, tolerance): return int(not isinstance(probes[0].model, M.Hooked)), 0, "a fault of the bridge"
    monkeypatch.setattr(M, "_CHECKS", ((4, "only hooks", lame),))
    assert load(folder).reference_by == "module hooks" and len(ran(tests_run)) == 2 and len(booted) == 1
    again = load(folder)
    assert again.reference_by == "module hooks" and "a fault of the bridge" in again.reference_why and not ran(tests_run) and len(booted) == 1
    shutil.rmtree(folder.parent/"cache"); booted.clear()
    monkeypatch.setattr(M, "_CHECKS", ((4, "fine", lambda probes, tolerance: (0, 0, "")),))
    with monkeypatch.context() as broken:
        broken.setattr(M, "_wrap", lambda *a: (_ for _ in ()).throw(RuntimeError("busy")))
        assert "does not run" in load(folder).reference_why and len(ran(tests_run)) == 1
        assert "does not run" in load(folder).reference_why and not ran(tests_run)
    for tests in (["float32"], []):
        assert load(folder).reference_by == "TransformerLens's bridge" and ran(tests_run) == tests

# ---------------------------------------------------------------- a tokenizer is read once

@pytest.fixture
def tokenizers_read(monkeypatch):
    read, true = [], T.read_pretrained
    def counted(call, *args, **options):
        if getattr(call, "__self__", None) is transformers.AutoTokenizer: read.append(1)
        return true(call, *args, **options)
    monkeypatch.setattr(T, "read_pretrained", counted)
    return read

def test_a_tokenizer_is_read_once(folder, tokenizers_read):
    first = T.load_tokenizer(str(folder), bos="off"); second = T.load_tokenizer(str(folder), bos="on"); model = load(folder)
    assert len(tokenizers_read) == 1 and (first.wants_bos, second.wants_bos) == (False, True)
    assert model.tokenizer is not second and model.tokenizer.bos == "auto" and first("a b").input_ids == second("a b").input_ids
    first.pad_token, first.init_kwargs["mine"] = "<bos>", 1
    assert (again := T.load_tokenizer(str(folder))).pad_token != "<bos>" and "mine" not in again.init_kwargs and len(tokenizers_read) == 1

def test_a_tokenizer_that_changed_is_read_again(folder, tokenizers_read):
    first = T.load_tokenizer(str(folder))
    words = len(first)
    first.add_tokens(["paris-on-sea"])   # in what is shared
    assert len(T.load_tokenizer(str(folder))) == words and len(tokenizers_read) == 2
    change_ = json.loads((folder/"tokenizer_config.json").read_text())
    (folder/"tokenizer_config.json").write_text(json.dumps({**change_, "padding_side": "left"}))
    assert T.load_tokenizer(str(folder)).padding_side == "left" and len(tokenizers_read) == 3
    for _ in range(6): T._AT_HAND[_] = None
    (folder/"tokenizer_config.json").write_text(json.dumps(change_)); T.load_tokenizer(str(folder))
    assert len(T._AT_HAND) <= 4
