"""A tiny llama in GGUF with random weights: enough for a genuine inference server to load, and of no use otherwise.

The vocabulary is SentencePiece's shape: three control tokens, the 256 bytes, and the printable ASCII characters, so
any text can be encoded. The weights are seeded, so the same model is written each time.
"""

from pathlib import Path

import gguf
import numpy as np

CONTEXT_TOKENS = 1024
WIDTH = 32
FEED_FORWARD_WIDTH = 64
LAYERS = 1
HEADS = 4
SEED = 7
CHAT_TEMPLATE = (
    "{% for message in messages %}{{ message['role'] }}: {{ message['content'] }}\n{% endfor %}"
    "{% if add_generation_prompt %}assistant: {% endif %}"
)


def vocabulary() -> tuple[list[bytes], list[float], list[int]]:
    """Return the tokens, their scores and their types."""
    control = [b"<unk>", b"<s>", b"</s>"]
    byte_tokens = [f"<0x{number:02X}>".encode() for number in range(256)]
    # SentencePiece writes a space as U+2581.
    printable = ["\u2581".encode()] + [bytes([number]) for number in range(0x21, 0x7F)]
    types = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
    types += [gguf.TokenType.BYTE] * len(byte_tokens) + [gguf.TokenType.NORMAL] * len(printable)
    tokens = control + byte_tokens + printable
    return tokens, [0.0] * len(tokens), [int(kind) for kind in types]


def write(path: Path) -> None:
    """Write the model to PATH (a few hundred KB)."""
    writer = gguf.GGUFWriter(str(path), "llama")
    tokens, scores, types = vocabulary()
    writer.add_name("tiny")
    writer.add_context_length(CONTEXT_TOKENS)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD_WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(types)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_chat_template(CHAT_TEMPLATE)
    for name, weights in tensors(len(tokens)).items():
        writer.add_tensor(name, weights)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def tensors(vocabulary_size: int) -> dict[str, "np.ndarray[tuple[int, ...], np.dtype[np.float32]]"]:
    """Return the weights by name: random matrices, and norms of one."""
    random = np.random.default_rng(SEED)

    def matrix(rows: int, columns: int) -> "np.ndarray[tuple[int, ...], np.dtype[np.float32]]":
        return random.normal(0.0, 0.4, (rows, columns)).astype(np.float32)

    norm = np.ones(WIDTH, dtype=np.float32)
    weights = {
        "token_embd.weight": matrix(vocabulary_size, WIDTH),
        "output_norm.weight": norm,
        "output.weight": matrix(vocabulary_size, WIDTH),
    }
    for layer in range(LAYERS):
        block = f"blk.{layer}"
        weights |= {f"{block}.{name}.weight": norm for name in ("attn_norm", "ffn_norm")}
        weights |= {f"{block}.{name}.weight": matrix(WIDTH, WIDTH) for name in ("attn_q", "attn_k", "attn_v")}
        weights[f"{block}.attn_output.weight"] = matrix(WIDTH, WIDTH)
        weights[f"{block}.ffn_gate.weight"] = matrix(FEED_FORWARD_WIDTH, WIDTH)
        weights[f"{block}.ffn_up.weight"] = matrix(FEED_FORWARD_WIDTH, WIDTH)
        weights[f"{block}.ffn_down.weight"] = matrix(WIDTH, FEED_FORWARD_WIDTH)
    return weights
