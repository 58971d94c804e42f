"""`scan_memory` for compiled code on a GPU: called as it is, and not looked into.

Compiled as a part of a block it would be unrolled over all chunks, without the kernels that it has
of its own. What comes before it in a block and after it is compiled all the same.
"""

import torch

from .scan import scan_memory

scan_memory_apart = torch.compiler.disable(scan_memory)  # type: ignore[no-untyped-call]
