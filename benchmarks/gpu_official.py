"""Training steps of the official TRM code, from a checkout that is never part of this repository.

github.com/SamsungSAILMontreal/TinyRecursiveModels (MIT licence). Its `pretrain.py` wants hydra,
wandb and a CUDA extension, so its loop (`train_batch`, one process) is here again around its
own model, loss head, puzzle embedding with its sign optimizer, and EMA helper. AdamATan2 is AdamW
here, as it is in ours: the optimizer's part of a step is small.
"""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

NAME = "SamsungSAILMontreal/TinyRecursiveModels"
VOCABULARY = 11
CELLS = 81


class OfficialStep:
    """One optimizer step at a time on batches {tokens, labels}, int64 [B, 81]."""

    def __init__(
        self,
        checkout: Path,
        shape: Mapping[str, int],
        device: torch.device,
        dtype: str = "bfloat16",
    ) -> None:
        """Raises ImportError where the checkout or what it needs is not there.

        `dtype` is what its forward pass computes in, as its own config names it.
        """
        sys.path.insert(0, str(checkout))
        from models.ema import EMAHelper
        from models.losses import ACTLossHead
        from models.recursive_reasoning.trm import TinyRecursiveReasoningModel_ACTV1
        from models.sparse_embedding import CastedSparseEmbeddingSignSGD_Distributed

        self.shape, self.device = shape, device
        with torch.device(device):
            model = TinyRecursiveReasoningModel_ACTV1({**_config(shape), "forward_dtype": dtype})
            self.model = ACTLossHead(model, loss_type="stablemax_cross_entropy")
        self.optimizers = [
            CastedSparseEmbeddingSignSGD_Distributed(
                model.puzzle_emb.buffers(), lr=1e-4, weight_decay=1.0, world_size=1
            ),
            torch.optim.AdamW(
                self.model.parameters(), lr=1e-4, weight_decay=1.0, betas=(0.9, 0.95)
            ),
        ]
        self.average = EMAHelper(0.999)
        self.average.register(self.model)
        self.carry: Any = None

    def compile(self) -> None:
        """Compile its blocks, as ours are; its own script compiles the unrolled loop at once."""
        for block in self.model.model.inner.L_level.layers:
            block.compile(dynamic=False)

    def parameters(self) -> int:
        """Numbers in its parameters and in the puzzle embedding, which is a buffer."""
        return sum(p.numel() for p in self.model.parameters()) + self.shape["width"]

    def __call__(self, batch: Mapping[str, Tensor]) -> float:
        """Take a step and return the loss of a puzzle."""
        tokens, labels = (batch[name].to(torch.int32) for name in ("tokens", "labels"))
        given = {
            "inputs": tokens,
            "labels": labels,
            "puzzle_identifiers": torch.zeros_like(tokens[:, 0]),
        }
        if self.carry is None:
            with torch.device(self.device):
                self.carry = self.model.initial_carry(given)
        self.carry, loss, metrics, _, _ = self.model(carry=self.carry, batch=given, return_keys=[])
        loss = loss / len(tokens)
        loss.backward()
        for optimizer in self.optimizers:
            optimizer.step()
            optimizer.zero_grad()
        self.average.update(self.model)
        torch.stack([metrics[name] for name in sorted(metrics)]).cpu()  # theirs, each step
        return float(loss.detach())


def _config(shape: Mapping[str, int]) -> dict[str, Any]:
    """config/arch/trm.yaml with the sizes of `shape`, for 9 x 9 Sudokus."""
    return {
        "batch_size": shape["batch_size"],
        "seq_len": CELLS,
        "puzzle_emb_ndim": shape["width"],
        "num_puzzle_identifiers": 1,
        "vocab_size": VOCABULARY,
        "H_cycles": shape["H_cycles"],
        "L_cycles": shape["L_cycles"],
        "H_layers": 0,
        "L_layers": shape["L_layers"],
        "hidden_size": shape["width"],
        "expansion": 4,
        "num_heads": max(1, shape["width"] // 64),
        "pos_encodings": "rope",
        "halt_max_steps": 16,
        "halt_exploration_prob": 0.1,
        "forward_dtype": "bfloat16",
        "mlp_t": False,
        "puzzle_emb_len": 16,
        "no_ACT_continue": True,
    }


def official_or_reason(
    checkout: str | None, shape: Mapping[str, int], device: torch.device
) -> tuple[Callable[[Mapping[str, Tensor]], float] | None, str | None]:
    """The official step, or why there is none."""
    if checkout is None:
        return None, "skipped: no official checkout"
    try:
        return OfficialStep(Path(checkout), shape, device), None
    except ImportError as error:
        return None, f"skipped: the official checkout {checkout} cannot be imported: {error}"
