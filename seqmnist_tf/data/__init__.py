"""MNIST as sequences: images from their sources, pixel orders, splits and batches.

Read ``pixel_orders``, ``mnist`` (download and checksums), then ``sequences``. It knows no model and no run.
"""

from typing import TYPE_CHECKING

from ..system import lazy_names

if TYPE_CHECKING:
    from .mnist import Examples, load_mnist
    from .pixel_orders import pixel_order, read_pixel_order
    from .sequences import (
        Split,
        Splits,
        batches,
        encode,
        epoch_order,
        in_batches,
        load_sequences,
        load_splits,
        load_test,
        normalized_levels,
    )
else:
    __getattr__, __dir__, __all__ = lazy_names(__name__, without_tensorflow=("pixel_orders",))
