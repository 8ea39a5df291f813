"""Bits per byte of a text under a model: the measure that compares vocabularies and compressors."""

import math

import numpy as np
import torch
from torch.nn import functional as F

from model import CONTEXT


def windows(stories, stride):
    """Inputs and targets of CONTEXT tokens; a target that an earlier window scored is -100.

    Windows of a story start `stride` tokens apart, so past the first window every target has at
    least CONTEXT - stride tokens before it.
    """
    inputs, targets = [], []
    for story in stories:
        for start in range(0, max(1, len(story) - 1 - CONTEXT + stride), stride):
            window = story[start:start + CONTEXT + 1]
            padding = np.zeros(CONTEXT + 1 - len(window), window.dtype)
            target = np.concatenate([window[1:], padding - 100])
            if start:
                target[:CONTEXT - stride] = -100
            inputs.append(np.concatenate([window[:-1], padding]))
            targets.append(target)
    return torch.from_numpy(np.stack(inputs)), torch.from_numpy(np.stack(targets))


@torch.no_grad()
def bits_per_byte(net, stories, byte_count, stride=256, batch=32):
    """All tokens after the begin token count, the end token too: it stands for the story break."""
    device, training = next(net.parameters()).device, net.training
    net.eval()
    nats = 0.0
    for inputs, targets in zip(*(part.split(batch) for part in windows(stories, stride))):
        with torch.autocast(device.type, torch.bfloat16, enabled=device.type == "cuda"):
            logits = net(inputs.to(device))
        nats += F.cross_entropy(logits.flatten(0, 1).float(), targets.flatten().to(device),
                                ignore_index=-100, reduction="sum").item()
    net.train(training)
    return nats / math.log(2) / byte_count
