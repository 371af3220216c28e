"""The browser gallery: `write_gallery` makes a static folder in which exported models run, and are
compared with their float64 reference, in the visitor's own browser.
"""

from .writing import Gallery as Gallery
from .writing import write_gallery as write_gallery

__all__ = ["Gallery", "write_gallery"]
