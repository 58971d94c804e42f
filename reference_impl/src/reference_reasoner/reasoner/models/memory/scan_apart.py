"""The scan over chunks for compiled code on a GPU: called as it is, and not looked into.

What comes before it in a block and after it is compiled all the same. Importing this file imports
the compiler.
"""

import torch

from .scan import scan_memory

scan_memory_apart = torch.compiler.disable(scan_memory)  # type: ignore[no-untyped-call]
