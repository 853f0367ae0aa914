"""A small decoder-only transformer learns to continue a text, character by character."""

import torch
from torch import nn
from torch.nn import functional as F

TEXT = "a lampion is a paper lantern: light, and you can see the flame through it. " * 40
BLOCK, WIDTH, HEADS, LAYERS, STEPS = 32, 64, 4, 2, 150

torch.manual_seed(0)
letters = sorted(set(TEXT))
code = {c: i for i, c in enumerate(letters)}
data = torch.tensor([code[c] for c in TEXT])


class Attention(nn.Module):
    """Causal self-attention with several heads."""

    def __init__(self):
        super().__init__()
        self.qkv = nn.Linear(WIDTH, 3 * WIDTH)
        self.out = nn.Linear(WIDTH, WIDTH)

    def forward(self, x):
        B, T, C = x.shape
        q, k, v = self.qkv(x).split(C, dim=2)  # 3 x (B, T, C)
        q, k, v = (
            t.view(B, T, HEADS, C // HEADS).transpose(1, 2) for t in (q, k, v)
        )  # (B, H, T, D)
        y = F.scaled_dot_product_attention(q, k, v, is_causal=True)
        return self.out(y.transpose(1, 2).contiguous().view(B, T, C))


class Block(nn.Module):
    """Attention and a two-layer network, each with a residual connection."""

    def __init__(self):
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(WIDTH), nn.LayerNorm(WIDTH)
        self.attention = Attention()
        self.mlp = nn.Sequential(
            nn.Linear(WIDTH, 4 * WIDTH), nn.GELU(), nn.Linear(4 * WIDTH, WIDTH)
        )

    def forward(self, x):
        x = x + self.attention(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class GPT(nn.Module):
    """Embeddings, blocks, and scores of the next character."""

    def __init__(self):
        super().__init__()
        self.tokens = nn.Embedding(len(letters), WIDTH)
        self.positions = nn.Embedding(BLOCK, WIDTH)
        self.blocks = nn.ModuleList(Block() for _ in range(LAYERS))
        self.norm = nn.LayerNorm(WIDTH)
        self.head = nn.Linear(WIDTH, len(letters), bias=False)

    def forward(self, idx):
        x = self.tokens(idx) + self.positions(torch.arange(idx.shape[1]))
        for block in self.blocks:
            x = block(x)
        return self.head(self.norm(x))  # (B, T, letters)


model = GPT()
optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3)
for step in range(STEPS):
    starts = torch.randint(len(data) - BLOCK, (16,)).tolist()
    x = torch.stack([data[i : i + BLOCK] for i in starts])
    y = torch.stack([data[i + 1 : i + BLOCK + 1] for i in starts])
    loss = F.cross_entropy(model(x).view(-1, len(letters)), y.view(-1))
    optimizer.zero_grad(set_to_none=True)
    loss.backward()
    optimizer.step()
    if step % 50 == 0 or step == STEPS - 1:
        print(f"step {step:3}: loss {loss.item():.4f}")

idx = torch.tensor([[code[c] for c in "a lamp"]])
with torch.no_grad():
    for _ in range(60):
        scores = model(idx[:, -BLOCK:])[:, -1]
        idx = torch.cat([idx, scores.argmax(-1, keepdim=True)], dim=1)
print("".join(letters[i] for i in idx[0].tolist()))
