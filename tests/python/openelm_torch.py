"""OpenELM in torch, after its paper (Mehta et al. 2024) and its checkpoints' tensor names: Transformers has
no such class.
"""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import torch
from torch import nn
from torch.nn import functional


class Attention(nn.Module):
    def __init__(self, config: dict[str, Any], layer: int) -> None:
        super().__init__()
        self.heads = (config["num_query_heads"][layer], *[config["num_kv_heads"][layer]] * 2)
        self.head_dim, self.theta = config["head_dim"], config["rope_freq_constant"]
        self.qkv_proj = nn.Linear(config["model_dim"], sum(self.heads) * self.head_dim, bias=False)
        self.out_proj = nn.Linear(self.heads[0] * self.head_dim, config["model_dim"], bias=False)
        self.q_norm = nn.RMSNorm(self.head_dim, eps=1e-6)
        self.k_norm = nn.RMSNorm(self.head_dim, eps=1e-6)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """`[n, model_dim]` -> the same."""
        q, k, v = self.qkv_proj(x).reshape(len(x), -1, self.head_dim).transpose(0, 1).split(self.heads)
        q, k = self.rotate(self.q_norm(q)), self.rotate(self.k_norm(k))
        k, v = (t.repeat_interleave(self.heads[0] // self.heads[1], 0) for t in (k, v))
        mixed = functional.scaled_dot_product_attention(q, k, v, is_causal=True)
        out: torch.Tensor = self.out_proj(mixed.transpose(0, 1).reshape(len(x), -1))
        return out

    def rotate(self, x: torch.Tensor) -> torch.Tensor:
        half = self.head_dim // 2
        angles = torch.outer(torch.arange(x.shape[1]), self.theta ** (-torch.arange(half) / half))
        pairs = torch.complex(x[..., :half], x[..., half:]) * torch.polar(torch.ones_like(angles), angles)
        return torch.cat((pairs.real, pairs.imag), -1)


class FeedForward(nn.Module):
    def __init__(self, config: dict[str, Any], width: int) -> None:
        super().__init__()
        self.proj_1 = nn.Linear(config["model_dim"], 2 * width, bias=False)
        self.proj_2 = nn.Linear(width, config["model_dim"], bias=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        gate, up = self.proj_1(x).chunk(2, -1)
        out: torch.Tensor = self.proj_2(functional.silu(gate) * up)
        return out


class Layer(nn.Module):
    def __init__(self, config: dict[str, Any], layer: int, width: int) -> None:
        super().__init__()
        self.attn_norm = nn.RMSNorm(config["model_dim"], eps=1e-6)
        self.attn = Attention(config, layer)
        self.ffn_norm = nn.RMSNorm(config["model_dim"], eps=1e-6)
        self.ffn = FeedForward(config, width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = x + self.attn(self.attn_norm(x))
        return x + self.ffn(self.ffn_norm(x))


class OpenElm(nn.Module):
    """`widths`: of each layer's feed-forward part, rounded as the checkpoints have them."""

    def __init__(self, config: dict[str, Any], widths: list[int]) -> None:
        super().__init__()
        self.transformer = nn.Module()
        self.transformer.token_embeddings = nn.Embedding(config["vocab_size"], config["model_dim"])
        self.transformer.layers = nn.ModuleList(Layer(config, i, width) for i, width in enumerate(widths))
        self.transformer.norm = nn.RMSNorm(config["model_dim"], eps=1e-6)
        if not config["share_input_output_layers"]:
            self.lm_head = nn.Linear(config["model_dim"], config["vocab_size"], bias=False)

    def forward(self, ids: torch.Tensor) -> SimpleNamespace:
        """`[1, n]` -> `.logits` `[1, n, vocab_size]`"""
        x = self.transformer.token_embeddings(ids[0])
        for layer in self.transformer.layers:
            x = layer(x)
        head = getattr(self, "lm_head", self.transformer.token_embeddings).weight
        return SimpleNamespace(logits=(self.transformer.norm(x) @ head.T)[None])
