"""Odds-ratio preference optimisation (ORPO, arXiv:2403.07691) of LoRA adapters, as a job of the engine."""
