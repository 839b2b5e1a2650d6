"Tiny random models of each architecture, saved as local folders and loaded as a user would load them."
import os
import pytest, torch, transformers
from zoo import tiny_tokenizer

# tests exchange functions to see a model fail, which no key of a pass can know: here nothing is read from or kept in the memory of passes
os.environ["BIZZAROWORLD_SELF_TEST"] = "always"

SHAPE = dict(vocab_size=len(tiny_tokenizer(True)), hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4,
    num_key_value_heads=2, head_dim=8, max_position_embeddings=128, pad_token_id=0, eos_token_id=1, bos_token_id=2)
MIXED = ["sliding_attention", "full_attention"] * 2
# `tie_word_embeddings` as each family has it

def tiny_model(kind):
    "A random model of one architecture; weights large enough that each layer and position matters."
    torch.manual_seed(0)
    T = transformers
    make = {
        "gemma1": lambda: T.GemmaForCausalLM(T.GemmaConfig(**{**SHAPE, "num_key_value_heads": 1})),
        "gemma2": lambda: T.Gemma2ForCausalLM(T.Gemma2Config(**SHAPE, query_pre_attn_scalar=8, sliding_window=4, layer_types=MIXED,
            attn_logit_softcapping=5.0, final_logit_softcapping=10.0)),
        "gemma3": lambda: T.Gemma3ForCausalLM(T.Gemma3TextConfig(**SHAPE, query_pre_attn_scalar=8, sliding_window=512, layer_types=MIXED)),
        "gemma3_window": lambda: T.Gemma3ForCausalLM(T.Gemma3TextConfig(**SHAPE, query_pre_attn_scalar=8, sliding_window=3, layer_types=MIXED)),
        "gemma3_vision": lambda: T.Gemma3ForConditionalGeneration(T.Gemma3Config(
            text_config=dict(**SHAPE, query_pre_attn_scalar=8, sliding_window=512, layer_types=MIXED),
            vision_config=dict(hidden_size=16, intermediate_size=32, num_hidden_layers=1, num_attention_heads=2, image_size=28, patch_size=14),
            mm_tokens_per_image=4, image_token_index=4, boi_token_index=5, eoi_token_index=6)),
        "llama": lambda: T.LlamaForCausalLM(T.LlamaConfig(**SHAPE)),
    }
    model = make[kind]()
    with torch.no_grad():
        for name, p in model.named_parameters():
            if p.ndim == 2: p.normal_(0, 1.5 / p.shape[1] ** 0.5)
            elif "norm" in name: p.add_(0.2 * torch.randn_like(p))
    return model

KINDS = ("gemma1", "gemma2", "gemma3", "gemma3_window", "gemma3_vision", "llama")

@pytest.fixture(scope="session")
def tiny_folders(tmp_path_factory):
    "A saved folder for each architecture."
    root = tmp_path_factory.mktemp("tiny")
    for kind in KINDS:
        tiny_model(kind).save_pretrained(root/kind)
        tiny_tokenizer(kind.startswith("gemma")).save_pretrained(root/kind)
    return {kind: root/kind for kind in KINDS}

@pytest.fixture(scope="session")
def tiny_models(tiny_folders):
    "Each tiny model, loaded by `load`; the faults that tests inject go in later, so self-tests run here."
    from bizzaroworld.models import load
    return {kind: load(str(folder), device="cpu") for kind, folder in tiny_folders.items()}

@pytest.fixture(scope="session")
def real_models():
    "The embedded models, loaded once; a dict that loads on demand."
    from bizzaroworld.models import load
    class Models(dict):
        def __missing__(self, name): self[name] = load(name, device="cpu"); return self[name]
    return Models()

def pytest_configure(config):
    config.addinivalue_line("markers", "real: needs the embedded weights")
