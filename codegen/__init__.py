"""codegen knows arrays: a small frozen intermediate representation, passes over it, and one printer per target."""
