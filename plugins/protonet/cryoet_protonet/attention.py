"""Define the attention block of ProtoNet-CE: query and class centres change one another."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.functional import log_softmax


class Attention(nn.Module):
    """Attend with one head over tokens (..., t, dim), add a dense layer of it, and normalise.

    It is softmax(Q K^T / sqrt(dim)) V, a dense layer, added to the tokens. Dense layers have a
    bias; query, key and value weights start N(0, 1 / dim) in variance, the last one Xavier normal.
    There are 1,051,648 parameters at dim 512, as the code of Uddin 2021 has it.

    Parameters
    ----------
    dim : int
        Length of the tokens.

    References
    ----------
    Ye et al. (2020). Few-shot learning via embedding adaptation with set-to-set functions (FEAT).
    arXiv:1812.03664.
    """

    def __init__(self, dim: int) -> None:
        super().__init__()
        self.dim = dim
        self.query, self.key, self.value, self.output = (nn.Linear(dim, dim) for _ in range(4))
        self.norm = nn.LayerNorm(dim)
        for layer in (self.query, self.key, self.value):
            nn.init.normal_(layer.weight, std=(2.0 / (dim + dim)) ** 0.5)
        nn.init.xavier_normal_(self.output.weight)

    def forward(self, tokens: Tensor) -> tuple[Tensor, Tensor]:
        """Return the changed tokens and the logarithm of the attention (..., t, t).

        Rows of the attention are the tokens that look.
        """
        scores = self.query(tokens) @ self.key(tokens).transpose(-1, -2) / self.dim**0.5
        log_attention = log_softmax(scores, -1)
        changed = self.norm(tokens + self.output(log_attention.exp() @ self.value(tokens)))
        return changed, log_attention
