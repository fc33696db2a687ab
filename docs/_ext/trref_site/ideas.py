"""Which methods of a family share an idea; the family's page groups them so, and reads them in this order."""

from trref import catalog
from trref_site import reading

__all__ = ["IDEAS", "grouped", "of"]

IDEAS = {
    "policy": {
        "Estimates of the advantage": "gae gae_value_trust_region",
        "Trust regions": "trpo_improvement natural_gradient trpo",
        "Clips and penalties": "ppo ppo_penalty",
    },
    "tokens": {
        "Gradients, baselines and advantages": "reinforce rloo remax reinforce_plus_plus opo grpo dr_grpo maxrl",
        "The group's way to weigh answers": "copo ace ace_regulariser lens lens_likelihood gtpo gtpo_conflicts etr",
        "Clips, moved and shaped": "dapo dual_clip cispo covariance_clip bandpo value_loss",
        "Gates in the place of the clip": "sapo maspo pspo r2vpo",
        "One ratio for an answer": "gspo gspo_token gmpo luspo",
        "Trust regions in probabilities": "reduced_divergences drpo cppo cppo_bound"
        " fiberpo fiberpo_censoring fiberpo_domain",
        "Projections and anchors": "troll_projection troll troll_sparse apo tre trusted_direction",
        "Divergences and their estimates": "f_divergences kl_estimators",
        "Samplers and verifiers that are not ideal": "a3po rollout_correction noisy_rlvr_verifier noisy_rlvr",
    },
    "preferences": {
        "A classification of pairs": "dpo ipo cpo rpo tr_dpo",
        "Without a reference": "simpo orpo",
        "From single answers and from rules": "kto trpa",
    },
    "krylov": {
        "Linear systems": "cg minres gmres",
        "Eigenvalues and functions of a matrix": "lanczos cg_lanczos",
        "Minimisation": "line_search nonlinear_cg",
        "At work": "mats",
    },
    "optimization": {
        "The subproblem": "trust_region_subproblem more_sorensen steihaug trust_region_steps",
        "Minimisation": "trust_region_minimize",
    },
    "transport": {
        "Entropic transport": "entropic_dual sinkhorn sinkhorn_divergence",
        "Second order": "sinkhorn_newton_sparse_hessian sinkhorn_newton_sparse",
    },
    "manifolds": {
        "The Stiefel manifold": "stiefel stiefel_gradient stiefel_retraction stiefel_transport stiefel_exponential",
        "Minimisation": "riemannian_cg",
        "Several agents": "drcgd_consensus drdgd drcgd",
    },
    "optimizers": {
        "Momentum and signs": "sgd lion",
        "A second moment": "adam adamw amsgrad adamax nadam adabelief adamomentum diffgrad adan adafactor",
        "Geometry of the weights": "adamp polar_decomposition noneuclidean_trust_region muon",
        "Second order": "oasis shampoo soap",
    },
    "sharpness": {
        "Ascent before descent": "sam asam adversarial_model_perturbation gam tram",
        "Penalties and volumes": "gradient_regularization entropy_sgd ignite",
        "Between domains": "sdat",
    },
}


def grouped(family, methods):
    """``{idea: methods}`` in reading order; what no idea lists yet comes last, under ``""``."""
    left = {method.slug: method for method in reading.ordered(methods)}
    groups = {
        idea: [left.pop(slug) for slug in slugs.split() if slug in left]
        for idea, slugs in IDEAS.get(family, {}).items()
    }
    return {idea: some for idea, some in {**groups, "": list(left.values())}.items() if some}


def of(method):
    """The idea that lists a method, or an empty string."""
    return next((i for i, slugs in IDEAS.get(method.family, {}).items() if method.slug in slugs.split()), "")


def known():
    """The methods that are listed, as (family, slug)."""
    return [(family, slug) for family, ideas in IDEAS.items() for slugs in ideas.values() for slug in slugs.split()]


def unknown():
    """Listed, but not in the catalogue."""
    return sorted(set(known()) - set(catalog.places()))
