"""The two-layer perceptron of transformer blocks."""

from torch import Tensor, nn


class Mlp(nn.Module):
    """Linear, GELU (erf), dropout, Linear, dropout.

    Args:
        in_features: token width C.
        hidden_features, out_features: default to `in_features`.
        drop: dropout after each layer.
    Shape: (..., in_features) -> (..., out_features).
    """

    def __init__(
        self,
        in_features: int,
        hidden_features: int | None = None,
        out_features: int | None = None,
        drop: float = 0.0,
    ) -> None:
        super().__init__()
        hidden_features = hidden_features or in_features
        self.fc1 = nn.Linear(in_features, hidden_features)
        self.act = nn.GELU()
        self.fc2 = nn.Linear(hidden_features, out_features or in_features)
        self.drop = nn.Dropout(drop)

    def forward(self, x: Tensor) -> Tensor:
        return self.drop(self.fc2(self.drop(self.act(self.fc1(x)))))
