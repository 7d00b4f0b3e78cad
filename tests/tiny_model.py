"""A tiny random model that a real llama.cpp server loads in milliseconds.

Its output layer leans on one constant channel, so that it speaks whole English words only. One
kind never ends by itself, the other ends after some words.
"""

from collections.abc import Iterable
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

CONTEXT = 2048
_DIM, _HEADS, _LAYERS, _FEED = 64, 4, 2, 128
_SPACE = "\u2581"
_TEXT = (
    "the a of to and in that it is was he she for on with as at by from they we you said not but "
    "what all were when there can an your which their if do will each about how up out them then "
    "some her would make like him into time has look two more write go see number no way could "
    "people my than first water been call who oil its now find long down day did get come made may "
    "part cat dog sun moon star river blue red green stone light dark house tree cold warm song "
    "quiet door paper night morning "
)
_WORDS = _TEXT.split()
_TEMPLATE = (
    "{% for m in messages %}{{ '<|im_start|>' + m['role'] + '\n' + m['content'] + '<|im_end|>' +"
    " '\n' }}{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\n' }}{% endif %}"
)


def make_tiny_model(
    path: Path,
    *,
    ends: bool = True,
    seed: int = 1,
    context: int = CONTEXT,
    known: Iterable[str] = (),
) -> Path:
    """Write a GGUF of some 650 KB; `ends`: it stops by itself after some words.

    `known` are further words with tokens of their own, which it never says; all other text costs
    it a token for each letter, or for each byte where that is no ASCII.
    """
    tokens, whole_words = _vocabulary(known)
    writer = gguf.GGUFWriter(str(path), "llama")
    _describe(writer, path.stem, tokens, context)
    dice = np.random.default_rng(seed)
    embedding = _matrix(dice, len(tokens), _DIM, 1.0)
    embedding[:, 0] = 4.0
    output = _matrix(dice, len(tokens), _DIM, 0.35)
    for index, (piece, _) in enumerate(tokens):
        output[index, 0] = _leaning(index, piece, whole_words, ends=ends) / 2.5
    writer.add_tensor("token_embd.weight", embedding)
    writer.add_tensor("output_norm.weight", np.ones(_DIM, np.float32))
    writer.add_tensor("output.weight", output)
    for layer in range(_LAYERS):
        _add_layer(writer, dice, layer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _vocabulary(known: Iterable[str]) -> tuple[list[tuple[str, int]], set[str]]:
    kind = gguf.TokenType
    tokens = [("<unk>", int(kind.UNKNOWN)), ("<s>", int(kind.CONTROL)), ("</s>", int(kind.CONTROL))]
    tokens += [("<|im_start|>", int(kind.CONTROL)), ("<|im_end|>", int(kind.CONTROL))]
    tokens += [(f"<0x{byte:02X}>", int(kind.BYTE)) for byte in range(256)]
    pieces = {_SPACE: None}
    for word in dict.fromkeys((*_WORDS, *known)):
        whole = _SPACE + word
        # Merging goes pair by pair, so each beginning of a word has to be a token too.
        pieces.update(dict.fromkeys(whole[:end] for end in range(2, len(whole) + 1)))
    pieces.update(dict.fromkeys(map(chr, range(0x21, 0x7F))))
    tokens += [(piece, int(kind.NORMAL)) for piece in (*pieces, "\n")]
    return tokens, {_SPACE + word for word in _WORDS}


def _leaning(index: int, piece: str, whole_words: set[str], *, ends: bool) -> float:
    if piece in whole_words:
        return 6.0
    if piece in ".,!":
        return 4.0
    if index in (2, 4):
        return 5.2 if ends else -14.0
    return -12.0


def _describe(
    writer: gguf.GGUFWriter, name: str, tokens: list[tuple[str, int]], context: int
) -> None:
    writer.add_name(name)
    writer.add_context_length(context)
    writer.add_embedding_length(_DIM)
    writer.add_block_count(_LAYERS)
    writer.add_feed_forward_length(_FEED)
    writer.add_head_count(_HEADS)
    writer.add_head_count_kv(_HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(_DIM // _HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_tokenizer_model("llama")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([piece for piece, _ in tokens])
    scores = [0.0 if index < 261 else float(260 - index) for index in range(len(tokens))]
    writer.add_token_scores(scores)
    writer.add_token_types([kind for _, kind in tokens])
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)
    writer.add_eot_token_id(4)
    writer.add_add_bos_token(True)
    writer.add_add_eos_token(False)
    writer.add_chat_template(_TEMPLATE)


def _add_layer(writer: gguf.GGUFWriter, dice: np.random.Generator, layer: int) -> None:
    scale = 1 / np.sqrt(_DIM)
    block = f"blk.{layer}"
    writer.add_tensor(f"{block}.attn_norm.weight", np.ones(_DIM, np.float32))
    writer.add_tensor(f"{block}.ffn_norm.weight", np.ones(_DIM, np.float32))
    for name in ("attn_q", "attn_k", "attn_v"):
        writer.add_tensor(f"{block}.{name}.weight", _matrix(dice, _DIM, _DIM, scale))
    for name in ("ffn_gate", "ffn_up"):
        writer.add_tensor(f"{block}.{name}.weight", _matrix(dice, _FEED, _DIM, scale))
    attention = _matrix(dice, _DIM, _DIM, scale)
    feed = _matrix(dice, _DIM, _FEED, 0.3 / np.sqrt(_FEED))
    # Nothing may change the constant channel on its way to the output.
    attention[0, :] = feed[0, :] = 0.0
    writer.add_tensor(f"{block}.attn_output.weight", attention)
    writer.add_tensor(f"{block}.ffn_down.weight", feed)


def _matrix(dice: np.random.Generator, rows: int, columns: int, scale: float) -> Array:
    return dice.standard_normal((rows, columns), dtype=np.float32) * np.float32(scale)
