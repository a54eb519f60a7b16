"""minilm_to_gguf.py FOLDER FILE: all-MiniLM-L6-v2 as its authors publish it, as a file for llama.cpp's server.

Needs gguf, safetensors and numpy; no torch.
"""

import json
import sys

import gguf
import numpy as np
from safetensors.numpy import load_file

folder, file = sys.argv[1:]
with open(f"{folder}/config.json") as text:
    config = json.load(text)
tensors = load_file(f"{folder}/model.safetensors")

writer = gguf.GGUFWriter(file, "bert")
writer.add_name("all-MiniLM-L6-v2")
writer.add_license("apache-2.0")
writer.add_context_length(config["max_position_embeddings"])
writer.add_embedding_length(config["hidden_size"])
writer.add_feed_forward_length(config["intermediate_size"])
writer.add_block_count(config["num_hidden_layers"])
writer.add_head_count(config["num_attention_heads"])
writer.add_layer_norm_eps(config["layer_norm_eps"])
writer.add_causal_attention(False)
writer.add_pooling_type(gguf.PoolingType.MEAN)
writer.add_file_type(gguf.LlamaFileType.MOSTLY_F16)

with open(f"{folder}/vocab.txt", encoding="utf-8") as text:
    tokens = [line.rstrip("\n") for line in text]
assert len(tokens) == config["vocab_size"]


def is_special(token):
    return token.startswith("[") and token.endswith("]")


def as_phantom(token):
    """The way llama.cpp spells it: beginnings of words are marked, not their continuations."""
    if is_special(token):
        return token
    return token[2:] if token.startswith("##") else "\u2581" + token


writer.add_tokenizer_model("bert")
writer.add_token_type_count(config["type_vocab_size"])
writer.add_token_list([as_phantom(token) for token in tokens])
writer.add_token_types([3 if is_special(token) else 1 for token in tokens])
writer.add_unk_token_id(tokens.index("[UNK]"))
writer.add_sep_token_id(tokens.index("[SEP]"))
writer.add_pad_token_id(tokens.index("[PAD]"))
writer.add_bos_token_id(tokens.index("[CLS]"))
writer.add_eos_token_id(tokens.index("[SEP]"))
writer.add_mask_token_id(tokens.index("[MASK]"))

names = {
    "embeddings.word_embeddings.weight": "token_embd.weight",
    "embeddings.position_embeddings.weight": "position_embd.weight",
    "embeddings.token_type_embeddings.weight": "token_types.weight",
    "embeddings.LayerNorm.weight": "token_embd_norm.weight",
    "embeddings.LayerNorm.bias": "token_embd_norm.bias",
}
layer = {
    "attention.self.query": "attn_q",
    "attention.self.key": "attn_k",
    "attention.self.value": "attn_v",
    "attention.output.dense": "attn_output",
    "attention.output.LayerNorm": "attn_output_norm",
    "intermediate.dense": "ffn_up",
    "output.dense": "ffn_down",
    "output.LayerNorm": "layer_output_norm",
}
for n in range(config["num_hidden_layers"]):
    for theirs, ours in layer.items():
        for part in ("weight", "bias"):
            names[f"encoder.layer.{n}.{theirs}.{part}"] = f"blk.{n}.{ours}.{part}"
for theirs, ours in names.items():
    values = tensors[theirs].astype(np.float32)
    whole = values.ndim == 1 or ours.startswith(("position", "token_types"))
    writer.add_tensor(ours, values if whole else values.astype(np.float16))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
