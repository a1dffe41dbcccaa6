"""The native CPU kernel for LSTM training (``native``) and the Keras layer that uses it (``layer``)."""
