"""What tutorials and the tour share, above the families and imported by none of them.

================ =========================================================================================
training         the one training loop: any gradient, any update rule, minibatches, a budget of gradients,
                 hooks
descent          update rules on small functions, each with its best step length
classifiers      the digits, with clean or noisy labels
attacks          how much stays right under attack
continual        tasks one after the other
federated        clients and a server, neighbours in a graph
policies         control (cart-pole), one_batch, tabular_policies (exact iteration)
tokens           tokens (sampled), preferences (comparisons), distillation (from a teacher)
diffusion        distances of samples, small networks, rollouts, fine-tuning
others           manifolds, transport, figures (one style for all)
================ =========================================================================================
"""
