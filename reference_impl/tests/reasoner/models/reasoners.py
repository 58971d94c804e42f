"""Small reasoners in float64 for the tests."""

from dataclasses import replace

import torch
from torch import Tensor

from reference_reasoner.reasoner.models.act_head import HaltingConfig
from reference_reasoner.reasoner.models.full_model import (
    ReasonerConfig,
    RecursiveReasoner,
)
from reference_reasoner.reasoner.models.memory.config import MemoryConfig
from reference_reasoner.reasoner.models.titans_mag import BackboneConfig
from reference_reasoner.reasoner.models.trm_wrapper import RecursionConfig

VOCABULARY = 11
CAUSAL = ReasonerConfig(
    backbone=BackboneConfig(
        width=16,
        layers=2,
        heads=2,
        hidden_width=24,
        causal=True,
        window=4,
        memory=MemoryConfig(heads=2, depth=1, chunk=4),
    ),
    recursion=RecursionConfig(latent_steps=2, recursions=2),
    halting=HaltingConfig(max_steps=2),
    persistent_tokens=3,
)
DEEP = replace(
    CAUSAL,
    backbone=replace(CAUSAL.backbone, memory=MemoryConfig(heads=2, depth=2, features=12, chunk=4)),
)
STALE = replace(
    CAUSAL,
    backbone=replace(
        CAUSAL.backbone,
        memory=MemoryConfig(heads=2, depth=2, features=12, chunk=4, gradient="stale"),
    ),
)


def first_pass(config: ReasonerConfig) -> ReasonerConfig:
    """The same, written in the first application of each latent recursion alone."""
    memory = replace(config.backbone.memory, write="first_pass")
    return replace(config, backbone=replace(config.backbone, memory=memory))


CAUSAL_FORMS = {"linear": CAUSAL, "deep": DEEP, "stale": STALE}
FIRST_PASS = {f"{name}_once": first_pass(config) for name, config in CAUSAL_FORMS.items()}
GRID = replace(
    CAUSAL,
    backbone=replace(
        CAUSAL.backbone,
        causal=False,
        window=0,
        memory=MemoryConfig(heads=2, depth=2, features=12),
    ),
    halting=HaltingConfig(max_steps=4),
)


def reasoner(config: ReasonerConfig, *, tokens: int = 10, seed: int = 0) -> RecursiveReasoner:
    """In float64, with gates and a halting head that differ from token to token.

    As it is built, gates do not look at their token and the halting head is constant.
    """
    model = as_built(config, tokens=tokens, seed=seed).double()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "gate" in name or "halting" in name:
                parameter.add_(0.5 * torch.randn_like(parameter))
    return model


def as_built(config: ReasonerConfig, *, tokens: int = 10, seed: int = 0) -> RecursiveReasoner:
    """In float32, as training starts with it."""
    torch.manual_seed(seed)
    return RecursiveReasoner(config, vocabulary=VOCABULARY, tokens=tokens)


def wide(config: ReasonerConfig) -> ReasonerConfig:
    """The same, 64 wide: in 16 numbers rounding grows from pass to pass."""
    return replace(config, backbone=replace(config.backbone, width=64, hidden_width=128))


def shallow(config: ReasonerConfig) -> ReasonerConfig:
    """The same with one block, one latent step and two recursions."""
    recursion = RecursionConfig(latent_steps=1, recursions=2)
    return replace(config, recursion=recursion, backbone=replace(config.backbone, layers=1))


def tokens_of(batch: int, length: int, seed: int = 1) -> Tensor:
    """Random tokens int64 [batch, length]."""
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(0, VOCABULARY, (batch, length), generator=generator)
