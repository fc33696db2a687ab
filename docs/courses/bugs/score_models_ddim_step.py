import numpy as np


def ddim_step(x, noise, z, *, alpha_bar=0.5, next_alpha_bar=0.8, eta=0.0):
    """One step towards the data, with fresh noise for eta > 0."""
    x0 = (x - np.sqrt(1 - alpha_bar) * noise) / np.sqrt(alpha_bar)
    variance = eta**2 * (1 - next_alpha_bar) / (1 - alpha_bar) * (1 - alpha_bar / next_alpha_bar)
    kept = np.sqrt(1 - next_alpha_bar)
    return np.sqrt(next_alpha_bar) * x0 + kept * noise + np.sqrt(variance) * z
