"""What the header of a GGUF file tells, and which files are refused before anything loads them."""

import contextlib
import struct
from pathlib import Path

import gguf
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tiny_model import CONTEXT, make_tiny_model
from tiny_projector import make_tiny_projector
from understudy.errors import ModelFileError
from understudy.model_files.gguf import read_gguf


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_tiny_model(tmp_path_factory.mktemp("gguf") / "tiny.gguf")


def test_the_facts_of_a_model_are_read(tiny: Path) -> None:
    facts = read_gguf(tiny)
    real = gguf.GGUFReader(tiny)

    assert (facts.architecture, facts.kind, facts.name) == ("llama", "model", "tiny")
    assert (facts.context_length, facts.layers) == (CONTEXT, 2)
    assert facts.size_bytes == tiny.stat().st_size
    assert facts.parameters == sum(int(tensor.n_elements) for tensor in real.tensors)
    assert facts.vocabulary == len(real.fields["tokenizer.ggml.tokens"].data)
    assert facts.chat_template is not None
    assert "<|im_start|>" in facts.chat_template


def test_the_cache_is_two_values_of_two_bytes_per_layer_and_channel(tiny: Path) -> None:
    assert read_gguf(tiny).cache_bytes_per_token == 2 * 2 * 2 * 64


def test_an_image_encoder_is_told_from_a_model(tmp_path: Path) -> None:
    assert read_gguf(make_tiny_projector(tmp_path / "mmproj.gguf")).kind == "mmproj"


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "is not a GGUF file"),
        (b"hello, this is a text and no model", "is not a GGUF file"),
        (b"GGUF" + struct.pack("<I", 3) + bytes(4), "is not a GGUF file"),
        (b"GGUF" + struct.pack(">I", 3) + bytes(40), "big-endian"),
        (b"GGUF" + struct.pack("<I", 99) + bytes(40), "version 99"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 2**60) + bytes(40), "damaged"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 2**50) + bytes(9), "damaged"),
        (b"GGUF" + struct.pack("<IQQ", 3, 0, 0), "does not name its architecture"),
    ],
)
def test_what_is_no_model_is_refused_in_one_sentence(
    content: bytes, said: str, tmp_path: Path
) -> None:
    path = tmp_path / "odd.gguf"
    path.write_bytes(content)

    with pytest.raises(ModelFileError, match=said) as refused:
        read_gguf(path)

    assert "\n" not in str(refused.value)


def test_a_file_that_is_missing_or_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelFileError, match="There is no file"):
        read_gguf(tmp_path / "absent.gguf")
    with pytest.raises(ModelFileError, match="is a folder"):
        read_gguf(tmp_path)


def test_a_cut_off_file_says_how_much_is_missing(tiny: Path, tmp_path: Path) -> None:
    whole = tiny.read_bytes()
    short = tmp_path / "short.gguf"
    short.write_bytes(whole[:-200_000])

    with pytest.raises(ModelFileError, match=r"incomplete: 0\.2 MB"):
        read_gguf(short)
    short.write_bytes(whole[:1000])
    with pytest.raises(ModelFileError, match="header is cut off"):
        read_gguf(short)


def test_one_part_of_a_split_model_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "model-00001-of-00002.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_uint16("split.count", 2)
    writer.add_tensor("token_embd.weight", np.ones((4, 4), np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()

    with pytest.raises(ModelFileError, match="one part of a split model"):
        read_gguf(path)


@given(data=st.data())
def test_no_damage_to_the_header_raises_anything_else(
    data: st.DataObject, tiny: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    damaged = bytearray(tiny.read_bytes()[:40_000])
    for _ in range(data.draw(st.integers(1, 8))):
        at = data.draw(st.integers(4, len(damaged) - 9))
        value = data.draw(st.sampled_from((0, 1, 255, 2**31, 2**63, 2**64 - 1)))
        damaged[at : at + 8] = struct.pack("<Q", value)
    path = tmp_path_factory.getbasetemp() / "damaged.gguf"
    path.write_bytes(damaged)

    with contextlib.suppress(ModelFileError):
        assert read_gguf(path).size_bytes == len(damaged)
