"""What is known of the methods of `trref.physics`."""
