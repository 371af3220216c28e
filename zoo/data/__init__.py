"""Labelled images from local files, all behind one small class: `open_dataset(spec, part)`."""

from .corruptions import CORRUPTIONS as CORRUPTIONS
from .corruptions import SEVERITIES as SEVERITIES
from .corruptions import open_corruptions as open_corruptions
from .dataset import ImageDataset as ImageDataset
from .digits import PARTS as PARTS
from .opening import available_parts as available_parts
from .opening import open_dataset as open_dataset
