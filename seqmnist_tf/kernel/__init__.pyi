from . import native as native
from .layer import LSTM as LSTM
from .layer import lstms_for_kernel as lstms_for_kernel
from .layer import on_kernel as on_kernel
from .layer import why_not_native as why_not_native
