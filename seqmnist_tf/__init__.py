"""The sequential-MNIST LSTM baseline in Keras."""
