"""Models: loading, the decoder's layers, prompts, adapters, weights and activations."""
