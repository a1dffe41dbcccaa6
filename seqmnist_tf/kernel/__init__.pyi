from . import native as native
from .layer import LSTM as LSTM
from .layer import why_not_native as why_not_native
from .rnn import RNN as RNN
from .rnn import DropIn as DropIn
from .rnn import drop_ins as drop_ins
from .rnn import kernel_problems as kernel_problems
from .rnn import on_kernel as on_kernel
