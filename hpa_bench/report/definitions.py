"""The paper's own numbers."""

PAPER_HEADER = ("Data", "Method", "AP", "BWT (T−1)", "MASR", "DASR")
PAPER = [
    ("original", "zero-shot (aligned)", 11.78, None, 2.86, None),
    ("original", "SeqFT", 65.68, -25.62, 42.56, 39.70),
    ("original", "Model Tailor", 68.79, -10.29, 28.29, 25.43),
    ("original", "Safe Delta", 73.32, -6.91, 5.02, 2.15),
    ("original", "HPA", 75.73, -4.87, 4.75, 1.89),
    ("0.1% harmful", "SeqFT", 66.69, -24.29, 58.22, 55.36),
    ("0.1% harmful", "Safe Delta", 73.20, -6.82, 24.26, 21.40),
    ("0.1% harmful", "HPA", 76.62, -3.88, 7.22, 4.36),
]
"""Wang et al., arXiv 2511.20158, LLaVA-1.5-7B; never this harness's own result."""
