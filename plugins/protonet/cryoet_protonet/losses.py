"""Define prototypes, distances and the losses of both stages.

Uddin 2021, "Practical Analysis of Macromolecule Identity from Cryo-electron Tomography Images
using Deep Learning"; Snell et al. (2017), arXiv:1703.05175, equations 1 and 2; for the second
stage Ye et al. (2020, FEAT), arXiv:1812.03664. Queries are in class order: query i of an episode
is of class i // (queries per class).
"""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from cryoet_protonet.attention import Attention


def prototypes(support: Tensor) -> Tensor:
    """Average support embeddings (..., way, shot, d) to prototypes (..., way, d)."""
    return support.mean(-2)


def squared_distances(points: Tensor, centres: Tensor) -> Tensor:
    """Return squared distances (..., n, m) of points (..., n, d) from centres (..., m, d).

    They are in float32 or finer, by ||a||^2 + ||b||^2 - 2ab about the mean of the centres, where
    little is lost to rounding; never below 0.
    """
    points, centres = (x if x.dtype == torch.float64 else x.float() for x in (points, centres))
    middle = centres.mean(-2, keepdim=True).detach()
    points, centres = points - middle, centres - middle
    product = points @ centres.transpose(-1, -2)
    squares = points.square().sum(-1)[..., :, None] + centres.square().sum(-1)[..., None, :]
    return (squares - 2 * product).clamp(min=0)


def targets(episodes: int, way: int, query: int, device: torch.device | str = "cpu") -> Tensor:
    """Return the class of each query (episodes, way * query).

    Parameters
    ----------
    episodes : int
        Number of episodes.
    way : int
        Classes in an episode.
    query : int
        Query volumes of each class in an episode.
    device : torch.device | str, optional
        Device of the result.
    """
    return torch.arange(way, device=device).repeat_interleave(query).expand(episodes, -1)


def episode_loss(logits: Tensor, classes: Tensor) -> Tensor:
    """Average the negative log-softmax of the true class over queries.

    Logits are (e, q, way), classes (e, q).
    """
    return cross_entropy(logits.flatten(0, 1), classes.flatten())


def adapted_logits(queries: Tensor, centres: Tensor, attention: Attention) -> tuple[Tensor, Tensor]:
    """Return the logits of ProtoNet-CE and the logarithm of its attention.

    Logits are minus the distance in the embedding, minus that between the query and the centres as
    attention has changed them, each query with all centres by itself. The attention (rows from
    tokens) has the query as its last token. What passes the attention is detached: it does not
    train the encoder.

    Parameters
    ----------
    queries : Tensor
        Embeddings (e, q, d).
    centres : Tensor
        Prototypes (e, way, d).
    attention : Attention
        The attention block.

    Returns
    -------
    tuple[Tensor, Tensor]
        Logits (e, q, way) and log-attention (e, q, way + 1, way + 1).
    """
    direct = squared_distances(queries, centres)
    around = centres.detach()[:, None].expand(-1, queries.shape[1], -1, -1)
    tokens, weights = attention(torch.cat([around, queries.detach()[:, :, None]], 2))
    adapted = squared_distances(tokens[:, :, -1:], tokens[:, :, :-1])[:, :, 0]
    return -(direct + adapted), weights


def attention_targets(classes: Tensor, way: int) -> Tensor:
    """Return the attention (..., way + 1, way + 1) wanted for queries of ``classes`` (...).

    Rows sum to 1. A centre of another class looks at itself; the query and the centre of its class
    look at both of them alike.
    """
    wanted = torch.eye(way + 1, device=classes.device).repeat(*classes.shape, 1, 1)
    own = torch.nn.functional.one_hot(classes, way + 1).bool()
    query = torch.zeros_like(own)
    query[..., -1] = True
    both = own | query
    block = both[..., :, None] & both[..., None, :]
    return torch.where(block, 0.5 * torch.ones_like(wanted), wanted)


def attention_divergence(log_attention: Tensor, wanted: Tensor) -> Tensor:
    """Return KL(wanted || attention), summed over tokens, averaged over queries.

    Both arguments are (..., t, t).
    """
    known = torch.where(wanted > 0, wanted.clamp(min=1e-12).log(), torch.zeros_like(wanted))
    return (wanted * (known - log_attention)).sum((-1, -2)).mean()
