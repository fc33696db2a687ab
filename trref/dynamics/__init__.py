"""Laws of motion from trajectories: derivatives that are smoothed, and fields that are learned with their doubt."""
