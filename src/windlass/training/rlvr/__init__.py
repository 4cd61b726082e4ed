"""Reinforcement learning from verifiable rewards: GRPO (arXiv:2402.03300), as a job of the engine."""
