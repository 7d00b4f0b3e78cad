"""A tiny random image encoder, for a real llama.cpp server that takes pictures.

It looks at 28 x 28 pixels and makes four image tokens of them, for the models of `tiny_model`.
"""

from collections.abc import Iterator
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]

_MODEL_DIM, _DIM, _HEADS, _FEED, _LAYERS = 64, 32, 4, 64, 2
_SIDE, _PATCH = 28, 14


def make_tiny_projector(path: Path, *, seed: int = 3) -> Path:
    """Write the GGUF that `--mmproj` takes."""
    writer = gguf.GGUFWriter(str(path), "clip")
    _describe(writer)
    for name, tensor in _tensors(np.random.default_rng(seed)):
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _describe(writer: gguf.GGUFWriter) -> None:
    writer.add_string("general.name", "tiny-clip")
    writer.add_string("general.type", "mmproj")
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)
    writer.add_bool("clip.has_text_encoder", False)
    writer.add_bool("clip.has_vision_encoder", True)
    writer.add_bool("clip.has_llava_projector", True)
    writer.add_string("clip.projector_type", "mlp")
    writer.add_bool("clip.use_gelu", False)
    numbers = {
        "image_size": _SIDE,
        "patch_size": _PATCH,
        "embedding_length": _DIM,
        "feed_forward_length": _FEED,
        "projection_dim": _MODEL_DIM,
        "attention.head_count": _HEADS,
        "block_count": _LAYERS,
    }
    for name, number in numbers.items():
        writer.add_uint32(f"clip.vision.{name}", number)
    writer.add_float32("clip.vision.attention.layer_norm_epsilon", 1e-5)
    writer.add_array("clip.vision.image_mean", [0.5, 0.5, 0.5])
    writer.add_array("clip.vision.image_std", [0.5, 0.5, 0.5])


def _tensors(dice: np.random.Generator) -> Iterator[tuple[str, Array]]:
    def some(*shape: int) -> Array:
        return dice.standard_normal(shape, dtype=np.float32) * np.float32(0.1)

    def layer(name: str, rows: int, columns: int) -> Iterator[tuple[str, Array]]:
        yield f"{name}.weight", some(rows, columns)
        yield f"{name}.bias", np.zeros(rows, np.float32)

    def norm(name: str) -> Iterator[tuple[str, Array]]:
        yield f"{name}.weight", np.ones(_DIM, np.float32)
        yield f"{name}.bias", np.zeros(_DIM, np.float32)

    yield "v.class_embd", some(_DIM)
    yield "v.patch_embd.weight", some(_DIM, 3, _PATCH, _PATCH)
    yield "v.position_embd.weight", some((_SIDE // _PATCH) ** 2 + 1, _DIM)
    yield from norm("v.pre_ln")
    yield from norm("v.post_ln")
    for block in (f"v.blk.{number}" for number in range(_LAYERS)):
        for name in ("attn_q", "attn_k", "attn_v", "attn_out"):
            yield from layer(f"{block}.{name}", _DIM, _DIM)
        yield from norm(f"{block}.ln1")
        yield from norm(f"{block}.ln2")
        yield from layer(f"{block}.ffn_down", _FEED, _DIM)
        yield from layer(f"{block}.ffn_up", _DIM, _FEED)
    yield from layer("mm.0", _MODEL_DIM, _DIM)
    yield from layer("mm.2", _MODEL_DIM, _MODEL_DIM)
