"""Trains one model on train.txt and reports bits per byte on valid.txt.

Ten megabytes are read many times over, so the recipe is that of scarce data: high weight decay,
dropout, a cosine down to zero, and the number of epochs chosen on valid.txt instead of a stop by
chance. With --teacher the model learns from the mean of other models' predictions as well as from
the text: a distribution says more about a token than the one token that happens to stand there.
All randomness comes from --seed, and deterministic kernels make a rerun give the same file.
"""

import argparse
import dataclasses
import json
import math
import os
import pathlib
import time

os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")  # read at start by deterministic cuBLAS

import numpy as np
import torch
from torch.nn import functional as F

import model as llama
import tokenizer
from score import bits_per_byte

STORY_START_SHARE = 1 / 16  # crops that start at a begin token, so that an empty prompt starts well
WARMUP_STEPS = 200


class Crops:
    """Random stretches of CONTEXT + 1 tokens of the stories laid end to end."""

    def __init__(self, stories, device, seed):
        self.tokens = torch.from_numpy(np.concatenate(stories)).to(device)
        self.last = len(self.tokens) - llama.CONTEXT - 1
        begins = np.cumsum([0] + [len(story) for story in stories[:-1]])
        self.begins = torch.from_numpy(begins[begins <= self.last])
        self.random = torch.Generator().manual_seed(seed)
        self.stretch = torch.arange(llama.CONTEXT + 1, device=device)

    def batch(self, size):
        starts = torch.randint(self.last + 1, (size,), generator=self.random)
        begins = self.begins[torch.randint(len(self.begins), (size,), generator=self.random)]
        at_begin = torch.rand(size, generator=self.random) < STORY_START_SHARE
        starts = torch.where(at_begin, begins, starts).to(self.tokens.device)
        crops = self.tokens[starts[:, None] + self.stretch]
        return crops[:, :-1], crops[:, 1:]


def learning_rate(step, steps, peak):
    if step < WARMUP_STEPS:
        return peak * (step + 1) / WARMUP_STEPS
    return peak * 0.5 * (1 + math.cos(math.pi * (step - WARMUP_STEPS) / (steps - WARMUP_STEPS)))


def make_optimizer(net, args, fused):
    matrices = [p for p in net.parameters() if p.ndim == 2]
    vectors = [p for p in net.parameters() if p.ndim == 1]
    groups = [{"params": matrices, "weight_decay": args.weight_decay},
              {"params": vectors, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups, lr=args.lr, betas=(0.9, 0.95), fused=fused)


@torch.no_grad()
def mean_log_probabilities(teachers, inputs):
    """The teachers' geometric mean, up to its normalisation; None without teachers."""
    if not teachers:
        return None
    return sum(teacher(inputs).float().log_softmax(-1) for teacher in teachers) / len(teachers)


def loss_of(logits, targets, taught, share):
    """Cross entropy with the text, mixed with that against what the teachers say."""
    logits = logits.flatten(0, 1).float()
    loss = F.cross_entropy(logits, targets.flatten())
    if taught is None:
        return loss
    soft = taught.flatten(0, 1).float().softmax(-1)
    return (1 - share) * loss + share * F.cross_entropy(logits, soft)


def parse_arguments():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=pathlib.Path, required=True,
                        help="folder of texts and vocabulary")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="the model to write (.pt)")
    for field in dataclasses.fields(llama.Shape):
        if field.name != "vocab":
            name = "--" + field.name.replace("_", "-")
            parser.add_argument(name, type=int, default=field.default)
    parser.add_argument("--epochs", type=float, default=30)
    parser.add_argument("--batch", type=int, default=32, help="crops a step")
    parser.add_argument("--lr", type=float, default=3e-3)
    parser.add_argument("--weight-decay", type=float, default=1.0)
    parser.add_argument("--dropout", type=float, default=0.05)
    parser.add_argument("--teacher", type=pathlib.Path, nargs="*", default=[],
                        help="models to distil from")
    parser.add_argument("--teacher-share", type=float, default=0.9)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--reports", type=int, default=8, help="validations on the way")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    return parser.parse_args()


def main():
    args = parse_arguments()
    torch.manual_seed(args.seed)
    torch.use_deterministic_algorithms(True)
    torch.set_float32_matmul_precision("high")
    on_gpu = args.device == "cuda"
    began = time.time()

    processor = tokenizer.load(args.work)
    texts = {name: (args.work / f"{name}.txt").read_text(encoding="utf-8")
             for name in ("train", "valid")}
    crops = Crops(tokenizer.encode_stories(processor, texts["train"]), args.device, args.seed)
    valid = tokenizer.encode_stories(processor, texts["valid"])
    valid_bytes = len(texts["valid"].encode())

    shape = llama.Shape(processor.vocab_size(), args.dim, args.layers, args.heads, args.kv_heads,
                        args.ffn)
    net = llama.Llama(shape, args.dropout).to(args.device)
    teachers = [llama.load(path, args.device) for path in args.teacher]
    forward = torch.compile(net) if on_gpu else net
    teach = [torch.compile(teacher) if on_gpu else teacher for teacher in teachers]
    optimizer = make_optimizer(net, args, fused=on_gpu)
    steps = math.ceil(args.epochs * len(crops.tokens) / (args.batch * llama.CONTEXT))
    print(f"{net.parameter_count()} parameters, {len(crops.tokens)} tokens, {steps} steps",
          flush=True)

    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, steps, args.lr)
        inputs, targets = crops.batch(args.batch)
        with torch.autocast(args.device, torch.bfloat16, enabled=on_gpu):
            taught = mean_log_probabilities(teach, inputs)
            loss = loss_of(forward(inputs), targets, taught, args.teacher_share)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(net.parameters(), 1.0)
        optimizer.step()
        if (step + 1) * args.reports // steps != step * args.reports // steps:
            bits = bits_per_byte(net, valid, valid_bytes)
            print(f"step {step + 1}: loss {loss.item():.4f}, valid {bits:.4f} bits per byte, "
                  f"{time.time() - began:.0f} s", flush=True)

    llama.save(net, args.out)
    result = {key: str(value) if isinstance(value, (pathlib.Path, list)) else value
              for key, value in vars(args).items()}
    result.update(vocab=shape.vocab, parameters=net.parameter_count(), steps=steps,
                  valid_bits_per_byte=round(bits, 4), train_loss=round(loss.item(), 4),
                  seconds=round(time.time() - began))
    args.out.with_suffix(".json").write_text(json.dumps(result, indent=1) + "\n")


if __name__ == "__main__":
    main()
