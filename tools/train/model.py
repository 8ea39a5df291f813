"""A Llama: RMS norm, rotary positions, grouped-query attention, SwiGLU, tied output.

Rotary pairs are the elements (2i, 2i+1) of a head, so the weights go into a GGUF file as they are.
"""

import dataclasses

import torch
from torch import nn
from torch.nn import functional as F

CONTEXT = 512
ROPE_BASE = 10000.0
NORM_EPS = 1e-5


@dataclasses.dataclass
class Shape:
    vocab: int = 4000
    dim: int = 256
    layers: int = 7
    heads: int = 8
    kv_heads: int = 4
    ffn: int = 736

    @property
    def head_dim(self):
        return self.dim // self.heads


def rope_tables(shape, dtype):
    """Cosine and sine of each position's angle for each pair, computed in float64."""
    frequency = ROPE_BASE ** (-torch.arange(0, shape.head_dim, 2).double() / shape.head_dim)
    angle = torch.arange(CONTEXT).double()[:, None] * frequency
    return angle.cos().to(dtype), angle.sin().to(dtype)


def rotate(x, cos, sin):
    """Turns each pair (2i, 2i+1) of x [batch, head, position, head_dim] by its position's angle."""
    a, b = x.to(cos.dtype).unflatten(-1, (-1, 2)).unbind(-1)
    return torch.stack((a * cos - b * sin, a * sin + b * cos), -1).flatten(-2).to(x.dtype)


class Block(nn.Module):
    def __init__(self, shape, dropout):
        super().__init__()
        self.head_dim, self.group = shape.head_dim, shape.heads // shape.kv_heads
        kv_dim = shape.kv_heads * shape.head_dim
        self.attn_norm = nn.RMSNorm(shape.dim, NORM_EPS)
        self.attn_q = nn.Linear(shape.dim, shape.dim, bias=False)
        self.attn_k = nn.Linear(shape.dim, kv_dim, bias=False)
        self.attn_v = nn.Linear(shape.dim, kv_dim, bias=False)
        self.attn_output = nn.Linear(shape.dim, shape.dim, bias=False)
        self.ffn_norm = nn.RMSNorm(shape.dim, NORM_EPS)
        self.ffn_gate = nn.Linear(shape.dim, shape.ffn, bias=False)
        self.ffn_up = nn.Linear(shape.dim, shape.ffn, bias=False)
        self.ffn_down = nn.Linear(shape.ffn, shape.dim, bias=False)
        self.dropout = nn.Dropout(dropout)

    def heads(self, x):
        return x.unflatten(-1, (-1, self.head_dim)).transpose(1, 2)

    def attention(self, x, cos, sin):
        q = rotate(self.heads(self.attn_q(x)), cos, sin)
        k = rotate(self.heads(self.attn_k(x)), cos, sin).repeat_interleave(self.group, 1)
        v = self.heads(self.attn_v(x)).repeat_interleave(self.group, 1)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.attn_output(y.transpose(1, 2).flatten(2))

    def feed_forward(self, x):
        return self.ffn_down(F.silu(self.ffn_gate(x)) * self.ffn_up(x))

    def forward(self, x, cos, sin):
        x = x + self.dropout(self.attention(self.attn_norm(x), cos, sin))
        return x + self.dropout(self.feed_forward(self.ffn_norm(x)))


class Llama(nn.Module):
    """Module names are the GGUF tensor names, so that the state dictionary needs no translation."""

    def __init__(self, shape, dropout=0.0):
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.vocab, shape.dim)
        self.blk = nn.ModuleList(Block(shape, dropout) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.dim, NORM_EPS)
        self.dropout = nn.Dropout(dropout)
        cos, sin = rope_tables(shape, torch.float32)
        self.register_buffer("cos", cos, persistent=False)
        self.register_buffer("sin", sin, persistent=False)
        self.apply(self.init_weights)

    def init_weights(self, module):
        if isinstance(module, (nn.Linear, nn.Embedding)):
            nn.init.normal_(module.weight, std=0.02)
        if isinstance(module, Block):  # visited after its children
            for last in (module.attn_output, module.ffn_down):
                nn.init.normal_(last.weight, std=0.02 / (2 * self.shape.layers) ** 0.5)

    def forward(self, ids):
        """ids [batch, position] to logits [batch, position, vocab]."""
        x = self.dropout(self.token_embd(ids))
        length = ids.shape[1]
        for block in self.blk:
            x = block(x, self.cos[:length], self.sin[:length])
        return F.linear(self.output_norm(x), self.token_embd.weight)

    def parameter_count(self):
        return sum(p.numel() for p in self.parameters())


def save(model, path):
    torch.save({"shape": dataclasses.asdict(model.shape), "weights": model.state_dict()}, path)


def load(path, device="cpu"):
    saved = torch.load(path, map_location=device)
    model = Llama(Shape(**saved["shape"])).to(device)
    model.load_state_dict(saved["weights"])
    return model.eval()
