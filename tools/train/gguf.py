"""Writes and reads the one kind of GGUF v3 file needed here: a Llama in Q8_0 with F32 norms."""

import argparse
import pathlib
import struct

import numpy as np
import torch

import model as llama
import tokenizer

ALIGNMENT = 32
BLOCK = 32
F32, Q8_0 = 0, 8                                          # tensor types
U32, FLOAT, BOOL, STRING, ARRAY, I32 = 4, 6, 7, 8, 9, 5   # metadata value types
NORMAL, UNKNOWN, CONTROL, BYTE = 1, 2, 3, 6               # token types
MOSTLY_Q8_0 = 7

Q8_0_BLOCK = np.dtype([("scale", "<f2"), ("quants", "i1", BLOCK)])


def quantize(x):
    """f32 to Q8_0, bit for bit as the reference: x * (1/d) in f32, halves rounded from zero."""
    rows = np.ascontiguousarray(x, np.float32).reshape(-1, BLOCK)
    scale = np.abs(rows).max(1) / np.float32(127)
    inverse = np.divide(np.float32(1), scale, out=np.zeros_like(scale), where=scale != 0)
    scaled = (rows * inverse[:, None]).astype(np.float64)
    blocks = np.empty(len(rows), Q8_0_BLOCK)
    blocks["scale"] = scale.astype(np.float16)
    blocks["quants"] = np.trunc(scaled + np.copysign(0.5, scaled)).astype(np.int8)
    return blocks


def dequantize(blocks, dtype=np.float32):
    return blocks["scale"].astype(dtype)[:, None] * blocks["quants"].astype(dtype)


def pack_string(text):
    data = text.encode("utf-8")
    return struct.pack("<Q", len(data)) + data


def pack_value(kind, value):
    if kind == STRING:
        return pack_string(value)
    return struct.pack({U32: "<I", I32: "<i", FLOAT: "<f", BOOL: "<?"}[kind], value)


def pack_field(key, kind, value):
    """One key; a list value becomes an array of `kind`."""
    if not isinstance(value, list):
        return pack_string(key) + struct.pack("<I", kind) + pack_value(kind, value)
    head = pack_string(key) + struct.pack("<IIQ", ARRAY, kind, len(value))
    return head + b"".join(pack_value(kind, item) for item in value)


def token_type(vocabulary, token):
    if vocabulary.is_unknown(token):
        return UNKNOWN
    if vocabulary.is_control(token):
        return CONTROL
    return BYTE if vocabulary.is_byte(token) else NORMAL


def metadata(name, shape, vocabulary):
    tokens = range(shape.vocab)
    return [
        ("general.architecture", STRING, "llama"),
        ("general.name", STRING, name),
        ("general.license", STRING, "mit"),
        ("general.file_type", U32, MOSTLY_Q8_0),
        ("general.quantization_version", U32, 2),
        ("llama.context_length", U32, llama.CONTEXT),
        ("llama.embedding_length", U32, shape.dim),
        ("llama.block_count", U32, shape.layers),
        ("llama.feed_forward_length", U32, shape.ffn),
        ("llama.attention.head_count", U32, shape.heads),
        ("llama.attention.head_count_kv", U32, shape.kv_heads),
        ("llama.attention.layer_norm_rms_epsilon", FLOAT, llama.NORM_EPS),
        ("llama.rope.dimension_count", U32, shape.head_dim),
        ("llama.rope.freq_base", FLOAT, llama.ROPE_BASE),
        ("llama.vocab_size", U32, shape.vocab),
        ("tokenizer.ggml.model", STRING, "llama"),
        ("tokenizer.ggml.pre", STRING, "default"),
        ("tokenizer.ggml.tokens", STRING, [vocabulary.id_to_piece(t) for t in tokens]),
        ("tokenizer.ggml.scores", FLOAT, [vocabulary.get_score(t) for t in tokens]),
        ("tokenizer.ggml.token_type", I32, [token_type(vocabulary, t) for t in tokens]),
        ("tokenizer.ggml.bos_token_id", U32, vocabulary.bos_id()),
        ("tokenizer.ggml.eos_token_id", U32, vocabulary.eos_id()),
        ("tokenizer.ggml.unknown_token_id", U32, vocabulary.unk_id()),
        ("tokenizer.ggml.add_bos_token", BOOL, True),
        ("tokenizer.ggml.add_eos_token", BOOL, False),
        ("tokenizer.ggml.add_space_prefix", BOOL, True),
    ]


def padded(size):
    return -size % ALIGNMENT


def write(path, name, model, vocabulary):
    """Matrices as Q8_0, vectors as F32, in the order of the state dictionary."""
    fields = metadata(name, model.shape, vocabulary)
    infos, blobs, offset = [], [], 0
    for key, tensor in model.state_dict().items():
        values = tensor.float().cpu().numpy()
        kind = Q8_0 if values.ndim == 2 else F32
        blob = (quantize(values) if kind == Q8_0 else values).tobytes()
        dims = values.shape[::-1]  # GGUF: innermost first
        infos.append(pack_string(key) +
                     struct.pack(f"<I{len(dims)}QIQ", len(dims), *dims, kind, offset))
        blobs.append(blob + bytes(padded(len(blob))))
        offset += len(blobs[-1])
    head = b"GGUF" + struct.pack("<IQQ", 3, len(infos), len(fields))
    head += b"".join(pack_field(*field) for field in fields) + b"".join(infos)
    with open(path, "wb") as file:
        file.write(head + bytes(padded(len(head))))
        file.write(b"".join(blobs))


class Cursor:
    """Reads a file's header front to back."""

    def __init__(self, data):
        self.data, self.at = data, 0

    def number(self, code):
        value, = struct.unpack_from("<" + code, self.data, self.at)
        self.at += struct.calcsize("<" + code)
        return value

    def string(self):
        length = self.number("Q")
        self.at += length
        return self.data[self.at - length:self.at].decode("utf-8")

    def value(self, kind):
        if kind == ARRAY:
            item = self.number("I")
            return [self.value(item) for _ in range(self.number("Q"))]
        if kind == STRING:
            return self.string()
        return self.number({U32: "I", I32: "i", FLOAT: "f", BOOL: "?"}[kind])


def read(path, dtype=torch.float32):
    """A file made by write(): its metadata, and the model over exactly the stored weights."""
    data = open(path, "rb").read()
    cursor = Cursor(data)
    assert cursor.number("I") == 0x46554747 and cursor.number("I") == 3
    tensor_count, field_count = cursor.number("Q"), cursor.number("Q")
    fields = {}
    for _ in range(field_count):
        key = cursor.string()
        fields[key] = cursor.value(cursor.number("I"))
    infos = []
    for _ in range(tensor_count):
        key = cursor.string()
        dims = [cursor.number("Q") for _ in range(cursor.number("I"))]
        infos.append((key, dims[::-1], cursor.number("I"), cursor.number("Q")))
    base = cursor.at + padded(cursor.at)

    weights = {}
    for key, dims, kind, offset in infos:
        count = int(np.prod(dims))
        if kind == Q8_0:
            blocks = np.frombuffer(data, Q8_0_BLOCK, count // BLOCK, base + offset)
            values = dequantize(blocks, np.float64)
        else:
            values = np.frombuffer(data, "<f4", count, base + offset).astype(np.float64)
        weights[key] = torch.from_numpy(values.reshape(dims)).to(dtype)
    shape = llama.Shape(
        vocab=fields["llama.vocab_size"], dim=fields["llama.embedding_length"],
        layers=fields["llama.block_count"], heads=fields["llama.attention.head_count"],
        kv_heads=fields["llama.attention.head_count_kv"], ffn=fields["llama.feed_forward_length"])
    model = llama.Llama(shape).to(dtype)
    model.load_state_dict(weights)
    return fields, model.eval()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--work", type=pathlib.Path, required=True, help="folder of the vocabulary")
    parser.add_argument("--model", type=pathlib.Path, required=True, help="trained model (.pt)")
    parser.add_argument("--name", required=True)
    parser.add_argument("--out", type=pathlib.Path, required=True)
    args = parser.parse_args()
    write(args.out, args.name, llama.load(args.model), tokenizer.load(args.work))
    print(f"{args.out}: {args.out.stat().st_size} bytes")


if __name__ == "__main__":
    main()
