"""Metadata and extras. This is the only place that lists dependencies."""

from setuptools import find_packages, setup

FIGURES = ["matplotlib>=3.9"]
DATA = ["scikit-learn>=1.5"]
TOUR = [*FIGURES, *DATA, "tqdm>=4.66"]
COURSES = ["joblib>=1.3", "tqdm>=4.66", "dask>=2024.1", "distributed>=2024.1"]
NOTEBOOKS = ["nbformat>=5.9", "nbclient>=0.8", "ipykernel>=6", "nbgrader>=0.9"]
TEST = [
    *TOUR,
    *COURSES,
    *NOTEBOOKS,
    "pytest>=8",
    "pytest-xdist>=3.6",
    "hypothesis>=6.100",
    "ruff>=0.9",
    "basedpyright>=1.30",
]
DOCS = [
    *TOUR,
    "sphinx>=8",
    "sphinx-gallery>=0.19",
    "joblib>=1.3",  # sphinx-gallery runs the tutorials in parallel with it
    "numpydoc>=1.8",
    "sphinxcontrib-bibtex>=2.6",
    "pydata-sphinx-theme>=0.16",
    "sphinx-mathjax-offline>=0.0.2",  # MathJax's files, so that the site needs no network
    "websocket-client>=1.7",  # the page test speaks to Chromium with it
    "pytest>=8",
    "pytest-xdist>=3.6",
]

setup(
    name="trref",
    version="0.1.0",
    description="Reference implementations of published optimisation and learning methods, with verified gradients",
    long_description=open("README.md", encoding="utf-8").read(),
    long_description_content_type="text/markdown",
    license="BSD-3-Clause",
    python_requires=">=3.11",
    packages=find_packages(include=["trref", "trref.*"]),
    package_data={"trref": ["cupy_names.json", "py.typed", "*.pyi"]},
    install_requires=["numpy>=2.0", "scipy>=1.13"],
    extras_require={
        "cupy": ["cupy-cuda12x>=14"],
        "figures": FIGURES,
        "data": DATA,
        "tour": TOUR,
        "courses": COURSES,
        "notebooks": NOTEBOOKS,
        "mpi": ["mpi4py>=4.1", "mpich>=5"],  # federated and decentralised runs on ranks
        "test": TEST,
        "docs": DOCS,
        # public packages that the implementations are compared with, and nothing else; two trainers that do not install
        # beside them are in tests/peers/trainers.txt
        "peers": [
            "torch>=2.2",
            "gymnasium>=1.0",
            "POT>=0.9.5",
            "pymanopt>=2.2",
            "stable-baselines3>=2.3",
            "pytorch_optimizer>=3",
            "torchrl>=0.6",
            "trl>=1.0",
            "jax>=0.5",
            "optax>=0.2.4",
            "geoopt>=0.5",
            "pyscf>=2.14",
            "fairlearn>=0.12",
            "statsmodels>=0.14",
            "torchdiffeq>=0.2.5",
        ],
    },
    entry_points={"console_scripts": ["trref=trref.cli:main"]},
    classifiers=[
        "Programming Language :: Python :: 3.11",
        "Programming Language :: Python :: 3.12",
        "Programming Language :: Python :: 3.13",
        "Topic :: Scientific/Engineering",
    ],
)
