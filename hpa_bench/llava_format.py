"""The name by which YAML outside this package calls `hpa_bench.data.llava_format`."""

from hpa_bench.data.llava_format import Layout, doc_to_image, load, load_file, load_pairs, score

__all__ = ["Layout", "doc_to_image", "load", "load_file", "load_pairs", "score"]
