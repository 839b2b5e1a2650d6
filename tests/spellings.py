"Tokenizers as the families have them, trained in memory on a few lines, and a tiny GGUF file."
import json
import numpy as np, transformers
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors, trainers
from conftest import tiny_model
from zoo import WORDS

LINES = [f"{a}{w} {w.capitalize()}" for w in WORDS for a in ("", "the ", "The ")] * 3 + ["un café à Paris 😀 naïve 1234"] * 5
END = "<|endoftext|>"

def wrapped(tokenizer, **special): return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, **special)

def byte_tokenizer(size=600):
    "As GPT-2's: bytes, and one token for BOS, end and unknown words."
    t = Tokenizer(models.BPE())
    t.pre_tokenizer, t.decoder = pre_tokenizers.ByteLevel(add_prefix_space=False), decoders.ByteLevel()
    t.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=size, special_tokens=[END], initial_alphabet=pre_tokenizers.ByteLevel.alphabet()))
    return wrapped(t, bos_token=END, eos_token=END, unk_token=END)

def space_tokenizer(scheme, unigram=False, size=600):
    "As Llama's: `▁` for a space, and (`first`, `always`) one that is put before a text."
    if unigram:
        words = ["▁" * b + c for w in WORDS for c in (w, w.capitalize()) for b in (0, 1)]
        pieces = dict.fromkeys(words, -8.0) | {c: -20.0 for c in "▁" + "".join(sorted(set("".join(words)) - {"▁"}))}
        t = Tokenizer(models.Unigram([("<unk>", 0.0), ("<s>", 0.0), ("</s>", 0.0), *pieces.items()], unk_id=0))
    else: t = Tokenizer(models.BPE(unk_token="<unk>"))
    t.pre_tokenizer, t.decoder = pre_tokenizers.Metaspace(prepend_scheme=scheme), decoders.Metaspace(prepend_scheme=scheme)
    if not unigram: t.train_from_iterator(LINES, trainers.BpeTrainer(vocab_size=size, special_tokens=["<unk>", "<s>", "</s>"]))
    t.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return wrapped(t, bos_token="<s>", eos_token="</s>", unk_token="<unk>")

def word_tokenizer():
    "Whole words alone; what is not among them is the same token as BOS."
    words = [END, *dict.fromkeys("▁" * b + c for w in WORDS for c in (w, w.capitalize()) for b in (0, 1))]
    t = Tokenizer(models.WordLevel({w: i for i, w in enumerate(words)}, unk_token=END))
    t.pre_tokenizer, t.decoder = pre_tokenizers.Metaspace(prepend_scheme="never"), decoders.Metaspace(prepend_scheme="never")
    return wrapped(t, bos_token=END, eos_token=END, unk_token=END)

CHAT = "{{ bos_token }}user {{ messages[0].content }} assistant "

def save(folder, tokenizer, rows=None, kind="llama", chat=None, **shape):
    "A tiny random model in a folder, with this tokenizer and as many rows as it has words, or more."
    import conftest
    was = dict(conftest.SHAPE)
    conftest.SHAPE.update(vocab_size=rows or len(tokenizer), **shape)
    try: tiny_model(kind).save_pretrained(folder)
    finally: conftest.SHAPE.clear(); conftest.SHAPE.update(was)
    tokenizer.chat_template = chat
    tokenizer.save_pretrained(folder)
    return folder

def write_gguf(path, arch="llama", width=32, layers=2, heads=4, kv=2, lose=(), add_bos=False):
    "A tiny random Llama as a GGUF file, with a tokenizer of bytes."
    import gguf
    state = json.loads(byte_tokenizer().backend_tokenizer.to_str())["model"]
    words, rng = sorted(state["vocab"], key=state["vocab"].get), np.random.default_rng(0)
    w = gguf.GGUFWriter(str(path), arch)
    w.add_context_length(128); w.add_embedding_length(width); w.add_block_count(layers); w.add_feed_forward_length(2 * width)
    w.add_head_count(heads); w.add_head_count_kv(kv); w.add_layer_norm_rms_eps(1e-6); w.add_rope_freq_base(10000.0); w.add_vocab_size(len(words))
    w.add_tokenizer_model("gpt2"); w.add_token_list(words); w.add_token_types([3 if t == END else 1 for t in words])
    w.add_token_merges([m if isinstance(m, str) else " ".join(m) for m in state["merges"]])
    w.add_bos_token_id(0); w.add_eos_token_id(0); w.add_add_bos_token(add_bos)
    shapes = {"token_embd": (len(words), width), "output_norm": (width,), "output": (len(words), width)}
    for l in range(layers):
        shapes |= {f"blk.{l}.{n}": s for n, s in dict(attn_norm=(width,), ffn_norm=(width,), attn_q=(width, width), attn_k=(width * kv // heads, width),
            attn_v=(width * kv // heads, width), attn_output=(width, width), ffn_gate=(2 * width, width), ffn_up=(2 * width, width), ffn_down=(width, 2 * width)).items()}
    for name, shape in shapes.items():
        numbers = rng.standard_normal(shape) * (1.5 / shape[-1] ** .5) if len(shape) > 1 else 1 + .2 * rng.standard_normal(shape)
        if name not in lose: w.add_tensor(f"{name}.weight", numbers.astype(np.float32))
    w.write_header_to_file(); w.write_kv_data_to_file(); w.write_tensors_to_file(); w.close()
    return path
