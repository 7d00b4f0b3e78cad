"""koboldcpp."""
