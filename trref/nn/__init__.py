"""Layers whose forward pass, backward pass and further derivatives are written out by hand.

=============== ==========================================================================================
activations     tanh, ReLU, softplus, GELU, with first and second derivative
mlp             multilayer perceptron on one flat parameter vector: vjp, jvp, Hessian- and Gauss-Newton product
losses          softmax cross-entropy, squared error
heads           categorical and diagonal Gaussian: log-probability, entropy, KL divergence
conv            2-D convolution, max and average pooling
norm            layer normalisation
attention       scaled dot-product attention, self-attention
recurrent       the vanilla recurrent layer, backpropagation through time
=============== ==========================================================================================

A backward pass is called ``…_vjp``: it takes the cotangent (the derivative of a scalar with respect to the output) and
returns the derivatives with respect to the inputs. A forward derivative is called ``…_jvp``.
"""
