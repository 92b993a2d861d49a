"""Define the encoder, blocks 1-2 per domain and blocks 3-4 shared, and the classifier.

See FSFT, Figure 2, doi:10.1093/bioinformatics/btaa671.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn

from cryoet_core.support.errors import UserError
from cryoet_fsft.pooled_norm import pooled_norm

SOURCE, TARGET = 0, 1
BLOCKS = 4
SMALLEST_HALF = 3
"""Edge of maps, in voxels, up to which a CPU convolves in full precision: torch's bfloat16
convolution of smaller ones is not a number now and then (2.13, seen at 2 voxels)."""


class DomainNorm(nn.Module):
    """Normalise batches with one scale and shift; with ``domains`` 2, statistics are kept apart."""

    def __init__(self, channels: int, domains: int) -> None:
        super().__init__()
        self.norms = nn.ModuleList(nn.BatchNorm3d(channels) for _ in range(domains))
        for norm in list(self.norms)[1:]:
            norm.weight, norm.bias = self.norms[0].weight, self.norms[0].bias

    def of(self, domain: int) -> nn.BatchNorm3d:
        """Return the normalisation that a domain passes."""
        norm = self.norms[domain if len(self.norms) > 1 else 0]
        assert isinstance(norm, nn.BatchNorm3d)
        return norm

    def copy_source(self) -> None:
        """Start the target's statistics with those of the source."""
        for norm in list(self.norms)[1:]:
            norm.load_state_dict(self.norms[SOURCE].state_dict())


class Block(nn.Module):
    """Convolve 3^3, normalise, ReLU and pool by 2: (n, i, b, b, b) -> (n, o, b // 2, ...).

    The maximum is taken before the ReLU, and before the normalisation where that gives the same
    (``pooled_norm``).

    Parameters
    ----------
    before : int
        Channels i.
    after : int
        Channels o.
    domains : int, optional
        Domains with batch statistics of their own.
    """

    def __init__(self, before: int, after: int, domains: int = 1) -> None:
        super().__init__()
        self.convolution = nn.Conv3d(before, after, 3, padding=1)
        self.norm = DomainNorm(after, domains)

    def forward(self, x: Tensor, domain: int = SOURCE) -> Tensor:
        """Apply the module; the class says the shapes."""
        return pooled_norm(self._convolved(x), self.norm.of(domain)).relu()

    def both(self, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the block to a batch of the source and one of the target.

        They are convolved together and normalised apart.
        """
        first, second = self._convolved(torch.cat((ours, theirs))).split((len(ours), len(theirs)))
        return (
            pooled_norm(first, self.norm.of(SOURCE)).relu(),
            pooled_norm(second, self.norm.of(TARGET)).relu(),
        )

    def _convolved(self, x: Tensor) -> Tensor:
        if x.device.type != "cpu" or x.shape[-1] > SMALLEST_HALF:
            return self.convolution(x)  # type: ignore[no-any-return]
        with torch.autocast("cpu", enabled=False):
            return self.convolution(x.float() if x.dtype == torch.bfloat16 else x)  # type: ignore[no-any-return]


class Blocks(nn.ModuleList):
    """Apply blocks one after the other."""

    def forward(self, x: Tensor, domain: int = SOURCE) -> Tensor:
        """Apply the module; the class says the shapes."""
        for block in self:
            x = block(x, domain)
        return x

    def both(self, ours: Tensor, theirs: Tensor) -> tuple[Tensor, Tensor]:
        """Apply the blocks to a batch of each domain, as if each passed alone.

        Small maps are convolved quicker together.
        """
        for block in self:
            assert isinstance(block, Block)
            ours, theirs = block.both(ours, theirs)
        return ours, theirs


class Networks(nn.Module):
    """Hold source, target and shared blocks and the classifier.

    Source blocks f^s and target blocks f^t are 1 -> h -> h, shared blocks f^0 are h -> h -> z.

    Volumes (n, 1, b, b, b) -> maps (n, h, b // 4, ...) -> features (n, d), d = z (b // 16)^3 ->
    logits (n, classes) of the classifier g.

    Parameters
    ----------
    box : int
        Edge b of the volumes in voxels.
    classes : int
        Number of classes.
    width : int
        Channels h of the first three blocks.
    channels : int
        Channels z of the last block.
    split : bool, optional
        Whether each domain has blocks of its own; else one front serves both.
    domain_norm : bool, optional
        Whether what is shared keeps batch statistics of each domain apart.
    """

    def __init__(
        self,
        box: int,
        classes: int,
        width: int,
        channels: int,
        *,
        split: bool = True,
        domain_norm: bool = False,
    ) -> None:
        super().__init__()
        domains = 2 if domain_norm else 1
        self.box, self.dim = box, feature_size(box, channels)
        self.source = Blocks([Block(1, width, domains), Block(width, width, domains)])
        self.shared = Blocks([Block(width, width, domains), Block(width, channels, domains)])
        self.classifier = nn.Linear(self.dim, classes)
        self.target = copy.deepcopy(self.source) if split else self.source
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs lack the overload

    def encode(self, volumes: Tensor, domain: int) -> tuple[Tensor, Tensor]:
        """Compute maps of the domain's own blocks and features of volumes of one domain."""
        front = self.source if domain == SOURCE else self.target
        maps = front(volumes.contiguous(memory_format=torch.channels_last_3d), domain)
        return maps, self.shared(maps, domain).flatten(1)

    def encode_both(
        self, ours: Tensor, theirs: Tensor
    ) -> tuple[tuple[Tensor, Tensor], tuple[Tensor, Tensor]]:
        """Compute what ``encode`` gives for both domains, in less time than twice one."""
        ours, theirs = (x.contiguous(memory_format=torch.channels_last_3d) for x in (ours, theirs))
        if self.target is self.source:
            maps = self.source.both(ours, theirs)
        else:
            maps = self.source(ours, SOURCE), self.target(theirs, TARGET)
        features = self.shared.both(*maps)
        return (maps[0], features[0].flatten(1)), (maps[1], features[1].flatten(1))

    def forward(self, volumes: Tensor, domain: int) -> Tensor:
        """Apply the module; the class says the shapes."""
        logits: Tensor = self.classifier(self.encode(volumes, domain)[1])
        return logits

    @torch.no_grad()
    def begin_target(self) -> None:
        """Start the target's blocks and statistics as those of the source."""
        if self.target is not self.source:
            self.target.load_state_dict(self.source.state_dict())
        for module in self.modules():
            if isinstance(module, DomainNorm):
                module.copy_source()


class Discriminator(nn.Module):
    """Tell the group of a pair (4 logits) from the features (n, d) and maps of its members.

    Maps, with ``conv``, are (n, h, m, m, m). D1: 2d -> 64 -> 64; D3: maps side by side, two blocks
    (2h -> 2h -> z), 64; both side by side -> 64 -> 4.

    Parameters
    ----------
    box : int
        Edge of the volumes in voxels.
    width : int
        Channels h of the maps.
    channels : int
        Channels z of the last block.
    conv : bool, optional
        Whether it sees maps too.
    """

    def __init__(self, box: int, width: int, channels: int, *, conv: bool = True) -> None:
        super().__init__()
        dim = feature_size(box, channels)
        self.vector = nn.Sequential(nn.Linear(2 * dim, 64), nn.ReLU(), nn.Linear(64, 64), nn.ReLU())
        self.blocks = (
            Blocks([Block(2 * width, 2 * width), Block(2 * width, channels)]) if conv else None
        )
        self.pooled = nn.Linear(dim, 64) if conv else None
        hidden = [nn.Linear(128, 64), nn.ReLU()] if conv else []
        self.head = nn.Sequential(*hidden, nn.Linear(64, 4))
        self.to(memory_format=torch.channels_last_3d)  # type: ignore[call-overload]  # torch's stubs lack the overload

    def forward(self, first: tuple[Tensor, Tensor], second: tuple[Tensor, Tensor]) -> Tensor:
        """Apply the module; the class says the shapes."""
        found = self.vector(torch.cat((first[1], second[1]), 1))
        if self.blocks is not None and self.pooled is not None:
            seen = self.blocks(torch.cat((first[0], second[0]), 1)).flatten(1)
            found = torch.cat((found, self.pooled(seen)), 1)
        logits: Tensor = self.head(found)
        return logits


def feature_size(box: int, channels: int) -> int:
    """Return how many features four blocks make of a subtomogram.

    Raises
    ------
    UserError
        For a subtomogram that they pool away.
    """
    if box < 2**BLOCKS:
        raise UserError(
            f"subtomograms of {box} voxels: expected at least {2**BLOCKS}, for the network "
            "halves them four times"
        )
    return channels * int(box // 2**BLOCKS) ** 3
