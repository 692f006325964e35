"""Graph -> graph: transformations of a network that keep what it computes, or say what changes."""
