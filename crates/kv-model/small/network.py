"""The network: a Llama with tied embeddings, in f32."""

import dataclasses
import math

import torch
from torch import nn
from torch.nn import functional


@dataclasses.dataclass(frozen=True)
class Shape:
    vocabulary: int = 1024
    hidden: int = 192
    layers: int = 6
    heads: int = 6
    kv_heads: int = 2
    head_dim: int = 32
    intermediate: int = 512
    context: int = 4096
    rope_theta: float = 10_000.0
    norm_epsilon: float = 1e-5


class Attention(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.q_proj = nn.Linear(shape.hidden, shape.heads * shape.head_dim, bias=False)
        self.k_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head_dim, bias=False)
        self.v_proj = nn.Linear(shape.hidden, shape.kv_heads * shape.head_dim, bias=False)
        self.o_proj = nn.Linear(shape.heads * shape.head_dim, shape.hidden, bias=False)

    def rows(self, hidden: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> tuple[torch.Tensor, ...]:
        """Rotated queries, rotated keys and values, [batch, heads, tokens, head_dim], with a key for each query head."""
        batch, tokens, _ = hidden.shape

        def split(rows: torch.Tensor) -> torch.Tensor:
            return rows.view(batch, tokens, -1, self.shape.head_dim).transpose(1, 2)

        group = self.shape.heads // self.shape.kv_heads
        queries = rotated(split(self.q_proj(hidden)), rotation)
        keys = rotated(split(self.k_proj(hidden)), rotation).repeat_interleave(group, dim=1)
        values = split(self.v_proj(hidden)).repeat_interleave(group, dim=1)
        return queries, keys, values

    def forward(self, hidden: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        mixed = functional.scaled_dot_product_attention(*self.rows(hidden, rotation), is_causal=True)
        return self.o_proj(mixed.transpose(1, 2).flatten(2))

    def weights(self, hidden: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        """What each query gives to each key, [batch, heads, queries, keys]: rows that sum to 1."""
        queries, keys, _ = self.rows(hidden, rotation)
        scores = queries @ keys.transpose(2, 3) / math.sqrt(self.shape.head_dim)
        hidden_keys = torch.ones(scores.shape[2:], dtype=torch.bool).triu(1)
        return scores.masked_fill(hidden_keys, -math.inf).softmax(dim=-1)


class FeedForward(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.gate_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.up_proj = nn.Linear(shape.hidden, shape.intermediate, bias=False)
        self.down_proj = nn.Linear(shape.intermediate, shape.hidden, bias=False)

    def forward(self, hidden: torch.Tensor) -> torch.Tensor:
        return self.down_proj(functional.silu(self.gate_proj(hidden)) * self.up_proj(hidden))


class Layer(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_layernorm = nn.RMSNorm(shape.hidden, eps=shape.norm_epsilon)
        self.self_attn = Attention(shape)
        self.post_attention_layernorm = nn.RMSNorm(shape.hidden, eps=shape.norm_epsilon)
        self.mlp = FeedForward(shape)

    def forward(self, hidden: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
        hidden = hidden + self.self_attn(self.input_layernorm(hidden), rotation)
        return hidden + self.mlp(self.post_attention_layernorm(hidden))


class Llama(nn.Module):
    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.shape = shape
        self.embed_tokens = nn.Embedding(shape.vocabulary, shape.hidden)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.norm = nn.RMSNorm(shape.hidden, eps=shape.norm_epsilon)
        for name, parameter in self.named_parameters():
            if parameter.dim() == 2:
                # As in GPT-2: what is added to the residual stream is smaller, the more layers add to it.
                adds = name.endswith(("o_proj.weight", "down_proj.weight"))
                nn.init.normal_(parameter, std=0.02 / math.sqrt(2 * shape.layers) if adds else 0.02)

    def forward(self, ids: torch.Tensor) -> torch.Tensor:
        """Logits [batch, tokens, vocabulary] of ids [batch, tokens]."""
        rotation = self.rotation(ids.shape[1])
        hidden = self.embed_tokens(ids)
        for layer in self.layers:
            hidden = layer(hidden, rotation)
        return self.norm(hidden) @ self.embed_tokens.weight.T

    def attention_weights(self, ids: torch.Tensor) -> list[torch.Tensor]:
        """Of each layer, [batch, heads, queries, keys]."""
        rotation = self.rotation(ids.shape[1])
        hidden, weights = self.embed_tokens(ids), []
        for layer in self.layers:
            weights.append(layer.self_attn.weights(layer.input_layernorm(hidden), rotation))
            hidden = layer(hidden, rotation)
        return weights

    def rotation(self, tokens: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Cosines and sines [tokens, head_dim]; the two halves of a head are the two axes of its planes."""
        planes = torch.arange(0, self.shape.head_dim, 2, dtype=torch.float64) / self.shape.head_dim
        angles = torch.outer(torch.arange(tokens, dtype=torch.float64), self.shape.rope_theta**-planes)
        angles = torch.cat([angles, angles], dim=1)
        device = self.embed_tokens.weight.device
        return angles.cos().float().to(device), angles.sin().float().to(device)


def rotated(rows: torch.Tensor, rotation: tuple[torch.Tensor, torch.Tensor]) -> torch.Tensor:
    first, second = rows.chunk(2, dim=-1)
    return rows * rotation[0] + torch.cat([-second, first], dim=-1) * rotation[1]
