"""Tiny random models of each family: float32, eager attention, weights jittered so that each of them matters.

`tiny(name)` builds one. `FAMILIES` must work, `UNLISTED` are families that nobody listed and that should just work, `REFUSED` end in one line.
Imports nothing of the package, so that it can stand on both sides of a comparison.

Oddities seen: MiniMax is not causal in its blocks (five tokens alone differ from the first five of nine); PhiMoE's router gets no gradient
in some layers (its mixer takes the gradient another way); RWKV has no gradient at all in eval (it changes its state in place);
Qwen3-Next differs by 2e-6 after a save; every other family here gives equal logits, to the bit, after save and load.
"""
import torch, transformers as T
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors

WORDS = """the capital of france japan spain italy is paris tokyo madrid rome opposite hot big cold small new york city south korea
language spoken in french an a apple banana fruit grows on long short""".split()

def tiny_tokenizer(bos):
    "A word-level tokenizer that keeps the leading space, with or without a BOS."
    special = ["<pad>", "<eos>", "<bos>", "<unk>"]
    words = [w for word in WORDS for w in ("▁" + word, "▁" + word.capitalize(), word, word.capitalize())]
    vocab = {w: i for i, w in enumerate(dict.fromkeys(special + words))}
    tokenizer = Tokenizer(models.WordLevel(vocab, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="never")
    tokenizer.decoder = decoders.Metaspace(prepend_scheme="never")
    if bos: tokenizer.post_processor = processors.TemplateProcessing(single="<bos> $A", special_tokens=[("<bos>", vocab["<bos>"])])
    return T.PreTrainedTokenizerFast(tokenizer_object=tokenizer, bos_token="<bos>", eos_token="<eos>", pad_token="<pad>", unk_token="<unk>")

TOKENS = dict(vocab_size=len(tiny_tokenizer(True)), pad_token_id=0, eos_token_id=1, bos_token_id=2)
# the names of most families; `FULL` for those whose keys and values have as many heads as the queries
FULL = dict(**TOKENS, hidden_size=32, intermediate_size=64, num_hidden_layers=4, num_attention_heads=4, max_position_embeddings=128)
SHAPE = dict(**FULL, num_key_value_heads=2)
GPT = dict(**TOKENS, n_embd=32, n_layer=4, n_head=4, n_positions=128)
WINDOW = dict(sliding_window=3)
MIXED = ["sliding_attention", "full_attention"] * 2
LLAMA3 = dict(rope_type="llama3", rope_theta=10000.0, factor=4.0, low_freq_factor=1.0, high_freq_factor=4.0, original_max_position_embeddings=16)
YARN = dict(rope_type="yarn", rope_theta=10000.0, factor=4.0, beta_fast=32.0, beta_slow=1.0, truncate=False, original_max_position_embeddings=16)
HALF = dict(rope_type="default", rope_theta=10000.0, partial_rotary_factor=0.5)
EXPERTS = dict(num_experts=4, num_experts_per_tok=2, moe_intermediate_size=16)
LATENT = dict(**{**SHAPE, "num_key_value_heads": 4}, q_lora_rank=12, kv_lora_rank=10, qk_rope_head_dim=4, qk_nope_head_dim=6, v_head_dim=5,
    n_routed_experts=4, num_experts_per_tok=2, n_shared_experts=1, moe_intermediate_size=16, n_group=2, topk_group=1, first_k_dense_replace=1)
FOUR = dict(embedding_multiplier=3.0, logits_scaling=0.7, residual_multiplier=0.6, attention_multiplier=0.3)
GEMMA4 = dict(**SHAPE, head_dim=8, global_head_dim=12, **WINDOW, layer_types=MIXED, final_logit_softcapping=10.0)
GEMMA3N = dict(**SHAPE, head_dim=8, **WINDOW, layer_types=MIXED, vocab_size_per_layer_input=TOKENS["vocab_size"], hidden_size_per_layer_input=8,
    num_kv_shared_layers=2, laurel_rank=4, altup_num_inputs=3, activation_sparsity_pattern=[0.5, 0.0, 0.0, 0.0])

def make(model, config, attention="eager", **settings):
    "Eager attention is set before the model is built: Falcon, for one, takes no other afterwards."
    config = getattr(T, config)(**settings)
    if attention: config._attn_implementation = attention
    return getattr(T, model)(config)

FAMILIES = {
    "gpt2": lambda: make("GPT2LMHeadModel", "GPT2Config", **GPT),
    # both odd scales of GPT-2: 1/(layer+1), as in Mistral's GPT-2 checkpoints of Stanford
    "gpt2_scaled": lambda: make("GPT2LMHeadModel", "GPT2Config", **GPT, scale_attn_by_inverse_layer_idx=True, reorder_and_upcast_attn=True),
    "gpt_neo": lambda: make("GPTNeoForCausalLM", "GPTNeoConfig", **TOKENS, hidden_size=32, num_layers=4, num_heads=4, window_size=3,
        attention_types=[[["global", "local"], 2]], max_position_embeddings=128),
    "gpt_neox": lambda: make("GPTNeoXForCausalLM", "GPTNeoXConfig", **FULL, rope_parameters=HALF),
    "gpt_neox_sequential": lambda: make("GPTNeoXForCausalLM", "GPTNeoXConfig", **FULL, rope_parameters=HALF, use_parallel_residual=False),
    "gptj": lambda: make("GPTJForCausalLM", "GPTJConfig", **GPT, rotary_dim=4),
    "opt": lambda: make("OPTForCausalLM", "OPTConfig", **FULL, ffn_dim=64),
    "opt_350m": lambda: make("OPTForCausalLM", "OPTConfig", **FULL, ffn_dim=64, word_embed_proj_dim=16, do_layer_norm_before=False),
    "bloom": lambda: make("BloomForCausalLM", "BloomConfig", **TOKENS, hidden_size=32, n_layer=4, n_head=4),
    "falcon": lambda: make("FalconForCausalLM", "FalconConfig", **FULL, multi_query=True, parallel_attn=True),
    # with eager attention transformers 5.23 adds ALiBi twice (in the mask and in the scores: 0.25 logits off); sdpa is right
    "falcon_alibi": lambda: make("FalconForCausalLM", "FalconConfig", attention="sdpa", **FULL, alibi=True, multi_query=False, parallel_attn=False, bias=True),
    "falcon_new": lambda: make("FalconForCausalLM", "FalconConfig", **FULL, new_decoder_architecture=True, num_kv_heads=2),
    "phi": lambda: make("PhiForCausalLM", "PhiConfig", **SHAPE, rope_parameters=HALF, qk_layernorm=True),
    "phi3": lambda: make("Phi3ForCausalLM", "Phi3Config", **SHAPE, **WINDOW),
    "llama": lambda: make("LlamaForCausalLM", "LlamaConfig", **SHAPE),
    "llama3": lambda: make("LlamaForCausalLM", "LlamaConfig", **SHAPE, rope_parameters=LLAMA3),
    "llama_biases": lambda: make("LlamaForCausalLM", "LlamaConfig", **SHAPE, head_dim=12, attention_bias=True, mlp_bias=True),
    "mistral": lambda: make("MistralForCausalLM", "MistralConfig", **SHAPE, **WINDOW),
    "mixtral": lambda: make("MixtralForCausalLM", "MixtralConfig", **SHAPE, **WINDOW, num_local_experts=4, num_experts_per_tok=2),
    "qwen2": lambda: make("Qwen2ForCausalLM", "Qwen2Config", **SHAPE, **WINDOW, use_sliding_window=True, max_window_layers=2),
    "qwen3": lambda: make("Qwen3ForCausalLM", "Qwen3Config", **SHAPE, head_dim=12, **WINDOW, use_sliding_window=True, layer_types=MIXED),
    "qwen3_moe": lambda: make("Qwen3MoeForCausalLM", "Qwen3MoeConfig", **SHAPE, head_dim=8, **EXPERTS, norm_topk_prob=True, mlp_only_layers=[1], **WINDOW, use_sliding_window=True),
    "olmo": lambda: make("OlmoForCausalLM", "OlmoConfig", **SHAPE, clip_qkv=1.5),
    "olmo2": lambda: make("Olmo2ForCausalLM", "Olmo2Config", **SHAPE),
    "olmo3": lambda: make("Olmo3ForCausalLM", "Olmo3Config", **SHAPE, **WINDOW),
    "stablelm": lambda: make("StableLmForCausalLM", "StableLmConfig", **SHAPE, rope_parameters=HALF, use_qkv_bias=True),
    "stablelm_parallel": lambda: make("StableLmForCausalLM", "StableLmConfig", **SHAPE, rope_parameters=HALF, use_parallel_residual=True, qk_layernorm=True),
    "granite": lambda: make("GraniteForCausalLM", "GraniteConfig", **SHAPE, **FOUR),
    "smollm3": lambda: make("SmolLM3ForCausalLM", "SmolLM3Config", **SHAPE, no_rope_layers=[1, 0, 1, 0], **WINDOW, use_sliding_window=True),
    "cohere": lambda: make("CohereForCausalLM", "CohereConfig", **SHAPE, logit_scale=0.6, use_qk_norm=True),
    "cohere2": lambda: make("Cohere2ForCausalLM", "Cohere2Config", **SHAPE, logit_scale=0.6, **WINDOW),
    "glm4": lambda: make("Glm4ForCausalLM", "Glm4Config", **SHAPE, head_dim=12, rope_parameters=HALF),
    "starcoder2": lambda: make("Starcoder2ForCausalLM", "Starcoder2Config", **SHAPE, **WINDOW),
    "nemotron": lambda: make("NemotronForCausalLM", "NemotronConfig", **SHAPE, rope_parameters=HALF),
    "gpt_oss": lambda: make("GptOssForCausalLM", "GptOssConfig", **SHAPE, head_dim=8, **WINDOW, num_local_experts=4, num_experts_per_tok=2, rope_parameters=YARN),
    "deepseek_v3": lambda: make("DeepseekV3ForCausalLM", "DeepseekV3Config", **LATENT),
    "deepseek_v2": lambda: make("DeepseekV2ForCausalLM", "DeepseekV2Config", **LATENT, topk_method="group_limited_greedy", routed_scaling_factor=2.0),
    "gemma1": lambda: make("GemmaForCausalLM", "GemmaConfig", **{**SHAPE, "num_key_value_heads": 1}, head_dim=8),
    "gemma2": lambda: make("Gemma2ForCausalLM", "Gemma2Config", **SHAPE, head_dim=8, query_pre_attn_scalar=8, **WINDOW, layer_types=MIXED,
        attn_logit_softcapping=5.0, final_logit_softcapping=10.0),
    "gemma3": lambda: make("Gemma3ForCausalLM", "Gemma3TextConfig", **SHAPE, head_dim=8, query_pre_attn_scalar=8, **WINDOW, layer_types=MIXED),
    # the large ones: no per-layer embeddings, values are the keys before their norm, other kv heads in full layers
    "gemma4": lambda: make("Gemma4ForCausalLM", "Gemma4TextConfig", **GEMMA4, hidden_size_per_layer_input=0, attention_k_eq_v=True, num_global_key_value_heads=1),
    # the small ones: per-layer embeddings, the last two layers read the keys and values of layers 0 and 1
    "gemma4_small": lambda: make("Gemma4ForCausalLM", "Gemma4TextConfig", **GEMMA4, hidden_size_per_layer_input=8, num_kv_shared_layers=2,
        use_double_wide_mlp=True, vocab_size_per_layer_input=TOKENS["vocab_size"]),
    "gemma4_moe": lambda: make("Gemma4ForCausalLM", "Gemma4TextConfig", **GEMMA4, hidden_size_per_layer_input=0, enable_moe_block=True,
        num_experts=4, top_k_experts=2, moe_intermediate_size=16),
}

UNLISTED = {
    "codegen": lambda: make("CodeGenForCausalLM", "CodeGenConfig", **{**GPT, "n_layer": 4}, rotary_dim=4),
    "mpt": lambda: make("MptForCausalLM", "MptConfig", **TOKENS, d_model=32, n_heads=4, n_layers=4, max_seq_len=128),
    "xglm": lambda: make("XGLMForCausalLM", "XGLMConfig", **TOKENS, d_model=32, num_layers=4, attention_heads=4, ffn_dim=64, max_position_embeddings=128),
    "biogpt": lambda: make("BioGptForCausalLM", "BioGptConfig", **FULL),
    "persimmon": lambda: make("PersimmonForCausalLM", "PersimmonConfig", **FULL, rope_parameters=HALF),
    "ernie4_5": lambda: make("Ernie4_5ForCausalLM", "Ernie4_5Config", **SHAPE, head_dim=8, use_bias=True),
    "seed_oss": lambda: make("SeedOssForCausalLM", "SeedOssConfig", **SHAPE, head_dim=12),
    "arcee": lambda: make("ArceeForCausalLM", "ArceeConfig", **SHAPE),
    "helium": lambda: make("HeliumForCausalLM", "HeliumConfig", **SHAPE, head_dim=8),
    "hunyuan": lambda: make("HunYuanDenseV1ForCausalLM", "HunYuanDenseV1Config", **SHAPE, head_dim=8),
    "exaone4": lambda: make("Exaone4ForCausalLM", "Exaone4Config", **SHAPE, **WINDOW, sliding_window_pattern=2),
    "jais2": lambda: make("Jais2ForCausalLM", "Jais2Config", **SHAPE),
    "apertus": lambda: make("ApertusForCausalLM", "ApertusConfig", **SHAPE),
    "dots1": lambda: make("Dots1ForCausalLM", "Dots1Config", **SHAPE, n_routed_experts=4, n_shared_experts=1, num_experts_per_tok=2,
        moe_intermediate_size=16, first_k_dense_replace=1, **WINDOW, max_window_layers=2),
    "bitnet": lambda: make("BitNetForCausalLM", "BitNetConfig", **SHAPE),
    "granitemoe": lambda: make("GraniteMoeForCausalLM", "GraniteMoeConfig", **SHAPE, **FOUR, num_local_experts=4, num_experts_per_tok=2),
    "olmoe": lambda: make("OlmoeForCausalLM", "OlmoeConfig", **SHAPE, num_experts=4, num_experts_per_tok=2, clip_qkv=1.5),
    "qwen2_moe": lambda: make("Qwen2MoeForCausalLM", "Qwen2MoeConfig", **SHAPE, **EXPERTS, shared_expert_intermediate_size=24),
    "llama4": lambda: make("Llama4ForCausalLM", "Llama4TextConfig", **SHAPE, head_dim=8, intermediate_size_mlp=64, num_local_experts=4,
        num_experts_per_tok=1, interleave_moe_layer_step=2, no_rope_layers=[1, 0, 1, 0], attention_chunk_size=4, floor_scale=2),
    "glm": lambda: make("GlmForCausalLM", "GlmConfig", **SHAPE, head_dim=8, rope_parameters=HALF),
    "gpt_bigcode": lambda: make("GPTBigCodeForCausalLM", "GPTBigCodeConfig", **GPT, multi_query=True),
    "ministral": lambda: make("MinistralForCausalLM", "MinistralConfig", **SHAPE, head_dim=8, **WINDOW, layer_types=MIXED),
    "phimoe": lambda: make("PhimoeForCausalLM", "PhimoeConfig", **SHAPE, num_local_experts=4, num_experts_per_tok=2),
    "vaultgemma": lambda: make("VaultGemmaForCausalLM", "VaultGemmaConfig", **SHAPE, head_dim=8, query_pre_attn_scalar=8, **WINDOW, layer_types=MIXED),
    "nanochat": lambda: make("NanoChatForCausalLM", "NanoChatConfig", **SHAPE),
}

REFUSED = {
    "mamba": lambda: make("MambaForCausalLM", "MambaConfig", attention=None, **TOKENS, hidden_size=32, num_hidden_layers=4, state_size=8),
    "mamba2": lambda: make("Mamba2ForCausalLM", "Mamba2Config", attention=None, **TOKENS, hidden_size=32, num_hidden_layers=4, state_size=8, num_heads=8, head_dim=8, n_groups=2),
    "falcon_mamba": lambda: make("FalconMambaForCausalLM", "FalconMambaConfig", attention=None, **TOKENS, hidden_size=32, num_hidden_layers=4, state_size=8),
    "jamba": lambda: make("JambaForCausalLM", "JambaConfig", attention=None, **SHAPE, num_experts=2, attn_layer_period=2, attn_layer_offset=1, mamba_d_state=8, use_mamba_kernels=False),
    "bamba": lambda: make("BambaForCausalLM", "BambaConfig", attention=None, **SHAPE, attn_layer_indices=[1, 3], mamba_n_heads=8, mamba_d_state=8),
    "qwen3_next": lambda: make("Qwen3NextForCausalLM", "Qwen3NextConfig", attention=None, **SHAPE, head_dim=8, **EXPERTS, shared_expert_intermediate_size=16,
        linear_num_key_heads=2, linear_num_value_heads=4, linear_key_head_dim=8, linear_value_head_dim=8),
    "minimax": lambda: make("MiniMaxForCausalLM", "MiniMaxConfig", attention=None, **SHAPE, num_local_experts=4, layer_types=["linear_attention", "full_attention"] * 2),
    "rwkv": lambda: make("RwkvForCausalLM", "RwkvConfig", attention=None, **TOKENS, hidden_size=32, num_hidden_layers=4, context_length=128),
    "t5": lambda: make("T5ForConditionalGeneration", "T5Config", attention=None, **TOKENS, d_model=32, d_kv=8, d_ff=64, num_layers=4, num_heads=4, decoder_start_token_id=0),
    "bart": lambda: make("BartForConditionalGeneration", "BartConfig", attention=None, **TOKENS, d_model=32, encoder_layers=2, decoder_layers=2, encoder_ffn_dim=64,
        decoder_ffn_dim=64, encoder_attention_heads=4, decoder_attention_heads=4, decoder_start_token_id=1, forced_eos_token_id=1),
    "bert": lambda: make("BertLMHeadModel", "BertConfig", attention=None, **FULL),       # is_decoder False: each token sees those after it
    "bert_masked": lambda: make("BertForMaskedLM", "BertConfig", attention=None, **FULL),
    "gemma3_bidirectional": lambda: make("Gemma3ForCausalLM", "Gemma3TextConfig", attention=None, **SHAPE, head_dim=8, query_pre_attn_scalar=8, **WINDOW,
        layer_types=MIXED, use_bidirectional_attention=True),   # as in EmbeddingGemma
    "roberta_prelayernorm": lambda: make("RobertaPreLayerNormForCausalLM", "RobertaPreLayerNormConfig", attention=None, **FULL),
    # adds the normed stream, not the stream
    "bloom_post_norm": lambda: make("BloomForCausalLM", "BloomConfig", attention=None, **TOKENS, hidden_size=32, n_layer=4, n_head=4, apply_residual_connection_post_layernorm=True),
    # each layer computes attention twice and takes the difference: its z has half as many heads
    "diffllama": lambda: make("DiffLlamaForCausalLM", "DiffLlamaConfig", attention=None, **SHAPE),
    "gemma3n": lambda: make("Gemma3nForCausalLM", "Gemma3nTextConfig", attention=None, **GEMMA3N),   # four residual streams side by side
}

@torch.no_grad()
def jitter(model):
    "Weights large enough that each layer and position matters; every bias, norm, scale, sink and buffer that is saved off its first value."
    for name, p in model.named_parameters():
        into = p.shape[0] if type(model.get_submodule(name.rpartition(".")[0])).__name__ == "Conv1D" else p.shape[-1]   # GPT-2's are transposed
        if p.ndim == 3 and "GptOss" in type(model).__name__ or type(model).__name__ == "Llama4ForCausalLM" and p.ndim == 3: into = p.shape[1]
        if p.ndim >= 2: p.normal_(0, 1.5 / into ** 0.5)
        else: p.add_(0.2 * torch.randn_like(p))
    saved = model.state_dict()
    for name, b in model.named_buffers():
        if name in saved and b.is_floating_point() and b.numel() > 0: b.add_(0.2 * torch.randn_like(b))
    return model

def tiny(family, seed=0):
    "A tiny random model of `family`, ready to run."
    torch.manual_seed(seed)
    make = {**FAMILIES, **UNLISTED, **REFUSED}[family]
    return jitter(make().float()).eval()

def save(family, folder, seed=0):
    "The folder of a tiny model with its tokenizer, as a user would have it."
    tiny(family, seed).save_pretrained(folder)
    tiny_tokenizer(family.startswith("gemma")).save_pretrained(folder)
    return folder
