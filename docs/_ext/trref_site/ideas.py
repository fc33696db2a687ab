"""Which methods of a family share an idea; the family's page groups them so, and reads them in this order."""

from trref import catalog
from trref_site import reading

__all__ = ["IDEAS", "grouped", "of"]

IDEAS = {
    "policy": {
        "Estimates of the advantage": "gae gae_value_trust_region",
        "Trust regions": "trpo_improvement natural_gradient trpo",
        "Clips and penalties": "ppo ppo_penalty carl",
        "Other ways to stay near": "spo mdpo bpo fixpo",
        "Rewards that are learned or designed": "trirl parl odice",
        "Models and explanations": "girl counterpol rl_augmentation",
    },
    "tokens": {
        "Gradients, baselines and advantages": "reinforce rloo remax reinforce_plus_plus opo grpo dr_grpo"
        " lite_ppo maxrl",
        "The group's way to weigh answers": "copo ace ace_regulariser lens lens_likelihood gtpo gtpo_conflicts etr",
        "Clips, moved and shaped": "dapo dual_clip cispo covariance_clip bandpo value_loss",
        "Gates in the place of the clip": "sapo maspo pspo r2vpo",
        "One ratio for an answer": "gspo gspo_token gmpo luspo vespo",
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
    "distillation": {
        "A teacher's tokens, within a region": "tropd trb rlad",
        "Fine-tuning on given answers": "psft trapo erpd",
    },
    "krylov": {
        "Linear systems": "krylov_solvers cg minres gmres",
        "Eigenvalues and functions of a matrix": "lanczos cg_lanczos",
        "Minimisation": "line_search nonlinear_cg",
        "With learned parts": "deep_conjugate_direction nlcg_net",
        "At work": "mats relaxometry",
    },
    "bilevel": {
        "Constraints on the lower level": "prox_lagrangian lv_hba",
        "Penalties": "bilevel_penalty",
    },
    "causal": {
        "Graphs from data": "colide topo",
    },
    "dynamics": {
        "Slopes of a trajectory": "gradient_smoother distributional_gradient_matching",
    },
    "statistics": {
        "Hidden directions": "langevin_averaging",
        "Screening": "mutual_information",
        "Sparse estimates": "nonconvex_penalties accelerated_gradient proximal_cg",
        "Heavy tails": "robust_high_dimensional t_mixed_model",
    },
    "optimization": {
        "The subproblem": "trust_region_subproblem more_sorensen steihaug trust_region_steps",
        "Minimisation": "trust_region_minimize gradient_normalized_smoothness target_surrogates"
        " sum_log_concave checkered",
        "Under constraints": "exact_merit sketched_newton augmented_lagrangian_sketching",
        "The worst mean, and the next loss": "spectral_risk prospect optimistic_omd",
        "Without gradients": "directional_attacks direct_search",
    },
    "transport": {
        "Entropic transport": "entropic_dual sinkhorn sinkhorn_divergence",
        "Second order": "sinkhorn_newton_sparse_hessian sinkhorn_newton_sparse",
    },
    "manifolds": {
        "The Stiefel manifold": "stiefel stiefel_gradient stiefel_retraction stiefel_transport stiefel_exponential",
        "Minimisation": "riemannian_cg",
        "Several agents": "drcgd_consensus drdgd drcgd",
        "Hyperbolic space": "hyperbolic_head histogram_loss hyperpp",
        "Functions on a manifold": "weighted_laplacian globally_smooth",
    },
    "optimizers": {
        "Momentum, signs and bounds": "sgd gradient_clipping lion",
        "A second moment": "adam adamw amsgrad adamax nadam adabelief adamomentum diffgrad adan adafactor",
        "Geometry of the weights": "adamp polar_decomposition noneuclidean_trust_region muon polargrad fismo"
        " weight_conditioning induced_metric",
        "Second order": "oasis shampoo soap psgd",
        "Learning rates and averages": "schedule_refinement schedule_free weight_ema lookahead",
    },
    "sharpness": {
        "Ascent before descent": "sam asam adversarial_model_perturbation gam tram",
        "Penalties and volumes": "gradient_regularization entropy_sgd ignite",
        "Between domains": "sdat",
    },
    "diffusion": {
        "Models and what they tell": "noise_schedules score_models score_matching tweedie v_prediction",
        "Samplers": "probability_flow ddpm edm_heun dpm_solver_pp flow_euler time_grids",
        "Gradients through a sampler": "symplectic_adjoint adjoint_dpm lora alignprop rocm"
        " trqam trust_region_temperature",
        "Steps of a flow as policies": "flow_grpo grpo_guard sage_grpo gardo",
        "One-step generators": "drifting_field_policy score_projection diff_instruct_star",
        "Guidance": "adaptive_projected_guidance cfg_manifold_projection self_attention_guidance",
        "Measurements and goals": "dds optimal_gaussian_diffusion",
        "How scores are learned": "two_layer tangent_kernel score_estimation_ntk dual_adversarial_jem",
    },
    "gradients": {
        "Several tasks": "pcgrad cagrad gradnorm gcond",
        "Samples and batches that disagree": "gradient_agreement_filtering cg2a",
        "What is to be forgotten": "geometric_unlearning selective_gradient_masking",
    },
    "domains": {
        "Penalties": "domain_penalties hessian_alignment",
        "Gradients that agree": "fish pgrad",
    },
    "federated": {
        "Averages of clients": "fedavg fedimpro",
        "Clients that are not to be trusted": "fedagain fedclean",
        "What gradients give away": "gradient_inversion diff2",
        "Late workers and long stays": "sequential_gradient_coding fsgld",
    },
    "shift": {
        "Is it in the distribution?": "conjnorm trustvlm",
        "How accurate is it there?": "gdscore",
        "Adapting": "recap trust_ssl",
    },
    "adversarial": {
        "Attacks": "pgd level_set_traversal",
        "Training and margins": "regional_adversarial_training elasticface",
    },
    "trustworthiness": {
        "Scores and what they stand on": "calibration toxicity fairness decoding_trust trustgen dynamic_evaluation",
        "Votes and attention": "orchestrator_trust question_attention trust_vl",
        "Robust learning": "robust_reweighting causal_ladder trustworthy_erm",
        "Compression": "quantisation pruning compressed_trust",
        "Problems with proofs": "horn trustgeogen",
    },
    "physics": {
        "An energy functional": "local_correlation r2scan_exchange r2scan_correlation r2scan",
        "Constraints that hold": "levenberg_marquardt implicit_layer hard_constraint_moe",
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
