"""Learning-rate schedules under PyTorch's names. May import the optimizer and core."""

from .base import LRScheduler as LRScheduler, _LRScheduler as _LRScheduler
from .composite import ChainedScheduler as ChainedScheduler, SequentialLR as SequentialLR
from .cycles import (
    CosineAnnealingWarmRestarts as CosineAnnealingWarmRestarts,
    CyclicLR as CyclicLR,
    OneCycleLR as OneCycleLR,
)
from .decay import (
    ConstantLR as ConstantLR,
    CosineAnnealingLR as CosineAnnealingLR,
    ExponentialLR as ExponentialLR,
    LambdaLR as LambdaLR,
    LinearLR as LinearLR,
    MultiplicativeLR as MultiplicativeLR,
    MultiStepLR as MultiStepLR,
    PolynomialLR as PolynomialLR,
    StepLR as StepLR,
)
from .plateau import ReduceLROnPlateau as ReduceLROnPlateau
