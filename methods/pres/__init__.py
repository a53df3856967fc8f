"""PRES: Toward Scalable Memory-Based Dynamic Graph Neural Networks (Su, Zou, Wu; ICLR 2024)."""

from methods.pres.baselines import APAN, JODIE, TGN
from methods.pres.pres import PRES

__all__ = ["APAN", "JODIE", "PRES", "TGN"]
