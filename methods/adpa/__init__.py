"""AMUD and ADPA: Breaking the Entanglement of Homophily and Heterophily (Sun et al.; ICDE 2024)."""

from methods.adpa.adpa import ADPA
from methods.adpa.amud import AMUDReport, amud, amud_score

__all__ = ["ADPA", "AMUDReport", "amud", "amud_score"]
