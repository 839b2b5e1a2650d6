"""An independent implementation for `test_cli.py`: plain Hugging Face modules and forward hooks; nothing of the package is imported.

Reads a finished study, recomputes a spread of its rows one at a time, prints the largest difference.
"""
import json, os, sys
from pathlib import Path
import pandas as pd, torch
from transformers import AutoModelForCausalLM, AutoTokenizer

folder = Path(sys.argv[1])
cache = Path(os.environ.get("BIZZAROWORLD_CACHE", Path.home()/".cache/bizzaroworld"))
place = next(p.parent for p in cache.rglob("config.json") if "gemma-3-270m" in str(p))
model = AutoModelForCausalLM.from_pretrained(place, dtype=torch.float32, attn_implementation="eager").eval()
tokenizer = AutoTokenizer.from_pretrained(place)
layers = model.model.layers
rows = pd.read_parquet(folder/"patches.parquet").merge(pd.read_csv(folder/"triage.csv", keep_default_na=False), on="battery_idx", suffixes=("", "_t"))
rows = rows[rows.control.isna() & rows.experiment.isin(["1", "2A", "2B", "3", "4", "4F"])]
# every direction, experiment, site, head and position at five layers, each on one of the pairs in turn
rows = rows[rows.layer.isin([0, 3, 8, 13, 17])].sort_values("battery_idx", kind="stable")
kinds = rows.groupby(["direction", "experiment", "site", "layer", "head", "position"], dropna=False)
rows = rows[kinds.cumcount() == kinds.ngroup() % rows.battery_idx.nunique()]


def tokens(text):
    ids = tokenizer(text, add_special_tokens=False).input_ids
    return torch.tensor([[tokenizer.bos_token_id] + ids])


def modules(site, layer):
    "The module whose input (pre) or output (post) is the site. resid_mid at a position equals resid_post there: what follows is position-wise."
    b = layers[layer]
    return {"resid_pre": (b, "in"), "resid_post": (b, "out"), "resid_mid": (b, "out"), "attn_out": (b.post_attention_layernorm, "out"),
            "mlp_out": (b.post_feedforward_layernorm, "out"), "z": (b.self_attn.o_proj, "in")}[site]


def run(ids, site=None, layer=None, change=None):
    "Final logits, with `change` applied to one activation (or only read)."
    handles, seen = [], {}
    def edit(x):
        seen["x"] = x.detach().clone()
        return None if change is None else change(x.clone())
    if site:
        module, side = modules(site, layer)
        if side == "in":
            def hook(m, args, kwargs):
                x = args[0] if args else kwargs["hidden_states"]
                y = edit(x)
                if y is None: return None
                return ((y, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": y})
            handles.append(module.register_forward_pre_hook(hook, with_kwargs=True))
        else:
            def hook(m, args, out):
                x = out[0] if isinstance(out, tuple) else out
                y = edit(x)
                return None if y is None else ((y, *out[1:]) if isinstance(out, tuple) else y)
            handles.append(module.register_forward_hook(hook))
    with torch.no_grad(): logits = model(ids, logits_to_keep=1).logits[0, -1].float()
    for h in handles: h.remove()
    return logits, seen.get("x")


worst, compared, cached = 0.0, 0, {}
for r in rows.itertuples():
    a, b = tokens(r.clean_prompt), tokens(r.corrupt_prompt)
    patched, giving = (a, b) if r.direction == "noising" else (b, a)
    key = (r.battery_idx, r.direction, r.site, r.layer)
    if key not in cached: cached[key] = run(giving, r.site, r.layer)[1]
    source = cached[key]
    differ = (a != b)[0].nonzero()[:, 0].tolist()
    where = range(differ[0], differ[-1] + 1) if r.position == "entity" else [a.shape[1] - 1]
    head = model.config.head_dim
    cut = slice(None) if pd.isna(r.head) else slice(int(r.head) * head, (int(r.head) + 1) * head)
    def change(x):
        for p in where: x[:, p, cut] = source[:, p, cut]
        return x
    logits, _ = run(patched, r.site, r.layer, change)
    ids = [tokenizer(t, add_special_tokens=False).input_ids[0] for t in (r.clean_target, r.corrupt_target)]
    worst = max(worst, abs(float(logits[ids[0]] - logits[ids[1]]) - r.ld_patched)); compared += 1
print(json.dumps(dict(compared=compared, worst=worst)))
