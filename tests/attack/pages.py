"""A battery of hostile text, and unlucky studies of other kinds, through every page and into a browser.

Every text that a battery, a model's name or a path brings tries to be markup: HTML, comments, scripts, Markdown, mathematics, short codes.
On a page it must stand letter by letter, and none of it may run.
"""
import html, json, re, shutil, subprocess, sys, tempfile, time
from html.parser import HTMLParser
from pathlib import Path

import pandas as pd

KEY = ["category", "clean_prompt", "corrupt_prompt", "clean_target", "corrupt_target"]
RUN = "document.documentElement.setAttribute('hacked',1)"    # what each payload would do

# category, frame of the prompt with the entity as {}, the two entities, the two targets; every word is one token
HOSTILE = [
    (f"<!--<script>{RUN}", "The capital of {} is", "France", "Japan", "Paris", "Tokyo"),
    (f"<script>{RUN}</script>", "The <script>" + RUN + "</script> of {} is", "Spain", "Italy", "<b>Madrid</b>", "<i>Rome</i>"),
    ("<!--<script>" + RUN, "A <!--<script> of {} --> is", f"<img/src=x/onerror={RUN}>", f"<svg/onload={RUN}>", "</script>", "<!--"),
    ("*a* _b_ `c` ~~d~~ $e$", "The *star* _under_ `tick` $x^2$ ~~of~~ {} is", "**bold**", "__init__", "*one*", "`two`"),
    ("a|b [c](javascript:alert) ![d](x)", "|a|b| [link](javascript:alert) ![i](x) # {} is", "$$a$$", "\\(b\\)", "|3|", "[4]"),
    ("{{< include /etc/hostname >}} {=html}", "{{< meta title >}} {} ::: {.cell} is", "&lt;b&gt;", "&amp;", "{{<", "```"),
    ("a.b[c]:Q 'd' \"e\" \\f", "Say 'it' or \"that\" \\n {} datum.kind:N is", "</title>", "</textarea>", "'q'", '"r"'),
    (" 4", "The number after {} is", "3", "5", "4", "6"),
    ("True", "<!-- {} --> is", "True", "False", "NA", "null"),
    ("日本 é \u202eabc\u200b", "日本 の {} \u202eis\u200b", "東京", "大阪", "é", "ü"),
]
FOLDER = "a_b*c <i>#1 `x` $y$ %20 {{< z >}}"     # a model's name; a slash cannot be in it


def battery(rows=HOSTILE):
    "The table of a battery."
    fill = lambda frame, entity: frame.replace("{}", entity, 1) if "{{" not in frame else frame.replace(" {} ", f" {entity} ", 1)
    return pd.DataFrame([(c, fill(f, a), fill(f, b), f" {x}", f" {y}") for c, f, a, b, x, y in rows], columns=KEY)


def tokenizer_for(table):
    "A word-level tokenizer that knows each word of the table."
    import transformers
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    words = [w for column in KEY[1:] for text in table[column] for w in text.replace(" ", " ▁").split(" ")]
    vocab = {w: i for i, w in enumerate(dict.fromkeys(["<pad>", "<eos>", "<unk>", *filter(None, words)]))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    return transformers.PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")


def tiny_folder(folder, table, *, layers=2, heads=2, alike=()):
    "A random model for the table's words, saved; the words in `alike` are read as the same."
    import torch, transformers
    tokenizer = tokenizer_for(table)
    torch.manual_seed(0)
    shape = dict(vocab_size=len(tokenizer), hidden_size=16, intermediate_size=32, num_hidden_layers=layers, num_attention_heads=heads,
        num_key_value_heads=1, head_dim=8, max_position_embeddings=256, pad_token_id=0, eos_token_id=1, bos_token_id=None)
    model = transformers.LlamaForCausalLM(transformers.LlamaConfig(**shape))
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 2: p.normal_(0, 1.5 / p.shape[1] ** 0.5)
        same = [tokenizer.convert_tokens_to_ids("▁" + w) for w in alike]
        for i in same[1:]: model.model.embed_tokens.weight[i] = model.model.embed_tokens.weight[same[0]]
    model.save_pretrained(folder); tokenizer.save_pretrained(folder)
    return folder


def tiny_study(results, name, table, *, quick=False, **options):
    "A finished study of the table by a tiny model of that name."
    from bizzaroworld.models import load
    from bizzaroworld.study import study
    folder = tiny_folder(Path(results).parent/"models"/name, table, **options)
    return study(load(str(folder), device="cpu", self_test=False), table, out=Path(results)/name, source="by hand", quick=quick)
