"""Training loops that tutorials and the tour share: above the families, imported by none of them."""
