"""Physics: functionals of the density, and networks that obey equations."""
