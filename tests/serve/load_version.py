"""Load an exported version with any TensorFlow, without this package, and replay its warm-up requests.

python load_version.py VERSION REQUESTS ANSWERS

REQUESTS and ANSWERS are .npz files; a key is SIGNATURE/N/NAME, the input or output NAME of the N-th request.
"""

import sys

import numpy as np
import tensorflow as tf

_, version, requests, answers = sys.argv
signatures = tf.saved_model.load(version).signatures
outputs = {}
with np.load(requests, allow_pickle=True) as arrays:
    for request in {key.rpartition("/")[0] for key in arrays}:
        signature = request.split("/")[0]
        inputs = {key.rpartition("/")[2]: arrays[key] for key in arrays if key.rpartition("/")[0] == request}
        specs = signatures[signature].structured_input_signature[1]
        tensors = {name: tf.constant(value.tolist(), specs[name].dtype) for name, value in inputs.items()}
        for name, value in signatures[signature](**tensors).items():
            outputs[f"{request}/{name}"] = value.numpy()
np.savez(answers, **outputs)
print(tf.__version__)
