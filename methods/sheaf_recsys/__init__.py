"""Sheaf Neural Networks for Graph-based Recommender Systems (Purificato, Cassara, Lio, Silvestri; 2023)."""

from methods.sheaf_recsys.sheaf_recsys import SheafConv, SheafRecommender

__all__ = ["SheafConv", "SheafRecommender"]
