"""The name by which YAML outside this package calls `hpa_bench.data.captions`."""

from hpa_bench.data.captions import bleu_rouge_cider, cider, cider_swapped, coco_caption

__all__ = ["bleu_rouge_cider", "cider", "cider_swapped", "coco_caption"]
