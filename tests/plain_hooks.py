"""Patches recomputed with plain Hugging Face modules and forward hooks: one full forward each, no cache, nothing of the package, nothing of the wrapper.

`RECORDS` says where the parts of a family of `zoo` are, unless they are where Llama has them; each was written by reading its modelling file.
`patched_ld` makes one patch. What a site means:

- `resid_pre`, `resid_post`: input and output of the decoder layer.
- `attn_out`, `mlp_out`: what is added to the stream, after norms and multipliers; a mixture's router is part of `mlp_out`.
- `resid_mid`: the stream between them; parallel blocks have none. What the layer still adds (per-layer embeddings) stays its own.
- `z` of a head: what the output projection is handed (in BitNet after a norm over all heads).
- `q`, `k`, `v` of a head: its whole vector at a token. The other run's vector before the rotation is put in: the position is the same, so the rotated ones agree.
  Where norms see all heads together (OLMo 2), it is taken after them. A latent key is one for all heads, and the values are made of it: it is `k`, and there is no `v`.
  A layer that reads the keys and values of a layer before it (Gemma 4) has none of its own; those of the layer before are patched for both.
- `knockout`: the final query does not see the tokens, in all heads.
"""
from dataclasses import dataclass
import torch

@dataclass(frozen=True)
class Record:
    "Where the parts of a family's layers are; dotted names within the layer."
    layers:str="model.layers" # within the model
    attention:str="self_attn" # gets the mask
    attn:str="self_attn" # its output is what attention adds
    mlp:str="mlp" # its output is what the MLP adds
    z:str="self_attn.o_proj" # its input is every head's z
    q:str="self_attn.q_proj" # its output holds the queries, head by head
    k:str="self_attn.k_proj"
    v:str="self_attn.v_proj"
    layout:str="apart" # how heads lie in these outputs, a key of `LAYOUTS`
    parallel:bool=False # attention and MLP read the same stream
    multiplier:str="" # of the config: what comes out is multiplied by it before it is added
    additive:bool=True # resid_pre + attn_out + mlp_out = resid_post
    own_token:bool=False # the token's embedding enters each layer by a second road

def fused(name, layout, **rest):
    "Queries, keys and values come out of one module."
    return Record(q=name, k=name, v=name, layout=layout, **rest)

LLAMA = Record()
POST_NORM = dict(attn="post_attention_layernorm", mlp="post_feedforward_layernorm")
WHOLE_NORM = dict(q="self_attn.q_norm", k="self_attn.k_norm")
GPT = dict(layers="transformer.h", attention="attn", attn="attn")
NEOX = dict(layers="gpt_neox.layers", attention="attention", attn="attention", z="attention.dense")
BLOOM = dict(layers="transformer.h", attention="self_attention", attn="self_attention.dense", z="self_attention.dense", mlp="mlp.dense_4h_to_h")
FALCON = dict(layers="transformer.h", attention="self_attention", attn="self_attention", z="self_attention.dense")
OPT = dict(mlp="fc2", z="self_attn.out_proj")
LATENT = Record(q="self_attn.q_b_proj", k="self_attn.kv_a_proj_with_mqa", v="", layout="latent")
GEMMA4 = dict(**POST_NORM, additive=False, q="self_attn.q_norm", k="self_attn.k_norm", v="self_attn.v_norm")   # the layer's scalar multiplies the sum
TIMES = dict(multiplier="residual_multiplier")

class Records(dict):
    "What is not named is laid out as Llama is; where it is not, no hook finds its place, or the numbers differ."
    def __missing__(self, family): return LLAMA

RECORDS = Records({
    "gpt2": fused("attn.c_attn", "blocks", **GPT, z="attn.c_proj"),
    "gpt2_scaled": fused("attn.c_attn", "blocks", **GPT, z="attn.c_proj"),
    "gpt_neo": Record(**GPT, z="attn.attention.out_proj", q="attn.attention.q_proj", k="attn.attention.k_proj", v="attn.attention.v_proj"),
    "gpt_neox": fused("attention.query_key_value", "by head", **NEOX, parallel=True),
    "gpt_neox_sequential": fused("attention.query_key_value", "by head", **NEOX),
    "gptj": Record(**GPT, z="attn.out_proj", q="attn.q_proj", k="attn.k_proj", v="attn.v_proj", parallel=True),
    "opt": Record(**OPT, layers="model.decoder.layers"),
    "opt_350m": Record(**OPT, layers="model.decoder.layers", additive=False),   # norms of the sum
    "bloom": fused("self_attention.query_key_value", "by head", **BLOOM),
    "falcon": fused("self_attention.query_key_value", "blocks", **FALCON, parallel=True),
    "falcon_alibi": fused("self_attention.query_key_value", "by head", **FALCON),
    "falcon_new": fused("self_attention.query_key_value", "by group", **FALCON, parallel=True),
    "phi": Record(z="self_attn.dense", parallel=True),
    "phi3": fused("self_attn.qkv_proj", "blocks"),
    "olmo2": Record(**POST_NORM, **WHOLE_NORM), "olmo3": Record(**POST_NORM, **WHOLE_NORM),
    "stablelm_parallel": Record(parallel=True), "cohere": Record(parallel=True), "cohere2": Record(parallel=True),
    "granite": Record(**TIMES),
    "glm4": Record(attn="post_self_attn_layernorm", mlp="post_mlp_layernorm"),
    "deepseek_v3": LATENT, "deepseek_v2": LATENT,
    "gemma2": Record(**POST_NORM), "gemma3": Record(**POST_NORM),
    "gemma4": Record(**GEMMA4), "gemma4_moe": Record(**GEMMA4), "gemma4_small": Record(**GEMMA4, own_token=True),
    "codegen": fused("attn.qkv_proj", "codegen", **GPT, z="attn.out_proj", parallel=True),
    "mpt": fused("attn.Wqkv", "blocks", layers="transformer.blocks", attention="attn", attn="attn", z="attn.out_proj", mlp="ffn.down_proj"),
    "xglm": Record(**OPT), "biogpt": Record(**OPT, layers="biogpt.layers"),
    "persimmon": fused("self_attn.query_key_value", "by head", z="self_attn.dense"),
    "exaone4": Record(**POST_NORM),
    "granitemoe": Record(mlp="block_sparse_moe", **TIMES),
    "olmoe": Record(**WHOLE_NORM),
    "llama4": Record(mlp="feed_forward"),
    "gpt_bigcode": fused("attn.c_attn", "blocks", **GPT, z="attn.c_proj"),
})

SITES = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post", "z", "q", "k", "v", "knockout")

def sites_of(family):
    "The sites that a family has."
    record = RECORDS[family]
    return tuple(s for s in SITES if not (s == "resid_mid" and record.parallel or s == "v" and record.layout == "latent"))

def layer_of(model, family, layer): return model.get_submodule(RECORDS[family].layers)[layer]

def heads_of(model, family, site, layer):
    "How many heads a site has in a layer."
    config, record = model.config, RECORDS[family]
    heads = config.num_attention_heads
    if site in "qz": return heads
    if shares(model, family, layer): return 0
    if family.startswith("gemma4"): return config.per_layer_config[layer].num_key_value_heads
    if family in ("falcon", "gpt_bigcode") or record.layout == "latent": return 1
    if record.layout in ("by head", "codegen"): return heads
    return getattr(config, "num_kv_heads", None) or getattr(config, "num_key_value_heads", None) or heads

def columns(model, family, site, layer, head, width):
    "The columns of one head in the output `[token, width]` of its module (z: in the input)."
    config, layout, count = model.config, RECORDS[family].layout, heads_of(model, family, site, layer)
    queries, pairs, which = config.num_attention_heads, heads_of(model, family, "k", layer), "qkv".find(site)
    run = lambda start, size: slice(start, start + size)
    if site == "z" or layout == "apart": return run(head * (width // count), width // count)
    if layout == "blocks":   # all queries, all keys, all values
        d = width // (queries + 2 * pairs)
        return run(([0, queries, queries + pairs][which] + head) * d, d)
    if layout == "by head": d = width // (3 * queries); return run((3 * head + which) * d, d)   # q, k, v of the first head, of the second, …
    if layout == "by group":   # the queries of a group, its key, its value
        size = queries // pairs; d = width // (pairs * (size + 2))
        return run({"q": head // size * (size + 2) + head % size, "k": head * (size + 2) + size, "v": head * (size + 2) + size + 1}[site] * d, d)
    if layout == "codegen":   # four slices, each: queries, values, keys
        d, part, own = width // (3 * queries), queries // 4, {"q": 0, "v": 1, "k": 2}[site]
        return run((head // part * 3 * part + own * part + head % part) * d, d)
    assert layout == "latent"
    return run(head * (width // count), width // count)

def place(model, family, site, layer):
    "The module and the side of it (`in`, `out`) where a site is read and written."
    record, block = RECORDS[family], layer_of(model, family, layer)
    if site in ("resid_pre", "resid_post"): return block, "in" if site == "resid_pre" else "out"
    if site in ("attn_out", "mlp_out"): return block.get_submodule(record.attn if site == "attn_out" else record.mlp), "out"
    return block.get_submodule(getattr(record, site)), "in" if site == "z" else "out"

def hook(module, side, edit):
    "Give `edit` the activation; what it returns takes its place, unless it is None."
    def before(m, args, kwargs):
        y = edit(args[0] if args else kwargs["hidden_states"])
        if y is not None: return ((y, *args[1:]), kwargs) if args else (args, {**kwargs, "hidden_states": y})
    def after(m, args, out):
        y = edit(out[0] if isinstance(out, tuple) else out)
        if y is not None: return (y, *out[1:]) if isinstance(out, tuple) else y
    return module.register_forward_pre_hook(before, with_kwargs=True) if side == "in" else module.register_forward_hook(after)

@torch.no_grad()
def forward(model, ids, hooks):
    "Logits of the last token, with hooks that are gone afterwards; `hooks` is called once the model is known to be clean."
    handles = hooks()
    try: return model(torch.tensor([list(ids)]), use_cache=False).logits[0, -1].float()
    finally: [h.remove() for h in handles]

def shares(model, family, layer):
    "Whether a layer has no keys and values of its own and reads those of a layer before it (Gemma 4)."
    return family.startswith("gemma4") and layer >= model.config.num_hidden_layers - model.config.num_kv_shared_layers

def flat(x, length): return x.reshape(length, -1)

def read(model, family, ids, changed=lambda: []):
    "All activations of a run, `(site, layer) -> [token, width]`, and its logits; with further hooks, if there are any."
    kept, record, length = {}, RECORDS[family], len(ids)
    def keep(key): return lambda x: kept.__setitem__(key, flat(x, length).clone())
    def hooks():
        handles = changed()
        for layer in range(model.config.num_hidden_layers):
            block = layer_of(model, family, layer)
            for site in sites_of(family):
                if site in ("resid_mid", "knockout"): continue
                if site in "kv" and shares(model, family, layer): continue
                handles.append(hook(*place(model, family, site, layer), keep((site, layer))))
        return handles
    kept["logits"] = forward(model, ids, hooks)
    times = getattr(model.config, record.multiplier) if record.multiplier else 1
    for layer in range(model.config.num_hidden_layers):
        for site in ("attn_out", "mlp_out"): kept[(site, layer)] = kept[(site, layer)] * times
        if not record.parallel: kept[("resid_mid", layer)] = kept[("resid_pre", layer)] + kept[("attn_out", layer)]
    return kept

def patched_logits(model, family, mine, theirs, site, layer, tokens, head=None, *, window=1, source=None):
    "Logits of the last token of the run `mine`, with one activation of the run `theirs` in it (`source`: its activations, where they are at hand)."
    record, length, tokens = RECORDS[family], len(mine), list(tokens)
    source = source or read(model, family, theirs)
    times = getattr(model.config, record.multiplier) if record.multiplier else 1
    half = window // 2
    span = range(max(0, layer - half), min(model.config.num_hidden_layers, layer + half + 1))

    def put(key, cut=slice(None), divide=1):   # write the other run's numbers at the tokens
        def edit(x):
            y = x.clone()
            flat(y, length)[tokens, cut] = (source[key] / divide)[tokens, cut]
            return y
        return edit

    def hide(level):
        def before(m, args, kwargs):
            mask = kwargs["attention_mask"].clone()
            assert mask.is_floating_point() or family == "mpt"   # MPT's says what is hidden, as bool
            mask[..., -1, tokens] = torch.finfo(mask.dtype).min if mask.is_floating_point() else True
            return args, {**kwargs, "attention_mask": mask}
        return layer_of(model, family, level).get_submodule(record.attention).register_forward_pre_hook(before, with_kwargs=True)

    def middle(level):   # attention adds so much that the stream after it is the other run's
        seen = {}
        def edit(x):
            y = x.clone()
            flat(y, length)[tokens] = (source[("resid_mid", level)] - flat(seen["x"], length))[tokens] / times
            return y
        return [hook(*place(model, family, "resid_pre", level), lambda x: seen.update(x=x.clone())), hook(*place(model, family, "attn_out", level), edit)]

    def hooks():
        if site == "knockout": return [hide(l) for l in span]
        if site == "resid_mid": return [h for l in span for h in middle(l)]
        if head is not None:
            cut = columns(model, family, site, layer, head, source[(site, layer)].shape[1])
            return [hook(*place(model, family, site, layer), put((site, layer), cut))]
        divide = times if site in ("attn_out", "mlp_out") else 1
        return [hook(*place(model, family, site, l), put((site, l), divide=divide)) for l in span]

    return forward(model, mine, hooks)

def ld(logits, target_ids): return float(logits[target_ids[0]] - logits[target_ids[1]])

def patched_ld(model, family, clean_ids, corrupt_ids, direction, site, layer, tokens, head, target_ids, window=1, source=None):
    "Logit difference (clean target less corrupt target) after one patch."
    mine, theirs = (clean_ids, corrupt_ids) if direction == "noising" else (corrupt_ids, clean_ids)
    return ld(patched_logits(model, family, mine, theirs, site, layer, tokens, head, window=window, source=source), target_ids)

def lens_ld(model, family, ids, layer, target_ids, token=-1):
    "Logit difference that the model's own top reads from the stream before a layer (after the last one, where `layer` is their number)."
    own, last = read(model, family, ids), model.config.num_hidden_layers - 1
    state = own[("resid_pre", layer)] if layer <= last else own[("resid_post", last)]
    put = dict(own); put[("resid_post", last)] = state[token].expand_as(state)   # whatever token is read stands at the end
    return ld(patched_logits(model, family, ids, ids, "resid_post", last, [len(ids) - 1], source=put), target_ids)

def carried(model, family, start, stop):
    "What the stream is multiplied by from the inside of layer `start` to the door of layer `stop`."
    times = 1.0
    for layer in range(start, stop):
        if family.startswith("gemma4"): times = times * float(layer_of(model, family, layer).layer_scalar)
    return times

def path_ld(model, family, mine, theirs, sender, tokens, target_ids, receiver, layer=None, head=None):
    """One path, by three forwards: the change of what the sender's layer adds, what the receiver reads with it in its own stream alone,
    and the run with that reading. What stands between (gates, norms of other layers) sees nothing of it."""
    own, source, (level, who) = read(model, family, mine), read(model, family, theirs), sender
    tokens, last = list(tokens), model.config.num_hidden_layers - 1
    def sends():
        cut = columns(model, family, "z", level, who, own[("z", level)].shape[1])
        def edit(x):
            y = x.clone(); view = flat(y, len(mine))
            for t in tokens: view[t, cut] = source[("z", level)][t, cut]
            return y
        return [hook(*place(model, family, "z", level), edit)]
    change = (read(model, family, mine, sends)[("attn_out", level)] - own[("attn_out", level)])[tokens]
    if receiver == "final":
        put = {("resid_post", last): own[("resid_post", last)].clone()}
        put[("resid_post", last)][tokens] += change * carried(model, family, level, last + 1)
        return ld(patched_logits(model, family, mine, mine, "resid_post", last, tokens, source=put), target_ids)
    def arrives():
        def edit(x):
            y = x.clone(); flat(y, len(mine))[tokens] += change * carried(model, family, level, layer)
            return y
        return [hook(*place(model, family, "resid_pre", layer), edit)]
    reading = read(model, family, mine, arrives)
    return ld(patched_logits(model, family, mine, mine, receiver, layer, tokens, head, source=reading), target_ids)
