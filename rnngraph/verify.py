from dataclasses import dataclass
@dataclass(frozen=True)
class Verification: rows: tuple = ()
def verify(graph, loss="mse", seed=0): return Verification()
