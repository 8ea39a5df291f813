"""Judges a finished GGUF file: compression, copying, samples, and the expected values of the tests.

Everything runs over exactly the weights that the file stores, never over the training weights.
"""

import argparse
import hashlib
import json
import lzma
import pathlib

import pyppmd
import torch

import gguf
import model as llama
import tokenizer
from score import bits_per_byte

PROMPT = "Once upon a time"
EXPECTED_PROMPTS = (PROMPT, "", "The fox said to the little girl")
GREEDY_TOKENS, SAMPLE_TOKENS, SAMPLES = 64, 200, 20
LOGIT_ROWS = 3
SAFE_MARGIN = 0.002  # below this a float32 forward may choose another token


def compressors(train, heldout):
    """Bits per byte that each compressor adds for the held-out text after the training text."""
    xz = [{"id": lzma.FILTER_LZMA2, "preset": 9, "dict_size": 1 << 26}]  # spans all of the text
    packers = {"xz -9": lambda data: lzma.compress(data, filters=xz)}
    for order in (6, 16, 32):
        packers[f"ppmd (variant H, order {order}, 1 GiB)"] = (
            lambda data, order=order: pyppmd.compress(data, max_order=order, mem_size=1 << 30,
                                                      variant="H"))
    break_ = b"\n\n\n"
    return {name: 8 * (len(pack(train + break_ + heldout)) - len(pack(train))) / len(heldout)
            for name, pack in packers.items()}


@torch.no_grad()
def generate(net, prompt_ids, count, temperature, rows=1, seed=0):
    """`rows` continuations of up to `count` tokens, each cut at the end token."""
    random = torch.Generator().manual_seed(seed)
    ids = torch.tensor([prompt_ids] * rows)
    for _ in range(count):
        logits = net(ids)[:, -1].double()
        if temperature == 0:
            chosen = logits.argmax(-1, keepdim=True)
        else:
            chosen = torch.multinomial((logits / temperature).softmax(-1), 1, generator=random)
        ids = torch.cat([ids, chosen], 1)
    made = [row[len(prompt_ids):].tolist() for row in ids]
    return [row[:row.index(tokenizer.EOS)] if tokenizer.EOS in row else row for row in made]


def longest_copy(sample, text):
    """The longest stretch of the sample that stands somewhere in the text."""
    best = ""
    for start in range(len(sample)):
        while start + len(best) < len(sample) and sample[start:start + len(best) + 1] in text:
            best = sample[start:start + len(best) + 1]
    return best


def copying(samples, text):
    copies = sorted((longest_copy(sample, text) for sample in samples), key=len)
    longest, median = copies[-1], copies[len(copies) // 2]
    return {"longest_characters": len(longest), "longest_words": len(longest.split()),
            "text": longest,
            "median_characters": len(median), "median_words": len(median.split())}


@torch.no_grad()
def expected(net, processor, prompt):
    """Greedy ids from a float64 forward, and the smallest lead of a token over the next best."""
    prompt_ids = [tokenizer.BOS, *processor.encode(prompt)]
    ids, margins = list(prompt_ids), []
    for _ in range(GREEDY_TOKENS):
        best = net(torch.tensor([ids]))[0, -1].topk(2)
        margins.append((best.values[0] - best.values[1]).item())
        ids.append(best.indices[0].item())
    return {"prompt": prompt, "prompt_ids": prompt_ids, "greedy_ids": ids[len(prompt_ids):],
            "text": processor.decode(ids), "min_margin": round(min(margins), 6),
            "min_margin_step": margins.index(min(margins)),
            "margin_safe_for_f32": min(margins) >= SAFE_MARGIN}


@torch.no_grad()
def write_expected(path, gguf_path, net, processor):
    """One key or logit row per line, so that a change shows in a diff."""
    cases = [expected(net, processor, prompt) for prompt in EXPECTED_PROMPTS]
    texts = [PROMPT, "", "'Who are you?' said the fox.\n\nThe king's son did not answer.",
             "  two  spaces, 1823 and a f\u00eate"]
    logit_ids = cases[0]["prompt_ids"][:LOGIT_ROWS]
    rows = net(torch.tensor([logit_ids]))[0].tolist()
    values = {
        "file": gguf_path.name,
        "sha256": hashlib.sha256(gguf_path.read_bytes()).hexdigest(),
        "source": "float64 forward over the dequantised weights; logits at 7 digits",
        "tokenizer": [{"text": text, "ids": processor.encode(text)} for text in texts],
        "cases": cases,
        "logits_input_ids": logit_ids,
        "logits": [[float(f"{x:.7g}") for x in row] for row in rows],
    }
    lines = []
    for key, value in values.items():
        if key in ("tokenizer", "cases", "logits"):
            value = "[\n" + ",\n".join(json.dumps(item) for item in value) + "\n]"
        else:
            value = json.dumps(value)
        lines.append(f"{json.dumps(key)}: {value}")
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n")
    return cases


def main():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, required=True,
                        help="folder of texts and vocabulary")
    parser.add_argument("--gguf", type=pathlib.Path, required=True)
    parser.add_argument("--expected", type=pathlib.Path, help="where to write the expected values")
    parser.add_argument("--quick", action="store_true", help="no copying and no compressors")
    args = parser.parse_args()
    processor = tokenizer.load(args.work)
    fields, net = gguf.read(args.gguf)
    assert fields["tokenizer.ggml.tokens"][-1] == processor.id_to_piece(processor.vocab_size() - 1)
    texts = {name: (args.work / f"{name}.txt").read_text(encoding="utf-8")
             for name in ("train", "valid", "heldout")}

    print(f"{net.parameter_count()} parameters, {args.gguf.stat().st_size} bytes")
    for name in ("valid", "heldout"):
        stories = tokenizer.encode_stories(processor, texts[name])
        bits = bits_per_byte(net, stories, len(texts[name].encode()), stride=64)
        print(f"{name}: {bits:.4f} bits per byte in {sum(map(len, stories))} tokens")
    if not args.quick:
        for name, bits in compressors(texts["train"].encode(), texts["heldout"].encode()).items():
            print(f"heldout: {bits:.4f} bits per byte by {name}")
        paragraphs = texts["heldout"].split("\n\n")
        shared = max((longest_copy(part, texts["train"]) for part in paragraphs), key=len)
        print(f"longest text that heldout shares with train: {len(shared)} characters: {shared!r}")

    for temperature in (0, 0.8):
        samples = []
        for prompt in (PROMPT, ""):
            ids = [tokenizer.BOS, *processor.encode(prompt)]
            rows = 1 if temperature == 0 else SAMPLES // 2
            for made in generate(net, ids, SAMPLE_TOKENS, temperature, rows, seed=1):
                samples.append(processor.decode(ids + made))
        for sample in samples:
            print(f"--- temperature {temperature}\n{sample}")
        if not args.quick:
            copied = copying(samples, texts["train"])
            print(f"--- copied at temperature {temperature}: {copied}", flush=True)

    if args.expected:
        double = gguf.read(args.gguf, torch.float64)[1]
        double.cos, double.sin = llama.rope_tables(double.shape, torch.float64)
        for case in write_expected(args.expected, args.gguf, double, processor):
            print(f"{case['prompt']!r}: smallest margin {case['min_margin']:.4f} "
                  f"at step {case['min_margin_step']}: {case['text']!r}")


if __name__ == "__main__":
    main()
