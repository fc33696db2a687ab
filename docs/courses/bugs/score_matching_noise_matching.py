def noise_matching(predicted, noise, weight):
    """The weighted squared error of predicted noise, and its gradient."""
    e = predicted - noise
    loss = (weight[:, None] * e * e).mean()
    return loss, 2 * weight[:, None] * e / e.size
