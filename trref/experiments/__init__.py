"""What tutorials and the tour share, above the families and imported by none of them.

=================== ======================================================================================
training            the one training loop: any gradient, any update rule, minibatches, a budget of
                    gradients, hooks
descent             update rules on small functions, each with its best step length
classifiers         the digits, with clean or noisy labels
attacks, continual, how much stays right under attack; tasks one after the other; clients and a server
federated
control, one_batch, cart-pole; one fixed batch; exact policy iteration
tabular_policies
tokens, preferences, training on sampled tokens, on comparisons, from a teacher
distillation
diffusion           distances of samples, small networks, rollouts, fine-tuning
manifolds,          what their tutorials share
transport
figures             one style for all figures
=================== ======================================================================================
"""
