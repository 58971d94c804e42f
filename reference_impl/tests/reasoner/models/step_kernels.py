"""What the kernels of fused_step_cuda.py do, in torch: stand-ins where there is no GPU."""

import functools

from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from reference_reasoner.reasoner.models.attention.attention import AttentionCache, Place
from reference_reasoner.reasoner.models.attention.rotary import turned
from reference_reasoner.reasoner.models.block_cache import take_token
from reference_reasoner.reasoner.models.memory.neural_memory import MemoryCache, NeuralMemory
from reference_reasoner.reasoner.models.memory.queries import QueryCache


def attend_next(qkv: Tensor, cache: AttentionCache, place: Place, out: Tensor) -> None:
    """Into `out`, and into the cache."""
    columns = qkv.reshape(len(qkv), 1, 3, cache.all_keys.shape[1], -1).permute(2, 0, 3, 1, 4)
    q, k = turned(columns[:2], place.cos, place.sin).unbind(0)
    cache.all_keys.index_copy_(2, place.row, k)
    cache.all_values.index_copy_(2, place.row, columns[2])
    given = (q, cache.all_keys, cache.all_values)
    out.copy_(scaled_dot_product_attention(*given, attn_mask=place.unseen).flatten(1))


def recall_next(
    pairs: Tensor,
    logits: Tensor,
    memory: NeuralMemory,
    cache: MemoryCache | QueryCache,
    out: Tensor,
) -> None:
    """Into `out`, and into the cache."""
    gates = functools.partial(memory.gates.of_logits, logits)
    read = take_token(memory, pairs, gates, cache, None)
    out.copy_(memory.joined(read, pairs)[:, 0])
