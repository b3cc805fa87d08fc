"""Activations to sweep in moments."""
import numpy as np

from sparse_probing import Activations, Examples


def made_up(n: int = 160, layers: int = 3) -> Activations:
    """Noise in layer 0; later layers know more and more."""
    rng, y = np.random.default_rng(0), np.arange(n) % 2
    X = rng.normal(size=(n, layers, 2, 12)).astype('f4')
    X[..., 0] += np.arange(layers)[:, None] * (2 * y - 1)[:, None, None]
    ids, documents = np.zeros((n, 3), np.int32), np.arange(n) // 4
    examples = Examples(ids, np.full(n, 3), np.full(n, 2), y, documents, ('no', 'yes'))
    return Activations(X, examples, tuple(range(layers)), (-1, 0), 'neurons', 'made up')
