"""A small residual network for images.

Shapes: B batch, C channels of the image, W width, H and V height and width in pixels, K classes.
GroupNorm, not BatchNorm: an example's output does not depend on who else is in its batch.
"""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True, kw_only=True)
class ResidualConfig:
    """Size of the network."""

    width: int = 32
    """Channels inside; a multiple of 8."""
    blocks: int = 3
    """Residual blocks."""
    dropout: float = 0.1
    """Dropout probability before the last layer."""

    def __post_init__(self) -> None:
        if self.width < 8 or self.width % 8:
            raise ValueError(f"model.width must be a positive multiple of 8, got {self.width}")
        if self.blocks < 1:
            raise ValueError(f"model.blocks must be at least 1, got {self.blocks}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"model.dropout must be in [0, 1), got {self.dropout}")


class ResidualBlock(nn.Module):
    """x [B, W, H, V] -> x + f(x), same shape (He et al. 2016, Identity Mappings, eq. 1)."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.body = nn.Sequential(
            nn.GroupNorm(width // 8, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
            nn.GroupNorm(width // 8, width),
            nn.ReLU(),
            nn.Conv2d(width, width, 3, padding=1, bias=False),
        )

    def forward(self, x: Tensor) -> Tensor:
        """x [B, W, H, V] -> [B, W, H, V]."""
        out: Tensor = x + self.body(x)
        return out


class ResidualClassifier(nn.Module):
    """image [B, C, H, V] -> class logits [B, K]."""

    def __init__(self, config: ResidualConfig, *, channels: int, classes: int) -> None:
        super().__init__()
        self.stem = nn.Conv2d(channels, config.width, 3, padding=1)
        self.blocks = nn.ModuleList([ResidualBlock(config.width) for _ in range(config.blocks)])
        self.norm = nn.GroupNorm(config.width // 8, config.width)
        self.dropout = nn.Dropout(config.dropout)
        self.head = nn.Linear(4 * config.width, classes)

    def forward(self, image: Tensor) -> Tensor:
        """image [B, C, H, V] -> class logits [B, K]."""
        x = self.stem(image)  # [B, W, H, V]
        for block in self.blocks:
            x = block(x)
        x = self.norm(x).relu()
        # the mean of each quarter, and not of the whole: where a stroke is tells 6 from 9
        x = nn.functional.adaptive_avg_pool2d(x, 2).flatten(1)  # [B, 4 W]
        logits: Tensor = self.head(self.dropout(x))
        return logits
