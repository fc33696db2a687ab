"""Layers whose forward pass, backward pass and further derivatives are written out by hand.

=============== ==========================================================================================
activations     tanh, ReLU, softplus, GELU, SiLU, with first and second derivative
flat            arrays of any shapes as one flat parameter vector
mlp             multilayer perceptron on one flat parameter vector: vjp, jvp, Hessian- and Gauss-Newton product
per_sample      each sample's own gradient of a perceptron, and its norm
two_heads       a perceptron with two heads on one body
losses          softmax and binary cross-entropy, squared error
heads           categorical and diagonal Gaussian: log-probability, entropy, KL divergence
conv            2-D convolution, max and average pooling
norm            layer and root-mean-square normalisation
attention       scaled dot-product attention, self-attention
recurrent       the vanilla recurrent layer, backpropagation through time
=============== ==========================================================================================

A backward pass is called ``…_vjp``: it takes the cotangent (the derivative of a scalar with respect to the output) and
returns the derivatives with respect to the inputs. A forward derivative is called ``…_jvp``.
"""
