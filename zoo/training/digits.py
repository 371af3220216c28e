"""The digits as training takes them; they live in `zoo.datasets.digits`."""

from ..datasets.digits import PARTS as PARTS
from ..datasets.digits import ImageData as ImageData
from ..datasets.digits import load_digits as load_digits
